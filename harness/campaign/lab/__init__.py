"""Nights over many machines: the plan's process, the workers on the lab's hosts, and what goes to and fro."""
