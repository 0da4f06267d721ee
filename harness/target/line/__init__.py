"""The serial line: bytes from power-on to power-off, split into lines and channels. Independent of boot methods."""
