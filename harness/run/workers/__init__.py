"""Several machines or boards side by side: a process for each, which the run's own hands tests."""
