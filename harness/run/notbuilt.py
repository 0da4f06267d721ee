"""The record of a run whose kernel does not build: a directory as any run has, in which one test, `build`, failed."""

from __future__ import annotations

from pathlib import Path

from harness import clock, shortage
from harness.build.finished import RECORD
from harness.build.keptpatches import keep_patches
from harness.build.notbuilt import NotBuilt
from harness.model.board import BoardSpec
from harness.model.record import KERNEL_CONFIG
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
        keep_patches(error.patches, run_dir)
        if error.config:
            (run_dir / KERNEL_CONFIG).write_bytes(error.config)
        recorder = Recorder.of(run_dir)
    recorder.began(run_record(record, board, selection, command=command))
    recorder.planned([BUILD])
    result = Result(test=BUILD, verdict=Verdict.FAIL, reason=reason, seconds=record.seconds or 0.0)
    recorder.finished(result, error.log)
    return conclude(recorder, run_dir, RunEnd(kind=EndKind.NOT_BUILT, reason=reason), recall=recall)
