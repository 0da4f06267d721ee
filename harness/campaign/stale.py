"""Known outcomes that could be removed: their time is over, or the history has not seen them for long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.model.fault import FaultSignature
from harness.model.history import Cell, Outcome, StoredRun
from harness.model.known import Compiler, KnownOutcome, Versions, matches, version_of
from harness.model.result import Verdict
from harness.run.expectations import load_known
from harness.store import queries
from harness.store.database import Connection, history_file, opened

DAYS, RUNS = 30, 20  # not seen for so long, or in so many runs that could have
_DAY_S = 86400.0
_MOST_TESTS = 50  # of those that a pattern names
_MOST_RUNS = 2000  # that are looked at,
_MOST_LOOKS = 200  # and of those the latest that could have seen it
_SILENT = (Verdict.SKIP, Verdict.ERROR, Verdict.NOTRUN)


def stale_ones(
    *, files: Sequence[Path] = (), history: Path | None = None, days: int = DAYS, runs: int = RUNS
) -> list[str]:
    """Return a line for each known outcome in `files` (default: the project's) that could be removed."""
    known = load_known(files)
    with opened(history_file(history)) as connection:
        return stale(connection, known, days=days, runs=runs, now=time.time())


def hint(*, files: Sequence[Path], history: Path | None) -> list[str]:
    """Return what to say of them at the end of a run; nothing if there are none, or no history."""
    try:
        count = len(stale_ones(files=files, history=history))
    except HarnessError:
        return []
    given = "".join(f" --file {file}" for file in files)
    return [f"{count} known outcomes could be removed: `harness known stale{given}` names them"] if count else []


def stale(connection: Connection, known: Iterable[KnownOutcome], *, days: int, runs: int, now: float) -> list[str]:
    """Return a line for each known outcome whose `until` has passed, that was not seen for `days`, or not in the latest
    `runs` runs that could have seen it. Runs from before it was written down say nothing."""
    tests = queries.all_tests(connection)
    latest = queries.latest_runs(connection, until=now + _DAY_S, limit=_MOST_RUNS)  # clocks differ
    recent = [run for run in latest if run.started > now - days * _DAY_S]
    lines = []
    for each in known:
        why = _is_over(each, recent, now=now) or _not_seen(
            _looks(connection, each, tests, latest), since=each.expectation.since, days=days, runs=runs, now=now
        )
        if why:
            lines.append(f"{each.expectation.place}: {each.expectation.test}: {why}; remove it")
    return lines


def _is_over(known: KnownOutcome, recent: Sequence[StoredRun], *, now: float) -> str:
    """Why an entry no longer counts: its last day, or its last version before all kernels that run by now."""
    until = known.until
    if isinstance(until, date):
        return f"until {until} has passed" if datetime.fromtimestamp(now, UTC).date() > until else ""
    if isinstance(until, Versions) and recent:
        is_behind = all(until.is_behind(version_of(run.kernel.release)) for run in recent)
        return f"until {known.expectation.until} has passed: all kernels that run are newer" if is_behind else ""
    return ""


@dataclass(frozen=True, kw_only=True)
class _Look:
    """A run in which the known outcome could have been seen, and whether it was."""

    run: StoredRun
    was_seen: bool


def _not_seen(looks: Sequence[_Look], *, since: str, days: int, runs: int, now: float) -> str:
    last = next((number for number, look in enumerate(looks) if look.was_seen), len(looks))
    unseen = [look.run for look in looks[:last] if _day_of(look.run) >= since]
    if not unseen or (len(unseen) < runs and now - unseen[-1].started < days * _DAY_S):
        return ""
    seen = looks[last].run.id if last < len(looks) else "never"
    return f"not seen in {len(unseen)} runs that could have, last {seen}"


def _looks(
    connection: Connection, known: KnownOutcome, tests: Sequence[str], latest: Sequence[StoredRun]
) -> list[_Look]:
    """The latest runs in which it could have been seen, the latest first."""
    runs = [run for run in latest if _is_in_scope(known, run)][:_MOST_LOOKS]
    was_seen: dict[str, bool] = {}
    for test in [test for test in tests if known.names(test)][:_MOST_TESTS]:
        for run, outcome in queries.history_in(connection, test, runs):
            if outcome.actual not in _SILENT:
                was_seen[run.id] = was_seen.get(run.id, False) or _is_it(known, outcome)
    looks = [_Look(run=run, was_seen=was_seen[run.id]) for run in runs if run.id in was_seen]
    if not known.scope.config:
        return looks
    # The history has no configurations. Where it was seen once, the configuration was right.
    cells: set[Cell] = {look.run.cell for look in looks if look.was_seen}
    return [look for look in looks if look.run.cell in cells]


def _is_in_scope(known: KnownOutcome, run: StoredRun) -> bool:
    scope = known.scope
    version = version_of(run.kernel.release)
    board = run.cell.board.partition(" (")[0]
    return (
        version in scope.kernel
        and not (isinstance(known.until, Versions) and known.until.is_behind(version))
        and (not scope.boards or any(matches(pattern, board) for pattern in scope.boards))
        and (not scope.compilers or any(_may_be(compiler, run.cell.toolchain) for compiler in scope.compilers))
    )


def _may_be(compiler: Compiler, toolchain: str) -> bool:
    """Whether a cell's toolchain, of which the history has family and main version, may be this compiler."""
    family, _, number = toolchain.partition(" ")
    names = (family, f"aarch64-linux-gnu-{family}", f"{family}-{number}", f"aarch64-linux-gnu-{family}-{number}")
    main = Versions(lowest=compiler.versions.lowest[:1], highest=compiler.versions.highest[:1])
    return any(matches(compiler.name, name) for name in names) and version_of(number) in main


def _is_it(known: KnownOutcome, outcome: Outcome) -> bool:
    wanted = known.expectation
    if outcome.actual is Verdict.PASS or outcome.actual not in wanted.verdicts:
        return False
    told = f"known {outcome.actual}: {wanted.reason}"
    if outcome.is_known and told.startswith(outcome.reason[: len(told)]):
        return True
    if outcome.signature and wanted.faults:
        return any(_is_fault(pattern, outcome.signature) for pattern in wanted.faults)
    # the reason of a known failure has the test's own words in brackets at its end
    return not wanted.messages or any(matches(f"*{pattern}*", outcome.reason) for pattern in wanted.messages)


def _is_fault(pattern: str, signature: FaultSignature) -> bool:
    if matches(pattern, str(signature)):
        return True
    try:
        return FaultSignature.parse(pattern).matches(signature)
    except ValueError:
        return False


def _day_of(run: StoredRun) -> str:
    return datetime.fromtimestamp(run.started, UTC).date().isoformat()
