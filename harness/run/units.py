"""Which tests share a target, and which need the host to themselves."""

from __future__ import annotations

import enum

from harness.model.suite import UPSTREAM
from harness.target.base import Cpus

# Our own tests that patch an instruction once while another CPU executes it again and again without a pause.
# Where that CPU may miss the change, they fail on a kernel that is right (docs/guest-speed.md).
PATCH_BUSY_CODE = frozenset(
    {"testcases/livepatch/test_transition.py::test_busy_kthread_is_switched_by_the_scheduler"},
)


class Isolation(enum.StrEnum):
    """When a test gets a target that no other test has used."""

    TEST = "test"
    FILE = "file"
    CRASH = "crash"  # only after a crash


def is_timed(test: str) -> bool:
    """Whether the test with this id must run alone on this host."""
    return any(suite.has(test, suite.timed) for suite in UPSTREAM)


def cpus_for(test: str) -> Cpus:
    """How the CPUs of a machine must run for the test with this id."""
    is_busy = test in PATCH_BUSY_CODE or any(suite.has(test, suite.patches_busy_code) for suite in UPSTREAM)
    return Cpus.SEEING_PATCHES if is_busy else Cpus.SIDE_BY_SIDE
