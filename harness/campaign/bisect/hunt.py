"""The search itself: what is built and repeated in which order, and when it is over. Knows neither git nor kernels."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.errors import BuildError, UserError
from harness.model.bisect import Answer, Blame, Found, Kind, Outcome, Progressed, Range, Row, Trial
from harness.model.comparison import Tally
from harness.report import evidence
from harness.report.failures import is_same
from harness.report.firstbad import TOLD, Belief, Cost, NoSingleCulprit, Search, Seen

ENOUGH_FAILURES = 15  # at the bad end: how often the test fails is then known within a factor of two
ENOUGH_IN_A_ROW = 6  # without a pass: it fails always, or nearly
TOLD_APART = 0.999  # the probability from which the good end fails less often than the bad one
_EXPECTED = 5.0  # failures that the good end would have shown, if it failed as often as the bad one
_MOST_OTHERS = 3  # other failures of a state, before they are taken to hide the one in question
_OVERLOOKED = 0.01  # how likely a bad state passes all repetitions at the end
_BUILD_S, _REPETITION_S = 600.0, 2.0  # before they are measured


@dataclass(frozen=True)
class Built:
    """A kernel that can be tested. `binaries`: equal for those that are the same but for the time of the build."""

    directory: str
    binaries: str
    seconds: float = 0.0


class Tester(Protocol):
    """Builds states of a range, and repeats the test on them."""

    def build(self, state: int) -> Built:
        """Raises BuildError or UserError if there is no such kernel."""

    def build_reverted(self, change: int) -> Built | str:
        """Build the bad end without a change; or say why that is not possible."""

    def repeat(self, built: Built, state: int, see: Callable[[Outcome], bool]) -> None:
        """Repeat the test until `see`, which gets each outcome, says that it is enough. Raises InfraError."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What counts, and when to stop: see BisectRequest."""

    test: str
    any_failure: bool = False
    build_failure: Blame = Blame.SKIP
    boot_failure: Blame = Blame.SKIP
    told: float = TOLD
    most: int = 300
    most_builds: int = 0
    command: str = ""


class Hunt:
    """One search. `save` puts its progress on the disk; `say` tells people. `cost`: None: as measured."""

    def __init__(
        self,
        range_: Range,
        tester: Tester,
        rules: Rules,
        *,
        progress: Progressed,
        save: Callable[[Progressed], None],
        say: Callable[[str], None],
        cost: Cost | None = None,
    ) -> None:
        self._range = range_
        self._tester = tester
        self._rules = rules
        self._progress = progress
        self._save = save
        self._say = say
        self._known_cost = cost
        self._held: dict[int, Built] = {}

    @property
    def progress(self) -> Progressed:
        return self._progress

    def answer(self) -> Answer:
        """Search, and return what was found. Raises HarnessError; the same search can then go on later."""
        try:
            return self._search()
        except NoSingleCulprit:
            return self._answer(Found.NO_SINGLE)

    def _search(self) -> Answer:
        bad_end = self._range.bad_end
        self._until(bad_end, self._is_bad_end_known)
        if not self._trial(bad_end).tally.failures and self._trial(bad_end).is_bad is None:
            return self._answer(Found.NOT_SEEN)
        self._until(0, self._is_good_end_known)
        while not self._are_ends_apart():
            runs = {state: self._trial(state).tally.runs for state in (0, bad_end)}
            shorter = min(runs, key=runs.__getitem__)
            if runs[shorter] >= self._rules.most:
                return self._answer(Found.BOTH_ENDS)
            longest = min(2 * max(runs.values()), self._rules.most)  # each further run of a machine starts with a boot
            self._until(shorter, functools.partial(self._is_told_apart, shorter, longest))
        while True:
            step = self.search().next()
            if step.state is not None:
                self._until(step.state, functools.partial(self._is_elsewhere, step.state))
                continue
            if not self._is_confirmed():
                continue
            found = self._found()
            if found is Found.CULPRIT:
                self._revert()
            return self._answer(found)

    def _is_elsewhere(self, state: int) -> bool:
        """Whether the next thing to do is no repetition on this state."""
        return self.search().next().state != state

    def search(self) -> Search:
        """What is known, as the statistics want it."""
        range_, trials = self._range, self._progress.trials
        seen = {
            state: Seen(carries=range_.states[state], tally=trial.tally, is_bad=trial.is_bad)
            for state, trial in trials.items()
            if trial.is_usable
        }
        return Search(
            count=len(range_.changes),
            states=range_.states,
            seen=seen,
            skipped=frozenset(state for state, trial in trials.items() if trial.skipped),
            alike=self._alike(),
            cost=self._cost(),
            told=self._rules.told,
            most_builds=self._rules.most_builds,
        )

    def _alike(self) -> tuple[tuple[int, int], ...]:
        """States with the same binaries, each with the first of them."""
        first: dict[str, int] = {}
        pairs = []
        for state, trial in sorted(self._progress.trials.items()):
            if trial.binaries and trial.is_usable:
                other = first.setdefault(trial.binaries, self._range.states[state])
                pairs.append((other, self._range.states[state]))
        return tuple(pair for pair in pairs if pair[0] != pair[1])

    def _cost(self) -> Cost:
        if self._known_cost:
            return self._known_cost
        trials = self._progress.trials.values()
        builds = [trial.seconds for trial in trials if trial.seconds]
        runs = sum(trial.tally.runs + trial.other for trial in trials)
        repetition = sum(trial.repeating for trial in trials) / runs if runs else _REPETITION_S
        build = sum(builds) / len(builds) if builds else _BUILD_S
        return Cost(build=max(build, 1.0), repetition=max(repetition, 0.01))

    # -- one state ----------------------------------------------------------------------------------------------

    def _trial(self, state: int) -> Trial:
        return self._progress.trials.get(state, Trial())

    def _set(self, state: int, **changes: object) -> None:
        trial = dataclasses.replace(self._trial(state), **changes)  # type: ignore[arg-type]
        self._progress = dataclasses.replace(self._progress, trials={**self._progress.trials, state: trial})
        self._save(self._progress)

    def _until(self, state: int, is_enough: Callable[[], bool]) -> None:
        """Build a state, and repeat the test on it until that is enough or it turns out that it can't be tested."""
        while self._trial(state).is_open and not is_enough():
            if built := self._built(state):
                self._repeat(built, state, is_enough)

    def _built(self, state: int) -> Built | None:
        """Build a state; None: that can't be done, which is noted."""
        trial = self._trial(state)
        if state in self._held:
            return self._held[state]
        self._say(f"{self._range.name(state)}: building")
        try:
            built = self._tester.build(state)
        except (BuildError, UserError) as error:
            why = "; ".join([error.message, *error.details[:2]])
            is_end = state in (0, self._range.bad_end)
            if self._rules.build_failure is Blame.BAD and isinstance(error, BuildError) and state:
                self._set(state, is_bad=True, others=why)
            elif is_end:
                raise
            else:
                self._say(f"{self._range.name(state)}: skipped, because it does not build: {why}")
                self._set(state, skipped=f"does not build: {why}")
            return None
        self._held[state] = built
        seconds = trial.seconds or built.seconds
        if (trial.build, trial.binaries) != (built.directory, built.binaries):
            self._set(state, build=built.directory, binaries=built.binaries, seconds=seconds)
            self._take_over(state)
        return built

    def _take_over(self, state: int) -> None:
        """Say so if a state's kernel is another one's."""
        mine = self._trial(state).binaries
        for other, trial in self._progress.trials.items():
            if other != state and mine and trial.binaries == mine:
                self._say(f"{self._range.name(state)}: the same binaries as {self._range.name(other)}")
                return

    def _repeat(self, built: Built, state: int, is_enough: Callable[[], bool]) -> None:
        began = time.monotonic()

        def see(outcome: Outcome) -> bool:
            nonlocal began
            now = time.monotonic()
            self._count(state, outcome, now - began)
            began = now
            return not self._trial(state).is_usable or is_enough()

        self._tester.repeat(built, state, see)

    def _count(self, state: int, outcome: Outcome, seconds: float) -> None:
        """Take an outcome into account."""
        trial, kind = self._trial(state), self._kind(outcome, state)
        told = {"repeating": trial.repeating + seconds}
        if kind in (Kind.PASS, Kind.FAIL):
            more = Tally(failures=int(kind is Kind.FAIL), passes=int(kind is Kind.PASS))
            self._set(state, tally=trial.tally + more, **told)
            return
        why = outcome.reason or outcome.failure or "the test says nothing"
        if kind is Kind.OTHER:
            self._set(state, other=trial.other + 1, others=trial.others or why, **told)
            if trial.other + 1 < _MOST_OTHERS or trial.other + 1 <= trial.tally.runs:
                return
            why = f"another failure hides the one in question: {trial.others or why}"
        elif kind is Kind.NO_BOOT:
            why = f"does not boot: {why}"
        if state in (0, self._range.bad_end):
            raise UserError(
                f"{self._range.name(state)}: expected a kernel on which the test can be judged, found: {why}"
            )
        self._say(f"{self._range.name(state)}: skipped: {why}")
        self._set(state, skipped=why)

    def _kind(self, outcome: Outcome, state: int) -> Kind:
        """What an outcome counts as. The first failure of the bad end is the one in question."""
        is_bad_boot = outcome.kind is Kind.NO_BOOT and self._rules.boot_failure is Blame.BAD
        if outcome.kind is not Kind.FAIL and not is_bad_boot:
            return outcome.kind
        if not self._progress.failure and state == self._range.bad_end:
            self._progress = dataclasses.replace(self._progress, failure=outcome.failure)
        if is_bad_boot or self._rules.any_failure:
            return Kind.FAIL
        is_it = is_same(self._progress.failure, outcome.failure)
        return Kind.FAIL if is_it else Kind.OTHER

    # -- the ends -----------------------------------------------------------------------------------------------

    def _is_bad_end_known(self) -> bool:
        tally = self._trial(self._range.bad_end).tally
        is_solid = tally.failures >= ENOUGH_IN_A_ROW and not tally.passes
        return is_solid or tally.failures >= ENOUGH_FAILURES or tally.runs >= self._rules.most

    def _is_good_end_known(self) -> bool:
        good, bad = self._trial(0).tally, self._trial(self._range.bad_end)
        if bad.is_bad:
            return good.runs >= 1
        would_fail = good.runs * bad.tally.failures / bad.tally.runs
        return would_fail >= _EXPECTED or good.runs >= self._rules.most

    def _is_told_apart(self, state: int, longest: int) -> bool:
        return self._are_ends_apart() or self._trial(state).tally.runs >= longest

    def _are_ends_apart(self) -> bool:
        good, bad = self._trial(0).tally, self._trial(self._range.bad_end)
        return bool(bad.is_bad) or evidence.worse_probability(good, bad.tally, odds=1.0) >= TOLD_APART

    # -- the end ------------------------------------------------------------------------------------------------

    def _found(self) -> Found:
        best = self.search().belief.best
        if best.probability < self._rules.told:
            return Found.NOT_SURE
        return Found.CULPRIT if best.members.bit_count() == 1 else Found.SOME

    def _pair(self) -> tuple[int, ...]:
        """The states to try again: the one that is bad with the fewest changes, and the good one with the most."""
        best, trials = self.search().belief.best.members, self._progress.trials
        states = self._range.states
        usable = [state for state, trial in trials.items() if trial.is_usable and trial.is_bad is None]
        bad = [state for state in usable if states[state] & best == best]
        fewest = min(bad, key=lambda state: states[state].bit_count(), default=None)
        if fewest is None:
            return ()
        good = [state for state in usable if not states[state] & best and not states[state] & ~states[fewest]]
        return (fewest, *([max(good, key=lambda state: states[state].bit_count())] if good else []))

    def _is_confirmed(self) -> bool:
        """Try the culprit and its parent again, with repetitions that had no part in finding it, and return whether the
        search is over: those count as well, so what was found may be doubtful now."""
        if self._found() is Found.NOT_SURE:
            return True
        rate = max(self.search().belief.best.bad, 0.01)
        needed = min(math.ceil(math.log(_OVERLOOKED) / math.log1p(-min(rate, 0.99))), self._rules.most)
        for state in self._pair():
            if state in self._progress.confirmed:
                continue
            before = self._trial(state).tally
            self._say(f"{self._range.name(state)}: trying it again")
            self._until(state, functools.partial(self._is_repeated, state, before, needed))
            again = {**self._progress.confirmed, state: self._again(state, before)}
            self._progress = dataclasses.replace(self._progress, confirmed=again)
            self._save(self._progress)
        return self.search().next().state is None

    def _is_repeated(self, state: int, before: Tally, needed: int) -> bool:
        return self._again(state, before).runs >= needed

    def _again(self, state: int, before: Tally) -> Tally:
        now = self._trial(state).tally
        return Tally(passes=now.passes - before.passes, failures=now.failures - before.failures)

    def _revert(self) -> None:
        """Try the bad end without the culprit, unless that was done before."""
        if self._progress.reverted is not None:
            return
        change = self.search().belief.best.members.bit_length() - 1
        try:
            built = self._tester.build_reverted(change)
        except (BuildError, UserError) as error:
            built = f"the bad end does not build without it: {error.message}"
        if isinstance(built, str):
            self._set_reverted(Trial(skipped=built))
            return
        self._say(f"the bad end without {self._range.changes[change]}: trying it")
        trial = Trial(build=built.directory, binaries=built.binaries)
        needed = math.ceil(math.log(_OVERLOOKED) / math.log1p(-min(max(self.search().belief.best.bad, 0.01), 0.99)))

        def see(outcome: Outcome) -> bool:
            nonlocal trial
            kind = self._kind(outcome, -1)
            tally = trial.tally + Tally(failures=int(kind is Kind.FAIL), passes=int(kind is Kind.PASS))
            trial = dataclasses.replace(trial, tally=tally)
            if kind in (Kind.OTHER, Kind.NO_BOOT, Kind.NOTHING):
                why = outcome.reason or outcome.failure
                trial = dataclasses.replace(trial, other=trial.other + 1, others=trial.others or why)
            return tally.failures > 0 or tally.runs >= min(needed, self._rules.most) or trial.other >= _MOST_OTHERS

        while not trial.tally.failures and trial.tally.runs < min(needed, self._rules.most):
            self._tester.repeat(built, -1, see)
            if trial.other >= _MOST_OTHERS:
                break
        self._set_reverted(trial)

    def _set_reverted(self, trial: Trial) -> None:
        self._progress = dataclasses.replace(self._progress, reverted=trial)
        self._save(self._progress)

    def _answer(self, found: Found) -> Answer:
        progress, range_ = self._progress, self._range
        has_ends = found not in (Found.NOT_SEEN, Found.BOTH_ENDS, Found.NO_SINGLE)
        belief = self.search().belief if has_ends else None
        best = belief.best if belief else None
        rows = tuple(
            Row(state=state, name=range_.name(state), trial=trial, probability=_is_bad(range_, state, belief))
            for state, trial in sorted(
                progress.trials.items(), key=lambda item: (range_.states[item[0]].bit_count(), item[0])
            )
        )
        reverted = progress.reverted if found is Found.CULPRIT else None
        return Answer(
            found=found,
            test=self._rules.test,
            failure=progress.failure,
            culprits=tuple(c for number, c in enumerate(range_.changes) if best and best.members >> number & 1),
            probability=best.probability if best else 0.0,
            bad=best.bad if best else 0.0,
            good=best.good if best else 0.0,
            rows=rows,
            confirmed=tuple((range_.name(state), tally) for state, tally in sorted(progress.confirmed.items())),
            reverted=reverted if reverted and not reverted.skipped else None,
            not_reverted=reverted.skipped if reverted else "",
            command=self._rules.command,
        )


def _is_bad(range_: Range, state: int, belief: Belief | None) -> float:
    return belief.is_bad(range_.states[state]) if belief else float(state == range_.bad_end)
