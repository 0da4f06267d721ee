"""Places of a labgrid coordinator: acquire, keep and release them.

This runs as a separate process (`python -m harness.target.holding.labgrid`), which place.py starts and talks to in
lines of JSON. So gRPC's threads stay out of the harness, a hanging call can be killed, and the process that holds a
place outlives a killed harness in order to release it.

    look      does the place exist, is it free, and which resources does it have?
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
    absent,
    acquire_free,
    connected,
    described,
    held_by_us,
    line_of,
    myself,
    place_of,
    release_now,
    require_all,
    switch,
    until_ready,
)
from harness.target.line.placerecord import PlaceRecord, when

_GLANCE_S = 0.5  # between two checks of what the coordinator has reported
_MISSING_S = 2.0  # an exporter that is restarted at once is not worth a word
_RECONNECT_S = 1.0  # between two attempts to reach a coordinator that went away
_RELEASE_AGAIN_S = 5.0  # between two attempts to release
_RELEASE_TRIES = 60
FREE, ACQUIRED, OURS = "free", "acquired", "ours"

Result = TypeVar("Result")


async def _look(wanted: Wanted) -> dict[str, Any]:
    async with connected(wanted) as session:
        place = place_of(session, wanted)
        held = OURS if await held_by_us(session, place, wanted) else FREE
        if held == FREE:
            require_all(session, place, wanted)
        return {"held": held, "resources": described(session, place), "absent": absent(session, place)}


async def _acquire(wanted: Wanted, record: PlaceRecord) -> dict[str, Any]:
    async with connected(wanted) as session:
        place = place_of(session, wanted)
        held = ACQUIRED
        if await held_by_us(session, place, wanted):
            # acquired by an earlier harness that could not release it, because its whole host went down, for example
            if place.acquired != myself(session) or record.changed != place.changed:
                held = OURS
        else:
            await acquire_free(session, place, wanted)
        try:
            if held == ACQUIRED:
                record.acquired(place.changed, line=None)  # recorded before anything else can go wrong
            await until_ready(session, place, wanted)
            if held == ACQUIRED:
                record.acquired(place.changed, line=line_of(session, place, wanted))
            return {"held": held, "resources": described(session, place), "absent": absent(session, place)}
        except BaseException:
            if held == ACQUIRED:
                await release_now(session, wanted)
            raise


async def _release(wanted: Wanted) -> None:
    async with connected(wanted) as session:
        if session.places[wanted.place].acquired != myself(session):
            _news(f"{wanted.label}: there was nothing to release: {_no_longer_ours(session, wanted)}")
            return
        await release_now(session, wanted)


def _no_longer_ours(session: Any, wanted: Wanted) -> str:
    """Describe the state of a place that was ours."""
    place = session.places.get(wanted.place)
    owner = place.acquired if place else ""
    return (
        f"{owner} has it now (since {when(place.changed)}) and may use the board at the same time as this run"
        if owner
        else "it is free now, and not ours any more"
    )


async def _watch(wanted: Wanted, record: PlaceRecord, held: str) -> str:
    """Keep the place ours until standard input has a request to release it, or is closed because harness and guard are
    gone. Changes are reported as news. Returns how it is held at the end (see ACQUIRED), empty if it is not ours.

    A restarted coordinator has forgotten all acquisitions; then the place is acquired again."""
    requested, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), requested.set)
    is_there = True
    while not requested.is_set():
        why = ""
        try:
            async with connected(wanted) as session:
                if held:
                    held = await _restored(session, wanted, record, held, was_away=not is_there)
                is_there = True
                held = await _stays_ours(session, wanted, held, requested)
        except Exception as error:  # labgrid and gRPC raise anything while it is away or still starting
            why = f" ({type(error).__name__}: {_said(error)})"
        if requested.is_set():
            break
        if is_there:
            is_there = False
            if held == ACQUIRED:
                record.lost_sight()
            _news(f"{wanted.label}: lost the coordinator {wanted.coordinator}{why}; the run continues without it, as "
                  "long as the exporter keeps the serial line up")  # fmt: skip
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(requested.wait(), _RECONNECT_S)
    loop.remove_reader(sys.stdin.fileno())
    return held


async def _stays_ours(session: Any, wanted: Wanted, held: str, requested: asyncio.Event) -> str:
    """Wait for a request to release the place (`requested`), or for the end of the session; return how the place is
    held."""
    me = myself(session)
    exporters = _Exporters(wanted)
    while not requested.is_set() and not session.stopping.is_set():
        place = session.places.get(wanted.place)
        if held and place:
            exporters.look(absent(session, place))
        if held and not (place and (place.acquired == me or me in place.allowed)):
            _news(f"{wanted.label}: somebody released it during this run: {_no_longer_ours(session, wanted)}; the run "
                  "goes on")  # fmt: skip
            held = ""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(requested.wait(), _GLANCE_S)
    return held


class _Exporters:
    """Reports that something of a place is gone because its exporter is, and that it is back."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._since = float("inf")  # when it was first missing (monotonic)
        self._told = False

    def look(self, missing: list[str]) -> None:
        """Take what is missing now."""
        now = time.monotonic()
        if not missing:
            if self._told:
                _news(f"{self._wanted.label}: all that it is made of is back")
            self._since, self._told = float("inf"), False
            return
        self._since = min(self._since, now)
        if not self._told and now - self._since >= _MISSING_S:
            self._told = True
            _news(f"{self._wanted.label}: the coordinator no longer has {'; '.join(missing)}; the board's line and "
                  "switch may be gone with it, see whether labgrid-exporter runs there")  # fmt: skip


async def _restored(session: Any, wanted: Wanted, record: PlaceRecord, held: str, *, was_away: bool) -> str:
    """Restore our hold on the place in a new session and return how it is held. Raises InfraError if that is not
    possible yet."""
    place, me = place_of(session, wanted), myself(session)
    back = f"{wanted.label}: the coordinator is back"
    if place.acquired == me or me in place.allowed:
        if held == ACQUIRED:
            record.acquired(place.changed, line=line_of(session, place, wanted))
        if was_away:
            _news(f"{back}, and the place is still ours")
        return held
    if place.acquired or held != ACQUIRED:
        _news(f"{back} and forgot that the place was ours: {_no_longer_ours(session, wanted)}; the run continues")
        return ""
    await acquire_free(session, place, wanted)
    record.acquired(place.changed, line=None)
    await until_ready(session, place, wanted)
    record.acquired(place.changed, line=line_of(session, place, wanted))
    _news(f"{back} and forgot that the place was ours; it is acquired again")
    return held


def _done(work: Coroutine[Any, Any, Result], wanted: Wanted) -> Result:
    """Run `work` and return its result. Any exception of labgrid and gRPC becomes an InfraError."""
    try:
        return asyncio.run(work)
    except HarnessError:
        raise
    except Exception as error:
        raise InfraError(
            f"{wanted.label}: labgrid: {type(error).__name__}: {_said(error)}; see whether labgrid-client -x "
            f"{wanted.coordinator} -p {wanted.place} show works"
        ) from None


def _said(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


def _answer(content: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the reader is gone
        print(json.dumps(content), flush=True)


def _news(text: str) -> None:
    _answer({"news": text})


def _as_answer(error: HarnessError) -> dict[str, Any]:
    kind = "user" if isinstance(error, UserError) else "infra"
    return {"error": kind, "message": error.message, "details": error.details}


def _record(wanted: Wanted) -> PlaceRecord:
    return PlaceRecord(Path(wanted.record), told=wanted.label, purpose=wanted.purpose)


def _keep(wanted: Wanted) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # still ours until the pipe is closed
        signal.signal(number, signal.SIG_IGN)
    record = _record(wanted)
    with record.held():
        taken = _done(_acquire(wanted, record), wanted)
        _answer(taken)
        if _done(_watch(wanted, record, taken["held"]), wanted) == ACQUIRED:
            _release_persistently(wanted)
        if taken["held"] == ACQUIRED:
            record.released()
        _answer({"held": FREE})


def _release_persistently(wanted: Wanted) -> None:
    """Release the place, retrying for some minutes if the coordinator is away."""
    for attempt in range(_RELEASE_TRIES):
        try:
            _done(_release(wanted), wanted)
        except InfraError as error:
            if attempt == 0:
                _answer(_as_answer(error))
            if attempt == _RELEASE_TRIES - 1:
                raise
            time.sleep(_RELEASE_AGAIN_S)
        else:
            return


def main(words: list[str]) -> int:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):  # a lab is in the local network
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    if words[0] == "switch":
        try:
            switch(*words[1:])
        except Exception as error:  # drivers raise anything; the caller shows the last line
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
        _answer(_as_answer(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
