"""The record of a run whose kernel does not build: a directory as any run has, in which one test, `build`, failed."""

from __future__ import annotations

from pathlib import Path

from harness import clock, shortage
from harness.build.finished import RECORD
from harness.build.notbuilt import LOG, NotBuilt
from harness.model.board import BoardSpec
from harness.model.result import BUILD, EndKind, Result, RunEnd, RunResults, Verdict
from harness.parse.records import build_record_to_json
from harness.run.conclusion import conclude
from harness.run.documents import Recall
from harness.run.recorder import Recorder
from harness.run.session import Selection, run_record


def record_not_built(
    error: NotBuilt,
    selection: Selection,
    *,
    board: BoardSpec,
    run_dir: Path,
    command: str,
    recall: Recall | None = None,
) -> RunResults:
    """Record in `run_dir` that the kernel of a run does not build, and why; write the documents. Raises InfraError if
    that can't be written."""
    clock.start()
    record, reason = error.record, error.record.errors[0]
    with shortage.reported(run_dir, needed="some MiB for the log of a build"):
        (run_dir / RECORD).write_text(build_record_to_json(record))
        for name, content in error.files.items():
            (run_dir / name).write_bytes(content)
        recorder = Recorder.of(run_dir)
    recorder.began(run_record(record, board, selection, command=command))
    recorder.planned([BUILD])
    log = LOG if LOG in error.files else None
    recorder.finished(Result(test=BUILD, verdict=Verdict.FAIL, reason=reason, seconds=record.seconds or 0.0, log=log))
    return conclude(recorder, run_dir, RunEnd(kind=EndKind.NOT_BUILT, reason=reason), recall=recall)
