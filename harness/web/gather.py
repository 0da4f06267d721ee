"""Asks the history for what a page shows. One page is one transaction, so all of it is of one moment."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import date, timedelta

from harness.campaign.history import LAST_GOOD, NoResultsError, resolve, sides_with_results
from harness.errors import UserError
from harness.model.history import Cell, Outcome, StoredRun
from harness.model.overview import CountedRun, Known, Seen
from harness.model.result import Verdict
from harness.report import evidence
from harness.report.compare import BOOT, compare, failed
from harness.store import pages, queries
from harness.store.database import Connection
from harness.web.address import Address, day_of
from harness.web.data import (
    WINDOW,
    BoardsPage,
    CellHistory,
    ComparePage,
    FailingTest,
    FaultPage,
    FaultsPage,
    Group,
    MatrixPage,
    Page,
    RunPage,
    RunsPage,
    TestPage,
    TestsPage,
)

MOST_RUNS = 1000  # of a page that counts them,
_LISTED = 200  # and of one that lists them
_MOST_TESTS = 1000
_RUNS_OF_TESTS = 100  # in which tests are counted
_MOST_RESULTS = 2000
_MOST_FAULTS = 200
_SHOWN = 60  # results of a test in one cell
_MOST_NIGHTS = 62
_LIMIT_S = 10.0  # for one page


class NothingThereError(UserError):
    """The address is right, but the history has no such thing."""


def gather(connection: Connection, address: Address) -> Page:
    """Return what the page at `address` shows. NothingThereError if it is about a test, a fault or a run that the
    history does not have."""
    pages.limit_time(connection, _LIMIT_S)
    known = pages.known(connection)
    return _GATHER[address.page](connection, address, known)


def _matrix(connection: Connection, address: Address, known: Known) -> Page:
    days = _days(address, known)
    shown = dataclasses.replace(address.filter, days=len(days))
    runs = pages.runs_of(connection, shown.scope(known.newest), limit=MOST_RUNS)
    by_night: dict[tuple[Cell, date], list[CountedRun]] = defaultdict(list)
    for counted in runs:
        by_night[counted.run.cell, day_of(counted.run.started)].append(counted)
    newest = {counted.run.cell: counted.run for counted in reversed(runs)}
    return MatrixPage(
        address=address,
        known=known,
        days=days,
        cells=sorted(newest),
        runs=by_night,
        failing=_failing(connection, list(newest.values())),
        is_whole=len(runs) < MOST_RUNS and address.filter.days <= _MOST_NIGHTS,
    )


def _days(address: Address, known: Known) -> list[date]:
    last = address.filter.last_day(known.newest)
    return [last - timedelta(days=number) for number in range(min(address.filter.days, _MOST_NIGHTS))]


def _failing(connection: Connection, runs: Sequence[StoredRun]) -> list[FailingTest]:
    """The tests that fail in the newest run of each cell, those of the most cells first. A kernel that does not boot
    fails like a test."""
    tests: dict[str, list[Seen]] = defaultdict(list)
    for run in sorted(runs, key=lambda each: each.cell):
        if run.blames_kernel:
            tests[BOOT].append(Seen(run=run, outcome=_boot(connection, run)))
        for outcome in pages.failures_of(connection, run.id):
            tests[outcome.test].append(Seen(run=run, outcome=outcome))
    ordered = sorted(tests.items(), key=lambda item: (-len(item[1]), item[0]))
    return [FailingTest(test=test, seen=seen) for test, seen in ordered]


def _boot(connection: Connection, run: StoredRun) -> Outcome:
    """The failure of a kernel to boot; each test that did not run because of it says why."""
    reason = next((outcome.reason for outcome in queries.outcomes_of(connection, run.id) if outcome.reason), "")
    return Outcome(test=BOOT, verdict=Verdict.CRASH, actual=Verdict.CRASH, reason=reason)


def _runs(connection: Connection, address: Address, known: Known) -> Page:
    runs = pages.runs_of(connection, address.filter.scope(known.newest), limit=_LISTED)
    return RunsPage(address=address, known=known, runs=runs, is_whole=len(runs) < _LISTED)


def _tests(connection: Connection, address: Address, known: Known) -> Page:
    words = address.words["q"].split()
    scope = address.filter.scope(known.newest)
    tests = pages.seen_tests(connection, scope, words=words, runs=_RUNS_OF_TESTS, limit=_MOST_TESTS)
    is_whole = len(tests) < _MOST_TESTS and pages.are_at_most(connection, scope, runs=_RUNS_OF_TESTS)
    return TestsPage(address=address, known=known, tests=tests, is_whole=is_whole)


def _test(connection: Connection, address: Address, known: Known) -> Page:
    test = address.words["name"]
    if not pages.is_test(connection, test):
        raise NothingThereError(f"{test}: expected a test of the history, found none of this name")
    seen = pages.results_of(connection, test, address.filter.scope(known.newest), limit=_MOST_RESULTS)
    cells: dict[Cell, list[Seen]] = defaultdict(list)
    for each in seen:
        cells[each.run.cell].append(each)
    histories = [_history(cell, cells[cell][::-1]) for cell in sorted(cells)]
    is_whole = all(len(results) <= _SHOWN for results in cells.values()) and len(seen) < _MOST_RESULTS
    return TestPage(address=address, known=known, test=test, cells=histories, is_whole=is_whole)


def _history(cell: Cell, seen: Sequence[Seen]) -> CellHistory:
    ended = [(each.run, is_failure) for each in seen if (is_failure := failed(each.outcome)) is not None]
    before = [is_failure for each in seen[:-_SHOWN] if (is_failure := failed(each.outcome)) is not None]
    ends = [is_failure for _, is_failure in ended]
    changed = evidence.last_change(ends)
    return CellHistory(
        cell=cell,
        seen=seen[-_SHOWN:],
        behaves=evidence.tally_of(ends[changed:]),
        since=ended[changed][0] if changed else None,
        earlier=before[-WINDOW:],
    )


def _faults(connection: Connection, address: Address, known: Known) -> Page:
    found = pages.signatures_of(connection, address.filter.scope(known.newest), limit=_MOST_FAULTS)
    return FaultsPage(address=address, known=known, signatures=found, is_whole=len(found) < _MOST_FAULTS)


def _fault(connection: Connection, address: Address, known: Known) -> Page:
    text = address.words["signature"]
    if not pages.is_signature(connection, text):
        raise NothingThereError(f"{text}: expected the signature of a fault in the history, found none like it")
    seen = pages.signature_results(connection, text, address.filter.scope(known.newest), limit=_MOST_RESULTS)
    return FaultPage(
        address=address,
        known=known,
        signature=text,
        seen=seen,
        tests=_groups(seen, lambda each: each.outcome.test, lambda each: {"name": each.outcome.test}),
        cells=_groups(seen, lambda each: str(each.run.cell)),
        kernels=_groups(seen, lambda each: each.run.kernel.name, key=lambda each: _source(each.run)),
        is_whole=len(seen) < _MOST_RESULTS,
    )


def _groups(
    seen: Iterable[Seen],
    name: Callable[[Seen], str],
    words: Callable[[Seen], Mapping[str, str]] = lambda _: {},
    *,
    key: Callable[[Seen], Hashable] | None = None,
) -> list[Group]:
    """Group by `key` (None: by `name`), those with the most results first."""
    newest: dict[Hashable, Seen] = {}
    counts: Counter[Hashable] = Counter()
    for each in seen:
        group = (key or name)(each)
        newest.setdefault(group, each)
        counts[group] += 1
    return [
        Group(name=name(newest[group]), count=count, last=newest[group].run, words=words(newest[group]))
        for group, count in counts.most_common()
    ]


def _source(run: StoredRun) -> Hashable:
    """What a kernel was built from, whatever its configuration and compiler; `pages.signatures_of` counts these."""
    kernel = run.kernel
    return kernel.version or kernel.release, kernel.commit, kernel.patches


def _run(connection: Connection, address: Address, known: Known) -> Page:
    run = _existing(connection, address.words["id"])
    earlier = queries.latest_runs(connection, cell=run.cell, until=run.started, limit=2)
    outcomes = [outcome for outcome in queries.outcomes_of(connection, run.id) if outcome.repeat is None]
    try:
        good: StoredRun | None = resolve(connection, LAST_GOOD, than=run)
    except UserError:
        good = None
    return RunPage(
        address=address,
        known=known,
        run=CountedRun(run=run, counts=Counter(outcome.verdict for outcome in outcomes)),
        outcomes=outcomes,
        before=next((each for each in earlier if each.id != run.id), None),
        good=good,
    )


def _existing(connection: Connection, name: str) -> StoredRun:
    run = queries.run_named(connection, name)
    if run is None:
        raise NothingThereError(f"{name}: expected the id of a run in the history, found none")
    return run


def _compare(connection: Connection, address: Address, known: Known) -> Page:
    old, new = (_existing(connection, address.words[name]) for name in ("old", "new"))
    try:
        comparison = compare(*sides_with_results(connection, old, new))
    except NoResultsError as error:
        raise NothingThereError(error.message) from error
    return ComparePage(address=address, known=known, comparison=comparison)


def _boards(connection: Connection, address: Address, known: Known) -> Page:
    boards = pages.boards_of(connection, address.filter.scope(known.newest), runs=MOST_RUNS)
    last, count = address.filter.last_day(known.newest), address.filter.days
    return BoardsPage(
        address=address,
        known=known,
        boards=boards,
        days=[last - timedelta(days=count - 1 - number) for number in range(count)],
        is_whole=sum(board.runs for board in boards) < MOST_RUNS,
    )


_GATHER: Mapping[str, Callable[[Connection, Address, Known], Page]] = {
    "index": _matrix,
    "runs": _runs,
    "tests": _tests,
    "test": _test,
    "faults": _faults,
    "fault": _fault,
    "run": _run,
    "compare": _compare,
    "boards": _boards,
}
