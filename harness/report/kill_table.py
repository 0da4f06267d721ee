"""Compares a mutant's runs with those of the unpatched kernel, and makes the table. Results in, text out; no I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from harness.errors import EXIT_INFRA, EXIT_KERNEL, EXIT_OK
from harness.model.mutant import Catch, Fate, Mutant, Row, Trial, covers
from harness.model.result import RunResults, Verdict
from harness.report.summary import duration
from harness.report.text import one_line

VERSION = 1
_SHOWN = 3  # tests named in a cell


def unsteady(baselines: Sequence[RunResults]) -> frozenset[str]:
    """The tests that did not pass on the unpatched kernel every time: they say nothing about a mutant."""
    return frozenset(result.test for run in baselines for result in run.results if result.verdict is not Verdict.PASS)


def trial(mutant: RunResults, *, baselines: Sequence[RunResults]) -> Trial:
    """What one suite's run on a mutant says. A test catches it if the test passed on the unpatched kernel in each of
    `baselines`, and failed, crashed or hung here. A test that the baselines do not have does not count."""
    passed = {result.test for run in baselines for result in run.results} - unsteady(baselines)
    catches = tuple(
        Catch(test=result.test, verdict=result.verdict, reason=one_line(result.reason))
        for result in mutant.results
        if result.verdict.is_kernel_fault and result.test in passed
    )
    is_known = all(not result.verdict.is_infra_fault for result in mutant.results if result.test in passed)
    return Trial(catches=catches, complete=is_known and mutant.is_complete, seconds=mutant.seconds)


def joined(trials: Sequence[Trial]) -> Trial:
    """Several suites' trials of one mutant, combined."""
    return Trial(
        catches=tuple(catch for each in trials for catch in each.catches),
        complete=all(each.complete for each in trials),
        seconds=sum(each.seconds for each in trials),
    )


def row(mutant: Mutant, *, ours: Trial, in_tree: Trial | None, build: float | None) -> Row:
    """The line of a mutant that was built, booted and tested."""
    without = Fate.SURVIVED if ours.complete else Fate.UNTOLD
    fate = Fate.CAUGHT if ours.catches else without
    caught = [catch.test for catch in ours.catches]
    missed = tuple(named for named in mutant.caught_by if not any(covers(named, test) for test in caught))
    note = "" if fate is not Fate.UNTOLD else "the run ended before every test had run"
    return Row(mutant=mutant, fate=fate, ours=ours, in_tree=in_tree, missed=missed, note=note, build=build)


@dataclass(frozen=True, kw_only=True)
class KillTable:
    """`caption`: what a reader has to know (kernels, number of tests, restrictions)."""

    rows: tuple[Row, ...]
    caption: tuple[str, ...] = ()

    def of(self, fate: Fate) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.fate is fate)

    @property
    def exit_code(self) -> int:
        """1 if a test or a mutant is missing (a survivor, or one that can't be built), 3 if the lab left gaps."""
        if self.of(Fate.SURVIVED) or self.of(Fate.NO_BUILD):
            return EXIT_KERNEL
        return EXIT_INFRA if self.of(Fate.UNTOLD) else EXIT_OK


def text(table: KillTable) -> list[str]:
    """For a terminal: aligned columns, then what needs attention, then a summary line."""
    head = ("mutant", "caught by our tests", "by the in-tree selftests", "build", "tests")
    cells = [head, *(_cells(row, shown=1) for row in table.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines += [*table.caption, *_remarks(table), _verdict(table)]
    return lines


def markdown(table: KillTable) -> str:
    """The same as a Markdown document."""
    lines = ["| mutant | the bug | caught by our tests | by the in-tree selftests | build | tests |", "|---" * 6 + "|"]
    for each in table.rows:
        name, ours, in_tree, build, tests = (_escaped(cell) for cell in _cells(each, shown=_SHOWN))
        lines.append(f"| {name} | {_escaped(each.mutant.title)} | {ours} | {in_tree} | {build} | {tests} |")
    below = [*table.caption, *_remarks(table), _verdict(table)]
    return "\n".join([*lines, "", *(f"- {_escaped(line)}" for line in below)]) + "\n"


def as_json(table: KillTable) -> str:
    """Everything, for programs."""
    document = {
        "version": VERSION,
        "exit_code": table.exit_code,
        "caption": list(table.caption),
        "mutants": [asdict(each) for each in table.rows],
    }
    return json.dumps(document, indent=1) + "\n"


def line_of(each: Row) -> str:
    """One row as a line of text, to be shown as soon as it is known."""
    name, ours, in_tree, _, tests = _cells(each, shown=1)
    return f"{name}: {ours}; in-tree: {in_tree}; {tests}"


def _cells(each: Row, *, shown: int) -> tuple[str, str, str, str, str]:
    build = "-" if each.build is None else duration(each.build)
    tests = "-" if each.ours is None else duration(each.ours.seconds)
    ours = _named(each.ours.catches, shown) if each.ours and each.ours.catches else each.fate.upper()
    return each.mutant.name, ours, _in_tree(each, shown), build, tests


def _in_tree(each: Row, shown: int) -> str:
    if each.in_tree is None:
        return "-"
    if each.in_tree.catches:
        return _named(each.in_tree.catches, min(shown, 1))
    return "missed" if each.in_tree.complete else "not told"


def _named(catches: Sequence[Catch], shown: int) -> str:
    """``12: regs/test_a.py::test_x (FAIL) …``: how many, and the first few."""
    named = ", ".join(f"{_short(catch.test)} ({catch.verdict})" for catch in catches[:shown])
    return f"{len(catches)}: {named}{' …' if len(catches) > shown else ''}"


def _short(test: str) -> str:
    for prefix in ("testcases/", "selftests/ftrace/test.d/", "selftests/"):
        if test.startswith(prefix):
            return one_line(test.removeprefix(prefix))
    return one_line(test)


def _remarks(table: KillTable) -> list[str]:
    lines = [f"{row.mutant.name}: {row.fate}: {one_line(row.note)}" for row in table.rows if row.note]
    for each in table.rows:
        if each.missed:
            names = ", ".join(_short(test) for test in each.missed)
            lines.append(f"{each.mutant.name}: its header names {names}, which did not catch it")
    return lines


def _verdict(table: KillTable) -> str:
    counts = [f"{len(table.of(fate))} {fate}" for fate in Fate if table.of(fate)]
    asked = [each.in_tree for each in table.rows if each.in_tree]
    missed = sum(1 for each in asked if each.complete and not each.catches)
    tail = f"; the in-tree selftests miss {missed} of {len(asked)}" if asked else ""
    if survivors := table.of(Fate.SURVIVED):
        names = ", ".join(each.mutant.name for each in survivors)
        return f"SURVIVED: {names}: a test is missing ({', '.join(counts)}{tail})"
    word = "OK" if table.exit_code == EXIT_OK else "INCOMPLETE"
    return f"{word}: {len(table.rows)} mutants: {', '.join(counts)}{tail}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")
