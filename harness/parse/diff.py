"""Unified diffs, git's and plain ones: finds them in other text, converts them to ``-p1`` and parses them. No I/O.

git's binary changes are only checked for their form; git decodes them.
Text is as in `harness.parse.series`: lines end at LF only, bytes that are no UTF-8 are surrogate escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import UserError
from harness.limits import BINARY_BYTES, PATCH_FILES, PATCH_LINES
from harness.parse.diff_names import (
    NO_PREFIX,
    is_nowhere,
    is_too_long,
    leads_outside,
    split_git_names,
    split_stamp,
    stripped,
    unquoted,
)

_EXTENDED = re.compile(
    r"(old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from|rename to"
    r"|similarity index|dissimilarity index|index) (.+)"
)
_MOVES = ("copy from", "copy to", "rename from", "rename to")
_HUNK = re.compile(r"@@ -(\d{1,10})(?:,(\d{1,10}))? \+(\d{1,10})(?:,(\d{1,10}))? @@")
_MODE = re.compile(r"[0-7]{6}")
_INDEX = re.compile(r"([0-9a-f]{40})\.\.([0-9a-f]{40})(?: [0-7]{6})?")
_HUNK_MARK = "@@ -"
_GIT_BINARY = "GIT binary patch"
_BINARY_DIFFER = re.compile(r"Binary files .* differ$")
_BINARY_BODY = re.compile(r"(?:literal|delta) (\d{1,40})")
_BASE_85 = re.compile(r"[A-Za-z](?:[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{5}){1,13}")
_ASK_FOR_BINARY = "make the patch with git format-patch, or git diff --binary"


@dataclass(frozen=True, kw_only=True)
class Hunk:
    """`header`: the @@ line's range part; `start`: first line (from 1) in the old file;
    `lines`: with their leading `` ``, ``+``, ``-`` or ``\\``."""

    header: str
    start: int
    lines: tuple[str, ...]

    @property
    def expected(self) -> tuple[str, ...]:
        """The lines that the old file has to contain."""
        return tuple(line[1:] for line in self.lines if line[0] in " -")


@dataclass(frozen=True, kw_only=True)
class Binary:
    """What ``GIT binary patch`` makes of a file: the object names (SHA-1) of both its forms; `lines`: the encoded new
    one, or what it differs in, with the ``literal`` or ``delta`` line before and the blank one behind it."""

    old: str
    new: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FileDiff:
    """What a patch does to one file.

    `old`/`new`: paths below the tree, None for a file that is created or deleted; two different ones are a rename, or a
    copy where `copy` is set. `mode`: git's new mode (``0o100755``) where the patch sets one; `old_mode`: the one
    before, where it tells that. `binary`: instead of `hunks`. `prefix`: what was stripped from the name if the patch is
    not git's."""

    old: str | None
    new: str | None
    copy: bool = False
    mode: int | None = None
    old_mode: int | None = None
    hunks: tuple[Hunk, ...] = ()
    binary: Binary | None = None
    prefix: str = ""

    @property
    def path(self) -> str:
        """The file's name in messages."""
        return self.new or self.old or "?"


def parse_diff(text: str, *, name: str) -> tuple[FileDiff, ...]:
    """Return the file sections of a ``-p1`` diff in order. Raises UserError, which calls the patch `name`, for a hunk
    whose lines and counts disagree, a path outside the tree, or a section without a file name."""
    return tuple(_DiffReader(text, name=name, strip=1).sections())


def find_diff(text: str) -> str | None:
    """Return the part of a mail or file from its first diff line on, with LF line ends; None if it has no diff.

    CR is removed only if the diff's own header lines end in it: otherwise it belongs to the patched file.
    """
    lines = text.split("\n")
    at = _section_starts(lines).find(1)
    if at < 0:
        return None
    rest = lines[at:]
    return "\n".join(line.removesuffix("\r") for line in rest) if lines[at].endswith("\r") else "\n".join(rest)


def normalize_diff(diff: str, *, name: str, strip: int = 1) -> str:
    """Check a diff, convert it to -p1 and cut off what follows it (a mail's signature with git's version). Raises
    UserError as `parse_diff` does."""
    reader = _DiffReader(diff, name=name, strip=strip)
    for _section in reader.sections():
        pass
    return "\n".join(reader.lines[reader.first : reader.end]) + "\n"


@dataclass
class _DiffReader:
    """Walks over the lines of one diff; `first` and `end` bound the lines that belong to it."""

    text: str
    name: str
    strip: int
    at: int = 0
    first: int = -1
    end: int = 0
    index: str = ""
    lines: list[str] = field(default_factory=list)

    def sections(self) -> Iterator[FileDiff]:
        PATCH_LINES.check(self.text.count("\n"), place=self.name)
        self.lines = self.text.removesuffix("\n").split("\n")
        starts, count = _section_starts(self.lines), 0
        while self.at < len(self.lines):
            if starts[self.at]:
                if self.first < 0:
                    self.first = self.at
                count += 1
                PATCH_FILES.check(count, place=self.name)
                section = self._section()
                self.end = self.at
                yield section
                continue
            line = self.lines[self.at]
            if self.end and line.startswith(_HUNK_MARK):
                raise self._error("expected a '--- a/file' and '+++ b/file' line before a hunk", line)
            if self.end and (line == _GIT_BINARY or _BINARY_DIFFER.match(line)):
                raise self._error("expected a 'diff --git' line with the file's name before a binary change", line)
            self.at += 1

    def _section(self) -> FileDiff:
        git = self._line().startswith("diff --git ")
        head = self._git_header() if git else FileDiff(old=None, new=None)
        gone = False
        if not git and _BINARY_DIFFER.match(self._line(1)):
            raise self._error(f"expected the content of a binary file: {_ASK_FOR_BINARY}", self._line(1))
        if self._line().startswith("--- ") and self._line(1).startswith("+++ "):
            head, gone = (self._git_sides(head), False) if git else self._plain_sides()
            self.at += 2
        if _BINARY_DIFFER.match(self._line()):
            raise self._error(f"{head.path}: expected its binary content: {_ASK_FOR_BINARY}", self._line())
        if git and self._line() == _GIT_BINARY:
            return replace(head, binary=self._binary(head.path))
        head = replace(head, hunks=tuple(self._hunks(head.path)))
        if head.old is None and head.new is None:
            raise self._error("expected the name of a file", self._line())
        return head if git else _plain(head, gone=gone)

    def _git_header(self) -> FileDiff:
        names, length = self._line()[len("diff --git ") :], 1
        found: dict[str, str] = {}
        while match := _EXTENDED.fullmatch(self._line(length)):
            found[match[1]] = match[2]
            if self.strip > 1 and (key := match[1]) in _MOVES:
                self.lines[self.at + length] = f"{key} {self._moved(match[2])}"
            length += 1
        old, new = (found.get(f"rename {end}", found.get(f"copy {end}")) for end in ("from", "to"))
        if old is not None and new is not None:
            old, new = self._moved(old), self._moved(new)
        else:
            old, new = self._git_names(names)
        if self.strip != 1:
            self.lines[self.at] = f"diff --git a/{old} b/{new}"
        self.index = found.get("index", "")
        self.at += length
        old_mode = found.get("old mode", found.get("deleted file mode", self.index.partition(" ")[2]))
        return FileDiff(
            old=None if "new file mode" in found else old,
            new=None if "deleted file mode" in found else new,
            copy="copy from" in found,
            mode=_mode(found.get("new file mode", found.get("new mode", ""))),
            old_mode=_mode(old_mode),
        )

    def _git_names(self, names: str) -> tuple[str, str]:
        """Both paths of ``a/x b/x``."""
        sides = split_git_names(names)
        if self.strip == 1 and sides[0] == sides[1]:
            raise self._error("expected 'diff --git a/FILE b/FILE'", self._line(), hint=NO_PREFIX)
        old, new = (self._path(side) for side in sides)
        blanks = any(" " in side for side in sides) and '"' not in names
        if old is None or new is None or (blanks and old != new):
            raise self._error("expected 'diff --git a/FILE b/FILE'", self._line())
        return old, new

    def _moved(self, name: str) -> str:
        """A name of a ``rename`` or ``copy`` line, which never has a/ or b/ before it."""
        path = stripped(unquoted(name), max(self.strip - 1, 0))[1]
        return self._checked(path)

    def _git_sides(self, head: FileDiff) -> FileDiff:
        """The ``---`` and ``+++`` lines of a git section say once more what its header says."""
        sides = self._sides(git=True)
        for (path, name, _), known in zip(sides, (head.old, head.new), strict=True):
            if path is not None and known is not None and path != known:
                hint = NO_PREFIX if self.strip == 1 and name == known else ""
                raise self._error(f"expected the name of the lines before, {known!r}", name, hint=hint)
        return replace(head, old=sides[0][0], new=sides[1][0])

    def _plain_sides(self) -> tuple[FileDiff, bool]:
        """The names in a section that is not git's, and whether the new file is said not to exist."""
        (old, _, _), (new, name, stamp) = self._sides(git=False)
        head = FileDiff(old=old, new=new, prefix=stripped(name, self.strip)[0])
        return head, new is None or is_nowhere(stamp)

    def _sides(self, *, git: bool) -> list[tuple[str | None, str, str]]:
        """Of the ``---`` and the ``+++`` line: path below the tree (None: /dev/null), name as it stands there, time."""
        sides = []
        for ahead, mark in enumerate(("--- a/", "+++ b/")):
            side = self._line(ahead)[4:]
            name, stamp = side.split("\t")[0].rstrip(), side.partition("\t")[2]
            if not git:
                name, stamp = split_stamp(side)
            path = self._path(name := unquoted(name))
            if self.strip != 1 and path is not None:
                self.lines[self.at + ahead] = mark + path + (f"\t{stamp}" if stamp else "")
            sides.append((path, name, stamp))
        return sides

    def _binary(self, path: str) -> Binary:
        """``GIT binary patch``: the file's new form or what it differs in; then, mostly, the same for going back."""
        index = _INDEX.fullmatch(self.index)
        if index is None:
            expected = f"{path}: expected an 'index' line with both forms' whole names (40 digits): {_ASK_FOR_BINARY}"
            raise self._error(expected, self.index)
        self.at += 1
        forth = self._binary_body(path)
        if _BINARY_BODY.fullmatch(self._line()):
            self._binary_body(path)
        return Binary(old=index[1], new=index[2], lines=forth)

    def _binary_body(self, path: str) -> tuple[str, ...]:
        head = _BINARY_BODY.fullmatch(self._line())
        if head is None:
            raise self._error(f"{path}: expected 'literal SIZE' or 'delta SIZE'", self._line())
        BINARY_BYTES.check(int(head[1]), place=f"{self.name}: line {self.at + 1} of the diff: {path}")
        lines = [self._line()]
        self.at += 1
        while self.at < len(self.lines) and (line := self._line()):
            if not _BASE_85.fullmatch(line) or (len(line) - 1) // 5 != (_length(line[0]) + 3) // 4:
                raise self._error(f"{path}: its binary change is damaged: expected base 85", line)
            lines.append(line)
            self.at += 1
        if len(lines) == 1:
            raise self._error(f"{path}: its binary change is cut off: expected base 85", self._line())
        self.at += 1  # the blank line; a mailer may have cut it off at the end
        return (*lines, "")

    def _hunks(self, path: str) -> Iterator[Hunk]:
        number = 0
        while self._line().startswith(_HUNK_MARK):
            match = _HUNK.match(self._line())
            if match is None:
                raise self._error(f"{path}: expected a hunk, as '@@ -1,2 +1,3 @@'", self._line())
            number += 1
            place = f"hunk {number} ({match[0]}) of {path}"
            self.at += 1
            yield Hunk(header=match[0], start=int(match[1]), lines=tuple(self._body(match, place)))
            # A line too many would be dropped as prose. (A signature starts with "--".)
            if re.match(r"\+|-(?!-)", self._line()):
                raise self._error(f"{place} has more lines than its header says; expected its end", self._line())

    def _body(self, header: re.Match[str], place: str) -> Iterator[str]:
        old, new = (1 if header[group] is None else int(header[group]) for group in (2, 4))
        while old > 0 or new > 0 or self._line().startswith("\\"):
            if self.at >= len(self.lines):
                raise self._error(f"{place} is cut off: expected {old} more old and {new} more new lines", "the end")
            line = self._line() or " "  # mailers and editors take the blank off an empty context line
            if line[0] not in " +-\\":
                raise self._error(f"{place} is damaged (wrapped by a mailer?): expected ' ', '+' or '-'", line)
            old -= line[0] in " -"
            new -= line[0] in " +"
            if old < 0 or new < 0:
                raise self._error(f"{place}: its lines do not add up to its header", line)
            self.lines[self.at] = line
            self.at += 1
            yield line

    def _line(self, ahead: int = 0) -> str:
        return self.lines[self.at + ahead] if self.at + ahead < len(self.lines) else ""

    def _path(self, name: str) -> str | None:
        """A name as the header gives it → below the tree; None for /dev/null."""
        if name == "/dev/null":
            return None
        path = stripped(name, self.strip)[1]
        if name.startswith("/") or not path:
            hint = NO_PREFIX if self.strip == 1 and "/" not in name else ""
            expected = f"expected a path below the tree with {self.strip} leading parts to strip (-p)"
            raise self._error(expected, name, hint=hint)
        return self._checked(path)

    def _checked(self, path: str) -> str:
        if is_too_long(path):
            raise self._error("expected a path of at most 64 parts of 255 bytes each, 4095 in all", path)
        if leads_outside(path):
            raise self._error("expected a path inside the tree (not '..', absolute or below .git)", path)
        return path

    def _error(self, expectation: str, finding: str, *, hint: str = "") -> UserError:
        told = f"{self.name}: line {self.at + 1} of the diff: {expectation}, found {finding[:100]!r}"
        return UserError(f"{told}: {hint}" if hint else told)


def _section_starts(lines: Sequence[str]) -> bytearray:
    """Return for each line whether a file's section starts there, rather than prose such as the ``---`` below a commit
    message."""
    starts = bytearray(len(lines) + 2)
    for at in range(len(lines) - 1, -1, -1):  # from the end: a line may count only if the next one does
        line = lines[at]
        if line.startswith(("diff -", "--- ")):
            ahead = [*lines[at + 1 : at + 3], "", ""]
            starts[at] = _starts_section(line, ahead, next_starts=bool(starts[at + 1]))
    return starts


def _starts_section(line: str, ahead: Sequence[str], *, next_starts: bool) -> bool:
    if line.startswith("diff --git "):
        return bool(_EXTENDED.match(ahead[0])) or next_starts
    if line.startswith("diff -"):
        return bool(_BINARY_DIFFER.match(ahead[0]))
    return line.startswith("--- ") and ahead[0].startswith("+++ ") and ahead[1].startswith(_HUNK_MARK)


def _plain(head: FileDiff, *, gone: bool) -> FileDiff:
    """A diff not made by git tells of creation and deletion by /dev/null, or by an old time and an empty range."""
    only = head.hunks[0] if len(head.hunks) == 1 else None
    if only and only.header.startswith("@@ -0,0 "):
        return replace(head, old=None)
    if only and "+0,0 " in only.header and gone:
        return replace(head, new=None)
    # Of two names (`foo.c.orig` and `foo.c`), the second is the file's.
    return replace(head, old=head.new or head.old)


def _mode(text: str) -> int | None:
    return int(text, 8) if _MODE.fullmatch(text) else None


def _length(letter: str) -> int:
    """Return how many bytes a line of base 85 contains, from its first letter: A to Z are 1 to 26, a to z 27 to 52."""
    return ord(letter) - ord("A") + 1 if letter <= "Z" else ord(letter) - ord("a") + 27
