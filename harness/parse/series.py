"""Patches as they come (files, mails, mailboxes, quilt's list) in; `Patch` objects and parsed diffs out. No I/O.

Bytes stay intact on the way: text that is no UTF-8 is carried by surrogate escapes, and lines end at LF only,
because C sources hold form feeds, which `str.splitlines` would take for line ends.
"""

from __future__ import annotations

import email
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message

from harness.errors import UserError
from harness.model.kernel import Patch

# --- unified diffs ----------------------------------------------------------------------------------------------

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


def _diff_in(text: str) -> str | None:
    """The part of a mail or file from its first diff line on, with LF line ends; None without a diff.

    CR goes only where the diff's own header lines end in it: otherwise it belongs to the patched file.
    """
    lines = text.split("\n")
    for at in range(len(lines)):
        if _starts_section(lines, at):
            rest = lines[at:]
            return "\n".join(line.removesuffix("\r") for line in rest) if lines[at].endswith("\r") else "\n".join(rest)
    return None


def _patch(diff: str, *, name: str, strip: int = 1) -> Patch:
    """Check a diff, bring it to -p1 and cut what follows it (a mail's signature, with git's version in it)."""
    reader = _DiffReader(diff, name=name, strip=strip)
    for _section in reader.sections():
        pass
    text = "\n".join(reader.lines[reader.first : reader.end]) + "\n"
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return Patch(name=name, text=text, sha256=digest)


# --- mails ------------------------------------------------------------------------------------------------------

_HEADER = rb"[!-9;-~]+:"
_FROM_LINE = re.compile(rb"^From \S+ .*\d\d:\d\d.*\d{4}.*\r?\n(?=" + _HEADER + rb"|>?From )", re.MULTILINE)
_MAIL = re.compile(rb"(?:%b.*\n(?:[ \t].*\n)*)*?(?:From|Subject|Message-Id|MIME-Version):" % _HEADER, re.IGNORECASE)
_REPLY = re.compile(r"(?:re|aw|sv|antw|回复|答复)\s*(?:\[\d+\])?\s*[::]\s*", re.IGNORECASE)
_FORWARD = re.compile(r"(?:fwd?|wg)\s*:\s*", re.IGNORECASE)
_TAG = re.compile(r"\[([^\]]*)\]\s*")
_NUMBER = re.compile(r"(?<![\d.])(\d+)/(\d+)(?![\d.])")
_VERSION = re.compile(r"(?:\b|PATCH|RFC)v(\d+)(?:\.(\d+))?\b", re.IGNORECASE)
# Charsets in which bytes that happen to be valid UTF-8 mean something else.
_NOT_ASCII = ("utf-16", "utf-32", "utf-7", "iso-2022", "hz", "gb", "big5", "euc", "shift", "cp9")
_DIFF_TYPES = ("text/x-patch", "text/x-diff", "application/octet-stream", "application/x-patch", "text/plain")


@dataclass(frozen=True, kw_only=True)
class _Mail:
    """`version`: (5, 0) for v5, (1, 0) for none; `number`, `total`: of ``2/4``; `diffs`: (file name, diff)."""

    subject: str
    title: str
    reply: bool
    version: tuple[int, int]
    number: int | None
    total: int | None
    diffs: tuple[tuple[str, str], ...]

    @property
    def content(self) -> tuple[str, ...]:
        """Tells copies of a mail (that took two ways here, with and without a list's footer) from other ones."""
        return tuple(patch.sha256 for patch in self.patches())

    def patches(self, *, name: str = "") -> tuple[Patch, ...]:
        name = name or self.subject or "mail without a subject"
        if len(self.diffs) == 1:
            return (_patch(self.diffs[0][1], name=name),)
        return tuple(_patch(diff, name=f"{name}: {file}" if file else name) for file, diff in self.diffs)


def split_mbox(data: bytes) -> tuple[bytes, ...]:
    """The mails of an mbox, without their ``From `` lines; none for data that is no mbox."""
    data = data.lstrip()
    starts = list(_FROM_LINE.finditer(data))
    if not starts or starts[0].start() != 0:
        return ()
    ends = [start.start() for start in starts[1:]] + [len(data)]
    return tuple(data[start.end() : end] for start, end in zip(starts, ends, strict=True))


def patches_from_file(data: bytes, *, name: str, strip: int = 1) -> tuple[Patch, ...]:
    """The patches of one file, whatever it is: a diff, a patch with a header, a mail, an mbox (see
    `patches_from_mails`). `strip`: the -p of the paths in it. UserError where there is no diff.

    A ``.patch`` or ``.diff`` with a single mail in it is that patch, whatever its subject says (it's what
    ``git format-patch`` writes); in any other mbox the subjects' numbers must be complete.
    """
    mails = split_mbox(data)
    is_patch = name.lower().endswith((".patch", ".diff"))
    if len(mails) > 1 or (mails and not is_patch):
        return patches_from_mails(mails, place=name)
    raw = mails[0] if mails else data
    if mails or _MAIL.match(raw.removeprefix(b"\xef\xbb\xbf").lstrip()):
        mail = _read_mail(raw)
        if mail.diffs and not is_patch:
            return mail.patches()
        if mail.diffs and strip == 1:
            return mail.patches(name=name)
        raw = mail.diffs[0][1].encode("utf-8", "surrogateescape") if len(mail.diffs) == 1 else raw
    diff = _diff_in(_decoded(raw, ""))
    if diff is None:
        raise UserError(
            f"{name}: expected a patch (a unified diff), found "
            f"{'none in it' if data.strip() else 'an empty file'}: pass a .patch, .diff, mail, mbox or quilt series"
        )
    return (_patch(diff, name=name, strip=strip),)


def patches_from_mails(mails: Sequence[bytes], *, place: str, ordered: bool = True) -> tuple[Patch, ...]:
    """The one series in a mailbox: the newest version, in the order of the subjects' numbers, without the cover
    letter and replies. Mails without numbers keep their order where `ordered` says that it means something.

    UserError, which calls the mailbox `place`, where a number is missing or the choice would be a guess.
    """
    read = [mail for mail in map(_read_mail, mails) if not mail.reply]
    numbered = [mail for mail in read if mail.number is not None]
    loose = [mail for mail in read if mail.number is None and mail.diffs]
    if not any(mail.diffs and mail.number != 0 for mail in read):
        raise UserError(
            f"{place}: expected a patch series, found no diff in {len(mails)} mails (replies and cover letters "
            "do not count): save the mails of the patches themselves"
        )
    newest = max(mail.version for mail in numbered or loose)
    chosen = [mail for mail in numbered or loose if mail.version == newest]
    titles = {mail.title for mail in chosen}
    # An unnumbered patch may go only where a newer version of the very same one takes its place.
    strays = [m for m in read if m in loose and m not in chosen and (m.version >= newest or m.title not in titles)]
    if strays:
        raise _ambiguous(place, "patches that belong to no one series", [*chosen[:1], *strays])
    if numbered:
        return _by_number(chosen, place=place)
    unique = list({mail.content: mail for mail in chosen}.values())
    if len(unique) > 1 and (not ordered or len(titles) < len(unique)):
        raise _ambiguous(place, "several patches without numbers, whose order is unknown", unique)
    return tuple(patch for mail in unique for patch in mail.patches())


def _by_number(mails: Sequence[_Mail], *, place: str) -> tuple[Patch, ...]:
    totals = {mail.total or 0 for mail in mails}
    total = max(totals)
    found: dict[int, _Mail] = {}
    for mail in mails:
        number = mail.number or 0
        twin = found.get(number)
        if twin and mail.diffs and twin.diffs and twin.content != mail.content:
            raise _ambiguous(place, f"two different patches {number}/{total}", [twin, mail])
        if number and (twin is None or not twin.diffs):
            found[number] = mail
    if len(totals) > 1 or max(found, default=0) > total:
        raise _ambiguous(place, "more than one series", mails)
    absent = [number for number in range(1, total + 1) if number not in found or not found[number].diffs]
    if absent:
        names = ", ".join(f"{number}/{total}" + " (a mail without a diff)" * (number in found) for number in absent)
        have = ", ".join(f"{number}/{total}" for number in sorted(found) if number not in absent) or "none"
        version = ".".join(map(str, mails[0].version)).removesuffix(".0")
        raise UserError(
            f"{place}: expected all {total} patches of v{version}, found {have}; missing: {names}: save the whole "
            "thread (for example with 'b4 am'), or name a single mail's file *.patch to apply it alone",
            details=[mail.subject for mail in mails],
        )
    return tuple(patch for number in sorted(found) for patch in found[number].patches())


def _ambiguous(place: str, finding: str, mails: Sequence[_Mail]) -> UserError:
    return UserError(
        f"{place}: expected one patch series, found {finding}: keep only the mails to apply, or pass them as "
        "separate --patches in their order",
        details=[mail.subject for mail in mails],
    )


def _read_mail(raw: bytes) -> _Mail:
    # Mail that travelled with CRLF has it everywhere, so in the diff it is none of the file's.
    if raw.split(b"\n", 1)[0].endswith(b"\r"):
        raw = raw.replace(b"\r\n", b"\n")
    message = email.message_from_bytes(raw)
    subject, tags, reply = _header(message, "Subject"), "", False
    rest = subject
    while match := _REPLY.match(rest) or _FORWARD.match(rest) or _TAG.match(rest):
        reply = reply or match.re is _REPLY
        tags += f" {match[1]}" if match.re is _TAG else ""
        rest = rest[match.end() :]
    number, version = _NUMBER.search(tags), _VERSION.search(tags)
    return _Mail(
        subject=subject,
        title=rest,
        reply=reply,
        version=(int(version[1]), int(version[2] or 0)) if version else (1, 0),
        number=int(number[1]) if number else None,
        total=int(number[2]) if number else None,
        diffs=tuple(_diffs(message)),
    )


def _header(message: Message, name: str) -> str:
    value = message.get(name, "")
    try:
        value = str(make_header(decode_header(value)))
    except (LookupError, ValueError, MessageError):
        value = str(value)  # a broken encoded word: show it as it is
    return " ".join(value.split())


def _diffs(message: Message) -> Iterator[tuple[str, str]]:
    """(attachment's file name, diff) for every part that holds one."""
    for part in message.walk():
        file = part.get_filename() or ""
        if part.is_multipart():
            continue
        if part.get_content_type() not in _DIFF_TYPES and not file.endswith((".patch", ".diff")):
            continue
        payload = part.get_payload(decode=True)
        text = _decoded(payload if isinstance(payload, bytes) else b"", part.get_content_charset() or "")
        if str(part.get_param("format", "")).lower() == "flowed":
            text = _unflowed(text, delsp=str(part.get_param("delsp", "")).lower() == "yes")
        diff = _diff_in(text)
        if diff is not None:
            yield file, diff


def _decoded(data: bytes, charset: str) -> str:
    """UTF-8 wins over what a mail declares: senders label it wrongly, and other text is hardly ever valid UTF-8."""
    charset = charset.lower()
    for attempt in (charset, "utf-8") if charset.startswith(_NOT_ASCII) else ("utf-8", charset):
        try:
            return data.decode(attempt).removeprefix("\ufeff")
        except (LookupError, ValueError):
            continue  # unknown, or not what it says
    return data.decode("utf-8", "surrogateescape")


def _unflowed(text: str, *, delsp: bool) -> str:
    """Undo format=flowed (RFC 3676): a line that ends in a space continues on the next one."""
    out: list[str] = []
    flowing = False
    for raw in text.split("\n"):
        line, end = (raw[:-1], "\r") if raw.endswith("\r") else (raw, "")
        signature = line == "-- "
        line = line.removeprefix(" ")
        # A lone blank is an empty context line whose sender did not trim it, never a paragraph to continue.
        soft = line.endswith(" ") and line != " " and not signature
        body = line[: -1 if soft and delsp else None] + ("" if soft else end)
        if flowing and not signature:
            out[-1] += body
        else:
            out.append(body)
        flowing = soft
    return "\n".join(out)


# --- quilt ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SeriesEntry:
    """A line of quilt's ``series``: a file beside it, and the number of leading path parts to strip."""

    name: str
    strip: int


def parse_series(text: str, *, place: str) -> tuple[SeriesEntry, ...]:
    """Quilt's ``series`` file. UserError for an option other than ``-pN``/``-pab``, or when it lists nothing."""
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        options = " ".join(words[1:])
        match = re.fullmatch(r"(?:-p ?(\d+|ab))?", options)
        if match is None:
            raise UserError(f"{place}: line {number}: expected 'FILE [-pN]', found the option {options!r}")
        level = match[1] or "1"
        entries.append(SeriesEntry(name=words[0], strip=1 if level == "ab" else int(level)))
    if not entries:
        raise UserError(f"{place}: expected the names of patches, one a line, found none")
    return tuple(entries)
