"""Several machines or boards in parallel: each has a process, which receives tests from the run's own process."""
