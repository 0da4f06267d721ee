"""What shares a target, and what has to have the host to itself."""

from __future__ import annotations

import enum
import fnmatch

from harness.target.base import Cpus


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
    return _is_of(test, _TIMED)


def cpus_for(test: str) -> Cpus:
    """How the CPUs of a machine for the test with this id are to run."""
    return Cpus.SEEING_PATCHES if _is_of(test, _PATCHES_BUSY_CODE) else Cpus.SIDE_BY_SIDE


def _is_of(test: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)
