"""What shares a target, and what has to have the host to itself."""

from __future__ import annotations

import enum
import fnmatch


class Isolation(enum.StrEnum):
    """When a test gets a target that no other test has used."""

    TEST = "test"
    FILE = "file"
    CRASH = "crash"  # only after a crash


# Tests that compare measured times, or wait for a latency that a busy host makes or hides.
_TIMED = (
    "selftests/ftrace/test.d/tracer/*",  # wakeup, wakeup_rt: the latency of a task that chrt starts
    "selftests/ftrace/test.d/preemptirq/*",  # irqsoff, preemptoff: how long a test module keeps them off
)
# Tests that patch a function, once, which every CPU calls without a pause at that moment.
_PATCHES_BUSY_CODE = ("selftests/livepatch/test-syscall::*",)


def is_timed(test: str) -> bool:
    """Whether the test with this id is run while no other one runs on this host."""
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in _TIMED)


def patches_busy_code(test: str) -> bool:
    """Whether the test with this id needs a machine that sees a changed instruction while another CPU executes it."""
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in _PATCHES_BUSY_CODE)
