"""Records as tests need them."""

from __future__ import annotations

from pathlib import Path

from harness.build.finished import RECORD
from harness.model.record import BuildRecord, KernelRecord, ToolchainRecord
from harness.parse.records import build_record_to_json


def build_json(directory: Path, *, release: str = "7.3.4", made: str = "", **times: float) -> Path:
    """A build.json in `directory`, which is made where it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    kernel = KernelRecord(release=release, made=made, toolchain=ToolchainRecord(name="gcc", version="12"))
    path = directory / RECORD
    path.write_text(build_record_to_json(BuildRecord(key="k", kernel=kernel, times=times)))
    return path
