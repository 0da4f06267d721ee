"""What a labgrid place's resources become, and what is told of those that are of no use to us."""

from __future__ import annotations

import sys

import pytest

from harness.errors import InfraError
from harness.model.board import Board, CommandSwitch, LabgridPlace, NetworkConsole, PduSwitch, UbootBoot
from harness.target.place import resolved


def board(**more) -> Board:
    place = LabgridPlace(coordinator="lab:20408", place="p", **more)
    return Board(name="b", boot=UbootBoot(tftp_root="/t"), labgrid=place)


def resource(cls: str, name: str = "", *, avail: bool = True, proxy_required: bool = False, **params):
    extra = {"proxy": "exporter", "proxy_required": proxy_required}
    return {"name": name or cls, "cls": cls, "params": params, "extra": extra, "avail": avail}


UART = resource("NetworkSerialPort", host="h", port=4001, speed=1500000, protocol="rfc2217")
PLUG = resource("NetworkPowerPort", model="apc", host="pdu", index=3)


def test_a_serial_port_keeps_its_protocol_and_its_speed():
    assert resolved(board(slow_send_ms=2.0), [UART, PLUG]).console == NetworkConsole(
        host="h", port=4001, telnet=True, baud=1500000, slow_send_ms=2.0
    )
    raw = resource("NetworkSerialPort", host="h", port=4002, speed=9600, protocol="raw")
    assert resolved(board(), [raw, PLUG]).console == NetworkConsole(host="h", port=4002)


@pytest.mark.parametrize(
    ("power", "switch"),
    [
        (
            PLUG,
            CommandSwitch(
                on=(sys.executable, "-m", "harness.target.labgrid", "switch", "apc", "pdu", "3", "on"),
                off=(sys.executable, "-m", "harness.target.labgrid", "switch", "apc", "pdu", "3", "off"),
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
def test_each_kind_of_power_resource_has_its_switch(power, switch):
    ready = resolved(board(check_silence=False, off_seconds=7.0), [power, UART])
    assert (ready.power.switch, ready.power.check_silence, ready.power.off_seconds) == (switch, False, 7.0)


def test_one_of_several_is_chosen_by_its_name():
    second = resource("NetworkSerialPort", "second", host="h", port=4002)
    assert resolved(board(serial="second"), [UART, second, PLUG]).console.port == 4002
    other = resource("NetworkUSBPowerPort", "hub")
    assert "--name" in resolved(board(power="hub"), [UART, PLUG, other]).power.switch.on


@pytest.mark.parametrize(
    ("resources", "more", "told"),
    [
        ([PLUG], {}, "expected one of NetworkSerialPort, it has: NetworkPowerPort NetworkPowerPort"),
        ([UART, PLUG], {"serial": "x"}, "expected one of NetworkSerialPort named x, it has: NetworkSerialPort "),
        ([UART, resource("NetworkHIDRelay", "r")], {}, "PDUDaemonPort, TasmotaPowerPort, it has: .*NetworkHIDRelay r$"),
        ([UART, PLUG, resource("PDUDaemonPort", "q")], {}, "NetworkPowerPort, q; choose with labgrid.power: NAME"),
        ([resource("NetworkSerialPort", avail=False), PLUG], {}, "its exporter says that it is not available"),
        ([resource("NetworkSerialPort", host="h", port=None), PLUG], {}, "expected its exporter to start a server"),
        ([resource("NetworkSerialPort", proxy_required=True), PLUG], {}, r"\(exporter\) wants SSH to be gone through"),
        ([UART, {**PLUG, "extra": {"proxy_required": True}}], {}, "wants SSH to be gone through"),
        ([resource("NetworkSerialPort", protocol="xmodem"), PLUG], {}, "protocol rfc2217 or raw, found xmodem"),
    ],
)
def test_what_is_of_no_use_is_told(resources, more, told):
    with pytest.raises(InfraError, match=rf"^b: labgrid place p: .*{told}"):
        resolved(board(**more), resources)


def test_a_password_in_a_switchs_address_is_not_told():
    power = resource("NetworkPowerPort", model="rest", host="http://me:s3cr%40t@switch/{index}", index=1)
    ready = resolved(board(), [UART, power])
    assert ready.redacted(" ".join(ready.power.switch.on)).endswith("http://me:***@switch/{index} 1 on")
