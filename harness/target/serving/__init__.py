"""Servers that boards load their kernel from: a directory laid out for one, or one of our own over TFTP or HTTP."""
