"""The records of nights: what became of a cell, a night as a whole, and which boards can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.model.night import AXES, BoardHealth, Ended, Night, Slot, State
from harness.parse.fields import Fields, filled, json_object

VERSION = 1
_LATEST_S = 1e11  # the year 5138
_STATES = {state.value for state in State}


def ended_to_json(ended: Ended) -> str:
    return json.dumps({"version": VERSION, **_ended_to_data(ended)}, indent=1)


def ended_from_json(text: str | bytes) -> Ended:
    """Raises ValueError for anything but the record of a cell."""
    ended = _ended(Fields(json_object(text)))
    if ended is None:
        raise ValueError("expected the record of a cell")
    return ended


def night_to_json(night: Night) -> str:
    told = {
        "version": VERSION,
        **filled(id=night.id, plan=night.plan, budget=night.budget, finished=night.finished),
        "started": night.started,
        "cells": [_ended_to_data(ended) for ended in night.ended.values()],
    }
    return json.dumps(told, separators=(",", ":"))  # there may be a hundred thousand cells


def night_from_json(text: str | bytes) -> Night:
    """Raises ValueError for anything but a JSON object. What can't be read of it is missing."""
    fields = Fields(json_object(text))
    ended = [end for each in fields.inners("cells") if (end := _ended(each))]
    return Night(
        id=fields.text("id"),
        plan=fields.text("plan"),
        started=_when(fields, "started") or 0.0,
        budget=fields.number("budget"),
        finished=_when(fields, "finished"),
        ended={end.slot: end for end in ended},
    )


def health_to_json(boards: Mapping[str, BoardHealth]) -> str:
    told = {name: filled(failures=each.failures, since=each.since, reason=each.reason) for name, each in boards.items()}
    return json.dumps({"version": VERSION, "boards": told}, indent=1)


def health_from_json(text: str | bytes) -> dict[str, BoardHealth]:
    """Raises ValueError for anything but a JSON object."""
    boards = Fields(json_object(text)).inner("boards")
    return {name: _health(boards.inner(name)) for name in boards.left}


def _when(fields: Fields, key: str) -> float | None:
    """Seconds since the epoch that a calendar has."""
    when = fields.number(key)
    return when if when is not None and 0 <= when < _LATEST_S else None


def _health(fields: Fields) -> BoardHealth:
    return BoardHealth(failures=fields.count("failures"), since=_when(fields, "since"), reason=fields.text("reason"))


def _ended_to_data(ended: Ended) -> dict[str, Any]:
    slot = ended.slot
    return {
        "slot": {**{axis: getattr(slot, axis) for axis in AXES}, "repetition": slot.repetition},
        "state": ended.state.value,
        "code": ended.code,
        "seconds": ended.seconds,
        **filled(
            identity=ended.identity,
            asked=ended.asked,
            board=ended.board,
            build_seconds=ended.build_seconds,
            run=ended.run,
            reason=ended.reason,
            attempts=list(ended.attempts),
            owed=ended.owed,
        ),
    }


def _ended(fields: Fields) -> Ended | None:
    slot, state = fields.inner("slot"), fields.text("state")
    names = {axis: slot.text(axis) for axis in AXES}
    if state not in _STATES or not all(names.values()):
        return None
    return Ended(
        slot=Slot(
            kernel=names["kernel"],
            toolchain=names["toolchain"],
            configuration=names["configuration"],
            board=names["board"],
            suites=names["suites"],
            repetition=slot.count("repetition", 1),
        ),
        state=State(state),
        identity=fields.text("identity"),
        asked=fields.text("asked"),
        code=fields.count("code"),
        board=fields.text("board"),
        seconds=fields.seconds("seconds"),
        build_seconds=fields.seconds("build_seconds") if "build_seconds" in fields else None,
        run=fields.text("run"),
        reason=fields.text("reason"),
        attempts=fields.texts("attempts"),
        owed=fields.count("owed"),
    )
