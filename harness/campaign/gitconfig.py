"""What git knows about the user."""

from __future__ import annotations

import subprocess

_LIMIT_S = 10.0


def git_config(key: str) -> str:
    """Return a value of git's configuration, as ``user.name``; empty if there is none, or no git."""
    try:
        done = subprocess.run(["git", "config", key], capture_output=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip()


def git_user() -> str:
    """Return git's user as ``Name <address>``; empty if git has no address of one."""
    name, address = (git_config(f"user.{each}") for each in ("name", "email"))
    return f"{name} <{address}>" if name and address else address
