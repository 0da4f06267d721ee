"""Parsers: they turn text into objects of the model, without I/O."""
