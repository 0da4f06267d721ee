"""Shells on a booted kernel: over the serial line, over SSH, and for a person."""
