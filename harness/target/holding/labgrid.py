"""Places of a labgrid coordinator: had, kept ours, given back.

It is a process beside the harness (`python -m harness.target.holding.labgrid`), which place.py starts and talks to in
lines of JSON: so gRPC's threads stay out of ours, whatever hangs can be ended, and whoever holds a place outlives a
harness that is killed, to release it.

    look      is the place there and free, and what does it have?
    keep      acquire it, see that it stays ours until it is given back or the harness is gone, release it
    switch    MODEL HOST INDEX on|off: power, with labgrid's driver for that model
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, InfraError, UserError
from harness.target.holding.labgridclient import (
    Wanted,
    acquire_free,
    connected,
    described,
    held_by_us,
    line_of,
    myself,
    place_of,
    release_now,
    switch,
    until_ready,
)
from harness.target.line.placerecord import PlaceRecord, when

_GLANCE_S = 0.5  # between two checks of what the coordinator has reported
_RECONNECT_S = 1.0  # between two attempts to reach a coordinator that went away
_RELEASE_AGAIN_S = 5.0  # between two attempts to release
_RELEASE_TRIES = 60
FREE, ACQUIRED, OURS = "free", "acquired", "ours"

Result = TypeVar("Result")


async def _look(wanted: Wanted) -> dict[str, Any]:
    async with connected(wanted) as session:
        place = place_of(session, wanted)
        held = OURS if await held_by_us(session, place, wanted) else FREE
        return {"held": held, "resources": described(session, place)}


async def _acquire(wanted: Wanted, record: PlaceRecord) -> dict[str, Any]:
    async with connected(wanted) as session:
        place = place_of(session, wanted)
        held = ACQUIRED
        if await held_by_us(session, place, wanted):
            # ours by a harness that could not release it: one whose whole machine went down, say
            if place.acquired != myself(session) or record.changed != place.changed:
                held = OURS
        else:
            await acquire_free(session, place, wanted)
        try:
            if held == ACQUIRED:
                record.acquired(place.changed, line=None)  # known as ours before anything else can go wrong
            await until_ready(session, place, wanted)
            if held == ACQUIRED:
                record.acquired(place.changed, line=line_of(session, place, wanted))
            return {"held": held, "resources": described(session, place)}
        except BaseException:
            if held == ACQUIRED:
                await release_now(session, wanted)
            raise


async def _release(wanted: Wanted) -> None:
    async with connected(wanted) as session:
        if session.places[wanted.place].acquired != myself(session):
            _news(f"{wanted.told}: there was nothing to release: {_no_longer_ours(session, wanted)}")
            return
        await release_now(session, wanted)


def _no_longer_ours(session: Any, wanted: Wanted) -> str:
    """What there is to tell of a place that was ours."""
    place = session.places.get(wanted.place)
    owner = place.acquired if place else ""
    return (
        f"{owner} has it now (since {when(place.changed)}), and may use the board at the same time as we"
        if owner
        else "it is not ours any more, and nobody has it"
    )


async def _watch(wanted: Wanted, record: PlaceRecord, held: str) -> str:
    """See that the place stays ours until we are told to release it, or nobody is there any more who could: harness and
    guard are gone. What happens to it is told as news. Returns as what it is ours then, empty where it is not.

    A coordinator that is restarted has forgotten who has what; then the place is acquired again."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), told.set)
    is_there = True
    while not told.is_set():
        with contextlib.suppress(Exception):  # whatever labgrid and gRPC raise: it is not there, or not yet what it was
            async with connected(wanted) as session:
                if held:
                    held = await _had_still(session, wanted, record, held, was_away=not is_there)
                is_there = True
                held = await _stays_ours(session, wanted, held, told)
        if told.is_set():
            break
        if is_there:
            is_there = False
            if held == ACQUIRED:
                record.lost_sight()
            _news(f"{wanted.told}: the coordinator {wanted.coordinator} went away; the run goes on without it, as long "
                  "as the exporter keeps the serial line up")  # fmt: skip
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), _RECONNECT_S)
    loop.remove_reader(sys.stdin.fileno())
    return held


async def _stays_ours(session: Any, wanted: Wanted, held: str, told: asyncio.Event) -> str:
    """Wait until we are told, or the session ends."""
    me = myself(session)
    while not told.is_set() and not session.stopping.is_set():
        place = session.places.get(wanted.place)
        if held and not (place and (place.acquired == me or me in place.allowed)):
            _news(f"{wanted.told}: somebody released it while we use it: {_no_longer_ours(session, wanted)}; the run "
                  "goes on")  # fmt: skip
            held = ""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), _GLANCE_S)
    return held


async def _had_still(session: Any, wanted: Wanted, record: PlaceRecord, held: str, *, was_away: bool) -> str:
    """In a new session, have the place as before; as what. Raises InfraError where that can't be yet."""
    place, me = place_of(session, wanted), myself(session)
    back = f"{wanted.told}: the coordinator is back"
    if place.acquired == me or me in place.allowed:
        if held == ACQUIRED:
            record.acquired(place.changed, line=line_of(session, place, wanted))
        if was_away:
            _news(f"{back}, and the place still ours")
        return held
    if place.acquired or held != ACQUIRED:
        _news(f"{back} and forgot that the place was ours: {_no_longer_ours(session, wanted)}; the run goes on")
        return ""
    await acquire_free(session, place, wanted)
    record.acquired(place.changed, line=None)
    await until_ready(session, place, wanted)
    record.acquired(place.changed, line=line_of(session, place, wanted))
    _news(f"{back} and forgot that the place was ours; it is acquired again")
    return held


def _done(work: Coroutine[Any, Any, Result], wanted: Wanted) -> Result:
    """`work`, done. Whatever labgrid and gRPC may raise becomes an InfraError."""
    try:
        return asyncio.run(work)
    except HarnessError:
        raise
    except Exception as error:
        details = getattr(error, "details", None)
        said = details() if callable(details) else str(error)
        raise InfraError(
            f"{wanted.told}: labgrid: {type(error).__name__}: {said}; see whether labgrid-client -x "
            f"{wanted.coordinator} -p {wanted.place} show works"
        ) from None


def _answer(content: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody there any more who reads it
        print(json.dumps(content), flush=True)


def _news(text: str) -> None:
    _answer({"news": text})


def _told(error: HarnessError) -> dict[str, Any]:
    kind = "user" if isinstance(error, UserError) else "infra"
    return {"error": kind, "message": error.message, "details": error.details}


def _record(wanted: Wanted) -> PlaceRecord:
    return PlaceRecord(Path(wanted.record), told=wanted.told, purpose=wanted.purpose)


def _keep(wanted: Wanted) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the place is still ours; the pipe's end tells
        signal.signal(number, signal.SIG_IGN)
    record = _record(wanted)
    with record.held():
        taken = _done(_acquire(wanted, record), wanted)
        _answer(taken)
        if _done(_watch(wanted, record, taken["held"]), wanted) == ACQUIRED:
            _give_back(wanted)
        if taken["held"] == ACQUIRED:
            record.released()
        _answer({"held": FREE})


def _give_back(wanted: Wanted) -> None:
    """Release, also where the coordinator is away for some minutes."""
    for attempt in range(_RELEASE_TRIES):
        try:
            _done(_release(wanted), wanted)
        except InfraError as error:
            if attempt == 0:
                _answer(_told(error))
            if attempt == _RELEASE_TRIES - 1:
                raise
            time.sleep(_RELEASE_AGAIN_S)
        else:
            return


def main(words: list[str]) -> int:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):  # a lab stands in our own network
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    if words[0] == "switch":
        try:
            switch(*words[1:])
        except Exception as error:  # the drivers raise what they like; whoever called us shows the last line
            print(f"labgrid's power driver {words[1]}: {type(error).__name__}: {error}")
            return 1
        return 0
    wanted = Wanted(**json.loads(sys.stdin.readline()))
    try:
        if words[0] == "keep":
            _keep(wanted)
        else:
            with _record(wanted).held():
                answer = _done(_look(wanted), wanted)
            _answer(answer)
    except HarnessError as error:
        _answer(_told(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
