"""The serial line: bytes from power-on to power-off, cut into lines and channels. Knows no board method."""
