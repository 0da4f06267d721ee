"""labgrid's client and drivers: the only module that imports labgrid, used in labgrid.py's own process."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness.errors import InfraError, UserError
from harness.target.line.placerecord import when

_CONNECT_S = 3.0  # for a TCP connection to the coordinator
_ANSWER_S = 8.0  # for requests that the coordinator answers from memory
_ACQUIRE_S = 30.0  # the coordinator allows each exporter ten
_READY_S = 10.0  # for an exporter to start its ser2net
_PORT = 20408  # labgrid's own default


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A requested place. `board`: the board's name, for messages; `serial`: the name of the serial port that has to be
    ready, empty for any; `record`: our file that says which harness holds the place; `purpose`: what for."""

    board: str
    coordinator: str
    place: str
    serial: str
    record: str
    purpose: str

    @property
    def label(self) -> str:
        return f"{self.board}: labgrid place {self.place}"


@contextlib.asynccontextmanager
async def connected(wanted: Wanted) -> AsyncIterator[Any]:
    """Open a session with the coordinator that knows its places and resources. Raises InfraError if that fails."""
    client = _library(wanted.board)
    address = _reached(wanted)
    session = client.ClientSession(address, asyncio.get_running_loop())
    _connect_alone(session)
    try:
        try:
            await asyncio.wait_for(session.start(), _ANSWER_S)
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


def _connect_alone(session: Any) -> None:
    """Give a new session a connection of its own. By default gRPC lets a channel share the connection of another one of
    its process to the same address, even of one that is just being closed; and a coordinator, which knows its clients
    by their connection, refuses a session on it as long as it has the other one's."""
    import grpc.aio
    from labgrid.remote.generated.labgrid_coordinator_pb2_grpc import CoordinatorStub

    alive = {"grpc.keepalive_time_ms": 7500, "grpc.keepalive_timeout_ms": 10000, "grpc.http2.ping_timeout_ms": 10000,
             "grpc.http2.max_pings_without_data": 0}  # fmt: skip # as labgrid's own channel has it
    options = {**alive, "grpc.use_local_subchannel_pool": 1}
    session.channel = grpc.aio.insecure_channel(session.address, options=list(options.items()))
    session.stub = CoordinatorStub(session.channel)


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
    """Return the coordinator's address with port, after checking that something answers there: gRPC itself reports
    less, and later."""
    parts = urlsplit(f"//{wanted.coordinator}")
    host, port = parts.hostname or "", parts.port or _PORT
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise InfraError(
            f"{wanted.board}.labgrid.coordinator: expected a labgrid coordinator at {host}:{port}, can't connect: "
            f"{error.strerror or error}; see whether labgrid-coordinator runs there"
        ) from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def place_of(session: Any, wanted: Wanted) -> Any:
    if wanted.place not in session.places:
        known = ", ".join(sorted(session.places)) or "it has none"
        raise UserError(
            f"boards.yaml: {wanted.board}.labgrid.place: expected a place of the coordinator {wanted.coordinator} "
            f"({known}), found {wanted.place!r}"
        )
    return session.places[wanted.place]


def myself(session: Any) -> str:
    return f"{session.gethostname()}/{session.getuser()}"


async def held_by_us(session: Any, place: Any, wanted: Wanted) -> bool:
    """Return whether the place is ours already. Raises InfraError if somebody else has acquired or reserved it."""
    me = myself(session)
    if not place.acquired:
        if place.reservation:
            await _reserved_for_us(session, place, wanted)
        return False
    if place.acquired == me or me in place.allowed:
        return True
    raise InfraError(
        f"{wanted.label}: expected it to be free, {place.acquired} has it (last change {when(place.changed)}); wait "
        f"for its release, or ask for: labgrid-client -p {place.name} allow {me}"
    )


async def _reserved_for_us(session: Any, place: Any, wanted: Wanted) -> None:
    from labgrid.remote.generated.labgrid_coordinator_pb2 import GetReservationsRequest

    answer = await asyncio.wait_for(session.stub.GetReservations(GetReservationsRequest()), _ANSWER_S)
    for each in answer.reservations:
        if each.token == place.reservation and each.owner != myself(session):
            raise InfraError(
                f"{wanted.label}: expected it to be free, {each.owner} has reserved it (since {when(each.created)}); "
                "wait until that is over, see labgrid-client reservations"
            )


def _known(session: Any) -> Iterator[tuple[tuple[str, str, str, str], Any]]:
    """The resources that the coordinator has, each after exporter, group, class and own name. The session also keeps
    what was removed: emptied, or, if that was the first it heard of it, with defaults but no class."""
    for exporter, groups in sorted(session.resources.items()):
        for group, entries in sorted(groups.items()):
            for own_name, entry in sorted(entries.items()):
                if cls := entry.data.get("cls"):
                    yield (exporter, group, cls, own_name), entry


def _resources(session: Any, place: Any) -> list[tuple[str, Any]]:
    """Return the place's resources, each with its name there."""
    matches = ((path, place.getmatch(path), entry) for path, entry in _known(session))
    return [(match.rename or path[-1], entry) for path, match, entry in matches if match]


def described(session: Any, place: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "cls": entry.cls, "params": entry.args, "extra": entry.extra, "avail": entry.avail}
        for name, entry in _resources(session, place)
    ]


def absent(session: Any, place: Any) -> list[str]:
    """Return what the place is made of and the coordinator does not have, each as ``exporter/group/class`` with what is
    known of its exporter."""
    there = [path for path, _ in _known(session)]
    found = []
    for match in place.matches:
        if any(match.ismatch(path) for path in there):
            continue
        known = any(fnmatch.fnmatchcase(exporter, match.exporter) for exporter, *_ in there)
        state = "is connected, but does not have it" if known else "is not connected"
        found.append(f"{match!s}: exporter {match.exporter} {state}")
    return found


def require_all(session: Any, place: Any, wanted: Wanted) -> None:
    """Raise InfraError if the coordinator lacks something that the place is made of; it would refuse to acquire it."""
    if missing := absent(session, place):
        raise InfraError(
            f"{wanted.label}: expected all that it is made of, the coordinator does not have {'; '.join(missing)}; see "
            "whether labgrid-exporter runs there, and its log"
        )


async def acquire_free(session: Any, place: Any, wanted: Wanted) -> None:
    from grpc.aio import AioRpcError
    from labgrid.remote.generated.labgrid_coordinator_pb2 import AcquirePlaceRequest

    require_all(session, place, wanted)
    try:
        await asyncio.wait_for(session.stub.AcquirePlace(AcquirePlaceRequest(placename=place.name)), _ACQUIRE_S)
    except AioRpcError as error:
        used = [
            f"{name} ({entry.cls}) is acquired by {entry.acquired}"
            for name, entry in _resources(session, place)
            if entry.acquired
        ]
        raise InfraError(
            f"{wanted.label}: the coordinator refuses it: {error.details()}; see labgrid-client -p {place.name} show",
            details=used,
        ) from None
    except TimeoutError:
        await release_now(session, wanted)  # the acquisition may still succeed later
        raise InfraError(
            f"{wanted.label}: expected it to be acquired within {_ACQUIRE_S:.0f} s, it was not; see its exporter"
        ) from None
    await asyncio.wait_for(session.sync_with_coordinator(), _ANSWER_S)


async def until_ready(session: Any, place: Any, wanted: Wanted) -> None:
    """Wait until the exporter has started a server for the serial ports, which it does only now. resources.py reports a
    missing one."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        serial = [entry for name, entry in _resources(session, place) if entry.cls == "NetworkSerialPort"
                  and wanted.serial in ("", name)]  # fmt: skip
        if all(entry.avail and entry.args.get("port") for entry in serial):
            return
        await asyncio.sleep(0.1)  # the session receives the coordinator's updates meanwhile, but has no event for them


def line_of(session: Any, place: Any, wanted: Wanted) -> tuple[str, int] | None:
    """Return host and port of the place's serial line; None if nobody serves it."""
    for name, entry in _resources(session, place):
        if entry.cls == "NetworkSerialPort" and wanted.serial in ("", name) and entry.args.get("port"):
            return entry.args["host"], int(entry.args["port"])
    return None


async def release_now(session: Any, wanted: Wanted) -> None:
    """Release the place if it is ours."""
    from labgrid.remote.generated.labgrid_coordinator_pb2 import ReleasePlaceRequest

    request = ReleasePlaceRequest(placename=wanted.place, fromuser=myself(session))
    await asyncio.wait_for(session.stub.ReleasePlace(request), _ACQUIRE_S)


def switch(model: str, host: str, index: str, state: str) -> None:
    from labgrid import Target
    from labgrid.driver import NetworkPowerDriver
    from labgrid.resource import NetworkPowerPort

    target = Target("harness")
    NetworkPowerPort(target, name=None, model=model, host=host, index=index)
    driver = NetworkPowerDriver(target, name=None)
    target.activate(driver)
    (driver.on if state == "on" else driver.off)()
