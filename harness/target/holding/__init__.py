"""Whose a board is: locks on this host, the guard that outlives us, places of a labgrid coordinator."""
