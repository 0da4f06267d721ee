"""What has to be known to repeat a failure elsewhere, and what came of repeating it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.model.product import Digest
from harness.model.record import BuildRecord, RunRecord
from harness.model.result import Result

RECIPE = "repro.json"  # in the directory that an archive contains; such a directory is one of a run, too


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the failure `result` came about.

    `before`: the tests that had run on the same machine, in their order. `run`, `build`: the records of both. `files`:
    digests of what was booted, by name (``Image``, ``vmlinux``, ``root image``), as far as they are known. `qemu`: the
    command that started the machine; empty: unknown, or it was a board. `board`: its entry in boards.yaml without what
    says how it is reached. `building`: the words of the command that builds the kernel, relative to the archive; empty:
    not known. `lacking`: what could not be had, for people."""

    result: Result
    before: tuple[str, ...] = ()
    run: RunRecord
    build: BuildRecord
    files: Mapping[str, Digest] = field(default_factory=dict)
    qemu: str = ""
    board: Mapping[str, object] = field(default_factory=dict)
    building: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """How often a failure came back. `alike`: repetitions that failed in the same way; `others`: by what they ended
    with; `silent`: repetitions that say nothing about the test, because the machine or the lab failed."""

    failure: str
    alike: int = 0
    passed: int = 0
    silent: int = 0
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """The repetitions that say something about the test."""
        return self.alike + self.passed + sum(self.others.values())
