"""Two runs and what was before them in, the class of each test's change out (docs/verdicts.md)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.comparison import Change, Changed, Comparison, Tally
from harness.model.history import Outcome, StoredRun
from harness.model.result import BUILD, EndKind, Result, Verdict
from harness.report import evidence

TOLD = 0.95  # the probability from which a change is told as certain, and repeating ends
_MOSTLY = 0.9  # a test that fails more often is broken, not flaky
_SLOWER_TIMES = 2.0  # than usual, after what the whole run is slower or faster
_SLOWER_S = 2.0
_LEAST_TIMES = 5  # durations, before "usual" means something
BOOT = "boot"  # the name of booting, where it is compared like a test
_NO_EVIDENCE = (Verdict.SKIP, Verdict.ERROR, Verdict.NOTRUN)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison. `run` is the run that is compared; `runs` are all that say something about the same
    kernels, in the order of time and including `run`, each with its outcomes by test."""

    run: StoredRun
    runs: Sequence[tuple[StoredRun, Mapping[str, Sequence[Outcome]]]] = ()

    @property
    def outcomes(self) -> Mapping[str, Sequence[Outcome]]:
        """Those of `run`; more than one of a test that was repeated."""
        return next((outcomes for run, outcomes in self.runs if run.id == self.run.id), {})


def failed(outcome: Outcome) -> bool | None:
    """Whether an outcome is a failure; None if it says nothing about the kernel. Whether it was known does not matter:
    what is asked is how often it happens."""
    if outcome.actual in _NO_EVIDENCE:
        return None
    return outcome.actual is not Verdict.PASS


def compare(old: Side, new: Side) -> Comparison:
    """Compare two sides. If a kernel failed to boot, booting is one more test, and so is building. Where the newer
    kernel does not build, nothing else can be said of it."""
    if any(_is_unbuilt(run) for side in (old, new) for run, _ in side.runs):
        old, new = _with_builds(old), _with_builds(new)
    if any(run.blames_kernel for side in (old, new) for run, _ in side.runs):
        old, new = _with_boots(old), _with_boots(new)
    pace = _pace(old, new)
    tests = [BUILD] if _is_unbuilt(new.run) else dict.fromkeys([*new.outcomes, *old.outcomes])
    changes = [_changed(test, old, new, pace) for test in tests]
    order = list(Change)
    changes.sort(key=lambda changed: order.index(changed.change))
    return Comparison(old=old.run, new=new.run, changes=tuple(changes))


def _is_unbuilt(run: StoredRun) -> bool:
    return run.end == EndKind.NOT_BUILT


def _with_builds(side: Side) -> Side:
    """Where there was a run, there was a kernel; the other runs have the outcome themselves."""
    built = Outcome(test=BUILD, verdict=Verdict.PASS, actual=Verdict.PASS)
    return Side(run=side.run, runs=[(run, {BUILD: [built], **outcomes}) for run, outcomes in side.runs])


def _with_boots(side: Side) -> Side:
    return Side(run=side.run, runs=[(run, {**outcomes, BOOT: [_boot(run, outcomes)]}) for run, outcomes in side.runs])


def _boot(run: StoredRun, outcomes: Mapping[str, Sequence[Outcome]]) -> Outcome:
    every = [outcome for test, several in outcomes.items() if test != BUILD for outcome in several]
    if run.blames_kernel:
        reason = next((outcome.reason for outcome in every if outcome.reason), "")
        return Outcome(test=BOOT, verdict=Verdict.CRASH, actual=Verdict.CRASH, reason=reason)
    verdict = Verdict.PASS if any(outcome.actual not in _NO_EVIDENCE for outcome in every) else Verdict.ERROR
    return Outcome(test=BOOT, verdict=verdict, actual=verdict)


def _changed(test: str, old: Side, new: Side, pace: float) -> Changed:
    first, last = (_shown(side.outcomes.get(test, ())) for side in (old, new))
    if last is None:
        is_expected = not new.run.was_asked_for(test, old.run)
        note = "the newer run was not asked for it" if is_expected else ""
        return Changed(test=test, change=Change.SAME if is_expected else Change.VANISHED, old=first, note=note)
    if last.verdict is Verdict.PASS:
        last = _failure_in(new, test) or last
    ends = [bool(fails) for fails in _fails(old, test, like=last)]
    behaved = ends[evidence.last_change(ends) :]
    before = evidence.tally_of(behaved)
    since = evidence.tally_of(_fails(new, test, like=last))
    if test == BUILD:
        change, probability = _of_a_build(first, last)
    else:
        change, probability = _class(first, last, before, since, is_new=not _was_seen(old, test))
    note = ""
    if change is Change.SAME and (note := _slower(test, old, last, pace)):
        change = Change.SLOWER
    if change is Change.APPEARED and not failed(last) and not old.run.was_asked_for(test, new.run):
        change, note = Change.SAME, "the older run was not asked for it"
    return Changed(
        test=test,
        change=change,
        old=first,
        new=last,
        before=before,
        since=since,
        probability=probability,
        last_good=_last_good(old, test),
        first_bad=_first_bad(new, test, like=last),
        note=note or (last.reason if change in (Change.SKIPPED_NOW, Change.INFRASTRUCTURE) else ""),
    )


def passes_and_failures(side: Side, failure: Result) -> Tally:
    """Count how a test that has failed ended on a side, since it last changed; other crashes than its own are
    passes."""
    like = Outcome(
        test=failure.test,
        verdict=failure.verdict,
        actual=failure.actual or failure.verdict,
        signature=failure.fault.signature if failure.fault else None,
    )
    ends = [bool(fails) for fails in _fails(side, failure.test, like=like)]
    return evidence.tally_of(ends[evidence.last_change(ends) :])


def _shown(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Of several outcomes of a test the one to show: a failure, if there is one."""
    return next((outcome for outcome in outcomes if failed(outcome)), outcomes[0] if outcomes else None)


def _failure_in(side: Side, test: str) -> Outcome | None:
    """The latest failure in any run with the same kernel, one that was not expected if there is one: that the test
    passed this time does not undo it."""
    failures = [each for _, outcomes in reversed(side.runs) for each in outcomes.get(test, ()) if failed(each)]
    return next((each for each in failures if each.verdict.is_kernel_fault), failures[0] if failures else None)


def _class(first: Outcome | None, last: Outcome, before: Tally, since: Tally, *, is_new: bool) -> tuple[Change, float]:
    if last.verdict in (Verdict.ERROR, Verdict.NOTRUN):
        return Change.INFRASTRUCTURE, 0.0
    if is_new:
        return Change.APPEARED, 0.0
    if last.verdict is Verdict.SKIP:
        was_run = first is not None and first.verdict is not Verdict.SKIP and before.runs > 0
        return (Change.SKIPPED_NOW if was_run else Change.SAME), 0.0
    if last.verdict is Verdict.XFAIL:
        return Change.KNOWN, 0.0
    if not since.failures:
        return _of_a_pass(first, before, since), 0.0
    probability = evidence.worse_probability(before, since)
    if probability >= 0.5 or not before.failures:
        is_other = last.signature is not None and not before.failures  # a crash of a kind that was never seen before
        fails_anew = not before.failures
        return (Change.NEW_FAILURE if fails_anew else Change.FLAKIER), (1.0 if is_other else probability)
    is_broken = not since.passes and (not before.passes or evidence.rate(before) >= _MOSTLY)
    return (Change.STILL_FAILING if is_broken else Change.FLAKY), probability


def _of_a_build(first: Outcome | None, last: Outcome) -> tuple[Change, float]:
    """What does not compile once never does: there is nothing to estimate."""
    was_bad, is_bad = (outcome is not None and bool(failed(outcome)) for outcome in (first, last))
    if was_bad and is_bad:
        return Change.STILL_FAILING, 0.0
    if is_bad:
        return Change.NEW_FAILURE, 1.0
    return (Change.FIXED if was_bad else Change.SAME), 0.0


def _of_a_pass(first: Outcome | None, before: Tally, since: Tally) -> Change:
    """A test that failed now and then, and happened to pass, is not fixed."""
    if not before.failures:
        return Change.SAME
    failed_only = not before.passes and first is not None and bool(failed(first))
    is_better = evidence.worse_probability(since, before) >= 0.5  # the other way round: it failed more often before
    return Change.FIXED if failed_only or is_better else Change.SAME


def _fails(side: Side, test: str, *, like: Outcome) -> list[bool]:
    """Whether the test failed, each time that it said something. If `like` is a crash, only crashes with its signature
    are failures: another bug is no reason to expect this one."""
    return [end for _, outcomes in side.runs for end in _ends(outcomes.get(test, ()), like=like)]


def _ends(outcomes: Iterable[Outcome], *, like: Outcome) -> Iterator[bool]:
    for outcome in outcomes:
        ended = failed(outcome) if outcome.repeat is None or outcome.repeat.is_usual else None
        if ended is not None:
            yield ended and _is_like(outcome, like)


def _is_like(outcome: Outcome, like: Outcome) -> bool:
    if like.signature is None:
        return True
    return outcome.signature is not None and outcome.signature.matches(like.signature)


def _was_seen(side: Side, test: str) -> bool:
    return any(test in outcomes for _, outcomes in side.runs)


def _last_good(side: Side, test: str) -> str:
    """The latest run in which the test passed at once: that a repetition of a failure passed makes no run good."""
    for run, outcomes in reversed(side.runs):
        if any(outcome.repeat is None and failed(outcome) is False for outcome in outcomes.get(test, ())):
            return run.id
    return ""


def _first_bad(side: Side, test: str, *, like: Outcome) -> str:
    """The first run in which the test failed in this way."""
    return next((run.id for run, outcomes in side.runs if any(_ends(outcomes.get(test, ()), like=like))), "")


def usual(outcomes: Iterable[Outcome]) -> float | None:
    """Return the median of a test's durations where it passed, in seconds; None if there are too few."""
    times = [outcome.seconds for outcome in outcomes if outcome.actual is Verdict.PASS and outcome.seconds > 0]
    return statistics.median(times) if len(times) >= _LEAST_TIMES else None


def _usual(side: Side, test: str) -> float | None:
    return usual(outcome for _, outcomes in side.runs for outcome in outcomes.get(test, ()))


def _pace(old: Side, new: Side) -> float:
    """How much longer the newer run's tests take than usual, in the median: another machine, or a busy one."""
    logs = [
        math.log(outcome.seconds / expected)
        for test, outcomes in new.outcomes.items()
        for outcome in outcomes[:1]
        if outcome.actual is Verdict.PASS and outcome.seconds > 0 and (expected := _usual(old, test))
    ]
    return math.exp(statistics.median(logs)) if logs else 1.0


def _slower(test: str, old: Side, last: Outcome, pace: float) -> str:
    median = _usual(old, test)
    if median is None or last.actual is not Verdict.PASS:
        return ""
    expected = median * pace
    if last.seconds < _SLOWER_TIMES * expected or last.seconds - expected < _SLOWER_S:
        return ""
    return f"{last.seconds:.1f} s, usually {expected:.1f} s at the pace of this run"


def by_test(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Group outcomes by test."""
    grouped: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault(outcome.test, []).append(outcome)
    return grouped
