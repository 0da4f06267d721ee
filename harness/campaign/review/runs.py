"""The runs of a review: each is a directory, and none is done twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.campaign.review.lab import Lab, log_of
from harness.errors import EXIT_USER, UserError
from harness.model.comparison import Tally
from harness.model.kernel import Patch
from harness.model.progress import Progress
from harness.model.result import Result, RunResults, Verdict
from harness.model.review import Failure, TestSet
from harness.report.failing import BOOT, failure_of, outcomes, tally
from harness.report.mail_text import keyword_of


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel of the review: so many `patches` of a series on top of the base. `name`: for people, and of the
    directory of its runs."""

    name: str
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A result, and the directory of its run."""

    result: Result
    place: Path

    def failure(self) -> Failure:
        return failure_of(self.result, log_of(self.result, self.place))


class Runs:
    """What tests did on each kernel so far. Kernels with the same key are one, whatever series they are of. `whole`:
    the set of the whole series, which stands for smaller ones on kernels that get it anyway."""

    def __init__(self, lab: Lab, directory: Path, whole: TestSet, display: Progress) -> None:
        self._lab = lab
        self._directory = directory
        self._whole = whole
        self._display = display
        self._seen: dict[str, dict[str, list[Seen]]] = {}
        self.problems: list[str] = []

    def check(self, tests: TestSet) -> None:
        """Raise UserError if there are no such tests, before hours of work."""
        if tests.suites or tests.keyword:
            self._lab.check(tests, self._directory / "listed")

    def tested(self, kernel: Kernel, tests: TestSet, *, is_whole: bool = False) -> dict[str, Seen]:
        """Run a set on a kernel. `is_whole`: the kernel gets the whole set anyway, so that is run if it has these
        tests. Raises UserError for tests that there are not."""
        if is_whole and self._whole.covers(tests):
            tests = self._whole
        return self._run(kernel, tests, self._place(kernel, tests), confirm=True)

    def again(self, kernel: Kernel, tests: Sequence[str], turn: str) -> dict[str, Seen]:
        """Run single tests again on a kernel, in a `turn` of this name. A test that this kernel does not have is left
        out."""
        chosen = only(tests)
        place = self._place(kernel, chosen)
        found = self._run(kernel, chosen, place.with_name(f"{place.name}-{turn}"), confirm=False, may_lack=True)
        return {test: seen for test, seen in found.items() if test in tests}

    def latest(self, kernel: Kernel, test: str) -> Result | None:
        """Return how a test ended first on a kernel; None if it was not run there."""
        seen = self._seen.get(self._lab.key(kernel.patches), {}).get(test)
        return seen[0].result if seen else None

    def tally(self, kernel: Kernel, test: str, *, like: Result) -> Tally:
        """Count how a test ended on a kernel, in all runs so far."""
        seen = self._seen.get(self._lab.key(kernel.patches), {}).get(test, ())
        return sum((tally(each.result, like=like) for each in seen), Tally())

    def _place(self, kernel: Kernel, tests: TestSet) -> Path:
        digest = hashlib.sha256(str(tests).encode()).hexdigest()[:8]
        return self._directory / kernel.name / ("whole" if tests == self._whole else f"some-{digest}")

    def _run(
        self, kernel: Kernel, tests: TestSet, place: Path, *, confirm: bool, may_lack: bool = False
    ) -> dict[str, Seen]:
        results = self._lab.finished(kernel.patches, tests, place)
        if results is None:
            self._display.say(f"{kernel.name}: testing {tests}")
            ended = self._lab.run(kernel.patches, tests, place, confirm=confirm)
            results = self._lab.finished(kernel.patches, tests, place)
            if results is None and ended.code == EXIT_USER:
                if may_lack:
                    return {}
                raise UserError(f"{kernel.name}: {ended.last_line.removeprefix('harness: ')}")
            if results is None:
                self.problems.append(f"{kernel.name}: {tests}: {_why(ended.results, ended.last_line)}")
                results = ended.results
        return self._take(kernel, results, place) if results else {}

    def _take(self, kernel: Kernel, results: RunResults, place: Path) -> dict[str, Seen]:
        found = {test: Seen(result=result, place=place) for test, result in outcomes(results).items()}
        ours = self._seen.setdefault(self._lab.key(kernel.patches), {})
        for test, seen in found.items():
            known = ours.setdefault(test, [])
            if all(each.place != place for each in known):
                known.append(seen)
        errors = [test for test, seen in found.items() if seen.result.verdict is Verdict.ERROR]
        if errors:
            self.problems.append(f"{kernel.name}: {len(errors)} tests could not be run, the first one {errors[0]}")
        return found


def _why(results: RunResults | None, last_line: str) -> str:
    return str(results.ended) if results and results.ended else last_line or "the run ended without a result"


def only(tests: Sequence[str]) -> TestSet:
    """Return a set with just these tests, or few others."""
    suites = dict.fromkeys(Result(test=test, verdict=Verdict.FAIL).suite for test in tests if test != BOOT)
    keyword = " or ".join(f"({keyword_of(test)})" for test in tests if test != BOOT)
    return TestSet(suites=tuple(suites), keyword=keyword)


def results_of(seen: Mapping[str, Seen]) -> dict[str, Result]:
    return {test: each.result for test, each in seen.items()}
