"""Turns requests into work: builds the kernel that a request names, runs tests on it, and runs many kernels. Knows
nothing of the command line."""
