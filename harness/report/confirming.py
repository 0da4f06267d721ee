"""Whether a failure is worth another repetition, and what the repetitions say (docs/verdicts.md)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.model.comparison import Tally
from harness.model.result import Attempt, Condition, Repeat, Result, Verdict
from harness.report import evidence
from harness.report.text import one_line

TOLD = 0.98  # the probability from which repeating ends: it is worse
LIKELY = 0.5  # from which a comparison fails a job
DROPPED = 0.005  # below which repeating ends: nothing shows that it is worse
MOST = 40  # repetitions
BUSY = 1.5  # from which load on, for each CPU, a host is busy: a test that is repeated keeps one to two CPUs busy
_LONGEST = 120  # characters of what another failure says
_NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")
_WHERE = {
    Condition.RESTORED: "on restored machines",
    Condition.BOOTED: "on machines that have just booted",
    Condition.USED: "on machines on which it has run before",
    Condition.ONE_CPU: "with one CPU",
}
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
    """Return the passes and failures of a result and its repetitions, as far as they ran like tests usually do."""
    return tally_of([result, *_usual(result)])


def _usual(result: Result) -> list[Repeat]:
    return [repeat for repeat in result.repeats if repeat.condition.is_usual]


def tally_of(attempts: Iterable[Attempt]) -> Tally:
    """Count passes and failures."""
    verdicts = [attempt.actual or attempt.verdict for attempt in attempts]
    failures = sum(verdict.is_kernel_fault or verdict is Verdict.XFAIL for verdict in verdicts)
    return Tally(failures=failures, passes=sum(verdict is Verdict.PASS for verdict in verdicts))


class Confirmed(enum.StrEnum):
    """What the repetitions of a failure show: it comes each time, now and then, or not again."""

    SOLID = "solid"
    FLAKY = "flaky"
    NOT_REPEATABLE = "not repeatable"


def confirmed(result: Result) -> tuple[Confirmed | None, Tally]:
    """Return what the repetitions of a failure show, and how they ended; None if there are none that say something."""
    repeats = tally_of(_usual(result))
    if not repeats.runs:
        return None, repeats
    if not repeats.failures:
        return Confirmed.NOT_REPEATABLE, repeats
    return (Confirmed.FLAKY if repeats.passes else Confirmed.SOLID), repeats


def told(result: Result) -> str:
    """Say what the repetitions of a failure show; empty if there are none."""
    if not result.repeats:
        return ""
    kind, repeats = confirmed(result)
    if kind is None:
        return f"repeated {len(result.repeats)} times without an answer"
    counted, where = f"failed {repeats} repetitions", "".join(f", {where}" for where in _where(result))
    others = "".join(f"; {other}" for other in _otherwise(result))
    if kind is Confirmed.NOT_REPEATABLE:
        rate = evidence.interval(since(result))[1]
        hint = "; maybe it needs a machine that other tests have used" if _was_used(result) and not where else ""
        return f"{kind}: {counted}, so it fails at most {100 * rate:.0f} % of the time{where}{hint}{others}"
    if kind is Confirmed.SOLID:
        return f"{kind}: {counted}{where}{others}"
    low, high = evidence.interval(since(result))
    return f"{kind}: {counted}, so about {100 * low:.0f} to {100 * high:.0f} % of the time{where}{others}"


def _where(result: Result) -> Iterator[str]:
    """Where the test fails more often than elsewhere, by more than chance. Only with one CPU it has to fail in the same
    way: there are tests that can't run there."""
    restored, booted, used = (
        tally_of(each for each in result.repeats if each.condition is condition)
        for condition in (Condition.RESTORED, Condition.BOOTED, Condition.USED)
    )
    if _fails_more(booted, restored):
        yield f"mostly on machines that have just booted ({booted}; restored ones {restored})"
    elif _fails_more(restored, booted):
        yield f"mostly on restored machines ({restored}; just booted ones {booted})"
    if _fails_more(used, restored):
        yield f"mostly on machines on which it has run before ({used}; restored ones {restored})"
    alike = [repeat for repeat in result.repeats if not is_other(repeat, result)]
    several, one_cpu = (
        tally_of(each for each in alike if each.condition is condition)
        for condition in (Condition.BOOTED, Condition.ONE_CPU)
    )
    if _fails_more(one_cpu, several):
        yield f"mostly with one CPU ({one_cpu}; with more {several})"
    elif _fails_more(several, one_cpu):
        yield (
            f"only with more than one CPU ({several}; with one {one_cpu})"
            if not one_cpu.failures
            else (f"mostly with more than one CPU ({several}; with one {one_cpu})")
        )
    busy, idle = (
        tally_of(each for each in _usual(result) if each.load is not None and (each.load >= BUSY) is is_busy)
        for is_busy in (True, False)
    )
    if _fails_more(busy, idle):
        yield f"mostly while the host is busy ({busy}; else {idle})"


def _otherwise(result: Result) -> Iterator[str]:
    """Where repetitions failed in another way than the test had, and what the first of these says."""
    for condition, where in _WHERE.items():
        there = [each for each in result.repeats if each.condition is condition]
        others = [each for each in there if is_other(each, result)]
        if others:
            says = one_line(others[0].reason or (others[0].fault.title if others[0].fault else ""), _LONGEST)
            count = f"{len(others)} of {tally_of(there).runs}"
            yield f"{where} {count} failed in another way: {others[0].verdict}{f', {says}' if says else ''}"


def is_other(repeat: Attempt, result: Result) -> bool:
    """Whether a repetition is another failure than the one that is repeated: it crashed elsewhere, or says something
    else. Numbers may differ, as addresses, times and process ids do."""
    if not tally_of([repeat]).failures:
        return False
    if repeat.fault and result.fault:
        return not repeat.fault.signature.matches(result.fault.signature)
    if repeat.fault or result.fault or (repeat.actual or repeat.verdict) is not (result.actual or result.verdict):
        return True
    return wording(repeat) not in {wording(each) for each in (result, *result.attempts)}


def wording(attempt: Attempt) -> str:
    """Return an attempt's reason without numbers, which differ between two failures of one kind."""
    return _NUMBER.sub("0", attempt.reason)


def _fails_more(here: Tally, elsewhere: Tally) -> bool:
    """Whether a test fails more often here; never where one of the two says nothing."""
    return bool(here.runs and elsewhere.runs) and evidence.worse_probability(elsewhere, here) >= TOLD


def _was_used(result: Result) -> bool:
    """Whether other tests had used the machine on which it failed: only one that was restored for it is its own."""
    return bool(result.machine) and "restored" not in result.machine
