"""What ``ftracetest -l -`` prints: which test runs, its log, its verdict. Text in, marks out.

With ``-l -`` every test's log goes to standard output between the line that names its file and its verdict. The
verdict is KTAP (``ok 3 description # SKIP``) with ``-K``, which kernels before 6.4 do not have; they print
``[3] description`` before the log and ``\\t[PASS]`` behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.result import Verdict

_EXECUTE = re.compile(r"execute(?P<instance> \(instance\) ?)?: (?P<path>/\S+\.tc)$")
_KTAP = re.compile(r"^(?P<ok>ok|not ok) (?P<number>\d+) (?P<rest>.*)$")
_PLAIN = re.compile(r"\t\[(?P<word>PASS|FAIL|UNRESOLVED|UNTESTED|UNSUPPORTED|XFAIL|UNDEFINED)\]$")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WORDS = {
    "PASS": Verdict.PASS,
    "FAIL": Verdict.FAIL,
    "UNRESOLVED": Verdict.UNRESOLVED,
    "UNTESTED": Verdict.SKIP,
    "UNSUPPORTED": Verdict.SKIP,
    "XFAIL": Verdict.XFAIL,
    "UNDEFINED": Verdict.FAIL,
}
_WHY = (
    re.compile(r"^\++ echo '?(?P<told>[^']{8,})'?$"),
    re.compile(r"^(?!\+)(?P<told>.*(?:[Ee]rror|not found|No such|cannot|can't|denied|[Ff]ail|Invalid).*)$"),
)


@dataclass(frozen=True)
class Begun:
    """The test for the file `path` (as given on the command line) runs now."""

    path: str
    instance: bool


@dataclass(frozen=True)
class Ended:
    """The test that ran has its verdict; `reason` is a line of its log that tells why, where there is one."""

    verdict: Verdict
    reason: str


class FtracetestStream:
    """Follows ftracetest's output, fed line by line."""

    def __init__(self) -> None:
        self._number = 0
        self._running = False
        self._log: list[str] = []

    def feed(self, line: str) -> Begun | Ended | None:
        """What `line` says of a test, or None for a line of the running test's log (or of none)."""
        line = _ANSI.sub("", line.rstrip("\r"))
        if not self._running:
            match = _EXECUTE.search(line)
            if not match:
                return None
            self._number += 1
            self._running = True
            self._log = []
            return Begun(match["path"], instance=bool(match["instance"]))
        verdict = self._verdict(line)
        if verdict is None:
            self._log.append(line)
            del self._log[:-400]
            return None
        self._running = False
        return Ended(verdict, "" if verdict is Verdict.PASS else why(self._log, verdict))

    def _verdict(self, line: str) -> Verdict | None:
        plain = _PLAIN.search(line)
        if plain:
            return _WORDS[plain["word"]]
        match = _KTAP.match(line)
        if not match or int(match["number"]) != self._number:
            return None
        directive = match["rest"].rpartition("# ")[2].strip() if "# " in match["rest"] else ""
        if match["ok"] == "ok":
            return {"SKIP": Verdict.SKIP, "XFAIL": Verdict.XFAIL}.get(directive, Verdict.PASS)
        return Verdict.UNRESOLVED if directive == "UNRESOLVED" else Verdict.FAIL


def why(log: Sequence[str], verdict: Verdict) -> str:
    """The line of a test's log (a ``set -x`` trace) that best tells why it ended so: for a skip what came before it
    gave up, for others what a tool complained of or what was echoed last, else the last command traced."""
    if verdict is Verdict.XFAIL:
        return "the test expects to fail"
    last = [line for line in log[-40:] if not re.match(r"^\++ (?:kill -s|exit\b|exit_)", line)]
    if verdict is not Verdict.SKIP:
        for line in reversed(last):
            match = next(filter(None, (pattern.match(line) for pattern in _WHY)), None)
            if match:
                return (match.groupdict().get("told") or match[0]).strip()[:200]
    if not last:
        return ""
    told = last[-1]
    return (f"after `{told.lstrip('+ ')}`" if told.startswith("+") else told.strip())[:200]
