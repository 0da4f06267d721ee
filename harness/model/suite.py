"""The upstream suites: directories of the kernel's tools/testing/selftests whose tests the harness runs.

This module has the data for building, listing and timing a suite; harness/run/suites/ finds and runs its tests.
CONTRIBUTING.md says how to add a suite."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

NOT_BUILT = "not-built"  # the file in an installed suite's directory that says why its programs are missing


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One upstream suite.

    `directory`: below tools/testing/selftests, and its name in make's ``TARGETS=``. The symbols in its ``config`` are
    requested, as far as the kernel has them. `named_in`: a glob for the files in it that name its tests; a build
    contains them even if it contains none of the programs. `needs`: symbols (without CONFIG_) without which it is not
    built. `of_kernel`: whether it is built for one very kernel; otherwise for its headers and its configuration, and it
    may depend on nothing else. If it does not build, its tests are skipped, with the compiler's first error.

    `tools`: programs that each of its tests calls on the target; `occasional_tools`: those that only some tests call.

    The other fields are patterns (fnmatch) for test ids without the suite's name. `budgets`: seconds on reference
    hardware (run/limits.py); the first pattern that matches counts. `timed`: tests that measure time and get the host
    to themselves. `patches_busy_code`: tests that patch a function once while every CPU calls it without a pause."""

    directory: str
    named_in: str
    needs: tuple[str, ...] = ()
    of_kernel: bool = False
    tools: tuple[str, ...] = ()
    occasional_tools: tuple[str, ...] = ()
    budgets: tuple[tuple[str, float], ...] = ()
    timed: tuple[str, ...] = ()
    patches_busy_code: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in --suite and in test ids: ``selftests/ftrace``."""
        return f"selftests/{self.directory}"

    def has(self, test: str, patterns: tuple[str, ...]) -> bool:
        """Whether the test with this id belongs to this suite and matches one of `patterns`."""
        return any(fnmatch.fnmatchcase(test, f"{self.name}/{pattern}") for pattern in patterns)


FTRACE = Suite(
    directory="ftrace",
    named_in="test.d/**/*.tc",
    of_kernel=True,
    # ftracetest and test.d/functions
    tools=(
        *("awk", "basename", "cat", "cut", "date", "dirname", "expr", "find", "grep", "head", "id", "ln", "mkdir"),
        *("mktemp", "mount", "mv", "rm", "rmdir", "sed", "sleep", "sort", "stat", "tail", "tee", "tr", "uname", "wc"),
        "which",
    ),
    occasional_tools=(
        *("bc", "cmp", "chrt", "dd", "getent", "gawk", "ip", "lsmod", "md5sum", "modprobe", "nproc", "ping", "ps"),
        *("readelf", "rmmod", "seq", "su", "tac", "taskset", "timeout", "umount", "yes", "checkbashisms"),
    ),
    budgets=(
        ("test.d/direct/*", 20.0),  # traces everything while it loads and unloads modules
        ("test.d/remotes/*", 20.0),  # starts thousands of processes
    ),
    timed=(
        "test.d/tracer/*",  # wakeup, wakeup_rt: the latency of a task that chrt starts
        "test.d/preemptirq/*",  # irqsoff, preemptoff: how long a test module keeps them off
    ),
)
LIVEPATCH = Suite(
    directory="livepatch",
    named_in="*.sh",
    needs=("LIVEPATCH",),
    of_kernel=True,
    # functions.sh
    tools=(
        *("awk", "bash", "cat", "date", "diff", "dirname", "dmesg", "getconf", "grep", "id", "insmod", "modinfo"),
        *("rmmod", "sed", "seq", "sleep", "/bin/stat", "sysctl", "tr", "uname"),
    ),
    budgets=(("*", 10.0),),  # transitions are retried once a second, up to 60 s
    patches_busy_code=("test-syscall::*",),
)
USER_EVENTS = Suite(directory="user_events", named_in="*.c", needs=("USER_EVENTS",))
UPSTREAM = (FTRACE, LIVEPATCH, USER_EVENTS)
"""All of them, in the order they run."""
