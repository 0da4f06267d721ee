"""Takes a patch out of a mail that replies to it and quotes all of it, with comments between its lines. No I/O.

Hunks say how many lines they have, and the diffstat how many lines change in each file, so it can be told whether
something is missing. Archives collapse white space, so context lines may have lost even the blank before them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise

from harness.errors import UserError
from harness.limits import PATCH_FILES, PATCH_LINES

_HEAD = re.compile(r"(?P<prefix>(?:> ?)+)--- \S")
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_GIT = re.compile(
    r"diff --git |(?:old|new|deleted file|new file) mode \d|(?:copy|rename) (?:from|to) |(?:dis)?similarity index "
    r"|index [0-9a-f]{4,40}\.\."
)
_STAT = re.compile(r"\s*(?P<path>\S+)(?: => \S+)?\s+\|\s+(?P<lines>\d{1,9})\b")
_CONTEXT = 3  # lines of it on each side of a change, as every tool makes them
_INSTEAD = "apply the patch itself, as its author mailed it"


@dataclass(frozen=True, kw_only=True)
class Unquoted:
    """The diff, and in `notes` what was done to get it, for people. `is_loose`: white space or context was lost,
    so its lines are to be found in the source by their words."""

    diff: str
    notes: tuple[str, ...]
    is_loose: bool


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A quoted line without the quote: `number` in the mail; `comment`: the first line of what stands before it and is
    not quoted; `is_apart`: a blank line separates that from the quoted line before."""

    number: int
    text: str
    comment: str | None
    is_apart: bool


_Marked = tuple[str, str]  # a blank, +, - or \\; the line as it is quoted
_NOTHING = _Line(number=0, text="", comment=None, is_apart=True)


@dataclass
class _File:
    """A file's section; `head`: its lines before the first hunk."""

    path: str
    head: list[str]
    hunks: list[tuple[str, list[_Marked]]] = field(default_factory=list)
    cut: list[tuple[str, int]] = field(default_factory=list)
    """Hunks that lack context lines at their end: how messages call each, and how many."""

    @property
    def changes(self) -> int:
        return sum(kind in "+-" for _, body in self.hunks for kind, _ in body)


def unquote(text: str, *, name: str) -> Unquoted | None:
    """Return the patch that the mail `text` quotes; None if it quotes none. Raises UserError, in the name of `name`,
    if a part of it is missing or was changed."""
    PATCH_LINES.check(text.count("\n"), place=name)
    raw = [line.removesuffix("\r") for line in text.split("\n")]
    starts = (
        match["prefix"]
        for line, following in pairwise(raw)
        if (match := _HEAD.match(line)) and following.startswith(f"{match['prefix']}+++ ")
    )
    if (prefix := next(starts, None)) is None:
        return None
    lines = list(_quoted(raw, prefix))
    reader = _Reader(lines, name=name)
    files = reader.files()
    if not files:
        return None
    is_compared = _compare(files, reader.stat, name=name)
    return _result(files, lines, reader, is_compared=is_compared)


def _quoted(raw: Sequence[str], prefix: str) -> Iterator[_Line]:
    comment: list[str] = []
    for number, line in enumerate(raw, start=1):
        if line.startswith(prefix) or line.rstrip() == prefix.rstrip():
            said = next((each for each in comment if each.strip()), None)
            is_apart = not comment or not comment[0].strip()
            yield _Line(number=number, text=line[len(prefix) :], comment=said, is_apart=is_apart)
            comment = []
        else:
            comment.append(line)


@dataclass
class _Reader:
    """Walks over the quoted lines. `stat`: the diffstat, changed lines by file; `within`: comments within a hunk."""

    lines: Sequence[_Line]
    name: str
    at: int = 0
    stat: dict[str, int] = field(default_factory=dict)
    within: int = 0

    def files(self) -> list[_File]:
        found: list[_File] = []
        head: list[str] = []
        while self.at < len(self.lines):
            if self._starts_file(self.at):
                old, new = self._text(), self._text(1)
                file = _File(path=_path(new if "/dev/null" not in new else old), head=[*head, old, new])
                found.append(file)
                head, self.at = [], self.at + 2
                self._hunks(file)
                continue
            line = self._text()
            if _GIT.match(line):
                head.append(line)
            elif not found and (match := _STAT.match(line)):
                self.stat[match["path"]] = int(match["lines"])
            self.at += 1
        return found

    def _hunks(self, file: _File) -> None:
        while match := _HUNK.match(self._text()):
            place = f"hunk {len(file.hunks) + 1} ({match[0]}) of {file.path}"
            self.at += 1
            end = self._end()
            body = self._body(match, place, end)
            counts = [sum(kind not in without for kind, _ in body) for without in ("+\\", "-\\")]
            if (lacks := _count(match[2]) - counts[0]) > 0:
                file.cut.append((place, lacks))
            file.hunks.append((f"@@ -{match[1]},{counts[0]} +{match[3]},{counts[1]} @@", body))
            self.at += len(body)
            if self.at < end and re.match(r"\+|-(?!-)", self._text()):
                raise self._error(f"{place}: expected its end, since its header counts no more lines, found another")
            self.at = end  # behind a signature, or prose below the diff

    def _end(self) -> int:
        """Return where the next hunk or file begins."""
        at = self.at
        while at < len(self.lines) and not self._is_boundary(at):
            at += 1
        return at

    def _body(self, header: re.Match[str], place: str, end: int) -> list[_Marked]:
        """Return the lines of a hunk, which stand before `end`."""
        lines = self.lines[self.at : end]
        wanted = _count(header[2]), _count(header[4])
        for flipped in self._readings(lines):
            body, (old, new) = _read(lines, *wanted, flipped=flipped)
            if old == new == 0:
                break
        else:
            body, (old, new) = _read(lines, *wanted)
            if old < 0 or new < 0:
                raise self._error(
                    f"{place}: expected as many lines as its header counts, found that they do not add up"
                )
            leading = next((n for n, (kind, _) in enumerate(body) if kind in "+-"), 0)
            if old != new or old > min(leading, _CONTEXT):
                missing = f"{old} old and {new} new lines"
                raise self._error(f"{place}: expected all of it to be quoted, found that {missing} are missing")
        for line in lines[1 : len(body)]:
            if line.comment is not None and not line.is_apart:
                raise self._error(
                    f"{place}: expected a blank line between a quoted line and a comment, found "
                    f"{line.comment[:60]!r}, which may be the rest of a line that a mailer wrapped"
                )
            self.within += line.comment is not None
        return body

    def _readings(self, lines: Sequence[_Line]) -> Iterator[frozenset[int]]:
        """Yield which lines of a hunk are context although they begin with a plus or minus sign: none; then, if white
        space was collapsed, some of those at its ends, where context is."""
        yield frozenset()
        if self.is_loose:
            ends = {*range(_CONTEXT), *range(len(lines) - _CONTEXT, len(lines))}
            doubtful = sorted(n for n in ends if 0 <= n < len(lines) and lines[n].text[:1] in ("+", "-"))
            for count in range(1, len(doubtful) + 1):
                yield from map(frozenset, combinations(doubtful, count))

    @cached_property
    def is_loose(self) -> bool:
        """Whether the blank before context lines is lost, as the line below a hunk's header shows."""
        firsts = (after.text for line, after in pairwise(self.lines) if _HUNK.match(line.text))
        return any(text and text[0] not in " +-\\" for text in firsts)

    def _is_boundary(self, at: int) -> bool:
        text = self.lines[at].text
        return _HUNK.match(text) is not None or _GIT.match(text) is not None or self._starts_file(at)

    def _starts_file(self, at: int) -> bool:
        old, new, hunk = (line.text for line in (*self.lines[at : at + 3], *[_NOTHING] * 3)[:3])
        return old.startswith("--- ") and new.startswith("+++ ") and _HUNK.match(hunk) is not None

    def _text(self, ahead: int = 0) -> str:
        return self.lines[self.at + ahead].text if self.at + ahead < len(self.lines) else ""

    def _error(self, told: str) -> UserError:
        number = self.lines[min(self.at, len(self.lines) - 1)].number
        return UserError(f"{self.name}: line {number}: a patch quoted in a reply: {told}: {_INSTEAD}")


def _read(
    lines: Sequence[_Line], old: int, new: int, *, flipped: frozenset[int] = frozenset()
) -> tuple[list[_Marked], tuple[int, int]]:
    """Return the lines of a hunk of so many old and new ones, each with its kind, and how many are missing. `flipped`:
    those that are context, whatever they begin with."""
    body: list[_Marked] = []
    for at, line in enumerate(lines):
        kind = line.text[:1] if line.text[:1] in ("+", "-", "\\") and at not in flipped else " "
        if old <= 0 and new <= 0 and kind != "\\":
            break
        old -= kind in " -"
        new -= kind in " +"
        body.append((kind, line.text))
    return body, (old, new)


def _count(text: str | None) -> int:
    return 1 if text is None else int(text)


def _path(side: str) -> str:
    return side[4:].split("\t")[0].strip().partition("/")[2]


def _compare(files: Sequence[_File], stat: dict[str, int], *, name: str) -> bool:
    """Compare what is quoted with the diffstat, and return whether there is one. Raises UserError if they differ, or if
    there is none to tell what a hunk that was cut lacks."""
    told = f"{name}: a patch quoted in a reply"
    quoted = {file.path: file.changes for file in files}
    PATCH_FILES.check(len(stat), place=name)
    for path, lines in stat.items():
        found: str | None = path if path in quoted else None
        if path.startswith("..."):
            found = next((each for each in quoted if each.endswith(path.removeprefix("..."))), None)
        if found is None:
            raise UserError(f"{told}: its diffstat names {path}: expected the change of it, found none: {_INSTEAD}")
        if quoted[found] != lines:
            raise UserError(
                f"{told}: {found}: expected the {lines} changed lines that its diffstat counts, "
                f"found {quoted[found]}: {_INSTEAD}"
            )
    for place, lines in (each for file in files for each in file.cut):
        if not stat:
            raise UserError(
                f"{told}: {place}: expected all of it to be quoted, found that {lines} lines are missing at its end, "
                f"and no diffstat to tell whether they are context: {_INSTEAD}"
            )
    return bool(stat)


def _result(files: Sequence[_File], lines: Sequence[_Line], reader: _Reader, *, is_compared: bool) -> Unquoted:
    context = [line for file in files for _, body in file.hunks for kind, line in body if kind == " "]
    is_collapsed = any(line and line[0] != " " for line in context)
    hunks = sum(len(file.hunks) for file in files)
    comments = sum(line.comment is not None for line in lines[1:])  # before the first line is a greeting
    notes = [
        f"unquoted from a reply: {_many(hunks, 'hunk')} in {_many(len(files), 'file')}, "
        f"{_many(comments, 'comment')} left out, {reader.within} of them within hunks",
        "its diffstat confirms that every changed line is quoted"
        if is_compared
        else "it has no diffstat, so hunks that are not quoted at all would not be noticed",
    ]
    for file in files:
        notes += [f"{place}: {_many(lines, 'context line')} missing at its end" for place, lines in file.cut]
    if is_collapsed:
        notes.append(
            "its white space was collapsed: lines of the source are recognized by their words; what is added has "
            "single blanks instead of the author's white space"
        )
    text = [line for file in files for line in (*file.head, *_body_lines(file, is_collapsed=is_collapsed))]
    is_loose = is_collapsed or any(file.cut for file in files)
    return Unquoted(diff="".join(f"{line}\n" for line in text), notes=tuple(notes), is_loose=is_loose)


def _body_lines(file: _File, *, is_collapsed: bool) -> Iterator[str]:
    for header, body in file.hunks:
        yield header
        for kind, line in body:
            yield f" {line}" if kind == " " and (is_collapsed or not line) else line


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
