"""The resources of a labgrid place as we use them: a console, a power switch, and the board's network address."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.errors import InfraError
from harness.model.board import Access, BoardSpec, CommandSwitch, LabgridPlace, NetworkConsole, PduSwitch, Power, Ssh

PROGRAM = (sys.executable, "-m", "harness.target.holding.labgrid")
_PDUDAEMON = 16421
_SERVICE = "NetworkService"
_PROTOCOLS = {"rfc2217": True, "raw": False}  # → telnet?

Resource = dict[str, Any]


def place_of(board: BoardSpec) -> LabgridPlace:
    """Return the board's place."""
    assert board.labgrid
    return board.labgrid


def access_before(board: BoardSpec, resources: list[Resource]) -> Access:
    """Return how `board` is reached, as far as the resources of its place say so before it is acquired: over the
    network. Raises InfraError if a resource is missing that will be needed."""
    with _as_labgrid_has_them(board, resources):
        _console(board, resources, acquired=False)
        _switch(board, resources)
        return _on_the_network(board, resources)


def access_to(board: BoardSpec, resources: list[Resource], *, record: Path | None = None) -> Access:
    """Return how `board` is reached once its place is acquired: the console, power switch and network address that the
    resources describe. `record`: the file that says where the console is if it moves."""
    place = place_of(board)
    with _as_labgrid_has_them(board, resources):
        console = _console(board, resources, acquired=True)
        assert console
        switch = _switch(board, resources)
        return dataclasses.replace(
            _on_the_network(board, resources),
            console=dataclasses.replace(console, moves=str(record or "")),
            power=Power(switch=switch, off_seconds=place.off_seconds, check_silence=place.check_silence),
        )


@contextlib.contextmanager
def _as_labgrid_has_them(board: BoardSpec, resources: list[Resource]) -> Iterator[None]:
    """Exporters may say anything. Raises InfraError if a resource has a parameter that no program or connection can
    have, or lacks one."""
    place = place_of(board)
    told = f"{board.name}: labgrid place {place.place}: expected resources with the parameters that labgrid gives them"
    see = f"see labgrid-client -p {place.place} show"
    for resource in resources:
        for key, value in resource["params"].items():
            if isinstance(value, str) and not value.isprintable():
                name = f"{resource['cls']} {resource['name']}"
                raise InfraError(f"{told}, found a control character in {key} of {name}; {see}")
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InfraError(f"{told}, found others ({type(error).__name__}: {error}); {see}") from None


def _port(value: object) -> int:
    port = int(str(value))
    if not 0 < port < 1 << 16:
        raise ValueError(f"{port} is no port")
    return port


def _on_the_network(board: BoardSpec, resources: list[Resource]) -> Access:
    """Return the board's network address from its entry, or else from its place, with the secrets of both."""
    secrets = tuple(dict.fromkeys([*board.access.secrets, *_passwords(resources)]))
    return Access(ssh=_ssh(board, resources), secrets=secrets)


def _ssh(board: BoardSpec, resources: list[Resource]) -> Ssh | None:
    spec = board.access.ssh
    if not spec or spec.host:
        return spec
    has_service = any(resource["cls"] == _SERVICE for resource in resources)
    if not board.boot.has_own_system and not has_service:  # the booted kernel reports its own address
        return spec
    service = _chosen(board, resources, {_SERVICE}, key="ssh")["params"]
    login = spec.login
    if "user" not in spec.given:
        login = dataclasses.replace(login, user=service["username"])
    if not spec.given & {"key", "password"}:
        login = dataclasses.replace(login, password=str(service.get("password") or ""))
    port = spec.port if "port" in spec.given else _port(service.get("port") or Ssh.port)
    return dataclasses.replace(spec, host=service["address"], port=port, login=login, of_place=True)


def _passwords(resources: list[Resource]) -> Iterator[str]:
    """Yield the passwords of systems, and of switches whose host is a URL with a login in it."""
    for resource in resources:
        if resource["cls"] == _SERVICE and resource["params"].get("password"):
            yield str(resource["params"]["password"])
        with contextlib.suppress(ValueError):
            password = urlsplit(str(resource["params"].get("host", ""))).password
            if password:
                yield from (password, unquote(password))


def _chosen(board: BoardSpec, resources: list[Resource], classes: Collection[str], *, key: str) -> Resource:
    """Return the one resource of `classes`; `key` is the key below `labgrid` that selects one of several. Raises
    InfraError if there is not exactly one, or if it is not available."""
    wanted = getattr(place_of(board), key)
    place = f"{board.name}: labgrid place {place_of(board).place}"
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
            f"{told}: its exporter ({resource['extra'].get('proxy')}) requires connections through SSH (--isolated), "
            "which is not supported; run the harness where it can reach the exporter's ports, and the exporter without "
            "--isolated"
        )
    return resource


def _console(board: BoardSpec, resources: list[Resource], *, acquired: bool) -> NetworkConsole | None:
    """Return the place's serial port; None if its port number is not known before the place is acquired."""
    place = place_of(board)
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
        port=_port(parameters["port"]),
        telnet=telnet,
        baud=int(parameters.get("speed") or 0) if telnet else 0,
        slow_send_ms=place.slow_send_ms,
    )


def _switch(board: BoardSpec, resources: list[Resource]) -> CommandSwitch | PduSwitch:
    resource = _chosen(board, resources, _SWITCHES, key="power")
    return _SWITCHES[resource["cls"]](place_of(board), resource["params"])


def _network_switch(_place: LabgridPlace, parameters: Mapping[str, Any]) -> CommandSwitch:
    """Switch with labgrid's own driver for that model, without the coordinator."""

    def words(host: str, state: str) -> tuple[str, ...]:
        return (*PROGRAM, "switch", parameters["model"], host, str(parameters["index"]), state)

    host = str(parameters["host"])
    shown = _without_login(host)
    return CommandSwitch(
        on=words(host, "on"), off=words(host, "off"), masked_on=words(shown, "on"), masked_off=words(shown, "off")
    )


def _without_login(host: str) -> str:
    """Return `host`, which may be a URL with a login in it, without that."""
    scheme, mark, rest = host.rpartition("://")
    login, at, end = rest.rpartition("@")
    return f"{scheme}{mark}{'***' if login else ''}{at}{end}"


def _pdudaemon(_place: LabgridPlace, parameters: Mapping[str, Any]) -> PduSwitch:
    host, _, port = str(parameters["host"]).partition(":")
    outlet = str(parameters["index"])
    return PduSwitch(host=host, port=_port(port or _PDUDAEMON), pdu=parameters["pdu"], outlet=outlet)


def _by_client(place: LabgridPlace, _parameters: Mapping[str, Any]) -> CommandSwitch:
    """Switch with labgrid's client, on the exporter over SSH."""
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
