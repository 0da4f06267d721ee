"""Looks at the target before any test: what is missing is said once, up front, and the tests that need it are skipped
with that reason, instead of failing as if the kernel were broken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.model.kernel import Build
from harness.target.base import Completed

# What the suites' own helpers call in every test (ftracetest, test.d/functions; livepatch/functions.sh). Our testcases
# are few, so that what any of them calls is asked for once for all.
_ESSENTIAL = {
    suite: tuple(tools.split())
    for suite, tools in {
        "selftests/ftrace": """awk basename cat cut date dirname expr find grep head id ln mkdir mktemp mount mv rm
            rmdir sed sleep sort stat tail tee tr uname wc which""",
        "selftests/livepatch": """awk bash cat date diff dirname dmesg getconf grep id insmod modinfo rmmod sed seq
            sleep /bin/stat sysctl tr uname""",
        "testcases": """awk bash cat chrt dmesg fallocate grep insmod ls md5sum mkdir mount nproc rmdir rmmod sed sort
            tail taskset umount wc""",
    }.items()
}


def _essential(suite: str) -> tuple[str, ...]:
    return _ESSENTIAL.get("testcases" if suite.startswith("testcases/") else suite, ())


# What single .tc files call.
OCCASIONAL = (
    *("bc", "cmp", "chrt", "dd", "getent", "gawk", "ip", "lsmod", "md5sum", "modprobe", "nproc", "ping", "ps"),
    *("readelf", "rmmod", "seq", "su", "tac", "taskset", "timeout", "umount", "yes", "checkbashisms"),
)
_STRTONUM = re.compile(r"\bstrtonum\b")


@dataclass(frozen=True)
class Findings:
    """`missing`: tools that the target lacks. `problems`: everything that is not as the suites need it, a line each."""

    missing: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    def reason_to_skip(self, suite: str, tools: frozenset[str]) -> str:
        """Why a test of `suite` that calls `tools` can't tell anything on this target; empty where it can."""
        lacking = sorted(self.missing & (tools | set(_essential(suite))))
        return f"the target lacks {', '.join(lacking)}" if lacking else ""


def check(run: Callable[..., Completed], build: Build, *, suites: frozenset[str]) -> Findings:
    """Ask a target, through `run`, for tools, mounts, loopback, modules and whether it is the kernel of `build`."""
    occasional = OCCASIONAL if "selftests/ftrace" in suites else ()
    tools = sorted({tool for suite in suites for tool in _essential(suite)} | set(occasional))
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
    """The findings in what the target answered."""
    missing: set[str] = set()
    problems: list[str] = []
    for line in output.splitlines():
        kind, _, told = line.partition(" ")
        match kind:
            case "tool":
                missing.add(told)
            case "mount":
                problems.append(f"{told} is not mounted on the target")
            case "kconfig":
                problems.append(told)
            case "loopback":
                problems.append("the loopback interface is not up: tests that ping 127.0.0.1 will not work")
            case "modules":
                problems.append(f"{told} is missing on the target: tests that load modules will not work")
            case "release" if told != release:
                problems.append(f"the target runs kernel {told}, the build is {release}")
    if missing:
        problems.insert(0, f"the target lacks {', '.join(sorted(missing))}: tests that call them are skipped")
    return Findings(frozenset(missing), tuple(problems))


def tools_of(testcase: Path) -> frozenset[str]:
    """Which of the occasional tools a .tc file calls."""
    text = "\n".join(
        line
        for line in testcase.read_text(errors="replace").splitlines()
        if not line.lstrip().startswith("# description")
    )
    called = {tool for tool in OCCASIONAL if re.search(rf"(?<![\w/.-]){re.escape(tool)}(?![\w.-])", text)}
    return frozenset(called | ({"gawk"} if _STRTONUM.search(text) else set()))
