"""Hands what the harness found out to others: mail, KCIDB."""
