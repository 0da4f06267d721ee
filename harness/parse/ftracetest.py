"""What ``ftracetest -l -`` prints: parses which test runs, its log and its verdict.

With ``-l -`` every test's log goes to standard output between the line that names its file and its verdict. The
verdict is KTAP (``ok 3 description # SKIP``) with ``-K``, which kernels before 6.4 do not have; they print
``[3] description`` before the log and ``\\t[PASS]`` behind it.

A test's output is not trusted: a verdict counts only in the form that this run uses, with the running test's number;
behind output without a line end, only if nothing is traced between it and the next test. A test without a verdict is
UNRESOLVED, and parsing continues with the next one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.result import Verdict

_HEADER = re.compile(r"TAP version \d+")
_EXECUTE = re.compile(r"execute(?P<instance> \(instance\) ?)?: (?P<path>/\S+\.tc)$")
_KTAP = re.compile(r"(?P<ok>not ok|ok) (?P<number>\d{1,9})(?P<rest>(?: .*)?)$")
_GLUED = re.compile(r"(?P<ok>not ok|ok) (?P<number>\d{1,9})(?= |$)")
_TRACED = re.compile(r"\++ ")
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
_DIRECTIVES = {"SKIP": Verdict.SKIP, "XFAIL": Verdict.XFAIL}
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


Mark = Begun | Ended


class FtracetestStream:
    """Follows ftracetest's output, fed line by line.

    `order`: the tests that ftracetest was given, in the order in which it runs them (it may leave some out): then a
    line that names another one is no beginning while a test runs.
    """

    def __init__(self, order: Sequence[Begun] | None = None) -> None:
        self._order = order
        self._ktap: bool | None = None  # the form of verdicts in this run, once known
        self._number = 0
        self._running: Begun | None = None
        self._log: list[str] = []
        self._glued: Ended | None = None

    def feed(self, line: str) -> tuple[Mark, ...]:
        """Return the marks of `line`: a test begins or ends, or one begins before the last one had a verdict. Nothing
        for a line of the running test's log, or outside of any test."""
        line = _ANSI.sub("", line.rstrip("\r"))
        if _HEADER.fullmatch(line) and not self._number:
            self._ktap = True
        if begun := self._begins(line):
            lost = (self._lost(),) if self._running else ()
            self._begin(begun)
            return (*lost, begun)
        if not self._running:
            return ()
        ended = self._ends(line)
        if ended is None:
            self._keep(line)
            return ()
        self._running = None
        return (ended,)

    def finish(self) -> Ended | None:
        """Return the verdict of the test that is still open when ftracetest has ended, if its output hid one."""
        ended, self._running = (self._glued if self._running else None), None
        return ended

    def _begins(self, line: str) -> Begun | None:
        match = _EXECUTE.search(line)
        if match is None:
            return None
        begun = Begun(match["path"], instance=bool(match["instance"]))
        if self._running and (_TRACED.match(line) or not self._may_follow(begun, self._running)):
            return None
        if self._ktap is None and re.match(r"\[\d+\]", line):
            self._ktap = False
        return begun

    def _may_follow(self, begun: Begun, running: Begun) -> bool:
        if self._order is None or running not in self._order:
            return begun != running
        return begun in self._order[self._order.index(running) + 1 :]

    def _begin(self, begun: Begun) -> None:
        self._number += 1
        self._running, self._log, self._glued = begun, [], None

    def _lost(self) -> Ended:
        """Return the outcome of a test without a verdict before the next one begins."""
        return self._glued or Ended(Verdict.UNRESOLVED, _LOST)

    def _keep(self, line: str) -> None:
        self._log.append(line)
        del self._log[:-_MOST_LINES]

    def _ends(self, line: str) -> Ended | None:
        plain = _PLAIN.search(line) if not self._ktap else None
        if plain:
            return self._ended(_WORDS[plain["word"]])
        if self._ktap is False:
            return None
        found = [match for match in _GLUED.finditer(line) if int(match["number"]) == self._number]
        if found and (match := _KTAP.match(line[found[-1].start() :])) and self._is_its_own(match["rest"]):
            if found[-1].start() == 0:
                return self._ended(_verdict(match))
            self._keep(line[: found[-1].start()])
            # It may be the test's own output. Then its next command is traced, which shows that.
            self._glued = self._ended(_verdict(match)) if not _TRACED.match(line) else None
        elif _TRACED.match(line):
            self._glued = None
        return None

    def _is_its_own(self, rest: str) -> bool:
        """Whether the words behind the number are those of a re-run in an instance, where this is one."""
        assert self._running
        return rest.startswith(" (instance)") == self._running.instance

    def _ended(self, verdict: Verdict) -> Ended:
        return Ended(verdict, "" if verdict is Verdict.PASS else why(self._log, verdict))


def _verdict(match: re.Match[str]) -> Verdict:
    directive = match["rest"].rpartition("# ")[2].strip() if "# " in match["rest"] else ""
    if match["ok"] == "ok":
        return _DIRECTIVES.get(directive, Verdict.PASS)
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
