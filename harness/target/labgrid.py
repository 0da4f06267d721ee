"""Places of a labgrid coordinator: the one door to labgrid.

It is a process beside the harness (`python -m harness.target.labgrid`), which place.py starts and talks to in lines of
JSON: so gRPC's threads stay out of ours, whatever hangs can be ended, and whoever holds a place outlives a harness that
is killed, to release it.

    look      is the place there and free, and what does it have?
    keep      acquire it, wait until it is given back or the harness is gone, release it
    switch    MODEL HOST INDEX on|off: power, with labgrid's driver for that model
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from harness.errors import HarnessError, InfraError, UserError

from .placerecord import PlaceRecord, when

_CONNECT = 3.0  # seconds for a TCP connection to the coordinator
_ANSWER = 8.0  # seconds for what it answers from memory
_ACQUIRE = 30.0  # seconds; the coordinator gives each exporter ten
_READY = 10.0  # seconds until an exporter has started its ser2net
_RELEASE_AGAIN = 5.0  # seconds between two tries
_RELEASE_TRIES = 60
_PORT = 20408  # labgrid's own default
FREE, ACQUIRED, OURS = "free", "acquired", "ours"

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for. `board`: whose place it is, for messages; `serial`: the name of the serial port that has to
    be ready, empty for any; `record`: a file of ours that says which harness has the place; `purpose`: what for."""

    board: str
    coordinator: str
    place: str
    serial: str
    record: str
    purpose: str

    @property
    def told(self) -> str:
        return f"{self.board}: labgrid place {self.place}"


@contextlib.asynccontextmanager
async def _session(wanted: Wanted) -> AsyncIterator[Any]:
    """A session with the coordinator, its places and resources known. Raises InfraError where it can't be had."""
    client = _library(wanted.board)
    address = _reached(wanted)
    session = client.ClientSession(address, asyncio.get_running_loop())
    try:
        try:
            await asyncio.wait_for(session.start(), _ANSWER)
        except (TimeoutError, client.ServerError):
            raise InfraError(
                f"{wanted.board}.labgrid.coordinator: expected a labgrid coordinator at {address}, what answers there "
                "is none, or one of a version before 25.0; see its address"
            ) from None
        yield session
    finally:
        for end in (session.stop, session.close):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(end(), 2.0)


def _library(board: str) -> Any:
    # imported here because it is an optional extra
    try:
        from labgrid.remote import client
    except ImportError as error:
        raise InfraError(
            f"{board}.labgrid: expected the Python package labgrid, can't import it ({error}); install it: "
            f"{sys.executable} -m pip install 'labgrid>=25.0', or the harness with its extra: pip install '.[labgrid]'"
        ) from None
    return client


def _reached(wanted: Wanted) -> str:
    """The coordinator's address, with port, once something answers there: gRPC itself says less, and later."""
    parts = urlsplit(f"//{wanted.coordinator}")
    host, port = parts.hostname or "", parts.port or _PORT
    try:
        socket.create_connection((host, port), timeout=_CONNECT).close()
    except OSError as error:
        raise InfraError(
            f"{wanted.board}.labgrid.coordinator: expected a labgrid coordinator at {host}:{port}, can't connect: "
            f"{error.strerror or error}; see whether labgrid-coordinator runs there"
        ) from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _place(session: Any, wanted: Wanted) -> Any:
    if wanted.place not in session.places:
        known = ", ".join(sorted(session.places)) or "it has none"
        raise UserError(
            f"boards.yaml: {wanted.board}.labgrid.place: expected a place of the coordinator {wanted.coordinator} "
            f"({known}), found {wanted.place!r}"
        )
    return session.places[wanted.place]


def _myself(session: Any) -> str:
    return f"{session.gethostname()}/{session.getuser()}"


async def _held_by_us(session: Any, place: Any, wanted: Wanted) -> bool:
    """Whether we have the place already; InfraError where somebody else has, or has reserved it."""
    me = _myself(session)
    if not place.acquired:
        if place.reservation:
            await _reserved_for_us(session, place, wanted)
        return False
    if place.acquired == me or me in place.allowed:
        return True
    raise InfraError(
        f"{wanted.told}: expected it to be free, {place.acquired} has it (last change {when(place.changed)}); wait "
        f"for its release, or ask for: labgrid-client -p {place.name} allow {me}"
    )


async def _reserved_for_us(session: Any, place: Any, wanted: Wanted) -> None:
    from labgrid.remote.generated.labgrid_coordinator_pb2 import GetReservationsRequest

    answer = await asyncio.wait_for(session.stub.GetReservations(GetReservationsRequest()), _ANSWER)
    for each in answer.reservations:
        if each.token == place.reservation and each.owner != _myself(session):
            raise InfraError(
                f"{wanted.told}: expected it to be free, {each.owner} has reserved it (since {when(each.created)}); "
                "wait until that is over, see labgrid-client reservations"
            )


def _resources(session: Any, place: Any) -> list[tuple[str, Any]]:
    """What belongs to the place, each with its name there."""
    found = []
    for exporter, groups in sorted(session.resources.items()):
        for group, entries in sorted(groups.items()):
            for own_name, entry in sorted(entries.items()):
                match = place.getmatch((exporter, group, entry.data.get("cls"), own_name)) if entry.data else None
                if match:
                    found.append((match.rename or own_name, entry))
    return found


def _described(session: Any, place: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "cls": entry.cls, "params": entry.args, "extra": entry.extra, "avail": entry.avail}
        for name, entry in _resources(session, place)
    ]


async def _look(wanted: Wanted) -> dict[str, Any]:
    async with _session(wanted) as session:
        place = _place(session, wanted)
        held = OURS if await _held_by_us(session, place, wanted) else FREE
        return {"held": held, "resources": _described(session, place)}


async def _acquire(wanted: Wanted, record: PlaceRecord) -> dict[str, Any]:
    async with _session(wanted) as session:
        place = _place(session, wanted)
        held = ACQUIRED
        if await _held_by_us(session, place, wanted):
            # ours by a harness that could not release it: one whose whole machine went down, say
            if place.acquired != _myself(session) or record.changed != place.changed:
                held = OURS
        else:
            await _acquire_free(session, place, wanted)
        try:
            if held == ACQUIRED:
                record.acquired(place.changed)
            await _until_ready(session, place, wanted)
            return {"held": held, "resources": _described(session, place)}
        except BaseException:
            if held == ACQUIRED:
                await _release_now(session, wanted)
            raise


async def _acquire_free(session: Any, place: Any, wanted: Wanted) -> None:
    from grpc.aio import AioRpcError
    from labgrid.remote.generated.labgrid_coordinator_pb2 import AcquirePlaceRequest

    try:
        session.check_matches(place)
    except _library(wanted.board).UserError as error:
        raise InfraError(
            f"{wanted.told}: expected all that it is made of, {error.args[0]}; see whether labgrid-exporter runs there"
        ) from None
    try:
        await asyncio.wait_for(session.stub.AcquirePlace(AcquirePlaceRequest(placename=place.name)), _ACQUIRE)
    except AioRpcError as error:
        used = [
            f"{name} ({entry.cls}) is acquired by {entry.acquired}"
            for name, entry in _resources(session, place)
            if entry.acquired
        ]
        raise InfraError(
            f"{wanted.told}: the coordinator refuses it: {error.details()}; see labgrid-client -p {place.name} show",
            details=used,
        ) from None
    except TimeoutError:
        await _release_now(session, wanted)  # it may come to have it yet
        raise InfraError(
            f"{wanted.told}: expected it to be acquired within {_ACQUIRE:.0f} s, it was not; see its exporter"
        ) from None
    await asyncio.wait_for(session.sync_with_coordinator(), _ANSWER)


async def _until_ready(session: Any, place: Any, wanted: Wanted) -> None:
    """Wait for serial ports, whose exporter starts a server for them only now. place.py tells of a missing one."""
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline:
        serial = [entry for name, entry in _resources(session, place) if entry.cls == "NetworkSerialPort"
                  and wanted.serial in ("", name)]  # fmt: skip
        if all(entry.avail and entry.args.get("port") for entry in serial):
            return
        await asyncio.sleep(0.1)  # the session takes the coordinator's news meanwhile, but tells nobody


async def _release_now(session: Any, wanted: Wanted) -> None:
    """Release the place where it is ours."""
    from labgrid.remote.generated.labgrid_coordinator_pb2 import ReleasePlaceRequest

    request = ReleasePlaceRequest(placename=wanted.place, fromuser=_myself(session))
    await asyncio.wait_for(session.stub.ReleasePlace(request), _ACQUIRE)


async def _release(wanted: Wanted) -> dict[str, Any]:
    async with _session(wanted) as session:
        await _release_now(session, wanted)
        return {"held": FREE}


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
        sys.stdin.readline()  # until we are told, or nobody is there any more who could: harness and guard are gone
        if taken["held"] == ACQUIRED:
            _give_back(wanted)
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
            time.sleep(_RELEASE_AGAIN)
        else:
            return


def _switch(model: str, host: str, index: str, state: str) -> None:
    from labgrid import Target
    from labgrid.driver import NetworkPowerDriver
    from labgrid.resource import NetworkPowerPort

    target = Target("harness")
    NetworkPowerPort(target, name=None, model=model, host=host, index=index)
    driver = NetworkPowerDriver(target, name=None)
    target.activate(driver)
    (driver.on if state == "on" else driver.off)()


def main(words: list[str]) -> int:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):  # a lab stands in our own network
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    if words[0] == "switch":
        try:
            _switch(*words[1:])
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
