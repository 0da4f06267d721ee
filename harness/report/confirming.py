"""Whether a failure is worth another repetition, and what the repetitions say (docs/verdicts.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.model.comparison import Tally
from harness.model.result import Attempt, Condition, Result, Verdict
from harness.report import evidence

TOLD = 0.98  # the probability from which repeating ends: it is worse
LIKELY = 0.5  # from which a comparison fails a job
DROPPED = 0.005  # below which repeating ends: nothing shows that it is worse
MOST = 40  # repetitions
_LEAST = 8  # outcomes before a failure is dropped: the first one is no fair sample, because it is why we look


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known so far of a test that failed. `before`: its passes and failures with the kernels before; `since`:
    with this one, including the failure that started this."""

    before: Tally
    since: Tally

    @property
    def probability(self) -> float:
        """That the test fails more often now than before."""
        return evidence.worse_probability(self.before, self.since)

    @property
    def is_decided(self) -> bool:
        """Whether more repetitions would not change the answer, or there were enough."""
        if self.since.runs > MOST:
            return True
        probability = self.probability
        return probability >= TOLD or (self.since.runs >= _LEAST and probability < DROPPED)

    @property
    def is_regression(self) -> bool:
        """Whether the kernel is more likely worse than not."""
        return self.probability >= LIKELY


def since(result: Result) -> Tally:
    """Return the passes and failures of a result and its repetitions."""
    return _tally([result, *result.repeats])


def _tally(attempts: Iterable[Attempt]) -> Tally:
    verdicts = [attempt.actual or attempt.verdict for attempt in attempts]
    failures = sum(verdict.is_kernel_fault or verdict is Verdict.XFAIL for verdict in verdicts)
    return Tally(failures=failures, passes=sum(verdict is Verdict.PASS for verdict in verdicts))


def told(result: Result) -> str:
    """Say what the repetitions of a failure show; empty if there are none."""
    if not result.repeats:
        return ""
    repeats = _tally(result.repeats)
    if not repeats.runs:
        return f"repeated {len(result.repeats)} times without an answer"
    counted = f"failed {repeats} repetitions"
    if not repeats.failures:
        rate = evidence.interval(since(result))[1]
        used = "; maybe it needs a machine that other tests have used" if _was_used(result) else ""
        return f"not repeatable: {counted}, so it fails at most {100 * rate:.0f} % of the time{used}"
    restored, booted = (
        _tally(each for each in result.repeats if each.condition is condition) for condition in Condition
    )
    where = ""
    if evidence.worse_probability(restored, booted) >= TOLD:
        where = f", mostly on machines that have just booted ({booted}; restored ones {restored})"
    elif evidence.worse_probability(booted, restored) >= TOLD:
        where = f", mostly on restored machines ({restored}; just booted ones {booted})"
    if not repeats.passes:
        return f"solid: {counted}{where}"
    low, high = evidence.interval(since(result))
    return f"flaky: {counted}, so about {100 * low:.0f} to {100 * high:.0f} % of the time{where}"


def _was_used(result: Result) -> bool:
    """Whether other tests had used the machine on which it failed: only one that was restored for it is its own."""
    return bool(result.machine) and "restored" not in result.machine
