"""What a search for the change that made a test fail says: for people, for programs, and for git bisect."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from harness.model.bisect import Answer, Found, Progressed, Range, Row, Trial
from harness.report.firstbad import NoSingleCulprit, Search
from harness.report.text import one_line

_SETTLED = 0.02  # doubt below which git bisect is told that a commit is good or bad
_NAME = 60  # characters of a state's name in the table


def answer_text(answer: Answer) -> list[str]:
    """Return the answer as lines."""
    return list(_lines(answer))


def _lines(answer: Answer) -> Iterator[str]:
    if answer.found is Found.CULPRIT:
        yield f"{answer.culprits[0]} made {answer.test} fail: {_percent(answer.probability)} sure"
    elif answer.found is Found.SOME:
        yield f"one of these {len(answer.culprits)} made {answer.test} fail, {_percent(answer.probability)} sure:"
        yield from (f"  {change}" for change in answer.culprits)
        yield "what lies between them can't be tested"
    elif answer.found is Found.NOT_SURE:
        yield f"nothing told apart what made {answer.test} fail; the likeliest, {_percent(answer.probability)}:"
        yield from (f"  {change}" for change in answer.culprits[:10])
    elif answer.found is Found.NOT_SEEN:
        yield f"{answer.test} did not fail at the bad end, so there is nothing to search for; see the table"
    elif answer.found is Found.NO_SINGLE:
        yield f"no single change explains where {answer.test} fails; see the table, and search a part of the range"
    else:
        yield f"{answer.test} fails at the good end about as often as at the bad one; look for an older good one"
    if answer.failure:
        yield f"failure: {one_line(answer.failure, 110)}"
    if answer.found in (Found.CULPRIT, Found.SOME):
        yield f"it fails {_percent(answer.bad)} of the time with it, {_percent(answer.good)} without"
    yield from (f"tried again: {name}: failed {tally}" for name, tally in answer.confirmed)
    if answer.reverted:
        yield f"the bad end without it: failed {answer.reverted.tally}{_others(answer.reverted)}"
    elif answer.not_reverted:
        yield f"not tried without it at the bad end: {one_line(answer.not_reverted, 100)}"
    yield ""
    yield f"{'failed':>10}  {'is bad':>7}  state"
    yield from (_row(row) for row in answer.rows)
    if answer.command:
        yield ""
        yield f"again: {answer.command}"


def _row(row: Row) -> str:
    trial, name = row.trial, one_line(row.name, _NAME)
    if trial.skipped:
        return f"{'-':>10}  {'skipped':>7}  {name}: {one_line(trial.skipped, 100)}"
    count = "build" if trial.is_bad is not None else str(trial.tally)
    return f"{count:>10}  {_percent(row.probability):>7}  {name}{_others(trial)}"


def _others(trial: Trial) -> str:
    return f"; in another way {trial.other}, first: {one_line(trial.others, 80)}" if trial.other else ""


def _percent(probability: float) -> str:
    percent = 100 * probability
    if 0 < percent < 0.05 or 99.95 < percent < 100:
        return "< 0.1 %" if percent < 50 else "> 99.9 %"
    return f"{percent:.1f} %"


def answer_as_json(answer: Answer) -> str:
    """Return the answer as a JSON document."""
    told = dataclasses.asdict(answer)
    told["found"] = answer.found.name.lower().replace("_", " ")
    return json.dumps(told, indent=1) + "\n"


def settled(range_: Range, search: Search, progress: Progressed) -> tuple[dict[int, str], dict[int, str]]:
    """Return git bisect's word for each state that is settled, and what led to it."""
    words: dict[int, str] = {}
    notes: dict[int, str] = {}
    try:
        belief = search.belief
    except NoSingleCulprit:
        return words, notes
    for state, trial in progress.trials.items():
        bad = belief.is_bad(range_.states[state])
        is_decided = min(bad, 1 - bad) <= _SETTLED
        if trial.skipped:
            words[state], notes[state] = "skip", trial.skipped
        elif is_decided and (trial.tally.runs or trial.is_bad is not None):
            words[state] = "bad" if bad > 0.5 else "good"
            notes[state] = f"failed {trial.tally}, {_percent(bad)} bad"
    return words, notes
