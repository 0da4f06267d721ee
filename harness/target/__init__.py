"""A booted kernel: how to reach it and how to talk to it."""
