"""The documents of a run, made from its events.jsonl; needs neither kernel nor board."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UserError
from harness.model.result import RunResults
from harness.parse.events import parse_events
from harness.report.fold import fold
from harness.report.formats import FORMATS
from harness.run.eventlog import EVENTS

_LONGEST_LOG_BYTES = 1 << 20  # bytes at the end of a test's log that documents use


def read_results(run_dir: Path) -> RunResults:
    """Fold the events of a run, finished or not. UserError if `run_dir` has none."""
    path = run_dir / EVENTS
    if not path.is_file():
        raise UserError(f"{run_dir}: expected the directory of a run, with {EVENTS} in it; found none")
    damage: list[str] = []

    def on_damage(number: int, why: str) -> None:
        if not damage:
            damage.append(f"line {number}: {why}")

    with path.open(encoding="utf-8", errors="replace") as lines:
        results = fold(parse_events(lines, on_damage=on_damage))
    if damage and not results.started:
        raise UserError(f"{path}: expected the events of a run, found none; {damage[0]}")
    return results


def write_documents(run_dir: Path) -> RunResults:
    """Write the documents (report.formats) to `run_dir`; returns their results."""
    results = read_results(run_dir)

    root = run_dir.resolve()

    def logs(name: str) -> str:
        return _log(root, name)

    for document in FORMATS:
        (run_dir / document.file).write_text(document.render(results, logs), encoding="utf-8")
    return results


def _log(root: Path, name: str) -> str:
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return ""
    except (OSError, ValueError):  # a name that no file can have
        return ""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_LOG_BYTES))
        return file.read().decode("utf-8", "replace")
