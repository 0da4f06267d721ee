"""Turns a source, patches and a configuration into a finished build directory."""
