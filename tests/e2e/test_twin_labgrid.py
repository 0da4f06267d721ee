"""A board that is a place of a labgrid coordinator, on a twin of it: a real coordinator and exporter on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.build.host import ensure_host
from tests.e2e.conftest import SERVED_BY, Twin, harness
from tests.faults.catalogue import Blame, fault
from tests.labgridlab import Lab
from tests.twins.twin import PORTS

BOARDS = """
boards:
  labgrid:
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}"}
    limits: {boot: 120}
    labgrid: {coordinator: "${TWIN_COORDINATOR}", place: telnet}
"""
SERVER = """
boards:
  labgrid-server:
    boot: {method: kexec}
    kconfigs: [qemu-virt.config]
    limits: {boot: 120}
    labgrid: {coordinator: "${TWIN_COORDINATOR}", place: server}
    ssh: {key: "${TWIN_KEY}"}
"""


@pytest.fixture
def labgrid(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Puts a twin into a labgrid lab. Its place `twin` has the serial line by ser2net, as of a USB adapter, `telnet` by
    the twin's own console server, and `server` an own system too."""
    pytest.importorskip("labgrid", reason="the extra is not installed: pip install '.[labgrid]'")
    ensure_host(needed_for={"labgrid"})
    made: list[Lab] = []

    def lab(machine: Twin, name: str = "uboot") -> Lab:
        host = machine.environment["TWIN_HOST"]
        line, switches, system = PORTS[name]
        switch = f"http://{host}:{switches}/cm?password=twin&cmnd=Power{{index}}%20{{value}}"
        power = {"cls": "NetworkPowerPort", "model": "simplerest", "host": switch, "index": 1}
        # a serial port has to lie in /dev
        uart = {"cls": "RawSerialPort", "port": str((tmp_path / "tty").readlink()), "speed": 115200}
        telnet = {"cls": "NetworkSerialPort", "host": host, "port": line}
        service = {"cls": "NetworkService", "address": host, "port": system, "username": "root"}
        (tmp_path / "labgrid").mkdir()
        made.append(
            Lab(
                tmp_path / "labgrid",
                places={"twin": "usb", "telnet": "telnet", "server": "server"},
                groups={
                    "usb": {"uart": uart, "plug": power},
                    "telnet": {"uart": dict(telnet), "plug": dict(power)},
                    "server": {"uart": dict(telnet), "plug": dict(power), "system": service},
                },
            )
        )
        machine.environment["TWIN_COORDINATOR"] = made[0].coordinator
        return made[0]

    yield lab
    for each in made:
        each.end()


@fault(
    "somebody else has acquired the labgrid place",
    where="two users",
    blame=Blame.INFRA,
    survives="their place; they are named",
)
def test_a_place_of_labgrid_is_taken_by_one_at_a_time(twin: Callable[..., Twin], labgrid: Callable[..., Lab]) -> None:
    machine = twin()
    lab = labgrid(machine)
    lab.client("twin", "acquire", user="alice")
    done = machine.harness("boot", "twin-labgrid", "--", "true")
    assert done.returncode == 3
    assert "place twin: expected it to be free, elsewhere/alice has it" in done.stderr
    lab.client("twin", "release", user="alice")
    done = machine.harness("boot", "twin-labgrid", "--", "uname -m")
    assert (done.returncode, done.stdout) == (0, "aarch64\n"), done.stderr
    assert not machine.is_on()
    assert lab.owner("twin") == ""


@fault(
    "SIGKILL of a harness that has a labgrid place",
    where="killed",
    blame=Blame.NOBODY,
    survives="the place, free, after the board is off",
)
def test_a_place_of_labgrid_is_released_by_a_harness_that_is_killed_when_the_board_is_off(
    twin: Callable[..., Twin], labgrid: Callable[..., Lab]
) -> None:
    machine = twin(boards=BOARDS)
    lab = labgrid(machine)
    command = [sys.executable, "-m", "harness", *machine.arguments("boot", "labgrid"), "--", "echo up; sleep 600"]
    process = subprocess.Popen(
        command, cwd=machine.cwd, env={**os.environ, **machine.environment}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    assert lab.owner("telnet")
    assert machine.is_on()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 30
    while lab.owner("telnet"):
        assert time.monotonic() < deadline, "the place is still acquired"
        time.sleep(0.2)
    assert not machine.is_on()


UNTIL_TOLD = """echo up; ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0
until busybox tftp -g -r over -l /tmp/over 10.0.2.2 2> /dev/null; do sleep 0.2; done; echo over; exit 7"""


@fault(
    "labgrid's coordinator ends during a run, and is started again",
    where="lab",
    blame=Blame.NOBODY,
    survives="the run; the place, acquired again",
)
def test_a_coordinator_that_is_restarted_in_the_middle_costs_nothing_and_is_told(
    twin: Callable[..., Twin], labgrid: Callable[..., Lab]
) -> None:
    machine = twin(boards=BOARDS)
    lab = labgrid(machine)
    command = [sys.executable, "-m", "harness", *machine.arguments("boot", "labgrid"), "--", UNTIL_TOLD]
    environment = {**os.environ, **machine.environment}
    process = subprocess.Popen(
        command, cwd=machine.cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "up\n"
    lab.end_coordinator()
    told = process.stderr.readline()
    while told and "the coordinator 127.0.0.1:" not in told:
        told = process.stderr.readline()
    assert "; the run continues without it" in told
    lab.start_coordinator()
    lab.start_exporter()
    assert "forgot that the place was ours; it is acquired again" in process.stderr.readline()
    assert lab.owner("telnet")
    (machine.cwd / "tftp/over").write_text("x")
    assert process.communicate(timeout=120)[0] == "over\n"
    assert process.returncode == 7
    assert lab.owner("telnet") == ""
    assert not machine.is_on()


OUTAGE = """
import pathlib

def test_1_before(guest):
    assert guest.check("echo 42") == "42"

def test_2_meanwhile(guest):
    pathlib.Path("begun").touch()
    while not pathlib.Path("over").exists():
        guest.check("sleep 0.2")
    pathlib.Path("seen").touch()

def test_3_after(guest):
    assert guest.check("echo 42") == "42"
"""


@fault(
    "labgrid's exporter is started again, with another port for the serial line",
    where="lab",
    blame=Blame.NOBODY,
    survives="the run but for one test; place and board, free and off",
)
def test_a_run_goes_on_when_the_exporter_of_its_serial_line_was_started_again(
    twin: Callable[..., Twin], labgrid: Callable[..., Lab]
) -> None:
    """It ends with the coordinator; ser2net has another port afterwards. Where that takes long, the line counts as
    lost, which costs one test."""
    machine = twin()
    lab = labgrid(machine)
    with ThreadPoolExecutor() as beside:
        ran = beside.submit(machine.run_testcases, OUTAGE, "twin-labgrid")
        deadline = time.monotonic() + 300
        while not (machine.cwd / "begun").exists():
            assert time.monotonic() < deadline, "test_2 did not begin"
            assert not ran.done(), ran.result()
            time.sleep(0.1)
        lab.end_coordinator()
        lab.start_coordinator()
        lab.start_exporter()
        (machine.cwd / "over").touch()
        results = ran.result(timeout=600)
    verdicts = [results[f"test_{name}"]["verdict"] for name in ("1_before", "2_meanwhile", "3_after")]
    assert verdicts in (["PASS", "PASS", "PASS"], ["PASS", "ERROR", "PASS"]), results
    assert lab.owner("twin") == ""
    assert not machine.is_on()


def test_a_server_whose_address_only_its_place_tells(
    twin: Callable[..., Twin], labgrid: Callable[..., Lab], system: Path
) -> None:
    machine = twin("server", boards=SERVER, system=system)
    lab = labgrid(machine, "server")
    seen = harness("boards", "check", "labgrid-server", cwd=machine.cwd, environment=machine.environment)
    assert (
        f"own system  labgrid-server.ssh: expected an SSH server at root@{machine.environment['TWIN_HOST']}:17357"
        in seen.stdout
    )
    done = machine.harness("boot", "labgrid-server", "--", SERVED_BY)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["dropbear"]), done.stdout + done.stderr
    assert lab.owner("server") == ""
