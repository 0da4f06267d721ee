"""Machines: their consoles and shells, who holds them, how they are powered and booted."""
