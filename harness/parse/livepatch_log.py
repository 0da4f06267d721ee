"""The livepatch selftests: which TESTs a script holds, and what it prints while it runs. Text in, marks out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.result import Verdict

_START = re.compile(r'^(?P<indent>[ \t]*)start_test "(?P<name>[^"]+)"', re.MULTILINE)
_TEST = re.compile(r"^TEST: (?P<name>.*?) \.\.\. ?(?P<rest>.*)$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")


def names_in(script: str) -> list[str]:
    """The names of a script's TESTs in order; a name used again gets `` (2)`` behind it."""
    seen: Counter[str] = Counter()
    names = []
    for match in _START.finditer(script):
        seen[match["name"]] += 1
        names.append(match["name"] + (f" ({seen[match['name']]})" if seen[match["name"]] > 1 else ""))
    return names


def resumed(script: str, first: int, *, alone: bool = False) -> str | None:
    """The script without its TESTs before number `first` (from 0): the preamble, the variables that the left-out
    ones set, and the rest; with `alone`, none of the TESTs behind it either. None where its TESTs are not plain
    sections (a start_test inside an ``if``)."""
    starts = list(_START.finditer(script))
    if any(match["indent"] for match in starts) or not 0 <= first < len(starts):
        return None
    skipped = script[starts[0].start() : starts[first].start()]
    kept = [line for line in skipped.splitlines() if _ASSIGNMENT.match(line)]
    end = starts[first + 1].start() if alone and first + 1 < len(starts) else len(script)
    return script[: starts[0].start()] + "\n".join([*kept, ""]) + script[starts[first].start() : end]


@dataclass(frozen=True)
class TestEnded:
    """TEST `name` has its verdict."""

    name: str
    verdict: Verdict
    reason: str = ""


class LivepatchStream:
    """Follows a script's output, fed line by line; `finish` tells what became of the TESTs it did not name."""

    def __init__(self, names: Sequence[str]) -> None:
        self._left = list(names)
        self._open: str | None = None
        self._skip = ""
        self._failed = ""
        self._words: list[str] = []

    def feed(self, line: str) -> TestEnded | None:
        """What `line` says of a TEST, or None."""
        match = _TEST.match(line)
        if match:
            return self._begun(match["name"], match["rest"])
        if line.startswith(("SKIP: ", "skip all tests: ")):
            self._skip = line.partition(": ")[2]
        elif line.startswith("ERROR: "):
            self._failed = line.removeprefix("ERROR: ")
        if self._open:
            if line == "ok":  # something was printed between the name and the verdict
                key = self._open
                self._settle(key)
                return TestEnded(key, Verdict.PASS)
            self._words.append(line)
        return None

    def _begun(self, name: str, rest: str) -> TestEnded | None:
        key = next((left for left in self._left if left == name or left.startswith(f"{name} (")), name)
        if rest == "ok":
            self._settle(key)
            return TestEnded(key, Verdict.PASS)
        self._open, self._words = key, [rest]
        return None

    def finish(self, returncode: int) -> list[TestEnded]:
        """The verdicts of the TESTs that `feed` has not told, when the script has ended."""
        ended = []
        if self._open:
            words = [word for word in self._words if word.strip()]
            difference = [word for word in words if re.match(r"^[-+](?![-+])", word)]
            told = "; ".join(difference[:2]) or self._failed or (words[0] if words else "")
            skipped = returncode == 4
            verdict = Verdict.SKIP if skipped else Verdict.FAIL
            ended.append(TestEnded(self._open, verdict, self._skip if skipped else told))
            self._settle(self._open)
        for name in list(self._left):
            ended.append(self._never_begun(name, returncode))
            self._settle(name)
        return ended

    def _never_begun(self, name: str, returncode: int) -> TestEnded:
        if returncode == 4:
            return TestEnded(name, Verdict.SKIP, self._skip or "the script skipped itself (exit code 4)")
        if returncode == 0:
            return TestEnded(name, Verdict.SKIP, "the script left it out: this kernel lacks what it tests")
        why = self._failed or f"exit code {returncode}"
        return TestEnded(name, Verdict.NOTRUN, f"the script had ended before it: {why}")

    def _settle(self, name: str) -> None:
        if name in self._left:
            self._left.remove(name)
        self._open = None
