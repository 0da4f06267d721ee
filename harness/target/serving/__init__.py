"""Servers that boards load their kernel from: the lab's, by a directory that it serves, or our own over TFTP or
HTTP."""
