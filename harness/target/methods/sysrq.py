"""Asking a silent kernel what it does: a break on its serial line, then a key."""

from __future__ import annotations

ENABLED = "sysrq_always_enabled=1"
"""For the kernel's command line: distributions' kernels give backtraces to nobody else. With a value, because what a
kernel does not know becomes an argument of init's otherwise."""

ANSWER = r"sysrq: (?!sysrq always enabled)[^\n]*\n"  # which it says when it boots
