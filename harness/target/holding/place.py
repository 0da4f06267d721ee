"""A board that is a place of a labgrid coordinator: acquired, it is a board as any other, with console and power, and
where it is on the network.

labgrid itself is behind labgrid.py, a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import queue
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.errors import HarnessError, InfraError, UserError
from harness.model.board import Board, CommandSwitch, LabgridPlace, NetworkConsole, PduSwitch, Power, Ssh, UbootBoot
from harness.target.base import Say
from harness.target.holding.guard import outliving

_LOOK = 25.0  # seconds; each step in there has its own limit
_ACQUIRE = 75.0
_RELEASE = 20.0
_PROGRAM = (sys.executable, "-m", "harness.target.holding.labgrid")
_PDUDAEMON = 16421
_SERVICE = "NetworkService"
_PROTOCOLS = {"rfc2217": True, "raw": False}  # → telnet?

Resource = dict[str, Any]


def look(board: Board, *, records: Path) -> Board:
    """See that the place is there, free or ours, and has what we need. Raises UserError or InfraError in seconds.
    Returns the board with what is known of it already: where it is on the network."""
    try:
        done = subprocess.run(
            [*_PROGRAM, "look"],
            input=_request(board, records, purpose=""),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LOOK,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _silent(board, _LOOK) from None
    found = _understood(done.stdout, board)
    _console(board, found["resources"], acquired=False)
    _switch(board, found["resources"])
    return _on_the_network(board, found["resources"])


@contextlib.contextmanager
def held(board: Board, *, records: Path, say: Say) -> Iterator[Board]:
    """The board with console and power, its place acquired; released at the end, also where we are killed.

    `records`: a directory for what this host's harnesses know of each other. A place that is ours already, because
    somebody acquired it with labgrid-client, is used and stays ours. Raises UserError or InfraError."""
    keeper = _Keeper(board, records, say)
    try:
        found = keeper.acquired()
        place = _place(board)
        say(f"{board.name}: labgrid place {place.place} at {place.coordinator}: {_HELD[found['held']]}")
        record = _record(board, records) if found["held"] == "acquired" else None  # of another's nothing is written
        yield resolved(board, found["resources"], holds=(keeper.handle,), record=record)
    finally:
        trouble = keeper.release()
        if trouble:
            say(trouble)


_HELD = {"acquired": "acquired", "ours": "you have it already; it is used, and not released afterwards"}


def resolved(
    board: Board, resources: list[Resource], *, holds: tuple[int, ...] = (), record: Path | None = None
) -> Board:
    """`board` with the console, the power and the network that its place's resources are. `record`: the file that says
    where the console is, should it move."""
    place = _place(board)
    console = _console(board, resources, acquired=True)
    assert console
    return dataclasses.replace(
        _on_the_network(board, resources),
        labgrid=None,
        console=dataclasses.replace(console, moves=str(record or "")),
        power=Power(switch=_switch(board, resources), off_seconds=place.off_seconds, check_silence=place.check_silence),
        holds=holds,
    )


def _on_the_network(board: Board, resources: list[Resource]) -> Board:
    """`board` with what its place says of where it is on the network, where its entry doesn't; its secrets known."""
    secrets = tuple(dict.fromkeys([*board.secrets, *_passwords(resources)]))
    return dataclasses.replace(board, ssh=_ssh(board, resources), secrets=secrets)


def _ssh(board: Board, resources: list[Resource]) -> Ssh | None:
    spec = board.ssh
    if not spec or spec.host:
        return spec
    has_service = any(resource["cls"] == _SERVICE for resource in resources)
    if isinstance(board.boot, UbootBoot) and not has_service:  # the kernel that it boots tells its address itself
        return spec
    service = _chosen(board, resources, {_SERVICE}, key="ssh")["params"]
    login = spec.login
    if "user" not in spec.given:
        login = dataclasses.replace(login, user=service["username"])
    if not spec.given & {"key", "password"}:
        login = dataclasses.replace(login, password=str(service.get("password") or ""))
    port = spec.port if "port" in spec.given else int(service.get("port") or Ssh.port)
    return dataclasses.replace(spec, host=service["address"], port=port, login=login, of_place=True)


def _passwords(resources: list[Resource]) -> Iterator[str]:
    """Of systems, and of switches whose host is an address with a login in it."""
    for resource in resources:
        if resource["cls"] == _SERVICE and resource["params"].get("password"):
            yield str(resource["params"]["password"])
        with contextlib.suppress(ValueError):
            password = urlsplit(str(resource["params"].get("host", ""))).password
            if password:
                yield from (password, unquote(password))


def _chosen(board: Board, resources: list[Resource], classes: Collection[str], *, key: str) -> Resource:
    """The one resource of `classes`; `key` is the key of the entry `labgrid` that names one of several."""
    wanted = getattr(_place(board), key)
    place = f"{board.name}: labgrid place {_place(board).place}"
    known = [resource for resource in resources if resource["cls"] in classes]
    chosen = [resource for resource in known if wanted in ("", resource["name"])]
    if not chosen:
        named = f" named {wanted}" if wanted else ""
        has = ", ".join(f"{each['cls']} {each['name']}" for each in resources) or "nothing"
        raise InfraError(f"{place}: expected one of {', '.join(sorted(classes))}{named}, it has: {has}")
    if len(chosen) > 1:
        names = ", ".join(resource["name"] for resource in chosen)
        raise InfraError(f"{place}: expected one {key} resource, it has {names}; choose with labgrid.{key}: NAME")
    [resource] = chosen
    told = f"{place}: {resource['cls']} {resource['name']}"
    if not resource["avail"]:
        raise InfraError(f"{told}: its exporter says that it is not available; see its cable")
    if resource["extra"].get("proxy_required"):
        raise InfraError(
            f"{told}: its exporter ({resource['extra'].get('proxy')}) wants SSH to be gone through (--isolated), which "
            "is not supported; run the harness where it can reach the exporter's ports, and the exporter without it"
        )
    return resource


def _console(board: Board, resources: list[Resource], *, acquired: bool) -> NetworkConsole | None:
    """The place's serial port; None for one whose port is not known before it is acquired."""
    place = _place(board)
    resource = _chosen(board, resources, {"NetworkSerialPort"}, key="serial")
    parameters = resource["params"]
    protocol = parameters.get("protocol") or "rfc2217"
    told = f"{board.name}: labgrid place {place.place}: NetworkSerialPort {resource['name']}"
    if protocol not in _PROTOCOLS:
        raise InfraError(f"{told}: expected protocol {' or '.join(_PROTOCOLS)}, found {protocol}")
    if not parameters.get("port"):
        if acquired:
            raise InfraError(f"{told}: expected its exporter to start a server for it, it has none; see its log")
        return None
    telnet = _PROTOCOLS[protocol]
    return NetworkConsole(
        host=parameters["host"],
        port=int(parameters["port"]),
        telnet=telnet,
        baud=int(parameters.get("speed") or 0) if telnet else 0,
        slow_send_ms=place.slow_send_ms,
    )


def _switch(board: Board, resources: list[Resource]) -> CommandSwitch | PduSwitch:
    resource = _chosen(board, resources, _SWITCHES, key="power")
    return _SWITCHES[resource["cls"]](_place(board), resource["params"])


def _network_switch(_place: LabgridPlace, parameters: Mapping[str, Any]) -> CommandSwitch:
    """By labgrid's own driver for that model; the coordinator has no part in it."""
    words = (*_PROGRAM, "switch", parameters["model"], parameters["host"], str(parameters["index"]))
    return CommandSwitch(on=(*words, "on"), off=(*words, "off"))


def _pdudaemon(_place: LabgridPlace, parameters: Mapping[str, Any]) -> PduSwitch:
    host, _, port = str(parameters["host"]).partition(":")
    outlet = str(parameters["index"])
    return PduSwitch(host=host, port=int(port or _PDUDAEMON), pdu=parameters["pdu"], outlet=outlet)


def _by_client(place: LabgridPlace, _parameters: Mapping[str, Any]) -> CommandSwitch:
    """What labgrid's client switches on the exporter, over SSH."""
    words = (sys.executable, "-m", "labgrid.remote.client", "-x", place.coordinator, "-p", place.place, "power")
    name = ("--name", place.power) if place.power else ()
    return CommandSwitch(on=(*words, *name, "on"), off=(*words, *name, "off"))


_SWITCHES: dict[str, Callable[[LabgridPlace, Mapping[str, Any]], CommandSwitch | PduSwitch]] = {
    "NetworkPowerPort": _network_switch,
    "PDUDaemonPort": _pdudaemon,
    **dict.fromkeys(
        ("NetworkUSBPowerPort", "NetworkSiSPMPowerPort", "NetworkYKUSHPowerPort", "TasmotaPowerPort"), _by_client
    ),
}


def _place(board: Board) -> LabgridPlace:
    assert board.labgrid
    return board.labgrid


def _record(board: Board, records: Path) -> Path:
    place = _place(board)
    told = f"{place.coordinator} {place.place}"
    return records / f"{re.sub(r'[^A-Za-z0-9]+', '-', told)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"


def _request(board: Board, records: Path, *, purpose: str) -> bytes:
    place = _place(board)
    wanted = {
        "board": board.name,
        "coordinator": place.coordinator,
        "place": place.place,
        "serial": place.serial,
        "record": str(_record(board, records)),
        "purpose": purpose,
    }
    return json.dumps(wanted).encode() + b"\n"


def _silent(board: Board, limit: float) -> InfraError:
    place = _place(board)
    return InfraError(
        f"{board.name}: labgrid place {place.place}: no answer within {limit:.0f} s; see whether "
        f"labgrid-client -x {place.coordinator} places works"
    )


def _understood(line: bytes, board: Board) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        place = _place(board)
        raise InfraError(
            f"{board.name}: labgrid place {place.place}: the process that talks to labgrid ended without a word; see "
            f"what it prints: {shlex.join(_PROGRAM)} look"
        ) from None
    if "error" in answer:
        kind = UserError if answer["error"] == "user" else InfraError
        raise kind(answer["message"], details=answer["details"])
    return answer


class _Keeper:
    """The process that acquires a place and holds it for us. It releases it when told, or when the other end of its
    pipe is closed everywhere: here and in the guard, which switches the board off first."""

    def __init__(self, board: Board, records: Path, say: Say) -> None:
        self._board, self._say = board, say
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [*_PROGRAM, "keep"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the harness
            env=outliving(),
        )
        assert self._process.stdin
        assert self._process.stdout
        self.handle = self._process.stdin.fileno()
        self._has_place = False
        threading.Thread(target=self._listen, name="labgrid place", daemon=True).start()
        self._tell(_request(board, records, purpose=f"process {os.getpid()}, {shlex.join(sys.argv[1:])[:80]}"))

    def _tell(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError, ValueError):  # it ended; its answer, or that there is none, tells
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _listen(self) -> None:
        """What it says: answers, an empty one at its end, and news, which a person is told at once."""
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    if news := json.loads(line).get("news"):
                        self._say(news)
                        continue
                self._answers.put(line)
        self._answers.put(b"")

    def acquired(self) -> dict[str, Any]:
        """What it has acquired."""
        answer = self._answer(_ACQUIRE)
        self._has_place = True
        return answer

    def _answer(self, limit: float) -> dict[str, Any]:
        try:
            return _understood(self._answers.get(timeout=limit), self._board)
        except queue.Empty:
            raise _silent(self._board, limit) from None

    def release(self) -> str:
        """Give the place back; what went wrong with that. The keeper goes on trying then, for some minutes."""
        trouble = ""
        if self._has_place:
            self._tell(b"release\n")
            try:
                self._answer(_RELEASE)
            except HarnessError as error:
                trouble = f"{error.message}; its release is tried for five minutes more"
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if not trouble:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_RELEASE)
        return trouble
