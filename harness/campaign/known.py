"""Known issues: written down from a run, and named when they are no longer seen."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from harness.campaign.gitconfig import git_config
from harness.errors import UserError
from harness.layout import KNOWN_ISSUES
from harness.limits import YAML_BYTES
from harness.model.history import Outcome, StoredRun
from harness.model.known import KnownOutcome, matches, version_of
from harness.model.result import Verdict
from harness.parse.document import entry as as_text
from harness.parse.known_entry import known_entry, with_entry
from harness.run.documents import read_results
from harness.run.expectations import load_known
from harness.store import queries
from harness.store.database import history_file, opened

_MOST_RUNS = 2000


def add_known(
    run_dir: Path, test: str, *, file: Path | None, reason: str, issue: str, who: str, until: str
) -> tuple[Path, str]:
    """Write down a failed test of a run; return the file and the new entry."""
    path = file or KNOWN_ISSUES
    results = read_results(run_dir)
    result = next((each for each in results.results if each.test == test), None)
    if result is None:
        raise UserError(f"{test}: expected the id of a test of {run_dir}, found none; results.json lists them")
    entry = known_entry(
        result,
        results.record,
        reason=reason or result.reason or f"fails in {results.record.kernel.release}",
        issue=issue,
        who=who or git_config("user.name"),
        since=datetime.now(UTC).date().isoformat(),
        until=until,
    )
    _replace(path, with_entry(_read(path), entry, place=str(path)))
    return path, as_text(entry)


def stale_ones(*, file: Path | None, history: Path | None, days: int, runs: int) -> list[str]:
    """Return a line for each known outcome that was not seen for `days`, or in the last `runs` runs that could have
    seen it."""
    known = load_known((file,) if file else ())
    with opened(history_file(history)) as connection:
        latest = queries.latest_runs(connection, limit=_MOST_RUNS)
        seen = [(run, queries.outcomes_of(connection, run.id)) for run in latest]
    lines = []
    for each in known:
        could = [(run, _named(each, run, outcomes)) for run, outcomes in seen]
        could = [(run, outcomes) for run, outcomes in could if outcomes]
        unseen = _until_seen(each, could)
        oldest = (time.time() - could[unseen - 1][0].started) / 86400 if unseen else 0.0
        if unseen >= runs or (unseen and oldest >= days):
            last = could[unseen][0].id if unseen < len(could) else "never"
            place, test = each.expectation.place, each.expectation.test
            lines.append(f"{place}: {test}: not seen in {unseen} runs that could have, last {last}; remove it")
    return lines


def _named(known: KnownOutcome, run: StoredRun, outcomes: tuple[Outcome, ...]) -> list[Outcome]:
    """The outcomes of a run that could have been the known one. The history has no configurations and no compilers'
    names, so where an entry asks for them every run counts."""
    scope = known.scope
    board = run.cell.board.partition(" (")[0]
    if version_of(run.kernel.release) not in scope.kernel:
        return []
    if scope.boards and not any(matches(pattern, board) for pattern in scope.boards):
        return []
    silent = (Verdict.SKIP, Verdict.ERROR, Verdict.NOTRUN)
    return [outcome for outcome in outcomes if known.names(outcome.test) and outcome.actual not in silent]


def _until_seen(known: KnownOutcome, could: list[tuple[StoredRun, list[Outcome]]]) -> int:
    """How many of the latest runs have not seen it."""
    for number, (_, outcomes) in enumerate(could):
        if any(_is_it(known, outcome) for outcome in outcomes):
            return number
    return len(could)


def _is_it(known: KnownOutcome, outcome: Outcome) -> bool:
    wanted = known.expectation
    if outcome.actual is Verdict.PASS or outcome.actual not in wanted.verdicts:
        return False
    if outcome.signature and wanted.faults:
        return any(matches(pattern, str(outcome.signature)) for pattern in wanted.faults)
    # the reason of a known failure has the test's own words in brackets at its end
    return not wanted.messages or any(matches(f"*{pattern}*", outcome.reason) for pattern in wanted.messages)


def _read(path: Path) -> str:
    if not path.exists():
        return "expectations: []\n"
    try:
        return YAML_BYTES.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a file of known issues, can't read it: {error}") from None


def _replace(path: Path, text: str) -> None:
    """Write `path` whole or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(name).replace(path)
    except OSError as error:
        raise UserError(f"{path}: expected a file to write to, found: {error.strerror}; name one with --file") from None
