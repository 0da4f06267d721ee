"""The end of a run: its last event, its documents, and what is said if not all of it can be written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.errors import InfraError
from harness.model.event import Event, Finished
from harness.model.result import EndKind, RunEnd, RunResults, Verdict
from harness.run.documents import Recall, write_documents
from harness.run.recorder import Recorder
from harness.shortage import Shortage

_MOST_LINES = 200  # verdicts that are nowhere but in a message


def conclude(recorder: Recorder, run_dir: Path, end: RunEnd, *, recall: Recall | None = None) -> RunResults:
    """Record how the run ended and write its documents from everything that is known: in files, in memory, and by
    `recall` in the history.

    Raises Shortage if the documents can't be written; its details then have the verdicts that are nowhere else."""
    if recorder.failure and end.kind is EndKind.INTERRUPTED:
        end = dataclasses.replace(end, reason=recorder.failure.message)
    recorder.ended(end)
    recorder.try_again()
    unwritten = recorder.unwritten
    recorder.close()
    try:
        return write_documents(run_dir, unwritten=unwritten, unwritten_logs=recorder.unwritten_logs, recall=recall)
    except Shortage as error:
        then = f"{error.message}; when there is room, `harness report {run_dir}` makes the documents"
        raise Shortage(then, details=_lines(unwritten)) from error


def failure(recorder: Recorder, run_dir: Path, results: RunResults) -> InfraError:
    """Return the error with which a run ends whose documents are written, but whose files are not complete. It says
    what is where."""
    assert recorder.failure
    run = sum(result.verdict is not Verdict.NOTRUN for result in results.results)
    told = f"kept in {run_dir}: the verdicts of {run} of {len(results.results)} tests"
    alone = len(_lines(recorder.unwritten))
    logs = f" and {len(recorder.unwritten_logs)} logs" if recorder.unwritten_logs else ""
    only = f", {alone} of them{logs} in the documents only, so don't make these again" if alone or logs else ""
    return type(recorder.failure)(f"the run ended early: {recorder.failure.message}; {told}{only}")


def _lines(unwritten: Sequence[Event]) -> list[str]:
    """The verdicts in `unwritten`."""
    results = [event.result for event in unwritten if isinstance(event, Finished)]
    return [f"not written: {result.verdict} {result.test}" for result in results[:_MOST_LINES]]
