"""The record of a search for the change that made a test fail, as JSON: what `harness bisect` continues from."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.model.bisect import Progressed, Trial
from harness.model.comparison import Tally
from harness.parse.fields import Fields

VERSION = 1


def progress_to_json(search: Progressed) -> dict[str, Any]:
    """Return the JSON object of a search."""
    return {
        "version": VERSION,
        "identity": search.identity,
        "failure": search.failure,
        "trials": {str(state): dataclasses.asdict(trial) for state, trial in search.trials.items()},
        "confirmed": {str(state): dataclasses.asdict(tally) for state, tally in search.confirmed.items()},
        "reverted": dataclasses.asdict(search.reverted) if search.reverted else None,
    }


def progress_from_json(data: dict[str, Any]) -> Progressed:
    """Return the search in a JSON object. Raises ValueError for anything that `progress_to_json` does not write."""
    if data.get("version") != VERSION:
        raise ValueError(f"version: expected {VERSION}, found {data.get('version')!r}")
    fields = Fields(data)
    trials, confirmed, reverted = fields.take("trials"), fields.take("confirmed"), fields.take("reverted")
    search = Progressed(
        identity=fields.text("identity"),
        failure=fields.text("failure"),
        trials={state: _trial(each) for state, each in _numbered(trials, "trials").items()},
        confirmed={state: _tally(each) for state, each in _numbered(confirmed, "confirmed").items()},
        reverted=None if reverted is None else _trial(reverted),
    )
    if fields.wrong:
        raise ValueError(fields.wrong[0])
    return search


def _numbered(value: object, name: str) -> dict[int, object]:
    if not isinstance(value, dict) or not all(key.isdecimal() and len(key) < 10 for key in value):
        raise ValueError(f"{name}: expected an object whose names are numbers, found {value!r:.60}")
    return {int(key): each for key, each in value.items()}


def _trial(value: object) -> Trial:
    fields = Fields(value)
    tally, is_bad = fields.take("tally"), fields.take("is_bad")
    if not isinstance(is_bad, bool | None):
        raise ValueError(f"is_bad: expected true, false or null, found {is_bad!r:.60}")
    trial = Trial(
        tally=_tally(tally),
        other=fields.count("other"),
        others=fields.text("others"),
        skipped=fields.text("skipped"),
        is_bad=is_bad,
        binaries=fields.text("binaries"),
        build=fields.text("build"),
        seconds=fields.seconds("seconds"),
        repeating=fields.seconds("repeating"),
    )
    if fields.wrong:
        raise ValueError(fields.wrong[0])
    return trial


def _tally(value: object) -> Tally:
    fields = Fields(value)
    tally = Tally(passes=fields.count("passes"), failures=fields.count("failures"))
    if fields.wrong or tally.passes < 0 or tally.failures < 0:
        raise ValueError(f"expected passes and failures, found {value!r:.60}")
    return tally
