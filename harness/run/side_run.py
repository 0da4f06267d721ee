"""Runs in processes of their own, several in parallel: each is a `harness run` whose files are kept."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness import shortage
from harness.errors import EXIT_INFRA, UserError
from harness.model.result import EndKind, RunResults
from harness.run.documents import read_results
from harness.run.session import key_of_testcases
from harness.tied import tied

_OVER = (EndKind.COMPLETE, EndKind.MAXFAIL)
_GRACE_S = 30.0  # seconds for an ending run to record what it has
_HARNESS = (sys.executable, "-m", "harness")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The subject of a run; runs with equal plans are interchangeable. `kernel`: keys.kernel_key; `made`: the hash in
    the build's record, once there is one; one of the two must be equal. `keyword`: -k."""

    kernel: str
    made: str = ""
    board: str
    suite: str
    keyword: str = ""


def finished(run_dir: Path, plan: Plan, *, any_keyword: bool = False) -> RunResults | None:
    """The results of a finished run in `run_dir` that matches `plan`: it ran the same tests, or the whole suite."""
    try:
        results = read_results(run_dir)
    except UserError:
        return None
    record = results.record
    fits = bool(
        results.ended is not None
        and results.ended.kind in _OVER
        and results.results  # otherwise nothing was collected: a mistake in the tests
        and (record.kernel.key == plan.kernel or (plan.made and record.kernel.made == plan.made))
        and record.board.name == plan.board
        and record.suites == (plan.suite,)
        and (any_keyword or record.keyword in ("", plan.keyword))
        and (not plan.suite.startswith("testcases") or record.testcases == key_of_testcases())
    )
    return results if fits else None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended. `results`: None if it did not get far enough to have any."""

    code: int
    results: RunResults | None
    last_line: str

    @property
    def not_booted(self) -> str:
        """Why the kernel failed to boot, if that is its own fault; otherwise empty."""
        end = self.results.ended if self.results else None
        if end is None or end.kind is not EndKind.NOT_BOOTED or self.code == EXIT_INFRA:
            return ""
        return end.reason or str(end)


class SideRuns:
    """Starts runs and waits for them. As a context manager it ends those still running on exit.

    `arguments`: options of `harness run` that all of them share."""

    def __init__(self, arguments: Sequence[object]) -> None:
        self._arguments = [str(word) for word in arguments]
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> SideRuns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the running runs, giving each time to record what it has; start no more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE_S  # of all of them: there may be hundreds
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            process.kill()

    def run(self, build: Path, plan: Plan, run_dir: Path, *, maxfail: int = 0) -> Ended:
        """Run `plan` on the kernel in `build`, replacing what is in `run_dir`; returns how it ended."""
        words = ["--build", build, "--board", plan.board, "--suite", plan.suite, "--maxfail", maxfail]
        return self.run_words([*words, *(["-k", plan.keyword] if plan.keyword else [])], run_dir)

    def run_words(self, options: Sequence[object], run_dir: Path) -> Ended:
        """Run `harness run` with `options` and those that all runs share, replacing what is in `run_dir`; returns how
        it ended. The run's output goes to a file beside its directory. Raises Shortage if the host can't start it."""
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        said = run_dir.with_name(f"{run_dir.name}.log")
        words = ["run", *map(str, options), "--out", str(run_dir), *self._arguments]
        code = self._wait([*_HARNESS, *words], said)
        try:
            results = read_results(run_dir)
        except UserError:
            results = None
        lines = said.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        return Ended(code=code, results=results, last_line=lines[-1])

    def _wait(self, words: list[str], said: Path) -> int:
        """Run a command and wait for it; if this thread is interrupted, the command is asked to end."""
        with _startable(said), said.open("wb") as output:
            with self._lock:
                if self._stopped:
                    return EXIT_INFRA
                process = subprocess.Popen(
                    tied(words, signal="TERM"),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # a Ctrl-C reaches only us, and we then end the runs, once
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)


@contextlib.contextmanager
def _startable(said: Path) -> Iterator[None]:
    """Report that the host gives no process, no descriptor, or no room for what the run says."""
    try:
        yield
    except OSError as error:
        short = shortage.Shortage(f"{said}: the run can't be started: {error.strerror}")
        raise shortage.of(error, where=said) or short from error
