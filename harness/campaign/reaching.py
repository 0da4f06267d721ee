"""Tests that would reach what this run's tests have missed, as far as earlier runs have seen it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import HarnessError
from harness.run.coverage import tests_by_function
from harness.store import queries
from harness.store.database import history_file, opened

_RUNS = 200  # the latest, which are looked through
_MOST_FUNCTIONS, _MOST_TESTS = 5, 3  # that are named


def hint(run_dir: Path, *, history: Path | None) -> list[str]:
    """Return what to say at the end of a run of functions with changed lines that no test of it executed: which tests
    did in earlier runs. Nothing if there are none, or no history."""
    missed = [function for function, tests in tests_by_function(run_dir).items() if not tests]
    if not missed:
        return []
    try:
        with opened(history_file(history)) as connection:
            runs = queries.latest_runs(connection, limit=_RUNS)
    except HarnessError:
        return []
    lines: dict[str, str] = {}
    for run in runs:
        known: Mapping[str, tuple[str, ...]] = tests_by_function(Path(run.directory))
        for function in missed:
            if function not in lines and (tests := known.get(function)):
                named = ", ".join(tests[:_MOST_TESTS]) + (" …" if len(tests) > _MOST_TESTS else "")
                lines[function] = f"coverage: {function} was executed in run {run.id} by {named}"
    return [lines[function] for function in missed if function in lines][:_MOST_FUNCTIONS]
