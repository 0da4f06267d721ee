"""The livepatch selftests: parses the TESTs of a script, and a run of it as `run/suites/marked_livepatch.py` starts it.

Beginnings and verdicts are taken only from what the script's functions themselves say (`LivepatchStream.said`):
``begin: NAME``, ``end: ok`` or ``end: not ok``; and from the script's exit code. Its output gives reasons at most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.result import Verdict

_START = re.compile(r'^(?P<indent>[ \t]*)start_test "(?P<name>[^"]+)"', re.MULTILINE)
_FUNCTIONS = re.compile(r"^\. .*functions\.sh.*\n", re.MULTILINE)
_SAID = re.compile(r"(?:begin: (?P<name>.*)|end: (?P<result>ok|not ok))")
_LED = re.compile(r"TEST: .{1,200}? \.\.\. ?")  # what start_test prints, without a line end
_SKIP = re.compile(r"(?:SKIP|skip all tests): (?P<words>.*)")
_ERROR = re.compile(r"ERROR: (?P<words>.*)")
_MOST_LINES = 4000
_SKIPPED = "the script skipped itself (exit code 4)"
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")


def names_in(script: str) -> list[str]:
    """The names of a script's TESTs in order; a name used again gets `` (2)`` behind it, or the next free number."""
    printed = [match["name"] for match in _START.finditer(script)]
    taken, numbers = set(printed), Counter[str]()
    names: list[str] = []
    for name in printed:
        numbers[name] += 1
        key = name
        while numbers[name] > 1 and (key := f"{name} ({numbers[name]})") in taken:
            numbers[name] += 1
        names.append(key)
        taken.add(key)
    return names


def resumed(script: str, first: int, *, alone: bool = False) -> str | None:
    """The script without its TESTs before number `first` (from 0): the preamble, the variables that the left-out
    ones set, and the rest; with `alone`, none of the TESTs behind it either. None where its TESTs are not plain
    sections (a start_test inside an ``if``)."""
    starts = list(_START.finditer(script))
    if any(match["indent"] for match in starts) or not 0 <= first < len(starts):
        return None
    skipped = script[starts[0].start() : starts[first].start()]
    kept = [line for line in skipped.split("\n") if _ASSIGNMENT.match(line)]
    end = starts[first + 1].start() if alone and first + 1 < len(starts) else len(script)
    return script[: starts[0].start()] + "\n".join([*kept, ""]) + script[starts[first].start() : end]


def with_functions(script: str, functions: str) -> str | None:
    """The script with the shell text `functions` behind the line that reads upstream's functions.sh; None if there is
    not one such line."""
    changed, count = _FUNCTIONS.subn(lambda match: match[0] + functions, script)
    return changed if count == 1 else None


@dataclass(frozen=True)
class TestEnded:
    """TEST `name` has its verdict."""

    name: str
    verdict: Verdict
    reason: str = ""


class LivepatchStream:
    """Follows a script, fed with the lines of its output and with what its functions say; `finish` tells what became of
    the TESTs it did not name."""

    def __init__(self, names: Sequence[str]) -> None:
        self._left = list(names)
        self._open: str | None = None
        self._refused = False  # the open one is not ok; why follows, until the script ends
        self._skip = ""
        self._failed = ""
        self._words: list[str] = []

    def feed(self, line: str) -> None:
        """Take a line of the output."""
        if match := _LED.match(line):
            line = line[match.end() :]
        if match := _SKIP.match(line):
            self._skip = match["words"]
        elif match := _ERROR.match(line):
            self._failed = match["words"]
        self._words.append(line)
        del self._words[:-_MOST_LINES]

    def said(self, words: str) -> tuple[TestEnded, ...]:
        """Return the TESTs that get their verdict by what the functions say: one, or none."""
        match = _SAID.fullmatch(words)
        if match is None:
            return ()
        if match["result"]:
            self._refused = match["result"] == "not ok"
            return (self._settle(Verdict.PASS),) if self._open and not self._refused else ()
        lost = (self._overtaken(),) if self._open else ()
        self._open, self._words, self._refused = self._key(match["name"]), [], False
        return lost

    def finish(self, returncode: int) -> list[TestEnded]:
        """Return the verdicts of the TESTs that `feed` has not returned, after the script has ended."""
        ended = []
        if self._open:
            ended.append(self._last(returncode))
        ended += [self._never_begun(name, returncode) for name in self._left]
        self._left = []
        return ended

    def _last(self, returncode: int) -> TestEnded:
        """The verdict of the TEST during which the script ended."""
        if returncode == 4:
            return self._settle(Verdict.SKIP, self._skip or self._glued(_SKIP) or _SKIPPED)
        return self._overtaken() if returncode == 0 else self._failing()

    def _failing(self) -> TestEnded:
        words = [word for word in self._words if word.strip()]
        told = "; ".join(_difference(words)) or self._failed or self._glued(_ERROR) or (words[0] if words else "")
        return self._settle(Verdict.FAIL, told)

    def _overtaken(self) -> TestEnded:
        """The verdict of a TEST that the script has left behind without an "ok"."""
        if self._refused:
            return self._failing()
        return self._settle(Verdict.UNRESOLVED, "the script printed no verdict for it")

    def _glued(self, form: re.Pattern[str]) -> str:
        """What the script says last of why it ends, behind other output on the same line."""
        found = [match["words"] for word in self._words if (match := form.search(word))]
        return found[-1] if found else ""

    def _never_begun(self, name: str, returncode: int) -> TestEnded:
        if returncode == 4:
            return TestEnded(name, Verdict.SKIP, self._skip or self._glued(_SKIP) or _SKIPPED)
        if returncode == 0:
            return TestEnded(name, Verdict.SKIP, "the script skipped it: this kernel lacks what it tests")
        why = self._failed or self._glued(_ERROR) or f"exit code {returncode}"
        return TestEnded(name, Verdict.NOTRUN, f"the script had ended before it: {why}")

    def _key(self, name: str) -> str:
        """The name of the TEST that prints `name`: the first one left of that name, as `names_in` tells them apart."""
        if name in self._left:
            return name
        again = re.compile(rf"{re.escape(name)} \(\d+\)")
        return next((left for left in self._left if again.fullmatch(left)), name)

    def _settle(self, verdict: Verdict, reason: str = "") -> TestEnded:
        """The open TEST has its verdict."""
        assert self._open is not None
        ended, self._open = TestEnded(self._open, verdict, reason), None
        if ended.name in self._left:
            self._left.remove(ended.name)
        if verdict is Verdict.PASS:
            self._words = []  # no reason for what comes later
        return ended


def _difference(words: Sequence[str]) -> list[str]:
    """The first lines in which the kernel's messages differ from those expected."""
    return [word for word in words if re.match(r"^[-+](?![-+])", word)][:2]
