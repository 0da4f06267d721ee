"""A comparison in, the text and the subject of a mail out: at most 60 lines of 78 columns, one paragraph for each
cause, nothing where nothing is new.

Much of it was written by a target, or by the author of a patch, and the mail may be a reply in a public thread. So no
line begins with their words: tools that read mails would take a line `Reviewed-by: …` for a tag, or a diff for a
patch."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from harness.model.comparison import Change, Changed, Comparison
from harness.model.history import Cell, Outcome, StoredKernel, StoredRun
from harness.model.result import BUILD, Result, Verdict
from harness.report.compare_text import (
    COLUMNS,
    MOST_LINES,
    MOST_NAMED,
    causes,
    described,
    figures,
    what_happened,
)
from harness.report.text import one_line

_CONTINUED = "  | "  # before what does not fit the line, so that it is no line of its own
_LONGEST_COMMAND = 14  # lines
_MOST_REPRODUCED = 3  # tests in the command
_MOST_CELLS = 6
_LONGEST = 150  # characters of a name or a kernel
_LONGEST_WHAT = 300
_LONGEST_SUBJECT = 150
_WORSE = (Change.NEW_FAILURE, Change.FLAKIER)
_ALWAYS = (Change.VANISHED, Change.SKIPPED_NOW, Change.FIXED)
_OPERATORS = {"and", "or", "not", "none", "true", "false"}  # words that mean something else to pytest's -k


@dataclass(frozen=True, kw_only=True)
class Background:
    """What a mail says besides the comparison. `runs`: the runs behind it, by id. `elsewhere`: what a test did with the
    same kernel in other cells. `command`: the words of a command that runs all tests of the newer run; empty: it is not
    known."""

    runs: Mapping[str, StoredRun] = field(default_factory=dict)
    elsewhere: Mapping[str, Sequence[tuple[Cell, Outcome]]] = field(default_factory=dict)
    command: tuple[str, ...] = ()


def is_news(changed: Changed) -> bool:
    """Whether a change is worth a mail: what is likely worse, or has only failed since; what is gone, is skipped now,
    or works again. What the lab did, and what was flaky or failed before, is not."""
    if changed.change in _WORSE:
        return changed.is_likely_regression or not changed.since.passes
    if changed.change is Change.APPEARED:
        return changed.new is not None and changed.new.verdict.is_kernel_fault
    return changed.change in _ALWAYS


def mail_subject(comparison: Comparison) -> str:
    """Return one line: which kernel and board, and how many changes of each class."""
    new = comparison.new
    news = [changed for changed in comparison.changes if is_news(changed)]
    counts = [(change, sum(changed.change is change for changed in news)) for change in Change]
    told = ", ".join(_counted(change, count) for change, count in counts if count) or "nothing new"
    return one_line(
        f"[harness] {one_line(new.kernel.name, 50)} on {one_line(new.cell.board, 30)}: {told}", _LONGEST_SUBJECT
    )


def mail_text(comparison: Comparison, background: Background | None = None) -> str:
    """Return the text, which ends in a newline; empty if nothing is new."""
    background = background or Background()
    paragraphs = [
        _paragraph(cause, comparison, background) for change in Change for cause in _causes(comparison, change)
    ]
    if not paragraphs:
        return ""
    head, tail = _sides(comparison), [*_reproduce(comparison, background), *_untold(comparison)]
    lines = [*head, ""]
    for number, paragraph in enumerate(paragraphs):
        if len(lines) + len(paragraph) + 3 + len(tail) > MOST_LINES:
            lines += [f"and {len(paragraphs) - number} more causes, which `harness compare` tells", ""]
            break
        lines += [*paragraph, ""]
    return "\n".join([*lines, *tail]).rstrip("\n") + "\n"


def _causes(comparison: Comparison, change: Change) -> Iterator[list[Changed]]:
    news = [changed for changed in comparison.of(change) if is_news(changed)]
    if change is not Change.FIXED:
        yield from causes(news)
        return

    def cause(changed: Changed) -> str:
        old = changed.old
        return f"{old.signature or old.reason}" if old else ""

    for _, group in groupby(sorted(news, key=cause), key=cause):
        yield list(group)


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=_CONTINUED, break_on_hyphens=False
    ) or [""]  # fmt: skip


def _sides(comparison: Comparison) -> list[str]:
    old, new = comparison.old, comparison.new
    lines = [f"old: {one_line(described(old), _LONGEST)}", f"new: {one_line(described(new), _LONGEST)}"]
    if old.cell != new.cell:
        cells = [one_line(str(run.cell), _LONGEST) for run in (old, new)]
        lines.append(f"note: these are different cells: {cells[0]}; {cells[1]}")
    return [wrapped for line in lines for wrapped in _wrapped(line)]


def _kernel(kernel: StoredKernel) -> str:
    short = kernel.commit[:12]
    return f"{kernel.name} ({short})" if short and short not in kernel.version else kernel.name


def _paragraph(cause: list[Changed], comparison: Comparison, background: Background) -> list[str]:
    first = cause[0]
    lines = _wrapped(f"{first.change.upper()}: {one_line(what_happened(first), _LONGEST_WHAT)}")
    for changed in cause[:MOST_NAMED]:
        lines += _named(one_line(changed.test, _LONGEST))
    if len(cause) > MOST_NAMED:
        lines.append(f"  and {len(cause) - MOST_NAMED} more tests")
    for line in [*figures(first), *_ends(first, background), *_elsewhere(cause, comparison.new.cell, background)]:
        lines += _wrapped(line, indent="  ")
    return lines


def _named(test: str) -> list[str]:
    """The name of a test, which has no blanks to break it at."""
    room = COLUMNS - len(_CONTINUED)
    pieces = [test[start : start + room] for start in range(0, len(test), room)]
    return [f"{_CONTINUED if number else '  * '}{piece}" for number, piece in enumerate(pieces)]


def _ends(changed: Changed, background: Background) -> Iterator[str]:
    if changed.change not in _WORSE:
        return
    for name, run in (("last good", changed.last_good), ("first bad", changed.first_bad)):
        if not run:
            yield f"{name} kernel: none in the history"
        if found := background.runs.get(run):
            yield f"{name} kernel: {one_line(_kernel(found.kernel), _LONGEST)}, run {one_line(run, 60)}"


def _elsewhere(cause: Sequence[Changed], here: Cell, background: Background) -> Iterator[str]:
    """One line: what the tests of a cause did in other cells; of several tests, what failed counts."""
    by_cell: dict[Cell, list[tuple[Changed, Outcome]]] = {}
    for changed in cause:
        for cell, outcome in background.elsewhere.get(changed.test, ()):
            by_cell.setdefault(cell, []).append((changed, outcome))
    texts = []
    for cell, found in by_cell.items():
        changed, outcome = max(found, key=lambda pair: (pair[1].actual.is_kernel_fault, _is_same(*pair)))
        same = " (the same)" if _is_same(changed, outcome) else ""
        texts.append(f"{outcome.verdict}{same} on {_difference(cell, here)}")
    if texts:
        more = f"; and in {len(texts) - _MOST_CELLS} more" if len(texts) > _MOST_CELLS else ""
        yield f"elsewhere: {'; '.join(texts[:_MOST_CELLS])}{more}"


def _is_same(changed: Changed, outcome: Outcome) -> bool:
    signature = changed.new.signature if changed.new else None
    return bool(signature and outcome.signature and signature.matches(outcome.signature))


def _difference(cell: Cell, here: Cell) -> str:
    """In what a cell differs from another one."""
    words = [cell.board or "an unknown board"] if cell.board != here.board else ["this board"]
    ours, theirs = here.config.split("+"), cell.config.split("+")
    words += [f"with {name}" for name in theirs if name not in ours]
    words += [f"without {name}" for name in ours if name not in theirs]
    words += [cell.toolchain] if cell.toolchain != here.toolchain else []
    return one_line(" ".join(word for word in words if word), 60)


def _reproduce(comparison: Comparison, background: Background) -> list[str]:
    """A command that runs one test of each cause, as lines that can be pasted into a shell."""
    failing = [cause[0].test for change in (*_WORSE, Change.APPEARED) for cause in _causes(comparison, change)][
        :_MOST_REPRODUCED
    ]
    words = background.command
    if not failing or not words or any(word != one_line(word, _LONGEST_WHAT) for word in words):
        return []
    if failing == [BUILD]:
        return ["reproduce:", *shell_lines([words[0], "build", *words[2:]]), ""]
    suites = dict.fromkeys(map(_suite, failing))
    keyword = " or ".join(f"({keyword_of(test)})" for test in failing)
    more = [word for suite in suites for word in ("--suite", suite)]
    lines = shell_lines([*words, *more, "-k", keyword])
    if len(lines) > _LONGEST_COMMAND:
        return [f"to reproduce it, see `reproduce` in build.json of run {one_line(comparison.new.id, 60)}", ""]
    return ["reproduce:", *lines, ""]


def _suite(test: str) -> str:
    return Result(test=test, verdict=Verdict.FAIL).suite


def keyword_of(test: str) -> str:
    """Return an expression for -k that matches a test: words that its name must have, without its suite's name."""
    name = test.removeprefix(f"{_suite(test)}/").rpartition("::")[2]
    words = re.findall(r"[\w:+.\[\]/-]+", one_line(name, _LONGEST))
    return " and ".join(dict.fromkeys(word for word in words if word.lower() not in _OPERATORS)) or "test"


def shell_lines(words: Sequence[str]) -> list[str]:
    """Return a command as lines of at most 78 columns that a shell reads as these words. A word that is too long for a
    line is split into quoted pieces, which the shell joins again."""
    lines, line = [], " "
    for word in words:
        pieces = _pieces(word)
        if len(pieces) == 1 and len(line) + len(pieces[0]) + 3 <= COLUMNS:
            line += f" {pieces[0]}"
            continue
        lines.append(f"{line} \\")
        if len(pieces) == 1:
            line = f"    {pieces[0]}"
        else:
            lines += [f"{piece}\\" for piece in pieces[:-1]]
            line = pieces[-1]
    return [*lines, line]


def _pieces(word: str) -> list[str]:
    quoted = shlex.quote(word)
    if len(quoted) <= COLUMNS - 6 or len(word) < 2:
        return [quoted]
    size = min(len(word) - 1, COLUMNS - 6)
    while size > 1 and len(shlex.quote(word[:size])) > COLUMNS - 6:
        size -= 1
    return [shlex.quote(word[:size]), *_pieces(word[size:])]


def _untold(comparison: Comparison) -> list[str]:
    """One line that counts what is no news, so that nobody takes silence for a pass."""
    counts = [(change, sum(not is_news(changed) for changed in comparison.of(change))) for change in Change]
    chance = sum(count for change, count in counts if change in _WORSE)
    told = [_counted(change, count) for change, count in counts if count and change not in _WORSE]
    told += [f"{chance} that failed and passed, likely by chance"] if chance else []
    return _wrapped(f"other tests: {', '.join(told)}") if told else []


def _counted(change: Change, count: int) -> str:
    return f"{count} {change}{'s' if change is Change.NEW_FAILURE and count > 1 else ''}"
