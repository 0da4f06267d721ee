"""The upstream suites: directories of the kernel's tools/testing/selftests whose tests the harness runs.

Here stands what building, listing and timing a suite takes; how its tests are found and run is in harness/run/suites/.
docs/architecture.md says what adding one takes."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

NOT_BUILT = "not-built"  # the file in an installed suite's directory that says why its programs are missing


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One upstream suite.

    `directory`: below tools/testing/selftests, and its name in make's ``TARGETS=``. Its ``config`` is asked for, as far
    as the kernel has the symbols. `named_in`: a glob of the files in it that name its tests; a build holds them also
    where it holds none of its programs. `needs`: symbols (without CONFIG_) that it is not built without.
    `must_build`: whether the kernel's build fails where the suite does not compile. If not, its tests are skipped, with
    the compiler's first error; nothing in it may depend on anything but the headers and the configuration.

    `tools`: programs that every test of it calls on the target; `occasional_tools`: those that single tests call.

    The rest are patterns (fnmatch) of test ids without the suite's name before them. `budgets`: seconds on reference
    hardware (run/limits.py), the first pattern that fits counts. `timed`: tests that measure time and get the host to
    themselves. `patches_busy_code`: tests that patch, once, a function which every CPU calls without a pause then."""

    directory: str
    named_in: str
    needs: tuple[str, ...] = ()
    must_build: bool = False
    tools: tuple[str, ...] = ()
    occasional_tools: tuple[str, ...] = ()
    budgets: tuple[tuple[str, float], ...] = ()
    timed: tuple[str, ...] = ()
    patches_busy_code: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What --suite and test ids call it: ``selftests/ftrace``."""
        return f"selftests/{self.directory}"

    def has(self, test: str, patterns: tuple[str, ...]) -> bool:
        """Whether the test with this id is this suite's and fits one of its `patterns`."""
        return any(fnmatch.fnmatchcase(test, f"{self.name}/{pattern}") for pattern in patterns)


FTRACE = Suite(
    directory="ftrace",
    named_in="test.d/**/*.tc",
    must_build=True,
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
    must_build=True,
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
