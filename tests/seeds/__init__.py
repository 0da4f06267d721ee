"""Experiments with the series of the mails; docs/seeds.md has what they showed."""
