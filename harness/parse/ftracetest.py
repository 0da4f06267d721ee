"""A run of ``ftracetest -l -``, as `run/suites/marked_ftracetest.py` starts it: parses which test runs, its log and
its verdict.

Beginnings and verdicts are taken only from what the runner itself says (`FtracetestStream.said`), in words that
`marked_ftracetest.py` gives it: ``begin: FILE``, ``begin again: FILE`` in an instance, and ``end: RESULT`` with one of
ftracetest's numbers for results. Whatever stands in the output itself, KTAP or ``[PASS]``, is the test's log, where it
gives a reason at most. So the form that ftracetest prints, which depends on the kernel's version, does not matter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.result import Verdict

_BEGIN = re.compile(r"begin(?P<again> again)?: (?P<path>/.+)")
_END = re.compile(r"end: (?P<result>\d{1,9})")
_RESULTS = {
    0: Verdict.PASS,
    1: Verdict.FAIL,
    2: Verdict.UNRESOLVED,
    3: Verdict.SKIP,  # UNTESTED
    4: Verdict.SKIP,  # UNSUPPORTED
    5: Verdict.XFAIL,
}
# The verdict that ftracetest itself prints last, in all forms.
_PRINTED = re.compile(r"(?:not )?ok \d+(?: .*)?|.*\t\[\S+\]")
_LOST = "ftracetest printed no verdict for it"
_MOST_LINES = 400
_WHY = (
    re.compile(r"^\++ echo '?(?P<told>[^']{8,})'?$"),
    re.compile(r"^(?!\+)(?P<told>.*(?:[Ee]rror|not found|No such|cannot|can't|denied|[Ff]ail|Invalid).*)$"),
)


@dataclass(frozen=True)
class Begun:
    """The test of the file `path` (as given on the command line) has begun."""

    path: str
    instance: bool


@dataclass(frozen=True)
class Ended:
    """The running test has its verdict; `reason` is a line of its log that explains it, if there is one."""

    verdict: Verdict
    reason: str


class FtracetestStream:
    """Follows a run of ftracetest, fed with the lines of its tests' logs and with what the runner says."""

    def __init__(self) -> None:
        self._is_running = False
        self._log: list[str] = []

    def feed(self, line: str) -> None:
        """Take a line of the running test's log."""
        self._log.append(line.rstrip("\r"))
        del self._log[:-_MOST_LINES]

    def said(self, words: str) -> tuple[Begun | Ended, ...]:
        """Return what the runner says with `words`: a test begins or ends, or one begins before the last one had a
        verdict, which then is UNRESOLVED."""
        if begun := _BEGIN.fullmatch(words):
            lost = (Ended(Verdict.UNRESOLVED, _LOST),) if self._is_running else ()
            self._is_running, self._log = True, []
            return (*lost, Begun(begun["path"], instance=bool(begun["again"])))
        if self._is_running and (ended := _END.fullmatch(words)):
            self._is_running = False
            return (self._ended(_RESULTS.get(int(ended["result"]), Verdict.FAIL)),)
        return ()

    def _ended(self, verdict: Verdict) -> Ended:
        log = self._log
        if log and _PRINTED.fullmatch(log[-1]):
            log = log[:-1]
        return Ended(verdict, "" if verdict is Verdict.PASS else why(log, verdict))


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
