"""What a review has done to kernels: they are compiled, built and run here. The seam that tests replace."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.build.checksum import write_atomically
from harness.build.keys import kernel_key
from harness.build.make import compile_kernel
from harness.build.notbuilt import NotBuilt
from harness.build.sameness import hash_of_binaries
from harness.build.seriesdiff import range_diff
from harness.build.sourcetree import Tried, try_series
from harness.campaign.inspecting import inspect
from harness.campaign.kernel import build_kernel
from harness.campaign.request import BuildOptions
from harness.campaign.review.journal import Compiled
from harness.errors import EXIT_USER, BuildError, InfraError, UserError
from harness.limits import open_regular
from harness.model.kernel import Build, KernelSpec, Patch
from harness.model.progress import Progress
from harness.model.result import EndKind, Result, RunResults
from harness.model.review import Pair, Size, TestSet
from harness.parse.elf import Elf
from harness.parse.loaded import code_size
from harness.parse.warnings import new_warnings, warnings
from harness.run.documents import read_results
from harness.run.session import choose_suites, key_of_testcases
from harness.run.side_run import Ended, SideRuns

_LOG_BYTES = 64 << 10
_DETAILS = 12


class Lab(Protocol):
    """Kernels are named by their patches on top of the base: none is the base."""

    def key(self, patches: Sequence[Patch]) -> str:
        """Return the hash that names a kernel."""

    def try_series(self, patches: Sequence[Patch]) -> tuple[Tried, ...]:
        """Apply patches in memory, up to the first that does not apply."""

    def pairs(self, older: Sequence[Tried], newer: Sequence[Tried]) -> tuple[Pair, ...]:
        """Pair the patches of two series that apply."""

    def compiled(self, parent: Sequence[Patch], patches: Sequence[Patch]) -> Compiled:
        """Compile a kernel after its parent, and build it; a kernel that does not build is no exception."""

    def build(self, patches: Sequence[Patch]) -> None:
        """Build a kernel, if it is not built. Raises BuildError if it does not build."""

    def sizes(self, patches: Sequence[Patch]) -> Size:
        """Return how large a kernel is that was built."""

    def check(self, tests: TestSet, place: Path) -> None:
        """Raise UserError if the base, which is built, has none of these tests; `place`: a directory for that."""

    def finished(self, patches: Sequence[Patch], tests: TestSet, place: Path) -> RunResults | None:
        """Return the results in the directory `place`, if they are of a finished run of these tests on this kernel."""

    def run(self, patches: Sequence[Patch], tests: TestSet, place: Path, *, confirm: bool) -> Ended:
        """Run tests on a kernel, which is built if need be; `confirm`: failures are repeated where the board can do
        that quickly. What is in the directory `place` is replaced."""


@dataclass(frozen=True, kw_only=True)
class HostLab:
    """Kernels that are built and run on this host. `base`: what the patches go on top of; `board`: a name; `logs`: the
    directory for what make prints, KEY.log for each kernel."""

    base: KernelSpec
    options: BuildOptions
    board: str
    side_runs: SideRuns
    display: Progress
    logs: Path
    _held: dict[str, Build] = dataclasses.field(default_factory=dict)

    def key(self, patches: Sequence[Patch]) -> str:
        return kernel_key(self._spec(patches))

    def _spec(self, patches: Sequence[Patch]) -> KernelSpec:
        return dataclasses.replace(self.base, patches=(*self.base.patches, *patches))

    def try_series(self, patches: Sequence[Patch]) -> tuple[Tried, ...]:
        is_sandboxed = not self.options.no_sandbox
        return try_series(self.base, patches, progress=self.display, is_sandboxed=is_sandboxed)

    def pairs(self, older: Sequence[Tried], newer: Sequence[Tried]) -> tuple[Pair, ...]:
        return range_diff(older, newer)

    def compiled(self, parent: Sequence[Patch], patches: Sequence[Patch]) -> Compiled:
        try:
            found = self._new_warnings(parent, patches) if patches else ()
            built = self._build(patches)
        except BuildError as error:
            if isinstance(error, NotBuilt):
                self._keep_log(patches, error.log)
            is_configured = not isinstance(error, NotBuilt) or error.record.is_configured
            details = tuple(error.details[:_DETAILS])
            return Compiled(error=error.message, details=details, is_configured=is_configured)
        return Compiled(warnings=found, digest=hash_of_binaries(built))

    def _new_warnings(self, parent: Sequence[Patch], patches: Sequence[Patch]) -> tuple[str, ...]:
        """Compile the parent, if the workspace has another kernel, and then this one: that compiles just what the patch
        concerns. Where there are warnings, going back compiles the same files of the parent, which shows those that it
        had before."""
        self._compile_again(parent)
        lines = self._compile(patches)
        self._keep_log(patches, "\n".join(lines))
        since = warnings(lines)
        if not since:
            return ()
        before = warnings(self._compile_again(parent))
        return tuple(each.text for each in new_warnings(before, since))

    def _keep_log(self, patches: Sequence[Patch], log: str) -> None:
        """Keep what make printed: the finished build finds the kernel compiled, so its own log lacks that."""
        if log:
            self.logs.mkdir(parents=True, exist_ok=True)
            write_atomically(self.logs / f"{self.key(patches)}.log", f"{log.rstrip()}\n")

    def _compile_again(self, patches: Sequence[Patch]) -> tuple[str, ...]:
        """Compile a kernel that has been built. Raises InfraError if it does not compile: the next patch is not to
        blame."""
        try:
            return self._compile(patches)
        except BuildError as error:
            name = patches[-1].name if patches else "the base"
            told = f"the kernel up to {name} was built, and does not compile now: repeat the command"
            raise InfraError(told, details=(error.message, *error.details[:_DETAILS])) from error

    def _compile(self, patches: Sequence[Patch]) -> tuple[str, ...]:
        return compile_kernel(
            self._spec(patches),
            progress=self.display,
            jobs=self.options.jobs,
            is_sandboxed=not self.options.no_sandbox,
        )

    def _build(self, patches: Sequence[Patch]) -> Build:
        key = self.key(patches)
        if key not in self._held:
            self._held[key] = build_kernel(self._spec(patches), self.options, self.display)
        return self._held[key]

    def build(self, patches: Sequence[Patch]) -> None:
        self._build(patches)

    def sizes(self, patches: Sequence[Patch]) -> Size:
        vmlinux = self._build(patches).directory / "vmlinux"
        found = inspect(vmlinux, modules=False, progress=self.display).files[0]
        with open_regular(vmlinux) as file:
            text, loaded = code_size(Elf(file, name=str(vmlinux)))
        return Size(text=text, loaded=loaded, records=found.table.records, functions=found.functions)

    def check(self, tests: TestSet, place: Path) -> None:
        listed = self.side_runs.run_words([*self._words((), tests), "--list"], place)
        if listed.code == EXIT_USER:
            raise UserError(listed.last_line.removeprefix("harness: "))

    def finished(self, patches: Sequence[Patch], tests: TestSet, place: Path) -> RunResults | None:
        with contextlib.suppress(UserError):
            results = read_results(place)
            if _is_of(results, tests, key=self.key(patches), board=self.board):
                return results
        return None

    def run(self, patches: Sequence[Patch], tests: TestSet, place: Path, *, confirm: bool) -> Ended:
        return self.side_runs.run_words([*self._words(patches, tests), *([] if confirm else ["--no-confirm"])], place)

    def _words(self, patches: Sequence[Patch], tests: TestSet) -> list[object]:
        suites = (word for suite in tests.suites for word in ("--suite", suite))
        keyword = ["-k", tests.keyword] if tests.keyword else []
        return ["--build", self._build(patches).directory, "--board", self.board, *suites, *keyword]


def _is_of(results: RunResults, tests: TestSet, *, key: str, board: str) -> bool:
    record, end = results.record, results.ended
    if end is None or not (end.kind is EndKind.COMPLETE or (end.kind is EndKind.NOT_BOOTED and end.blames_kernel)):
        return False
    suites = choose_suites(tests.suites)
    is_ours = any(suite.startswith("testcases") for suite in suites)
    return (
        (record.kernel.key, record.board.name, frozenset(record.suites)) == (key, board, suites)
        and record.keyword == tests.keyword
        and (not is_ours or record.testcases == key_of_testcases())
    )


def log_of(result: Result, place: Path) -> str:
    """Read the end of a test's log in the directory of its run; empty if that can't be read."""
    root = place.resolve()
    with contextlib.suppress(OSError, ValueError):
        path = (root / (result.log or "")).resolve()
        if result.log and path.is_relative_to(root):
            with open_regular(path) as file:
                file.seek(max(0, path.stat().st_size - _LOG_BYTES))
                return file.read(_LOG_BYTES).decode("utf-8", "replace")
    return ""
