"""Turns files, mails, mailboxes and quilt's list into `Patch` objects. No I/O.

Bytes stay intact on the way: text that is no UTF-8 is carried by surrogate escapes, and lines end at LF only,
because C sources hold form feeds, which `str.splitlines` would take for line ends.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import Message

from harness.errors import UserError
from harness.limits import SERIES_PATCHES
from harness.model.kernel import Mailed, Patch
from harness.parse.diff import find_diff, normalize_diff
from harness.parse.flowed import Flowed, unflowed
from harness.parse.mail import header, parse_mail
from harness.parse.quoted_lines import quotes_patch
from harness.parse.unquote import unquote

# --- mails ------------------------------------------------------------------------------------------------------

_HEADER = rb"[!-9;-~]+:"
# No longer than such lines are: what follows is tried for every one, and then all of it again for its time.
_FROM_LINE = re.compile(rb"^From (?=\S)[^\n]{1,300}\n(?=" + _HEADER + rb"|>?From )", re.MULTILINE)
_FROM_TIME = re.compile(rb"From \S+ .*?\d\d:\d\d.*?\d{4}")
_MAIL = re.compile(rb"(?:%b.*\n(?:[ \t].*\n)*)*?(?:From|Subject|Message-Id|MIME-Version):" % _HEADER, re.IGNORECASE)
_REPLY = re.compile(r"(?:re|aw|sv|antw|回复|答复)\s*(?:\[\d+\])?\s*[::]\s*", re.IGNORECASE)
_FORWARD = re.compile(r"(?:fwd?|wg)\s*:\s*", re.IGNORECASE)
_TAG = re.compile(r"\[([^\]]*)\]\s*")
_NUMBER = re.compile(r"(?<![\d.])([0-9]+)/([0-9]+)(?![\d.])")
_MOST_DIGITS = 9
_MOST_NAMED = 40  # mails that a message names
_VERSION = re.compile(r"(?:\b|PATCH|RFC)v(\d{1,4})(?:\.(\d{1,4}))?\b", re.IGNORECASE)
_BASE_COMMIT = re.compile(r"^base-commit: ([0-9a-f]{40}|[0-9a-f]{64})\s*$", re.MULTILINE)
# Charsets in which bytes that happen to be valid UTF-8 mean something else.
_NOT_ASCII = ("utf-16", "utf-32", "utf-7", "iso-2022", "hz", "gb", "big5", "euc", "shift", "cp9")
_DIFF_TYPES = ("text/x-patch", "text/x-diff", "application/octet-stream", "application/x-patch", "text/plain")


@dataclass(frozen=True, kw_only=True)
class _Mail:
    """`version`: (5, 0) for v5, (1, 0) for none; `number`, `total`: of ``2/4``; `diffs`: (file name, diff); `notes`: on
    what beside them was left out; `base_commit`: what it says it applies to."""

    subject: str
    title: str
    reply: bool
    version: tuple[int, int]
    number: int | None
    total: int | None
    diffs: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    base_commit: str = ""

    @property
    def content(self) -> tuple[str, ...]:
        """Tells copies of a mail (that took two ways here, with and without a list's footer) from other ones."""
        return tuple(patch.sha256 for patch in self.patches())

    def patches(self, *, name: str = "") -> tuple[Patch, ...]:
        name = name or self.subject or "mail without a subject"
        mailed = Mailed(subject=self.subject, version=self.version, base_commit=self.base_commit)
        if len(self.diffs) == 1:
            return (_patch(self.diffs[0][1], name=name, notes=self.notes, mailed=mailed),)
        return tuple(
            _patch(diff, name=f"{name}: {file}" if file else name, notes=self.notes, mailed=mailed)
            for file, diff in self.diffs
        )


def split_mbox(data: bytes) -> tuple[bytes, ...]:
    """Return the mails of an mbox without their ``From `` lines; none if the data is not an mbox."""
    data = data.lstrip()
    starts = [match for match in _FROM_LINE.finditer(data) if _FROM_TIME.match(match[0])]
    if not starts or starts[0].start() != 0:
        return ()
    ends = [start.start() for start in starts[1:]] + [len(data)]
    return tuple(data[start.end() : end] for start, end in zip(starts, ends, strict=True))


def patches_from_file(
    data: bytes, *, name: str, strip: int = 1, version: tuple[int, int] | None = None
) -> tuple[Patch, ...]:
    """The patches of one file, whatever it is: a diff, a patch with a header, a mail, an mbox (see
    `patches_from_mails`). `strip`: the -p of the paths in it. UserError where there is no diff.

    A ``.patch`` or ``.diff`` with a single mail in it is that patch, whatever its subject says (it's what
    ``git format-patch`` writes); in any other mbox the subjects' numbers must be complete.
    """
    mails = split_mbox(data)
    is_patch = name.lower().endswith((".patch", ".diff"))
    if len(mails) > 1:
        return patches_from_mails(mails, place=name, version=version)
    raw = mails[0] if mails else data
    is_mail = False
    if mails or _MAIL.match(raw.removeprefix(b"\xef\xbb\xbf").lstrip()):
        is_mail, mail = True, _read_mail(raw, place=name)
        if mail.diffs and not is_patch:
            return patches_from_mails(mails, place=name, version=version) if mails else mail.patches()
        if mail.diffs and strip == 1:
            return mail.patches(name=name)
        raw = mail.diffs[0][1].encode("utf-8", "surrogateescape") if len(mail.diffs) == 1 else raw
    is_mailbox = bool(mails) and not is_patch
    diff = None if is_mailbox else find_diff(_decoded(raw, ""))
    if diff is not None:
        return (_patch(diff, name=name, strip=strip, notes=_beside(_decoded(raw, ""))),)
    texts = [text for _, text in _texts(parse_mail(raw, place=name))] if is_mail else [Flowed(text=_decoded(raw, ""))]
    quoted = {each.diff: each for text in texts if (each := unquote(text.text, name=name, joined=text.joined))}
    if len(quoted) > 1:
        raise UserError(
            f"{name}: expected one patch that is quoted, found {len(quoted)} in parts of the mail: apply the patches "
            "themselves, as their author mailed them"
        )
    for each in quoted.values():
        return (_patch(each.diff, name=name, strip=strip, is_loose=each.is_loose, notes=each.notes),)
    if is_mailbox:
        return patches_from_mails(mails, place=name)
    raise UserError(
        f"{name}: expected a patch (a unified diff), found "
        f"{'none in it' if data.strip() else 'an empty file'}: pass a .patch, .diff, mail, mbox or quilt series"
    )


def patches_from_mails(
    mails: Sequence[bytes], *, place: str, ordered: bool = True, version: tuple[int, int] | None = None
) -> tuple[Patch, ...]:
    """The one series in a mailbox: the newest version, or the one that is asked for, in the order of the subjects'
    numbers, without the cover letter and replies. Mails without numbers keep their order where `ordered` says that it
    means something. What a cover letter says the series applies to is told of its first patch.

    UserError, which calls the mailbox `place`, where a number is missing or the choice would be a guess.
    """
    SERIES_PATCHES.check(len(mails), place=place)
    read = [mail for mail in (_read_mail(raw, place=place) for raw in mails) if not mail.reply]
    numbered = [mail for mail in read if mail.number is not None]
    loose = [mail for mail in read if mail.number is None and mail.diffs]
    if not any(mail.diffs and mail.number != 0 for mail in read):
        raise UserError(
            f"{place}: expected a patch series, found no diff in {len(mails)} mails (replies and cover letters "
            "do not count): save the mails of the patches themselves"
        )
    newest = max(mail.version for mail in numbered or loose)
    if version not in (None, newest):
        numbered, loose = ([mail for mail in group if mail.version == version] for group in (numbered, loose))
        if not numbered and not loose:
            raise no_such_version(version, {mail.version for mail in read if mail.diffs}, place=place)
        newest = version
    chosen = [mail for mail in numbered or loose if mail.version == newest]
    titles = {mail.title for mail in chosen}
    # An unnumbered patch may go only where a newer version of the very same one takes its place.
    strays = [m for m in read if m in loose and m not in chosen and (m.version >= newest or m.title not in titles)]
    if strays:
        raise _ambiguous(place, "patches that belong to no one series", [*chosen[:1], *strays])
    if numbered:
        return _based(_by_number(chosen, place=place), chosen)
    unique = list({mail.content: mail for mail in chosen}.values())
    if len(unique) > 1 and (not ordered or len(titles) < len(unique)):
        raise _ambiguous(place, "several patches without numbers, whose order is unknown", unique)
    return tuple(patch for mail in unique for patch in mail.patches())


def _based(patches: tuple[Patch, ...], mails: Sequence[_Mail]) -> tuple[Patch, ...]:
    """Have the first of `patches` say what the cover letter among `mails` says."""
    base = next((mail.base_commit for mail in mails if mail.number == 0 and mail.base_commit), "")
    return with_base(patches, base)


def with_base(patches: tuple[Patch, ...], commit: str) -> tuple[Patch, ...]:
    """Return `patches`, of which the first one says that the series applies to `commit`, if that is not empty and the
    patch came in a mail."""
    if not commit or not patches or patches[0].mailed is None:
        return patches
    return (replace(patches[0], mailed=replace(patches[0].mailed, base_commit=commit)), *patches[1:])


def base_commit_in(text: str) -> str:
    """Return the commit that a ``base-commit:`` line names; empty if there is none."""
    found = _BASE_COMMIT.search(text)
    return found[1] if found else ""


def version_text(version: tuple[int, int]) -> str:
    """``v5``, or ``v5.1``."""
    return f"v{version[0]}" + (f".{version[1]}" if version[1] else "")


def no_such_version(wanted: tuple[int, int], found: set[tuple[int, int]], *, place: str) -> UserError:
    there = ", ".join(version_text(each) for each in sorted(found)) or "none that says its version"
    return UserError(f"{place}: expected patches of {version_text(wanted)}, found {there}")


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
        names = _some([f"{number}/{total}" + " (a mail without a diff)" * (number in found) for number in absent])
        have = _some([f"{number}/{total}" for number in sorted(found.keys() - set(absent))]) or "none"
        version = version_text(mails[0].version)
        raise UserError(
            f"{place}: expected all {total} patches of {version}, found {have}; missing: {names}: save the whole "
            "thread (for example with 'b4 am'), or name a single mail's file *.patch to apply it alone",
            details=[mail.subject for mail in mails[:_MOST_NAMED]],
        )
    return tuple(patch for number in sorted(found) for patch in found[number].patches())


def _some(names: Sequence[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _ambiguous(place: str, finding: str, mails: Sequence[_Mail]) -> UserError:
    return UserError(
        f"{place}: expected one patch series, found {finding}: keep only the mails to apply, or pass them as "
        "separate --patches in their order",
        details=[mail.subject for mail in mails[:_MOST_NAMED]],
    )


def _beside(text: str) -> tuple[str, ...]:
    return ("the mail also quotes a patch, which was left out: what it has itself is applied",) * quotes_patch(text)


def _patch(
    diff: str,
    *,
    name: str,
    strip: int = 1,
    is_loose: bool = False,
    notes: tuple[str, ...] = (),
    mailed: Mailed | None = None,
) -> Patch:
    text = normalize_diff(diff, name=name, strip=strip)
    how = "found by its words\n" if is_loose else ""  # which makes another tree of the same text
    digest = hashlib.sha256((how + text).encode("utf-8", "surrogateescape")).hexdigest()
    return Patch(name=name, text=text, sha256=digest, is_loose=is_loose, notes=notes, mailed=mailed)


def _read_mail(raw: bytes, *, place: str) -> _Mail:
    # Mail that travelled with CRLF has it everywhere, so in the diff it is none of the file's.
    if raw.split(b"\n", 1)[0].endswith(b"\r"):
        raw = raw.replace(b"\r\n", b"\n")
    message = parse_mail(raw, place=place)
    subject, tags, reply, at = header(message, "Subject"), "", False, 0
    while match := _REPLY.match(subject, at) or _FORWARD.match(subject, at) or _TAG.match(subject, at):
        reply = reply or match.re is _REPLY
        tags += f" {match[1]}" if match.re is _TAG else ""
        at = match.end()
    number, version = _NUMBER.search(tags), _VERSION.search(tags)
    for text in number.groups() if number else ():
        if len(text) > _MOST_DIGITS or int(text) > SERIES_PATCHES.value:
            raise SERIES_PATCHES.exceeded(place=f"{place}: {subject[:100]}", found=f"number {text[:20]}")
    texts = list(_texts(message))
    return _Mail(
        subject=subject,
        title=subject[at:],
        reply=reply,
        version=(int(version[1]), int(version[2] or 0)) if version else (1, 0),
        number=int(number[1]) if number else None,
        total=int(number[2]) if number else None,
        diffs=tuple((file, diff) for file, text in texts if (diff := find_diff(text.text)) is not None),
        notes=next(filter(None, (_beside(text.text) for _, text in texts)), ()),
        base_commit=next(filter(None, (base_commit_in(text.text) for _, text in texts)), ""),
    )


def _texts(message: Message) -> Iterator[tuple[str, Flowed]]:
    """(attachment's file name, text) for every part that may hold a diff."""
    for part in message.walk():
        file = part.get_filename() or ""
        if part.is_multipart():
            continue
        if part.get_content_type() not in _DIFF_TYPES and not file.endswith((".patch", ".diff")):
            continue
        payload = part.get_payload(decode=True)
        text = _decoded(payload if isinstance(payload, bytes) else b"", part.get_content_charset() or "")
        if str(part.get_param("format", "")).lower() == "flowed":
            yield file, unflowed(text, delsp=str(part.get_param("delsp", "")).lower() == "yes")
        else:
            yield file, Flowed(text=text)


def _decoded(data: bytes, charset: str) -> str:
    """UTF-8 wins over what a mail declares: senders label it wrongly, and other text is hardly ever valid UTF-8."""
    charset = charset.lower()
    for attempt in (charset, "utf-8") if charset.startswith(_NOT_ASCII) else ("utf-8", charset):
        try:
            return data.decode(attempt).removeprefix("\ufeff")
        except (LookupError, ValueError):
            continue  # unknown, or not what it says
    return data.decode("utf-8", "surrogateescape")


# --- quilt ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SeriesEntry:
    """A line of quilt's ``series``: a file beside it, and the number of leading path parts to strip."""

    name: str
    strip: int


def parse_series(text: str, *, place: str) -> tuple[SeriesEntry, ...]:
    """Quilt's ``series`` file. UserError for an option other than ``-pN``/``-pab``, or when it lists nothing."""
    entries: list[SeriesEntry] = []
    for number, line in enumerate(text.split("\n"), start=1):
        SERIES_PATCHES.check(len(entries), place=place)
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        options = " ".join(words[1:])
        match = re.fullmatch(r"(?:-p ?(\d{1,3}|ab))?", options)
        if match is None:
            raise UserError(f"{place}: line {number}: expected 'FILE [-pN]', found the option {options!r}")
        level = match[1] or "1"
        entries.append(SeriesEntry(name=words[0], strip=1 if level == "ab" else int(level)))
    if not entries:
        raise UserError(f"{place}: expected the names of patches, one a line, found none")
    return tuple(entries)
