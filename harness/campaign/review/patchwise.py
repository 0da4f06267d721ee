"""Each patch of a series by itself: on top of those before it, compared with the kernel before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.build.sourcetree import Tried
from harness.campaign.review.journal import Compiled, Journal
from harness.campaign.review.lab import Lab
from harness.campaign.review.runs import Kernel, Runs, Seen, results_of
from harness.errors import UserError
from harness.model.kernel import Patch
from harness.model.matters import is_documentation, sets_for
from harness.model.progress import Progress
from harness.model.result import Result, Verdict
from harness.model.review import Failure, PatchStep, Stage, TestSet
from harness.report.failing import BOOT, counted, fails, is_same
from harness.report.pairing import title_of

MOST_REPEATED = 20  # tests of a kernel that are run again; the others are told as they were seen


@dataclass(frozen=True, kw_only=True)
class Built:
    """A kernel that differs from those before it: with the first `number` patches. `digest`: of what is loaded."""

    number: int
    kernel: Kernel
    digest: str


@dataclass(kw_only=True)
class Walked:
    """A series, walked through: a step for each patch, the kernels that differ, beginning with the base, and the tests
    that the base fails now and then, though they seemed to be new failures. `since`: since which patch tests fail."""

    steps: list[PatchStep] = field(default_factory=list)
    kernels: list[Built] = field(default_factory=list)
    failing_before: list[str] = field(default_factory=list)
    since: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the whole series could be built: a patch may mend what one before it broke."""
        if any(step.failed is Stage.APPLIES for step in self.steps):
            return False
        tried = [step for step in self.steps if step.reached is not Stage.APPLIES or step.failed]
        return not tried or tried[-1].failed not in (Stage.CONFIGURES, Stage.BUILDS)


class Patchwise:
    """Walks through a series. `whole`: the tests for the whole series; `chosen`: those for every patch; None: those
    that matter for its files. `rounds`: how often a new failure is repeated, on its kernel and the one before."""

    def __init__(
        self,
        lab: Lab,
        runs: Runs,
        journal: Journal,
        display: Progress,
        *,
        whole: TestSet,
        chosen: TestSet | None,
        rounds: int,
    ) -> None:
        self._lab = lab
        self._runs = runs
        self._journal = journal
        self._display = display
        self._whole = whole
        self._chosen = chosen
        self._rounds = rounds

    def walk(self, tried: Sequence[Tried], titles: Sequence[str], *, last: int) -> Walked:
        """Return what was found out about each patch. `last`: how many patches there are; those behind one that does
        not apply were not tried. Raises UserError if the base does not build or boot."""
        base = self._base()
        for chosen in filter(None, (self._whole, self._chosen)):
            self._runs.check(chosen)
        walked = Walked(kernels=[base])
        wanted = [self._sets(each) for each in tried]
        for tests in dict.fromkeys(tests for sets in wanted for tests in sets):
            seen = self._runs.tested(base.kernel, tests, is_whole=True)
            if BOOT in seen and fails(seen[BOOT].result):
                why = seen[BOOT].result.reason
                raise UserError(f"the base does not boot, so nothing can be said of the series: {why}")
        patches = tuple(each.patch for each in tried)
        for number, each in enumerate(tried, 1):
            self._display.say(f"patch {number} of {last}: {titles[number - 1]}")
            step = self._step(number, each, patches[:number], walked, wanted[number - 1], is_last=number == last)
            walked.steps.append(step)
        for number in range(len(tried) + 1, last + 1):
            why = f"patch {len(tried)} does not apply"
            walked.steps.append(PatchStep(number=number, title=titles[number - 1], pending=why))
        return walked

    def _sets(self, tried: Tried) -> tuple[TestSet, ...]:
        if tried.error or is_documentation(tried.paths):
            return ()
        return (self._chosen,) if self._chosen else sets_for(tried.paths)

    def _base(self) -> Built:
        kernel = Kernel(name="base")
        compiled = self._compiled((), ())
        if compiled.error:
            told = f"the base does not build, so nothing can be said of the series: {compiled.error}"
            raise UserError(told, details=compiled.details)
        return Built(number=0, kernel=kernel, digest=compiled.digest)

    def _compiled(self, parent: Sequence[Patch], patches: Sequence[Patch]) -> Compiled:
        above = self._lab.key(parent) if patches else ""
        key = self._lab.key(patches)
        known = self._journal.compiled(key, parent=above)
        if known is None:
            known = self._lab.compiled(parent, patches)
            self._journal.keep(key, known, parent=above)
        return known

    def _step(
        self,
        number: int,
        tried: Tried,
        patches: tuple[Patch, ...],
        walked: Walked,
        sets: tuple[TestSet, ...],
        *,
        is_last: bool,
    ) -> PatchStep:
        title = title_of(tried.patch)
        if tried.error:
            problem, details = tried.error, tried.details
            return PatchStep(number=number, title=title, failed=Stage.APPLIES, problem=problem, details=details)
        if is_documentation(tried.paths):
            untested = "documentation only, so not built"
            return PatchStep(number=number, title=title, reached=Stage.APPLIES, untested=untested)
        parent = walked.kernels[-1]
        compiled = self._compiled(parent.kernel.patches, patches)
        if compiled.error:
            return PatchStep(
                number=number,
                title=title,
                reached=Stage.CONFIGURES if compiled.is_configured else Stage.APPLIES,
                failed=Stage.BUILDS if compiled.is_configured else Stage.CONFIGURES,
                problem=compiled.details[0] if compiled.details else compiled.error,
                details=compiled.details[1:],
            )
        if compiled.digest == parent.digest:
            above = f"patch {parent.number}" if parent.number else "the base"
            return PatchStep(
                number=number,
                title=title,
                reached=Stage.BUILDS,
                untested=f"the same binaries as {above}, so not tested again",
                warnings=compiled.warnings,
            )
        kernel = Kernel(name=f"patch-{number:02}", patches=patches)
        walked.kernels.append(Built(number=number, kernel=kernel, digest=compiled.digest))
        return self._tested(number, title, compiled, kernel, walked, sets, is_last=is_last)

    def _tested(
        self,
        number: int,
        title: str,
        compiled: Compiled,
        kernel: Kernel,
        walked: Walked,
        sets: tuple[TestSet, ...],
        *,
        is_last: bool,
    ) -> PatchStep:
        problems = len(self._runs.problems)
        seen: dict[str, Seen] = {}
        for tests in sets:
            seen |= self._runs.tested(kernel, tests, is_whole=is_last)
            if BOOT in seen and fails(seen[BOOT].result):
                break
        new = self._new(seen, walked, kernel)
        for failure in new:
            walked.since.setdefault(failure.test, number)
        boot = seen.get(BOOT)
        has_booted = boot is not None and boot.result.verdict is Verdict.PASS
        stage = Stage.BOOTS if boot and fails(boot.result) else Stage.PASSES if new else None
        lacks = self._runs.problems[problems:]
        return PatchStep(
            number=number,
            title=title,
            reached=(Stage.BOOTS if new or lacks else Stage.PASSES) if has_booted else Stage.BUILDS,
            failed=stage,
            problem=new[0].title if new else "",
            pending=lacks[0] if lacks else "",
            warnings=compiled.warnings,
            sets=sets,
            counts=counted(results_of(seen)),
            failures=tuple(new),
        )

    def _new(self, seen: Mapping[str, Seen], walked: Walked, kernel: Kernel) -> list[Failure]:
        """The failures that the kernels before do not have. They are repeated there and here, in turns, because a test
        that fails now and then may have passed by chance."""
        failing = {test: each for test, each in seen.items() if fails(each.result)}
        before = {test: self._before(test, walked) for test in failing}
        new = [test for test, each in failing.items() if not _failed_so(before[test], each.result)]
        parent = walked.kernels[-2].kernel
        some = [test for test in new if test != BOOT][:MOST_REPEATED]
        for number in range(1, self._rounds + 1) if some else ():
            for each in (parent, kernel):
                self._runs.again(each, some, f"patch-{number}")
        found = []
        for test in new:
            if self._is_worse(parent, test, failing[test].result):
                found.append(failing[test].failure())
            else:
                walked.failing_before.append(test)
        return found

    def _is_worse(self, parent: Kernel, test: str, result: Result) -> bool:
        return self._runs.tally(parent, test, like=result).failures == 0

    def _before(self, test: str, walked: Walked) -> Result | None:
        """How a test ended with the nearest kernel before this one on which it was run."""
        kernels = (each.kernel for each in reversed(walked.kernels[:-1]))
        return next((found for kernel in kernels if (found := self._runs.latest(kernel, test))), None)


def _failed_so(before: Result | None, now: Result) -> bool:
    return before is not None and fails(before) and is_same(before, now)
