"""Checks the target before any test: what is missing is reported once, and the tests that need it are skipped with that
reason instead of failing as if the kernel were broken."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from harness.model.kernel import Build
from harness.model.suite import UPSTREAM
from harness.target.base import Completed

# The programs that our own testcases call; few enough to check them for all testcases together.
_TESTCASES = "testcases"
_OUR_TOOLS = (
    *("awk", "bash", "cat", "chrt", "dmesg", "fallocate", "grep", "insmod", "ls", "md5sum", "mkdir", "mount", "nproc"),
    *("rmdir", "rmmod", "sed", "sort", "tail", "taskset", "umount", "wc"),
)
_TOOLS = {suite.name: suite.tools for suite in UPSTREAM} | {_TESTCASES: _OUR_TOOLS}
_OCCASIONAL = {suite.name: suite.occasional_tools for suite in UPSTREAM}


def _essential(suite: str) -> tuple[str, ...]:
    return _TOOLS.get(_TESTCASES if suite.startswith(f"{_TESTCASES}/") else suite, ())


@dataclass(frozen=True)
class Findings:
    """`missing`: tools that the target lacks. `problems`: everything that does not meet the suites' needs, a line
    each."""

    missing: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    def reason_to_skip(self, suite: str, tools: frozenset[str]) -> str:
        """Why a test of `suite` that calls `tools` is pointless on this target; empty if it can run."""
        lacking = sorted(self.missing & (tools | set(_essential(suite))))
        return f"the target lacks {', '.join(lacking)}" if lacking else ""


def check(run: Callable[..., Completed], build: Build, *, suites: frozenset[str]) -> Findings:
    """Check, through `run`, a target's tools, mounts, loopback and modules, and whether it runs the kernel of
    `build`."""
    tools = sorted({tool for suite in suites for tool in (*_essential(suite), *_OCCASIONAL.get(suite, ()))})
    script = "\n".join(
        [
            f"for t in {' '.join(map(shlex.quote, tools))}; do command -v $t >/dev/null || echo tool $t; done",
            "for m in /proc /sys /sys/kernel/debug /sys/kernel/tracing /tmp /payload; do",
            'while read -r d where rest; do [ "$where" = $m ] && continue 2; done < /proc/mounts; echo mount $m; done',
            "[ -d /proc/sys/kernel ] || echo kconfig CONFIG_SYSCTL: there is no /proc/sys",
            "read -r flags < /sys/class/net/lo/flags && [ $((flags & 1)) = 1 ] || echo loopback",
            "[ -d /lib/modules/$(uname -r)/kernel ] || echo modules /lib/modules/$(uname -r)",
            "echo release $(uname -r)",
        ]
    )
    return judge(run(script, timeout=120.0).output, release=build.release)


def judge(output: str, *, release: str) -> Findings:
    """The findings in the target's answer."""
    missing: set[str] = set()
    problems: list[str] = []
    for line in output.splitlines():
        kind, _, value = line.partition(" ")
        match kind:
            case "tool":
                missing.add(value)
            case "mount":
                problems.append(f"{value} is not mounted on the target")
            case "kconfig":
                problems.append(value)
            case "loopback":
                problems.append("the loopback interface is not up: tests that ping 127.0.0.1 will not work")
            case "modules":
                problems.append(f"{value} is missing on the target: tests that load modules will not work")
            case "release" if value != release:
                problems.append(f"the target runs kernel {value}, the build is {release}")
    if missing:
        problems.insert(0, f"the target lacks {', '.join(sorted(missing))}: tests that call them are skipped")
    return Findings(frozenset(missing), tuple(problems))
