"""A night from its beginning, or from where it was interrupted, to its pages."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.build.cache import cache_dir
from harness.campaign.nightly.cells import Checked, Resolved, resolve
from harness.campaign.nightly.estimate import estimates
from harness.campaign.nightly.executor import Executor
from harness.campaign.nightly.health import Health
from harness.campaign.nightly.leftover import take_over_all
from harness.campaign.nightly.local import LocalExecutor
from harness.campaign.nightly.morning import morning
from harness.campaign.nightly.order import ordered, why_first
from harness.campaign.nightly.place import NightPlace, Place, new_id
from harness.campaign.nightly.shift import Shift
from harness.clock import now as steady_time
from harness.errors import HarnessError, UserError
from harness.model.names import as_name
from harness.model.night import NONE, Ended, Estimate, Morning, Night, Plan, Seen, Settings, Slot, State, seen
from harness.model.progress import Progress
from harness.report.summary import duration
from harness.run.side_run import SideRuns

Resolver = Callable[[Checked, Mapping[Slot, Settings], Progress], Resolved]


def place_of(checked: Checked) -> Place:
    """Return where the nights of a plan are."""
    given = checked.plan.name
    name = as_name(given, longest=80)
    if name != given:  # others may have the same one
        name += f"-{hashlib.sha256(given.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return Place(checked.request.out_dir or Path("out/nightly") / name)


def listed(checked: Checked) -> list[str]:
    """Describe the cells of a plan with what they probably take; looks at no kernel."""
    slots = checked.plan.slots()
    guesses = estimates(checked, list(slots), seen(place_of(checked).nights()), is_built=lambda _: False)
    lines = [f"{slot}  {_told(guesses[slot])}" for slot in slots]
    if any(slot.is_built for slot in slots):
        lines.append(
            f"{NONE}/{NONE}: the kernel was built elsewhere, so it comes once for all toolchains and configurations"
        )
    return [*lines, _total(list(slots), guesses, checked.plan, {slot: _build_of(slot) for slot in slots})]


def planned(checked: Checked, progress: Progress) -> list[str]:
    """Describe the cells that a night would have now, in their order, with the reason of each one's place. Kernels are
    fetched, nothing is built."""
    known = seen(place_of(checked).nights())
    resolved = resolve(checked, checked.plan.slots(), progress)
    guesses = _estimates(checked, resolved, known)
    cells = ordered(resolved.cells, known, guesses)
    lines = [
        f"{number:4}. {cell.slot}  {why_first(cell, known.get(cell.slot, Seen()))}; {_told(guesses[cell.slot])}"
        for number, cell in enumerate(cells, 1)
    ]
    lines += [f"   -  {slot}  {error.message}" for slot, error in resolved.problems.items()]
    builds = {cell.slot: cell.build for cell in cells}
    return [*lines, _total([cell.slot for cell in cells], guesses, checked.plan, builds)]


def _build_of(slot: Slot) -> str:
    """What builds have in common as long as no kernel was looked at; boards may need fragments of their own."""
    return f"{slot.kernel} {slot.toolchain} {slot.configuration}"


def _told(estimate: Estimate) -> str:
    build, test = (
        "unknown" if seconds is None else "ready" if kind == "build" and not seconds else f"about {duration(seconds)}"
        for kind, seconds in (("build", estimate.build), ("test", estimate.test))
    )
    return f"build {build}, tests {test}"


def _total(slots: Sequence[Slot], guesses: Mapping[Slot, Estimate], plan: Plan, builds: Mapping[Slot, str]) -> str:
    of_build = {builds[slot]: guesses[slot].build for slot in slots}
    build, test = (
        sum(each or 0.0 for each in times) for times in (of_build.values(), (guesses[s].test for s in slots))
    )
    unknown = sum(None in (guesses[slot].test, guesses[slot].build) for slot in slots)
    told = f"cells: {len(slots)}, builds: {len(of_build)}"
    known = [f"{duration(seconds)} of {what}" for seconds, what in ((build, "builds"), (test, "tests")) if seconds]
    told += f"; about {' and '.join(known)}{', which overlap' if len(known) > 1 else ''}" if known else ""
    told += f"; without an estimate: {unknown}" if unknown else ""
    return told + (f"; the night has {duration(plan.budget)}" if plan.budget else "")


def _estimates(checked: Checked, resolved: Resolved, known: Mapping[Slot, Seen]) -> dict[Slot, Estimate]:
    keys = {cell.slot: cell.build for cell in resolved.cells}
    builds = cache_dir("builds")
    return estimates(checked, list(keys), known, is_built=lambda slot: (builds / keys[slot]).is_dir())


def play(
    checked: Checked,
    *,
    executor: Callable[[Resolved], Executor],
    resolver: Resolver = resolve,
    progress: Progress,
    clock: Callable[[], float] = steady_time,
) -> tuple[Morning, NightPlace]:
    """Play a night, or the rest of one that was interrupted."""
    place = place_of(checked)
    with place.held():
        return _played(checked, place, executor=executor, resolver=resolver, progress=progress, clock=clock)


def _played(
    checked: Checked,
    place: Place,
    *,
    executor: Callable[[Resolved], Executor],
    resolver: Resolver,
    progress: Progress,
    clock: Callable[[], float],
) -> tuple[Morning, NightPlace]:
    night, earlier = _night(checked, place, progress, clock)
    here, known = place.of(night), seen(earlier)
    wanted = checked.plan.slots()
    done = {slot: ended for slot, ended in here.done().items() if _stays(checked.plan, ended, wanted)}
    slots = {slot: settings for slot, settings in wanted.items() if slot not in done}
    if done:
        progress.say(f"night {night.id} goes on: {len(done)} cells are done, {len(slots)} are not")
    # what it is to do, for the night after it, should it never be finished
    due = {slot: _interrupted(slot, known) for slot in (*slots, *done)}
    night = dataclasses.replace(night, ended=due)
    here.write(night)
    resolved = resolver(checked, slots, progress)
    ended = {slot: _unresolved(slot, error, known) for slot, error in resolved.problems.items()}
    health = Health(place.health(), keep=place.keep_health, say=progress.say, clock=clock)
    guesses = _estimates(checked, resolved, known)
    shift = Shift(
        ordered(resolved.cells, known, guesses),
        executor=executor(resolved),
        place=here,
        health=health,
        seen=known,
        estimates=guesses,
        deadline=_deadline(night, clock()),
        clock=clock,
        say=progress.say,
    )
    shift.work()
    every = {**done, **ended, **shift.ended}
    order = [slot for slot in wanted if slot in every]
    night = dataclasses.replace(
        night, ended={slot: every[slot] for slot in (*order, *(slot for slot in done if slot not in order))}
    )
    return _over(checked, night, here, known, (*checked.left_out, *health.told), clock), here


def _night(
    checked: Checked, place: Place, progress: Progress, clock: Callable[[], float]
) -> tuple[Night, Sequence[Night]]:
    """Return the night to play, and those before it: the last one if it may go on, else a new one."""
    now, plan, nights = clock(), checked.plan, place.nights()
    if nights and nights[0].finished is None:
        last, earlier = nights[0], nights[1:]
        if last.plan != plan.name and not checked.request.new:
            raise UserError(
                f"{place.root}: expected nights of the plan {plan.name!r}, found an interrupted one of {last.plan!r}; "
                "name another directory with --out, or begin another night with --new"
            )
        if not checked.request.new and (last.deadline is None or now < last.deadline):
            return last, earlier
        progress.say(f"night {last.id} was interrupted and is over; what it did not do comes first")
        here = place.of(last)
        take_over_all(last, here)
        last = dataclasses.replace(last, ended={**last.ended, **here.done()})
        nights = (_over(checked, last, here, seen(earlier), (), clock).night, *earlier)
    night = Night(id=new_id(now, nights), plan=plan.name, started=now, budget=plan.budget)
    place.begin(night)
    return night, nights


def _deadline(night: Night, now: float) -> float | None:
    """When nothing is begun any more. A clock that was set back since the night began makes it no longer."""
    return None if night.budget is None else min(night.started, now) + night.budget


def _stays(plan: Plan, ended: Ended, wanted: Mapping[Slot, Settings]) -> bool:
    """Whether a cell that is done stays as it is: not if its input was wrong, for that may have been corrected, or if
    the plan was changed since and asks for something else there."""
    settings = wanted.get(ended.slot)
    if settings is None:  # it is not in the plan any more
        return True
    return ended.state is not State.REFUSED and ended.asked in ("", plan.asked(ended.slot, settings))


def _interrupted(slot: Slot, known: Mapping[Slot, Seen]) -> Ended:
    reason = "the night was interrupted"
    return Ended(slot=slot, state=State.NOT_RUN, reason=reason, owed=known.get(slot, Seen()).owed + 1)


def _unresolved(slot: Slot, error: HarnessError, known: Mapping[Slot, Seen]) -> Ended:
    state = State.REFUSED if isinstance(error, UserError) else State.NO_RESULT
    owed = known.get(slot, Seen()).owed + 1
    return Ended(slot=slot, state=state, reason=error.message, owed=0 if state.is_done else owed)


def _over(
    checked: Checked,
    night: Night,
    here: NightPlace,
    known: Mapping[Slot, Seen],
    boards: Sequence[str],
    clock: Callable[[], float],
) -> Morning:
    """Write the pages, then that the night is finished: killed between the two, it makes its pages again."""
    finished = dataclasses.replace(night, finished=clock())
    made = morning(finished, here, seen=known, boards=boards, history_path=checked.request.history)
    here.write(finished)
    return made


def play_here(checked: Checked, progress: Progress) -> tuple[Morning, NightPlace]:
    """Play a night on this machine."""
    request = checked.request
    shared: list[object] = ["--boards", request.boards_file.absolute()] if request.boards_file else []
    shared += ["--history", request.history.absolute()] if request.history else []
    shared += [word for path in request.expectations for word in ("--expectations", path.absolute())]
    with SideRuns(shared) as side_runs:

        def here(resolved: Resolved) -> LocalExecutor:
            return LocalExecutor(resolved.recipes, inventory=checked.inventory, side_runs=side_runs, progress=progress)

        return play(checked, executor=here, progress=progress)
