"""Ownership of boards: locks on this host, the guard that outlives the harness, and labgrid places."""
