"""From what was asked for to what is done: kernels that requests name, a run of one here, and many runs. Knows nothing
of the command line."""
