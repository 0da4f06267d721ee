"""Text in, model out; no I/O."""
