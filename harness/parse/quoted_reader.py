"""Reads the quoted lines of a mail as a diff. What is in doubt is refused. No I/O.

Hunks say how many lines they have, and how many were added above them. Where white space was collapsed, context lines
may have lost even the blank before them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise

from harness.errors import UserError
from harness.parse.diff_names import split_git_names, stripped
from harness.parse.quoted_head import CERTAIN, GIT, IN_HEADER, lacking
from harness.parse.quoted_lines import NOTHING, Line, is_elision

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_SIDE = re.compile(r"(?:--- (?:a/|/dev/null)|\+\+\+ (?:b/|/dev/null))\S*")
_YAML = (".yaml", ".yml", ".rst", ".txt")  # in which a line of three dots is none of ours
_CONTEXT = 3  # lines of it on each side of a change, as every tool makes them
INSTEAD = "apply the patch itself, as its author mailed it"

Marked = tuple[str, str]  # a blank, +, - or \\; the line as it is quoted


@dataclass
class File:
    """A file's section; `head`: its lines before the first hunk."""

    path: str
    head: list[str]
    hunks: list[tuple[str, list[Marked]]] = field(default_factory=list)
    cut: list[tuple[str, int]] = field(default_factory=list)
    """Hunks that lack context lines at their end: how messages call each, and how many."""

    @property
    def changes(self) -> int:
        return sum(kind in "+-" for _, body in self.hunks for kind, _ in body)


@dataclass
class Reader:
    """Walks over the quoted lines. `tail`: what is behind them; `joined`: the numbers of those that were wrapped;
    `above`: the lines above the first file; `within`: comments within a hunk; `unwrapped`: joined lines in hunks."""

    lines: Sequence[Line]
    name: str
    tail: Line
    joined: frozenset[int]
    at: int = 0
    above: list[str] = field(default_factory=list)
    within: int = 0
    unwrapped: int = 0
    first: int = -1
    end: int = 0

    def files(self) -> list[File]:
        found: list[File] = []
        stray: UserError | None = None  # of a mail that quotes no patch, it would say nothing
        head: list[str] = []
        while self.at < len(self.lines):
            line = self._text()
            if self._starts_file(self.at):
                self._begin(self.at)
                old, new = line, self._text(1)
                file = File(path=_path(new if "/dev/null" not in new else old), head=[*head, old, new])
                self._check_head(file.path, head, (old, new))
                found.append(file)
                head, self.at = [], self.at + 2
                self._hunks(file)
                continue
            if line.startswith(GIT):
                found += self._without_hunks(head)
                self._begin(self.at)
                head = [line]
            elif head and IN_HEADER.match(line):
                head.append(line)
            elif head:
                found += self._without_hunks(head)
                head = []
                continue
            elif _SIDE.fullmatch(line) or _HUNK.match(line) or CERTAIN.match(line):
                what = "its hunks" if _SIDE.fullmatch(line) else "what belongs above it"
                stray = stray or self._error(f"expected {what} beside the line {line[:60]!r}, found that it is missing")
            elif not found:
                self.above.append(line)
            self.at += 1
        found += self._without_hunks(head)
        if stray and any(file.hunks for file in found):
            raise stray
        self._check_wraps()
        return self._distinct(found)

    def _begin(self, at: int) -> None:
        self.first = at if self.first < 0 else self.first

    def _without_hunks(self, head: Sequence[str]) -> list[File]:
        """Return the section that has only a git header, as of a file that is only renamed."""
        if not head:
            return []
        path = stripped(split_git_names(head[0].removeprefix(GIT))[1], 1)[1]
        self._check_head(path, head, ())
        self.end = max(self.end, self.at)
        return [File(path=path, head=list(head))]

    def _check_head(self, path: str, head: Sequence[str], sides: Sequence[str]) -> None:
        if (what := lacking(head, sides)) is not None:
            raise self._error(f"{path}: expected all of its section to be quoted, found that it lacks {what}")

    def _distinct(self, files: list[File]) -> list[File]:
        seen: set[str] = set()
        for file in files:
            if file.path in seen:
                raise self._error(f"{file.path}: expected one section for it, found two, as of two patches")
            seen.add(file.path)
        return files

    def _check_wraps(self) -> None:
        """Raise UserError where the rest of a quoted line may stand below it without its quote mark."""
        for at in range(self.first + 1, self.end + 1):
            line = self.lines[at] if at < len(self.lines) else self.tail
            if line.comment is not None and not line.is_apart and not _HUNK.match(self.lines[at - 1].text):
                self.at = at - 1
                raise self._error(
                    f"expected a blank line between a quoted line and a comment, found {line.comment[:60]!r}, which "
                    "may be the rest of a line that a mailer wrapped"
                )

    def refuse_elisions(self) -> None:
        """Raise UserError where the replier says that something was left out, and nothing tells that it was none of the
        patch."""
        for line in (*self.lines[self.first + 1 :], self.tail):
            if line.elision is not None:
                raise UserError(
                    f"{self.name}: line {line.number}: a patch quoted in a reply: expected all of it to be quoted, or "
                    f"a diffstat with totals to tell that it is, found {line.elision[:60]!r}: {INSTEAD}"
                )

    def _hunks(self, file: File) -> None:
        added = behind = 0
        while match := _HUNK.match(self._text()):
            place = f"hunk {len(file.hunks) + 1} ({match[0]}) of {file.path}"
            added, behind = self._check_start(match, place, added, behind)
            self.at += 1
            end = self._end()
            body = self._body(match, place, end)
            counts = [sum(kind not in without for kind, _ in body) for without in ("+\\", "-\\")]
            if (lacks := _count(match[2]) - counts[0]) > 0:
                file.cut.append((place, lacks))
            file.hunks.append((f"@@ -{match[1]},{counts[0]} +{match[3]},{counts[1]} @@", body))
            self._check_body(file, body, place, is_cut=lacks > 0)
            self.at += len(body)
            self.end = self.at
            self._check_rest(body, place, end)
            self.at = end  # behind a signature, or prose below the diff

    def _check_start(self, header: re.Match[str], place: str, added: int, behind: int) -> tuple[int, int]:
        """Compare where a hunk starts with how many lines the hunks above it have `added`, and with where the last one
        of them ends; return both for the next one."""
        old, new = _count(header[2]), _count(header[4])
        # a hunk without lines of a side says behind which line it is, any other says which line is its first
        start, shifted = int(header[1]) + (old == 0), int(header[3]) + (new == 0)
        if shifted - start != added:
            raise self._error(
                f"{place}: expected its start to be shifted by the {added} lines that the hunks above it add, found "
                f"{shifted - start}: a hunk above it is missing"
            )
        if start < behind:
            raise self._error(f"{place}: expected it behind the hunk above it, found it before, as of another file")
        return added + new - old, start + old

    def _check_body(self, file: File, body: Sequence[Marked], place: str, *, is_cut: bool) -> None:
        """Raise UserError for lines that count as many as the hunk has but are not the author's."""
        lines = self.lines[self.at : self.at + len(body)]
        for (kind, text), line in zip(body, lines, strict=True):
            said = text[1:].strip() if kind != " " else text.strip()
            if kind in "+ " and is_elision(said) and not (said == "..." and file.path.endswith(_YAML)):
                raise self._error(f"{place}: expected the author's lines, found {said!r} instead of what was left out")
            if re.match(r"[ +-]?[ \t]*\u00a0", text):
                raise self._error(f"{place}: expected its white space, found no-break spaces, which a mailer made")
            if line.number in self.joined:
                if is_cut or self.is_loose:
                    raise self._error(
                        f"{place}: expected all of its lines, found that some are missing beside "
                        f"{text[:60]!r}, which the mailer seems to have wrapped"
                    )
                self.unwrapped += 1

    def _check_rest(self, body: Sequence[Marked], place: str, end: int) -> None:
        """Raise UserError if what is quoted between the hunk and `end` may be a part of it or of a wrapped line."""
        rest = [line.text for line in self.lines[self.at : end]]
        signature = next((at for at, text in enumerate(rest) if text.rstrip() == "--"), len(rest))
        rest = rest[:signature] if end == len(self.lines) else rest
        trailing = len(body) - 1 - max((at for at, (kind, _) in enumerate(body) if kind != " "), default=-1)
        if rest and not rest[0] and 0 < trailing < _CONTEXT:
            # fuzz would drop all of that context, and with it the rest of a wrapped line that took the place of a blank
            raise self._error(
                f"{place}: expected {_CONTEXT} lines of context at its end, or the end of the patch, found {trailing} "
                "and a blank line, which may belong to it"
            )
        for at, text in enumerate(rest):
            is_part = text[:1] in ("+", "-", "\\") or bool(_HUNK.match(text))
            if (text and at == 0) or (text.strip() and (is_part or end < len(self.lines))):
                raise self._error(
                    f"{place}: expected its end, since its header counts no more lines, found {text[:60]!r}, which may "
                    "be another line of it or the rest of one that a mailer wrapped"
                )

    def _end(self) -> int:
        """Return where the next hunk or file begins."""
        at = self.at
        while at < len(self.lines) and not self._is_boundary(at):
            at += 1
        return at

    def _body(self, header: re.Match[str], place: str, end: int) -> list[Marked]:
        """Return the lines of a hunk, which stand before `end`."""
        lines = self.lines[self.at : end]
        wanted = _count(header[2]), _count(header[4])
        self._check_marks(lines, wanted, place)
        body, (old, new) = _read(lines, *wanted)
        if not old == new == 0 and (readings := list(self._readings(lines, wanted))):
            if len(readings) > 1:
                raise self._error(f"{place}: expected one reading of its lines, found several that its header allows")
            body, (old, new) = readings[0], (0, 0)
        if not old == new == 0:
            if old < 0 or new < 0:
                raise self._error(
                    f"{place}: expected as many lines as its header counts, found that they do not add up"
                )
            changed = [n for n, (kind, _) in enumerate(body) if kind in "+-"] or [0]
            # what is missing must be context at its end, of which there is as much as at its begin
            if old != new or old > min(changed[0], _CONTEXT) - (len(body) - 1 - changed[-1]):
                missing = f"{old} old and {new} new lines"
                raise self._error(f"{place}: expected all of it to be quoted, found that {missing} are missing")
        self.within += sum(line.comment is not None for line in lines[1 : len(body)])
        return body

    def _check_marks(self, lines: Sequence[Line], wanted: tuple[int, int], place: str) -> None:
        """Raise UserError for a line of a hunk that begins with none of a diff's marks."""
        if self.is_loose:
            return
        for at, line in enumerate(lines[: len(_read(lines, *wanted)[0])]):
            if line.text and line.text[0] not in " +-\\":
                self.at += at
                raise self._error(
                    f"{place}: expected a line that begins with a blank, '+' or '-', found {line.text[:60]!r}, which "
                    "may be a comment or the rest of a line that a mailer wrapped"
                )

    def _readings(self, lines: Sequence[Line], wanted: tuple[int, int]) -> Iterator[list[Marked]]:
        """Yield the hunk as its header counts it, with some lines at its ends taken for context that begin with a plus
        or minus sign: where white space was collapsed, nothing else tells them from changed ones."""
        if not self.is_loose:
            return
        ends = {*range(_CONTEXT), *range(len(lines) - _CONTEXT, len(lines))}
        doubtful = sorted(n for n in ends if 0 <= n < len(lines) and lines[n].text[:1] in ("+", "-"))
        for count in range(1, len(doubtful) + 1):
            for flipped in combinations(doubtful, count):
                body, missing = _read(lines, *wanted, flipped=frozenset(flipped))
                if missing == (0, 0) and max(flipped) < len(body) and _are_outer(flipped, body):
                    yield body

    @cached_property
    def is_loose(self) -> bool:
        """Whether the blank before context lines is lost, as the lines below the headers of hunks show."""
        firsts = [after.text for line, after in pairwise(self.lines) if _HUNK.match(line.text)]
        lost = any(text and text[0] not in " +-\\" for text in firsts)
        return lost and not any(text.startswith(" ") for text in firsts)

    def _is_boundary(self, at: int) -> bool:
        text = self.lines[at].text
        return _HUNK.match(text) is not None or text.startswith(GIT) or self._starts_file(at)

    def _starts_file(self, at: int) -> bool:
        old, new, hunk = (line.text for line in (*self.lines[at : at + 3], *[NOTHING] * 3)[:3])
        return old.startswith("--- ") and new.startswith("+++ ") and _HUNK.match(hunk) is not None

    def _text(self, ahead: int = 0) -> str:
        return self.lines[self.at + ahead].text if self.at + ahead < len(self.lines) else ""

    def _error(self, told: str) -> UserError:
        number = self.lines[min(self.at, len(self.lines) - 1)].number
        return UserError(f"{self.name}: line {number}: a patch quoted in a reply: {told}: {INSTEAD}")


def _read(
    lines: Sequence[Line], old: int, new: int, *, flipped: frozenset[int] = frozenset()
) -> tuple[list[Marked], tuple[int, int]]:
    """Return the lines of a hunk of so many old and new ones, each with its kind, and how many are missing. `flipped`:
    those that are context, whatever they begin with."""
    body: list[Marked] = []
    for at, line in enumerate(lines):
        kind = line.text[:1] if line.text[:1] in ("+", "-", "\\") and at not in flipped else " "
        if old <= 0 and new <= 0 and kind != "\\":
            break
        old -= kind in " -"
        new -= kind in " +"
        body.append((kind, line.text))
    return body, (old, new)


def _are_outer(flipped: Sequence[int], body: Sequence[Marked]) -> bool:
    """Whether these lines are in the context at either end of the hunk, not between changes."""
    changed = [at for at, (kind, _) in enumerate(body) if kind in "+-"]
    return bool(changed) and all(at < changed[0] or at > changed[-1] for at in flipped)


def _count(text: str | None) -> int:
    return 1 if text is None else int(text)


def _path(side: str) -> str:
    return side[4:].split("\t")[0].strip().partition("/")[2]
