"""The documents of a run, made from its events.jsonl; needs neither kernel nor board."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from harness import shortage
from harness.errors import UserError
from harness.model.event import Event
from harness.model.past import Past
from harness.model.result import RunResults
from harness.parse.events import event_to_json, parse_events
from harness.report.fold import fold
from harness.report.formats import FORMATS, Logs
from harness.run.eventlog import EVENTS, event_lines

Recall = Callable[[RunResults], Past | None]
"""Takes the results of a run that has ended into the history, if there is one, and returns what that says about it."""

_LONGEST_LOG_BYTES = 1 << 20  # bytes at the end of a test's log that documents use


def read_results(run_dir: Path, *, unwritten: Sequence[Event] = ()) -> RunResults:
    """Fold the events of a run, finished or not, and those that could not be written. UserError if `run_dir` has
    none."""
    path = run_dir / EVENTS
    if not path.is_file():
        raise UserError(f"{run_dir}: expected the directory of a run, with {EVENTS} in it; found none")
    damage: list[str] = []

    def on_damage(number: int, why: str) -> None:
        if not damage:
            damage.append(f"line {number}: {why}")

    more = map(event_to_json, unwritten)  # as lines, so that what is behind all events comes behind these, too
    results = fold(parse_events(chain(event_lines(path), more), on_damage=on_damage))
    if damage and not results.started:
        raise UserError(f"{path}: expected the events of a run, found none; {damage[0]}")
    return results


def write_documents(
    run_dir: Path,
    *,
    unwritten: Sequence[Event] = (),
    unwritten_logs: Mapping[str, str] | None = None,
    recall: Recall | None = None,
) -> RunResults:
    """Write the documents (report.formats) to `run_dir`; returns their results. `unwritten`, `unwritten_logs`: what
    could not be written to the run's own files. `recall`: what asks the history.

    All documents are written beside the earlier ones before the first of these is replaced, so a full disk leaves the
    earlier ones. Raises Shortage, and UserError if the directory can't be written for another reason."""
    results = read_results(run_dir, unwritten=unwritten)
    root = run_dir.resolve()
    in_memory = unwritten_logs or {}

    def logs(name: str) -> str:
        return in_memory[name][-_LONGEST_LOG_BYTES:] if name in in_memory else read_log(root, name)

    try:
        past = recall(results) if recall else None
    except BaseException:  # an interrupt while others write to the history, or a fault of ours: no document is lost
        _write(run_dir, _texts(results, logs, None))
        raise
    _write(run_dir, _texts(results, logs, past))
    return results


def _texts(results: RunResults, logs: Logs, past: Past | None) -> dict[str, bytes]:
    return {
        document.file: document.render(results, logs, past).encode("utf-8", "surrogateescape") for document in FORMATS
    }


def _write(run_dir: Path, texts: Mapping[str, bytes]) -> None:
    try:
        _publish(run_dir, texts)
    except OSError as error:
        needed = f"{shortage.told_size(sum(map(len, texts.values())))} for the documents"
        short = shortage.of(error, where=run_dir, needed=needed, kept=f"the run's {EVENTS} and logs")
        raise short or UserError(f"{run_dir}: expected a directory to write to, found: {error.strerror}") from error


def _publish(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write all `files`, by name, or none. After a power cut each one is as it was, or whole."""
    _remove_partial(directory)
    partial = {name: directory / f".{name}.{os.getpid()}.partial" for name in files}
    try:
        for name, content in files.items():
            with partial[name].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, path in partial.items():
            path.replace(directory / name)
    finally:
        for path in partial.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _remove_partial(directory: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for path in (path for document in FORMATS for path in directory.glob(f".{document.file}.*.partial")):
        if not Path("/proc", path.name.split(".")[-2]).exists():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def read_log(root: Path, name: str) -> str:
    """Return the end of a log of the run in `root`, a resolved path; empty if there is no such file below it."""
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return ""
    except (OSError, ValueError):  # a name that no file can have
        return ""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_LOG_BYTES))
        return file.read().decode("utf-8", "replace")
