"""Takes a patch out of a mail that replies to it and quotes all of it, with comments between its lines. No I/O.

Hunks say how many lines they have and how many were added above them, and the diffstat how many lines change, so it can
be told whether something is missing; what is in doubt is refused. Archives collapse white space, so context lines may
have lost even the blank before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.limits import PATCH_FILES, PATCH_LINES
from harness.parse.diffstat import Diffstat, diffstat, meant
from harness.parse.quoted_lines import quoted, starts
from harness.parse.quoted_reader import INSTEAD, File, Reader


@dataclass(frozen=True, kw_only=True)
class Unquoted:
    """The diff, and in `notes` what was done to get it, for people. `is_loose`: white space or context was lost,
    so its lines are to be found in the source by their words."""

    diff: str
    notes: tuple[str, ...]
    is_loose: bool


def unquote(text: str, *, name: str, joined: frozenset[int] = frozenset()) -> Unquoted | None:
    """Return the patch that the mail `text` quotes; None if it quotes none. `joined`: the lines of it that the mailer
    had wrapped. Raises UserError, in the name of `name`, if a part of it is missing or was changed."""
    PATCH_LINES.check(text.count("\n"), place=name)
    raw = [line.removesuffix("\r") for line in text.split("\n")]
    prefixes = list(dict.fromkeys(starts(raw)))
    if not prefixes:
        return None
    *lines, tail = quoted(raw, prefixes[0])
    reader = Reader(lines, name=name, tail=tail, joined=joined)
    files = reader.files()
    if not any(file.hunks for file in files):
        return None
    if len(prefixes) > 1:
        raise UserError(
            f"{name}: a patch quoted in a reply: expected one, found parts that are quoted with {prefixes[0]!r} and "
            f"with {prefixes[1]!r}: {INSTEAD}"
        )
    stat = diffstat(reader.above)
    is_compared = _compare(files, stat, name=name)
    if not is_compared:
        reader.refuse_elisions()
    return _result(files, reader, has_stat=stat is not None, is_compared=is_compared)


def _compare(files: Sequence[File], stat: Diffstat | None, *, name: str) -> bool:
    """Compare what is quoted with the diffstat, and return whether that has totals, which confirm that nothing is
    missing. Raises UserError if they differ, or if nothing tells what a hunk that was cut lacks."""
    told = f"{name}: a patch quoted in a reply"
    if stat is not None:
        _compare_files(files, stat, told=told, name=name)
    totals = stat.totals if stat is not None else None
    if totals is not None:
        kinds = [kind for file in files for _, body in file.hunks for kind, _ in body]
        for what, expected, found in (
            ("changed files", totals.files, len(files)),
            ("insertions", totals.added, kinds.count("+")),
            ("deletions", totals.removed, kinds.count("-")),
        ):
            if expected != found:
                raise UserError(
                    f"{told}: expected the {expected} {what} that its diffstat counts in all, found {found}: {INSTEAD}"
                )
    for place, lines in (each for file in files for each in file.cut):
        if totals is None:
            raise UserError(
                f"{told}: {place}: expected all of it to be quoted, found that {lines} lines are missing at its end, "
                f"and no {'totals below its ' * (stat is not None)}diffstat to tell whether they are context: {INSTEAD}"
            )
    return totals is not None


def _compare_files(files: Sequence[File], stat: Diffstat, *, told: str, name: str) -> None:
    PATCH_FILES.check(len(stat.files), place=name)
    changes = {file.path: file.changes for file in files}
    for path, lines in stat.files.items():
        found = meant(path, changes)
        if not found:
            raise UserError(f"{told}: its diffstat names {path}: expected the change of it, found none: {INSTEAD}")
        if lines is not None and lines not in (changes[each] for each in found):
            raise UserError(
                f"{told}: {found[0]}: expected the {lines} changed lines that its diffstat counts, "
                f"found {changes[found[0]]}: {INSTEAD}"
            )


def _result(files: Sequence[File], reader: Reader, *, has_stat: bool, is_compared: bool) -> Unquoted:
    context = [line for file in files for _, body in file.hunks for kind, line in body if kind == " "]
    is_collapsed = any(line and line[0] != " " for line in context)
    hunks = sum(len(file.hunks) for file in files)
    comments = sum(line.comment is not None for line in reader.lines[1:])  # before the first line is a greeting
    what = "totals below its diffstat" if has_stat else "diffstat"
    notes = [
        f"unquoted from a reply: {_many(hunks, 'hunk')} in {_many(len(files), 'file')}, "
        f"{_many(comments, 'comment')} left out, {reader.within} of them within hunks",
        "its diffstat confirms that every changed line is quoted"
        if is_compared
        else f"it has no {what}, so hunks that are not quoted at all would not be noticed",
    ]
    if reader.unwrapped:
        notes.append(f"{_many(reader.unwrapped, 'line')} of its hunks that the mailer wrapped (format=flowed) joined")
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


def _body_lines(file: File, *, is_collapsed: bool) -> Iterator[str]:
    for header, body in file.hunks:
        yield header
        for kind, line in body:
            yield f" {line}" if kind == " " and (is_collapsed or not line) else line


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
