"""Events in, documents out; no I/O."""
