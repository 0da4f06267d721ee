"""`harness bisect` on this host: kernels are built in this process, and each run repeats its test on machines that are
restored from its snapshot until the search has seen enough."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import interruption
from harness.build.finished import load_record
from harness.build.keys import digest
from harness.build.sameness import hash_of_binaries
from harness.campaign.bisect.gitrange import Journal
from harness.campaign.bisect.hunt import Built, Hunt, Rules, Tester
from harness.campaign.bisect.place import ANSWER, GIT, LOG, Place
from harness.campaign.bisect.ranges import Ground, ground_of, name_of_run
from harness.campaign.kernel import build_kernel, kernel_for
from harness.campaign.local import Display, check, run_here
from harness.campaign.mutants import term_of
from harness.campaign.request import BisectRequest, BuildOptions, RunRequest
from harness.errors import BootError, InfraError, UserError
from harness.model.bisect import Answer, Kind, Outcome, Progressed, RangeKind, Wanted
from harness.model.kernel import DEFAULT_SOURCE, Build
from harness.model.result import Attempt, EndKind, Result, Verdict
from harness.report.bisect import answer_as_json, answer_text, settled
from harness.report.failures import identity
from harness.run.documents import read_results

_MOST_SILENT = 5  # attempts in a row, before another run begins
_TRIES = 3  # runs in a row that say nothing, before the search ends


class LocalTester:
    """See Tester."""

    def __init__(self, request: BisectRequest, ground: Ground, place: Place, display: Display) -> None:
        self._request = request
        self._ground = ground
        self._place = place
        self._display = display
        self._builds: list[Build] = []  # keeps them in the cache
        self._checked = check(self._run_request(request.kernel))

    def build(self, state: int) -> Built:
        return self._build(self._ground.options(state))

    def build_reverted(self, change: int) -> Built | str:
        options = self._ground.reverted(change)
        return options if isinstance(options, str) else self._build(options)

    def _build(self, options: BuildOptions) -> Built:
        spec = kernel_for(options, self._checked.board, self._display)
        made = build_kernel(spec, options, self._display)
        self._builds.append(made)
        return Built(
            directory=str(made.directory),
            # with one kernel on several QEMUs, the same binaries say nothing
            binaries="" if self._ground.range.kind is RangeKind.QEMUS else hash_of_binaries(made),
            seconds=load_record(made.directory).seconds or 0.0,
        )

    def repeat(self, built: Built, state: int, see: Callable[[Outcome], bool]) -> None:
        told = _Told(self._request, see)
        for _ in range(_TRIES):
            if self._run(built, state, told):
                return
        raise InfraError(f"{self._request.test}: {_TRIES} runs in a row said nothing: {told.why_not}")

    def _run(self, built: Built, state: int, told: _Told) -> bool:
        """Run the test, and repeat it on restored machines as often as is wanted; return whether that said anything."""
        run_dir = self._place.new_run(name_of_run(self._ground, state))
        options = dataclasses.replace(_WITHOUT_CHANGES, build_dir=Path(built.directory), jobs=self._request.kernel.jobs)
        wanted = Wanted(test=self._request.test, enough=told.enough)
        request = dataclasses.replace(self._run_request(options), out_dir=run_dir, wanted=wanted)
        with _path_first(self._ground.path(state) if state >= 0 else ""):
            try:
                run_here(check(request), self._display)
            except BootError as error:
                told.see(Outcome(kind=Kind.NO_BOOT, failure=f"boot: {error.message}", reason=error.message))
                return True
            except UserError as error:
                told.see(Outcome(kind=Kind.NOTHING, reason=error.message))
                return True
        interruption.check()
        results = read_results(run_dir)
        if results.ended and results.ended.kind is EndKind.INTERRUPTED:
            raise KeyboardInterrupt
        return told.take(results.results)

    def _run_request(self, kernel: BuildOptions) -> RunRequest:
        request = self._request
        return RunRequest(
            kernel=kernel,
            board_name=request.board_name,
            boards_file=request.boards_file,
            wait=request.wait,
            suites=(suite_of(request.test),),
            keyword=term_of(request.test),
            timeout_factor=request.timeout_factor,
            no_history=True,
        )


_WITHOUT_CHANGES = BuildOptions(
    build_dir=None,
    kernel=DEFAULT_SOURCE,
    patches=(),
    kconfigs=(),
    toolchain=None,
    allow_plain_ftrace=False,
    jobs=None,
)


class _Told:
    """Passes on what a test's results say, each attempt once."""

    def __init__(self, request: BisectRequest, see: Callable[[Outcome], bool]) -> None:
        self._request = request
        self._see = see
        self._passed_on = 0
        self._is_enough = False
        self._silent = 0  # attempts in a row that said nothing about the kernel
        self.why_not = "no result"

    def see(self, outcome: Outcome) -> bool:
        self._is_enough = self._see(outcome)
        return self._is_enough

    def enough(self, result: Result) -> bool:
        """Pass on what is new in a result that may get another repetition; return whether it needs none."""
        attempts: list[Attempt] = [result, *result.repeats]
        for attempt in attempts[self._passed_on :]:
            self._passed_on += 1
            if attempt.verdict.is_infra_fault:
                self.why_not = attempt.reason
                self._silent += 1
                continue
            self._silent = 0
            if self.see(self._outcome(attempt)):
                break
        return self._is_enough or self._silent >= _MOST_SILENT

    def take(self, results: tuple[Result, ...]) -> bool:
        """Pass on what is new at the end of a run; return whether the run said anything."""
        wanted = [result for result in results if result.test == self._request.test]
        if not wanted:
            self.see(Outcome(kind=Kind.NOTHING, reason=f"there is no test {self._request.test}"))
            return True
        self.enough(wanted[0])
        said = [each for each in (wanted[0], *wanted[0].repeats) if not each.verdict.is_infra_fault]
        self._passed_on = self._silent = 0  # the next run's attempts are others
        return bool(said)

    def _outcome(self, attempt: Attempt) -> Outcome:
        verdict = attempt.actual or attempt.verdict
        if verdict is Verdict.PASS:
            return Outcome(kind=Kind.PASS)
        if not verdict.is_kernel_fault and verdict is not Verdict.XFAIL:
            return Outcome(kind=Kind.NOTHING, reason=f"{verdict}: {attempt.reason}")
        failure = identity(attempt)
        wanted = self._request.failure
        is_other = wanted and wanted not in failure and wanted not in attempt.reason
        return Outcome(kind=Kind.OTHER if is_other else Kind.FAIL, failure=failure, reason=attempt.reason or failure)


@contextlib.contextmanager
def _path_first(directory: str) -> Iterator[None]:
    """Have the programs in a directory found first."""
    before = os.environ["PATH"]
    if directory:
        os.environ["PATH"] = os.pathsep.join((directory, before))
    try:
        yield
    finally:
        os.environ["PATH"] = before


def suite_of(test: str) -> str:
    """Return the suite that a test's id is of: ``selftests/ftrace``, or our own directory ``testcases/function``."""
    parts = test.partition("::")[0].split("/")
    if len(parts) < 3 or parts[0] not in ("selftests", "testcases"):
        raise UserError(
            f"TEST: expected a test's id as reports show it, such as testcases/function/test_calls.py::test_caller, "
            f"found {test!r}"
        )
    return "/".join(parts[:2])


def bisect_here(
    request: BisectRequest,
    place: Place,
    display: Display,
    *,
    command: str,
    tester_for: Callable[[BisectRequest, Ground, Place, Display], Tester] = LocalTester,
) -> Answer:
    """Search, or go on with the search in `place`; write the answer's files there. Raises HarnessError."""
    suite_of(request.test)
    with place.held():
        ground = ground_of(request, place)
        progress = place.begun(_identity(request, ground))
        tester = tester_for(request, ground, place, display)
        journal = _journal(ground, request, place)
        count = len(ground.range.changes)
        done = f"; going on after {len(progress.trials)} states" if progress.trials else ""
        display.say(f"{count} changes ({ground.range.kind}), the search is in {place.root}{done}")
        told = ""

        def save(progress: Progressed) -> None:
            nonlocal told
            place.save(progress)
            terms, notes = settled(ground.range, hunt.search(), progress) if journal else ({}, {})
            if journal and (text := journal.tell(_by_commit(ground, terms), _by_commit(ground, notes))) != told:
                place.write(LOG, text)
                told = text

        rules = Rules(
            test=request.test,
            any_failure=request.any_failure,
            build_failure=request.build_failure,
            boot_failure=request.boot_failure,
            told=request.told,
            most=request.most,
            most_builds=request.most_builds,
            command=command,
        )
        hunt = Hunt(ground.range, tester, rules, progress=progress, save=save, say=display.say)
        answer = hunt.answer()
        place.write(f"{ANSWER}.txt", "\n".join(answer_text(answer)) + "\n")
        place.write(f"{ANSWER}.json", answer_as_json(answer))
    return answer


def _journal(ground: Ground, request: BisectRequest, place: Place) -> Journal | None:
    if ground.repository is None:
        return None
    good, bad = ground.ends
    return Journal(ground.repository, place.root / GIT, good=good, bad=bad, first_parent=request.first_parent)


def _by_commit(ground: Ground, told: dict[int, str]) -> dict[str, str]:
    """Return what was told of states as told of commits."""
    changes = ground.range.changes
    return {changes[state - 1].name if state else ground.ends[0]: text for state, text in told.items()}


def _identity(request: BisectRequest, ground: Ground) -> str:
    """Return the hash of a search's question."""
    kernel = request.kernel
    return digest(
        {
            "test": request.test,
            "board": request.board_name,
            "failure": [request.failure, request.any_failure, request.build_failure, request.boot_failure],
            "range": [ground.range.kind, ground.range.good, [str(change) for change in ground.range.changes]],
            "kernel": [
                kernel.kernel,
                kernel.toolchain,
                sorted(map(str, kernel.kconfigs)),
                sorted(map(str, kernel.patches)),
            ],
        }
    )
