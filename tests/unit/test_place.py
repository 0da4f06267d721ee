"""What a labgrid place's resources become, and what is told of those that are of no use to us."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from harness.errors import InfraError
from harness.model.board import BoardSpec, CommandSwitch, LabgridPlace, Login, NetworkConsole, PduSwitch, Power, Ssh
from harness.model.boot import KexecBoot
from harness.target.holding.resources import access_to
from tests.boards import is_a, spec
from tests.faults.catalogue import Blame, fault


def board(**more: Any) -> BoardSpec:
    place = LabgridPlace(coordinator="lab:20408", place="p", **more)
    return spec(labgrid=place)


def resource(
    cls: str, name: str = "", *, avail: bool = True, proxy_required: bool = False, **params: object
) -> dict[str, object]:
    extra = {"proxy": "exporter", "proxy_required": proxy_required}
    return {"name": name or cls, "cls": cls, "params": params, "extra": extra, "avail": avail}


UART = resource("NetworkSerialPort", host="h", port=4001, speed=1500000, protocol="rfc2217")
PLUG = resource("NetworkPowerPort", model="apc", host="pdu", index=3)


def test_a_serial_port_keeps_its_protocol_and_its_speed() -> None:
    assert access_to(board(slow_send_ms=2.0), [UART, PLUG]).console == NetworkConsole(
        host="h", port=4001, telnet=True, baud=1500000, slow_send_ms=2.0
    )
    raw = resource("NetworkSerialPort", host="h", port=4002, speed=9600, protocol="raw")
    assert access_to(board(), [raw, PLUG]).console == NetworkConsole(host="h", port=4002)


@pytest.mark.parametrize(
    ("power", "switch"),
    [
        (
            PLUG,
            CommandSwitch(
                on=(sys.executable, "-m", "harness.target.holding.labgrid", "switch", "apc", "pdu", "3", "on"),
                off=(sys.executable, "-m", "harness.target.holding.labgrid", "switch", "apc", "pdu", "3", "off"),
            ),
        ),
        (
            resource("PDUDaemonPort", host="daemon", pdu="rack1", index=7),
            PduSwitch(host="daemon", port=16421, pdu="rack1", outlet="7"),
        ),
        (
            resource("NetworkUSBPowerPort", host="exporter", busnum=1, devnum=2, path="1-1", index=2),
            CommandSwitch(
                on=(sys.executable, "-m", "labgrid.remote.client", "-x", "lab:20408", "-p", "p", "power", "on"),
                off=(sys.executable, "-m", "labgrid.remote.client", "-x", "lab:20408", "-p", "p", "power", "off"),
            ),
        ),
    ],
    ids=lambda value: value["cls"] if isinstance(value, dict) else "",
)
def test_each_kind_of_power_resource_has_its_switch(
    power: dict[str, object], switch: CommandSwitch | PduSwitch
) -> None:
    ready = access_to(board(check_silence=False, off_seconds=7.0), [power, UART])
    told = is_a(Power, ready.power)
    assert (told.switch, told.check_silence, told.off_seconds) == (switch, False, 7.0)


SERVICE = resource("NetworkService", address="10.0.0.3", username="lab", password="sw0rdfish", port=2222)


def server(*, given: Ssh, **more: Any) -> BoardSpec:
    place = LabgridPlace(coordinator="lab:20408", place="p", **more)
    return spec(boot=KexecBoot(), labgrid=place, ssh=given)


def test_a_server_is_where_its_place_says() -> None:
    ready = access_to(server(given=Ssh()), [UART, PLUG, SERVICE])
    login = Login(user="lab", password="sw0rdfish")
    assert ready.ssh == Ssh(host="10.0.0.3", port=2222, login=login, of_place=True)
    assert ready.redacted("it is sw0rdfish") == "it is ***"


def test_what_the_entry_says_of_ssh_goes_before_what_its_place_says() -> None:
    own = Ssh(login=Login(user="root", key="~/k"), given=frozenset({"user", "key"}))
    ready = access_to(server(given=own), [UART, PLUG, SERVICE])
    ssh = is_a(Ssh, ready.ssh)
    assert (ssh.host, ssh.port, ssh.login) == ("10.0.0.3", 2222, own.login)
    elsewhere = Ssh(host="s", given=frozenset({"host"}))
    assert access_to(server(given=elsewhere), [UART, PLUG, SERVICE]).ssh == elsewhere


def test_of_several_systems_one_is_chosen_by_its_name_and_one_is_needed() -> None:
    second = resource("NetworkService", "second", address="10.0.0.4", username="root", password=None)
    ready = access_to(server(given=Ssh(), ssh="second"), [UART, PLUG, SERVICE, second])
    ssh = is_a(Ssh, ready.ssh)
    assert (ssh.host, ssh.port, ssh.login) == ("10.0.0.4", 22, Login())
    with pytest.raises(InfraError, match=r"it has NetworkService, second; choose with labgrid\.ssh: NAME"):
        access_to(server(given=Ssh()), [UART, PLUG, SERVICE, second])
    with pytest.raises(InfraError, match=r"^b: labgrid place p: expected one of NetworkService, it has: "):
        access_to(server(given=Ssh()), [UART, PLUG])


def test_a_board_without_a_system_of_its_own_needs_no_such_resource() -> None:
    place = LabgridPlace(coordinator="lab:20408", place="p")
    with_network = spec(labgrid=place, ssh=Ssh())
    assert access_to(with_network, [UART, PLUG]).ssh == Ssh()
    assert is_a(Ssh, access_to(with_network, [UART, PLUG, SERVICE]).ssh).host == "10.0.0.3"
    assert access_to(board(), [UART, PLUG, SERVICE]).ssh is None


def test_one_of_several_is_chosen_by_its_name() -> None:
    second = resource("NetworkSerialPort", "second", host="h", port=4002)
    assert is_a(NetworkConsole, access_to(board(serial="second"), [UART, second, PLUG]).console).port == 4002
    other = resource("NetworkUSBPowerPort", "hub")
    power = is_a(Power, access_to(board(power="hub"), [UART, PLUG, other]).power)
    assert "--name" in is_a(CommandSwitch, power.switch).on


@pytest.mark.parametrize(
    ("resources", "more", "told"),
    [
        ([PLUG], {}, "expected one of NetworkSerialPort, it has: NetworkPowerPort NetworkPowerPort"),
        ([UART, PLUG], {"serial": "x"}, "expected one of NetworkSerialPort named x, it has: NetworkSerialPort "),
        ([UART, resource("NetworkHIDRelay", "r")], {}, "PDUDaemonPort, TasmotaPowerPort, it has: .*NetworkHIDRelay r$"),
        ([UART, PLUG, resource("PDUDaemonPort", "q")], {}, "NetworkPowerPort, q; choose with labgrid.power: NAME"),
        ([resource("NetworkSerialPort", avail=False), PLUG], {}, "its exporter says that it is not available"),
        ([resource("NetworkSerialPort", host="h", port=None), PLUG], {}, "expected its exporter to start a server"),
        (
            [resource("NetworkSerialPort", proxy_required=True), PLUG],
            {},
            r"\(exporter\) requires connections",
        ),
        ([UART, {**PLUG, "extra": {"proxy_required": True}}], {}, "requires connections through SSH"),
        ([resource("NetworkSerialPort", protocol="xmodem"), PLUG], {}, "protocol rfc2217 or raw, found xmodem"),
    ],
)
def test_what_is_of_no_use_is_told(
    resources: list[dict[str, object]],
    more: dict[str, str],
    told: str,
) -> None:
    with pytest.raises(InfraError, match=rf"^b: labgrid place p: .*{told}"):
        access_to(board(**more), resources)


@fault(
    "a labgrid exporter gives a resource no host, a port that is none, or a text with NUL or an escape sequence",
    where="lab",
    blame=Blame.INFRA,
    survives="the time of a build: the place and the parameter are named before",
)
@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ([resource("NetworkSerialPort", port=4001), PLUG], r"found others \(KeyError: 'host'\)"),
        ([resource("NetworkSerialPort", host="h", port="x"), PLUG], r"found others \(ValueError: invalid literal"),
        ([resource("NetworkSerialPort", host="h", port=99999), PLUG], r"found others \(ValueError: 99999 is no port"),
        ([resource("NetworkSerialPort", host="h", port=1, speed=[1]), PLUG], r"found others \(TypeError"),
        ([resource("NetworkSerialPort", host="h\0", port=1), PLUG], "a control character in host of NetworkSerialPort"),
        ([UART, resource("NetworkPowerPort", model="m\x1b[2J", host="h", index=1)], "a control character in model of"),
        ([UART, resource("PDUDaemonPort", host="h:x", pdu="p", index=1)], r"found others \(ValueError"),
        ([UART, resource("PDUDaemonPort", host="h", index=1)], r"found others \(KeyError: 'pdu'\)"),
    ],
)
def test_parameters_that_no_exporter_of_labgrids_has(resources: list[dict[str, object]], told: str) -> None:
    with pytest.raises(InfraError, match=rf"^b: labgrid place p: expected resources with .*{told}.*; see labgrid-cl"):
        access_to(board(), resources)


def test_a_password_in_a_switchs_address_is_not_told() -> None:
    power = resource("NetworkPowerPort", model="rest", host="http://me:s3cr%40t@switch/{index}", index=1)
    ready = access_to(board(), [UART, power])
    switch = is_a(CommandSwitch, is_a(Power, ready.power).switch)
    assert switch.masked_on[-3:] == ("http://***@switch/{index}", "1", "on")
    assert ready.redacted(" ".join(switch.on)).endswith("http://me:***@switch/{index} 1 on")
