"""Completes a diff that was taken out of a mail from the source: the white space of lines that are in both, and the
context that a hunk lacks at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import UserError
from harness.parse.diff import FileDiff, Hunk

_MOST_COMPARED = 1_000_000  # lines, to find where the hunks of a file belong
_MOST_FUZZ = 2  # lines of context that may differ at either end of a hunk, as with patch(1)


def restored(source: bytes, diff: FileDiff, *, who: str) -> FileDiff:
    """Return `diff` with its context and removed lines as `source` has them; lines are found by their words, near where
    the hunk's header says. Raises UserError, in the name of `who`, if they are not there."""
    file = _File(source.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"), who=who)
    return replace(diff, hunks=tuple(file.restored(hunk) for hunk in diff.hunks))


@dataclass
class _File:
    """The file as it is; `shift`, `behind`: how far the last hunk was from where its header says, and its end."""

    text: list[str]
    who: str
    shift: int = 0
    behind: int = 0
    compared: int = 0
    words: list[str] = field(init=False)
    places: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.words = [_words(line) for line in self.text]
        for number, line in enumerate(self.words):
            self.places.setdefault(line, []).append(number)

    def restored(self, hunk: Hunk) -> Hunk:
        if not hunk.expected:
            return hunk
        for fuzz in range(_MOST_FUZZ + 1):
            lines, dropped = _trimmed(hunk.lines, fuzz)
            wanted = [_words(line[1:]) for line in lines if line[0] in " -"]
            near = hunk.start - 1 + dropped + self.shift
            found = [at for at in self._places_of(wanted, hunk) if at >= self.behind]
            if found:
                at = min(found, key=lambda at: abs(at - near))
                self.shift, self.behind = at - (hunk.start - 1 + dropped), at + len(wanted)
                lines = [*lines, *[" "] * min(_lacks(lines), len(self.text) - self.behind)]
                there = self.text[at : at + sum(line[0] in " -" for line in lines)]
                return _hunk(lines, there, at=at, shift=self.shift)
        raise UserError(
            f"{self.who}: hunk ({hunk.header}) does not apply: expected its lines in the file, whatever their white "
            "space, found them nowhere: is this patch for another version?",
            details=hunk.expected,
        )

    def _places_of(self, wanted: Sequence[str], hunk: Hunk) -> list[int]:
        """Return where in the file the lines `wanted` are: only where the rarest of them is, they are compared."""
        if not wanted:
            return []
        rarest = min(range(len(wanted)), key=lambda number: len(self.places.get(wanted[number], ())))
        candidates = [at - rarest for at in self.places.get(wanted[rarest], ()) if at >= rarest]
        self.compared += len(candidates) * len(wanted)
        if self.compared > _MOST_COMPARED:
            told = f"{self.who}: hunk ({hunk.header})"
            raise UserError(f"{told}: expected lines that tell where it belongs, found them in too many places")
        return [at for at in candidates if self.words[at : at + len(wanted)] == wanted]


def _trimmed(lines: Sequence[str], fuzz: int) -> tuple[Sequence[str], int]:
    """Return the hunk without up to `fuzz` lines of context at each end, and how many are gone at its begin. The line
    beside a change stays: it may be the rest of that change, from a mailer that wraps lines."""
    changed = [number for number, line in enumerate(lines) if line[0] in "+-"] or [len(lines)]
    first = max(min(fuzz, changed[0] - 1), 0)
    last = max(min(fuzz, len(lines) - 2 - changed[-1]), 0)
    return lines[first : len(lines) - last], first


def _lacks(lines: Sequence[str]) -> int:
    """Return how many lines of context a hunk lacks at its end. patch(1) would take that for the end of the file."""
    changed = [number for number, line in enumerate(lines) if line[0] in "+-"] or [0]
    return max(changed[0] - (len(lines) - 1 - changed[-1]), 0)


def _hunk(lines: Sequence[str], there: Sequence[str], *, at: int, shift: int) -> Hunk:
    """Return the hunk with the lines as they are `there`, at index `at` of the file."""
    new = sum(line[0] in " +" for line in lines)
    start = at - shift + 1
    return Hunk(header=f"@@ -{start},{len(there)} +{start},{new} @@", start=start, lines=tuple(_with(lines, there)))


def _with(lines: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    own = iter(there)
    for line in lines:
        yield line[0] + next(own) if line[0] in " -" else line


def _words(line: str) -> str:
    return " ".join(line.split())
