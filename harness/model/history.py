"""What the history knows: runs, and what each test did in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.model.fault import FaultSignature
from harness.model.result import Condition, Verdict


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """What a test's history is told for: runs of one cell can be compared with each other.

    `board`: the board or pool, and its accelerator if it has one, as ``qemu-virt (tcg)``. `config`: the names of the
    fragments, joined by ``+``. `toolchain`: its name and main version, as ``gcc 12``."""

    board: str = ""
    config: str = ""
    toolchain: str = ""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.board, self.config, self.toolchain) if part) or "unknown"


Line = tuple[str, tuple[str, ...]]
_COMMIT = re.compile(r"(?<=#)[0-9a-f]{40}\Z")


@dataclass(frozen=True, kw_only=True)
class StoredKernel:
    """Which kernel. `key`: what it was made from, equal for equal inputs. `source`: the spec as given, such as
    ``debian:@trixie-backports``. `version`: what that was resolved to. `commit`: of a git tree, else empty. `patches`:
    their SHA-256, in order."""

    key: str = ""
    release: str = ""
    source: str = ""
    version: str = ""
    commit: str = ""
    patches: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How people call it, as ``7.3.4 + 2 patches``."""
        count = len(self.patches)
        patches = f" + {count} {'patch' if count == 1 else 'patches'}" if count else ""
        return f"{self.version or self.release or 'unknown kernel'}{patches}"

    @property
    def line(self) -> Line:
        """What a history follows: one source as it moves on, with one series of patches. All kernels that were named
        by their commits in one repository are one line."""
        return _COMMIT.sub("", self.source), self.patches


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run. `started`: seconds since the epoch. `end`: an EndKind, empty for a killed run. `directory`: where its
    files were when it was taken in. `harness`: version and commit. `requested`: which tests were to run (suites, then
    a keyword). `blames_kernel`: it could not be booted, and that is the kernel's fault."""

    id: str
    cell: Cell = Cell()
    kernel: StoredKernel = StoredKernel()
    started: float = 0.0
    seconds: float = 0.0
    end: str = ""
    host: str = ""
    harness: str = ""
    directory: str = ""
    requested: str = ""
    blames_kernel: bool = False

    def was_asked_for(self, test: str, other: StoredRun) -> bool:
        """Whether this run was to run `test`, as far as is known. `other` is a run that did."""
        if self.requested == other.requested:
            return True
        return " -k " not in f" {self.requested}" and any(
            test.startswith(f"{suite}/") for suite in self.requested.split()
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one test did in one run.

    `verdict`: after expectations were applied; `actual`: before. `signature`: of the fault that made it a CRASH.
    `board`: which board of the cell. `repeat`: what a repetition of a failure ran on; None: it is the test's result.
    `is_known`: a known outcome was met."""

    test: str
    verdict: Verdict
    actual: Verdict
    seconds: float = 0.0
    reason: str = ""
    signature: FaultSignature | None = None
    board: str = ""
    repeat: Condition | None = None

    @property
    def is_known(self) -> bool:
        return self.verdict is Verdict.XFAIL and self.actual is not Verdict.XFAIL
