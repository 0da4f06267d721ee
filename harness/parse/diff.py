"""Unified diffs, git's and plain ones: found in other text, brought to ``-p1``, taken apart. No I/O.

Text is as in `harness.parse.series`: lines end at LF only, bytes that are no UTF-8 are surrogate escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import UserError

_EXTENDED = re.compile(
    r"(old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from|rename to"
    r"|similarity index|dissimilarity index|index) (.+)"
)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_BINARY = re.compile(r"GIT binary patch$|Binary files .* differ$")
# `diff -N` marks the side that does not exist by the epoch, in whatever time zone.
_EPOCH = re.compile(r"\t(1970-01-01|1969-12-31) ")
_ESCAPES = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "v": 11, "f": 12, '"': 34, "\\": 92}


@dataclass(frozen=True, kw_only=True)
class Hunk:
    """`header`: the @@ line's range part; `start`: first line (from 1) in the old file;
    `lines`: with their leading `` ``, ``+``, ``-`` or ``\\``."""

    header: str
    start: int
    lines: tuple[str, ...]

    @property
    def expected(self) -> tuple[str, ...]:
        """The lines that the old file must hold."""
        return tuple(line[1:] for line in self.lines if line[0] in " -")


@dataclass(frozen=True, kw_only=True)
class FileDiff:
    """What a patch does to one file.

    `old`/`new`: paths below the tree, None for a file that is created or deleted; two different ones are a
    rename, or a copy where `copy` is set. `mode`: git's new mode (``0o100755``) where the patch sets one.
    """

    old: str | None
    new: str | None
    copy: bool = False
    mode: int | None = None
    hunks: tuple[Hunk, ...] = ()

    @property
    def path(self) -> str:
        """The name to call the file by in messages."""
        return self.new or self.old or "?"


def parse_diff(text: str, *, name: str) -> tuple[FileDiff, ...]:
    """The file sections of a ``-p1`` diff, in order. UserError, which calls the patch `name`, for a hunk whose
    lines and counts disagree, a path outside the tree, a section without a file name."""
    return tuple(_DiffReader(text, name=name, strip=1).sections())


def find_diff(text: str) -> str | None:
    """The part of a mail or file from its first diff line on, with LF line ends; None without a diff.

    CR goes only where the diff's own header lines end in it: otherwise it belongs to the patched file.
    """
    lines = text.split("\n")
    for at in range(len(lines)):
        if _starts_section(lines, at):
            rest = lines[at:]
            return "\n".join(line.removesuffix("\r") for line in rest) if lines[at].endswith("\r") else "\n".join(rest)
    return None


def normalize_diff(diff: str, *, name: str, strip: int = 1) -> str:
    """Check a diff, bring it to -p1 and cut what follows it (a mail's signature, with git's version in it).
    UserError as from `parse_diff`."""
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
    lines: list[str] = field(default_factory=list)

    def sections(self) -> Iterator[FileDiff]:
        self.lines = self.text.removesuffix("\n").split("\n")
        while self.at < len(self.lines):
            if _starts_section(self.lines, self.at):
                if self.first < 0:
                    self.first = self.at
                section = self._section()
                self.end = self.at
                yield section
                continue
            line = self.lines[self.at]
            if self.end and _HUNK.match(line):
                raise self._error("expected a '--- a/file' and '+++ b/file' line before a hunk", line)
            if self.end and _BINARY.match(line):
                raise self._error("expected lines of text, since binary changes are not supported", line)
            self.at += 1

    def _section(self) -> FileDiff:
        git = self.lines[self.at].startswith("diff --git ")
        head = self._git_header() if git else FileDiff(old=None, new=None)
        stamps = ""
        if self._line().startswith("--- ") and self._line(1).startswith("+++ "):
            old, new = self._line()[4:], self._line(1)[4:]
            stamps = "old" * bool(_EPOCH.search(old)) + "new" * bool(_EPOCH.search(new))
            for ahead, (mark, side) in enumerate((("--- a/", old), ("+++ b/", new))):
                self._rewrite(self.at + ahead, mark, side)
            head = replace(head, old=self._path(old), new=self._path(new))
            self.at += 2
        if _BINARY.match(self._line()):
            raise self._error(f"{head.path}: expected lines of text: binary changes are not supported", self._line())
        head = replace(head, hunks=tuple(self._hunks(head.path)))
        if head.old is None and head.new is None:
            raise self._error("expected the name of a file", self._line())
        return head if git else _plain(head, stamps)

    def _git_header(self) -> FileDiff:
        names, length = self._line()[len("diff --git ") :], 1
        found: dict[str, str] = {}
        while match := _EXTENDED.fullmatch(self._line(length)):
            found[match[1]] = match[2]
            length += 1
        old, new = self._git_names(names) if "rename from" not in found and "copy from" not in found else ("", "")
        old = _unquoted(found.get("rename from", found.get("copy from", old)))
        new = _unquoted(found.get("rename to", found.get("copy to", new)))
        mode = found.get("new file mode", found.get("new mode"))
        self._checked(old)
        self._checked(new)
        if self.strip != 1:
            self.lines[self.at] = f"diff --git a/{old} b/{new}"
        self.at += length
        return FileDiff(
            old=None if "new file mode" in found else old,
            new=None if "deleted file mode" in found else new,
            copy="copy from" in found,
            mode=int(mode, 8) if mode and re.fullmatch("[0-7]{6}", mode) else None,
        )

    def _git_names(self, names: str) -> tuple[str, str]:
        """Both paths of ``a/x b/x``. Unquoted names may hold spaces, but are then the same on both sides."""
        quoted = re.fullmatch(r'("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)', names)
        pair = quoted.groups() if quoted else (names[: len(names) // 2], names[len(names) // 2 + 1 :])
        old, new = (self._path(side) for side in pair)
        if old is None or new is None or (quoted is None and old != new):
            raise self._error("expected 'diff --git a/file b/file'", self._line())
        return old, new

    def _hunks(self, path: str) -> Iterator[Hunk]:
        number = 0
        while match := _HUNK.match(self._line()):
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

    def _path(self, side: str) -> str | None:
        """A path as the header gives it → below the tree; None for /dev/null."""
        path = _unquoted(side.split("\t")[0].rstrip())
        if path == "/dev/null":
            return None
        parts = path.split("/")
        if path.startswith("/") or len(parts) <= self.strip:
            raise self._error(f"expected a path below the tree with {self.strip} leading parts to strip (-p)", path)
        return self._checked("/".join(parts[self.strip :]))

    def _checked(self, path: str) -> str:
        parts = path.split("/")
        if {"", ".", "..", ".git"} & {part.lower() for part in parts} or "\0" in path:
            raise self._error("expected a path inside the tree (not '..', absolute or below .git)", path)
        return path

    def _rewrite(self, at: int, mark: str, side: str) -> None:
        """Make a header line read as ``-p1``, where it was another -p."""
        if self.strip != 1 and (path := self._path(side)) is not None:
            self.lines[at] = mark + path + side[len(side.split("\t")[0]) :]

    def _error(self, expectation: str, finding: str) -> UserError:
        return UserError(f"{self.name}: line {self.at + 1} of the diff: {expectation}, found {finding[:100]!r}")


def _starts_section(lines: Sequence[str], at: int) -> bool:
    """Whether a file's section starts here, rather than prose such as the ``---`` below a commit message."""
    line, ahead = lines[at], [*lines[at + 1 : at + 3], "", ""]
    if line.startswith("diff --git "):
        return bool(_EXTENDED.match(ahead[0])) or (bool(ahead[0]) and _starts_section(lines, at + 1))
    return line.startswith("--- ") and ahead[0].startswith("+++ ") and bool(_HUNK.match(ahead[1]))


def _plain(head: FileDiff, stamps: str) -> FileDiff:
    """A diff not made by git tells of creation and deletion by /dev/null, or by an old time and an empty range."""
    only = head.hunks[0] if len(head.hunks) == 1 else None
    if only and only.header.startswith("@@ -0,0 "):
        return replace(head, old=None)
    if only and "+0,0 " in only.header and (head.new is None or "new" in stamps):
        return replace(head, new=None)
    # Of two names (`foo.c.orig` and `foo.c`), the second is the file's.
    return replace(head, old=head.new or head.old)


def _unquoted(path: str) -> str:
    """Undo git's C quoting of unusual names: ``"a/f\\303\\266"``."""
    if not (path.startswith('"') and path.endswith('"') and len(path) > 1):
        return path
    raw = re.sub(
        rb"\\([0-7]{3}|.)",
        lambda m: bytes([int(m[1], 8) & 255 if len(m[1]) == 3 else _ESCAPES.get(m[1].decode("latin-1"), m[1][0])]),
        path[1:-1].encode("utf-8", "surrogateescape"),
    )
    return raw.decode("utf-8", "surrogateescape")
