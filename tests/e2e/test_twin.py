"""Boards, on twins of them: machines reached over a serial line, a power switch and TFTP (tests/twins/twin.py)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from harness.build.host import ensure_host
from tests.labgridlab import Lab

from .conftest import PROJECT, harness

TWINS = PROJECT / "tests/twins"
TWIN = TWINS / "twin.py"
FAULTY = """
defaults:
  twin:
    console: {kind: telnet, host: 127.0.0.1, port: 17341}
    power: {kind: tasmota, host: "127.0.0.1:17342"}
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}"}
    limits: {boot: 120}
boards:
  plain: {like: twin}
  other-directory: {like: twin, boot: {tftp_root: "${OTHER}"}}
  impatient: {like: twin, boot: {uboot_seconds: 5}}
  panics: {like: twin, cmdline: rdinit=/nowhere}
"""


class Twin:
    """A running twin, and the harness as a user calls it on a board that is one."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str], build: Path, cwd: Path) -> None:
        self.process, self.environment, self._build, self.cwd = process, environment, build, cwd

    def arguments(self, verb: str, board: str) -> list[str | Path]:
        return [verb, "--build", self._build, "--board", board]

    def harness(self, verb: str, board: str, *words: str, **more: str):
        return harness(*self.arguments(verb, board), *words, cwd=self.cwd, **self.environment, **more)

    def is_on(self, name: str = "uboot") -> bool:
        asked = subprocess.run([TWIN, "status", name], capture_output=True, text=True, check=True)
        return '"ON"' in asked.stdout


@pytest.fixture(scope="session")
def _u_boot() -> None:
    """What the twins themselves are made of; no user of the harness needs it."""
    ensure_host(needed_for={"qemu", "u-boot"})


@pytest.fixture
def twin(_u_boot: None, build: Path, tmp_path: Path) -> Iterator[Callable[..., Twin]]:
    """Starts a twin with a fault; ends it after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str = "uboot", *, fault: str = "none", boards: str = "") -> Twin:
        (tmp_path / "tftp").mkdir()
        (tmp_path / "other").mkdir()
        words = [TWIN, "serve", name, "--tftp", tmp_path / "tftp", "--fault", fault, "--pty", tmp_path / "tty"]
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline().startswith(f"twin {name}: serial line at")
        file = TWINS / "boards.yaml"
        if boards:
            file = tmp_path / "boards.yaml"
            file.write_text(boards)
        environment = {
            "HARNESS_BOARDS": str(file),
            "TWIN": str(TWIN),
            "TWIN_TFTP": str(tmp_path / "tftp"),
            "TWIN_TTY": str(tmp_path / "tty"),
            "TWIN_PASSWORD": "twin",
            "OTHER": str(tmp_path / "other"),
        }
        return Twin(process, environment, build, tmp_path)

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


NOISY = """
dmesg -n 8
( i=0; while [ $i -lt 300 ]; do echo "noise $i" > /dev/kmsg; i=$((i+1)); done ) &
i=0; while [ $i -lt 200 ]; do echo "line $i $(printf %0600d $i)"; i=$((i+1)); done
wait; exit 7
"""


@pytest.mark.parametrize(("board", "name"), [("twin-uboot", "uboot"), ("twin-serial", "serial")])
def test_a_command_its_output_and_exit_code_while_the_kernel_logs(twin, board, name):
    machine = twin(name)
    done = machine.harness("boot", board, "--", NOISY)
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [f"line {number} {number:0600d}" for number in range(200)]
    logs = next(machine.cwd.glob("out/boot-*"))
    console = (logs / "console.log").read_text()
    assert [len(re.findall(rf"\] noise {number}$", console, re.MULTILINE)) for number in range(300)] == [1] * 300
    assert "U-Boot 20" in console
    assert "twin" not in done.stderr.replace(board, "")  # no password
    assert not machine.is_on(name)


def test_a_suite(twin):
    done = twin().harness("run", "twin-uboot", "--suite", "testcases/function", "-k", "test_calls")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 PASS" in done.stdout


def test_a_crash_is_the_kernels_and_the_next_test_gets_a_board_that_was_switched_off_and_on(twin):
    done = twin().harness("boot", "twin-uboot", "--", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")
    assert done.returncode == 1, done.stderr
    assert "sysrq triggered crash" in done.stderr.lower()


def test_autoboot_missed_once_is_tried_again_and_said(twin):
    done = twin(fault="deaf-once", boards=FAULTY).harness("boot", "plain", "--", "echo up")
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr
    assert "switching the board off and on once more" in done.stderr


@pytest.mark.parametrize(
    ("fault", "board", "code", "told"),
    [
        ("no-power", "impatient", 3, "nothing came at all; see whether the board has power"),
        ("stuck-on", "plain", 3, "plain.power: expected the board to be silent after it was switched off"),
        ("none", "other-directory", 3, "File not found.*the directory that boot.tftp_root names"),
        ("none", "panics", 1, "the kernel panicked at boot: Kernel panic - not syncing: VFS: Unable to mount root"),
    ],
)
def test_what_goes_wrong_is_told_and_the_board_is_off(twin, fault, board, code, told):
    machine = twin(fault=fault, boards=FAULTY)
    if fault == "stuck-on":  # at its prompt, where somebody left it
        subprocess.run([TWIN, "on", "uboot"], check=True, stdout=subprocess.DEVNULL)
    done = machine.harness("boot", board, "--", "true")
    assert done.returncode == code, done.stderr
    assert re.search(told, done.stderr), done.stderr
    assert fault == "stuck-on" or not machine.is_on()


def test_a_device_that_is_not_there_is_told_at_once(twin):
    boards = "boards: {b: {console: {kind: serial, device: /dev/serial/by-id/usb-x}, power: {kind: tasmota, host: h}, "
    machine = twin(boards=boards + "boot: {method: uboot, tftp_root: /t}}}")
    started = time.monotonic()
    harness("boards", cwd=machine.cwd, **machine.environment)  # how long starting takes on a machine that may be busy
    start = time.monotonic()
    done = machine.harness("boot", "b", "--", "true")
    assert time.monotonic() - start < 2.0 + (start - started)
    assert done.returncode == 3
    assert "b.console: expected a serial device at /dev/serial/by-id/usb-x, found none; plug in" in done.stderr


def test_a_harness_that_is_killed_leaves_the_board_off(twin):
    machine = twin()
    command = [sys.executable, "-m", "harness", *machine.arguments("boot", "twin-uboot"), "--", "echo up; sleep 600"]
    process = subprocess.Popen(
        command, cwd=machine.cwd, env={**os.environ, **machine.environment}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    assert machine.is_on()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while machine.is_on():
        assert time.monotonic() < deadline, "the board is still on"
        time.sleep(0.2)


def test_a_person_at_the_console(twin):
    machine = twin()
    environment = {**os.environ, **machine.environment}
    words = ["-m", "harness", *map(str, machine.arguments("boot", "twin-uboot"))]
    child = pexpect.spawn(sys.executable, words, cwd=str(machine.cwd), env=environment, encoding="utf-8", timeout=90)
    child.expect("leaves the console")
    child.send("echo $((6*7))x; tty\r")
    child.expect("42x\r\n/dev/ttyAMA0")
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert not machine.is_on()


@pytest.fixture
def labgrid(tmp_path: Path) -> Iterator[Callable[[Twin], Lab]]:
    """Puts a twin into a labgrid lab. Its place `twin` has the serial line by ser2net, as of a USB adapter, `telnet` by
    the twin's own console server."""
    pytest.importorskip("labgrid", reason="the extra is not installed: pip install '.[labgrid]'")
    ensure_host(needed_for={"labgrid"})
    made: list[Lab] = []

    def lab(machine: Twin) -> Lab:
        host = machine.environment.get("TWIN_HOST", "127.0.0.1")
        switch = f"http://{host}:17342/cm?password=twin&cmnd=Power{{index}}%20{{value}}"
        power = {"cls": "NetworkPowerPort", "model": "simplerest", "host": switch, "index": 1}
        # a serial port has to lie in /dev
        uart = {"cls": "RawSerialPort", "port": str((tmp_path / "tty").readlink()), "speed": 115200}
        telnet = {"cls": "NetworkSerialPort", "host": host, "port": 17341}
        (tmp_path / "labgrid").mkdir()
        made.append(
            Lab(
                tmp_path / "labgrid",
                places={"twin": "usb", "telnet": "telnet"},
                groups={"usb": {"uart": uart, "plug": power}, "telnet": {"uart": telnet, "plug": dict(power)}},
            )
        )
        machine.environment["TWIN_COORDINATOR"] = made[0].coordinator
        return made[0]

    yield lab
    for each in made:
        each.end()


def test_a_place_of_labgrid_is_taken_by_one_at_a_time(twin, labgrid):
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


def test_a_place_of_labgrid_is_released_by_a_harness_that_is_killed_when_the_board_is_off(twin, labgrid):
    boards = FAULTY + '  labgrid: {boot: {method: uboot, tftp_root: "${TWIN_TFTP}"}, limits: {boot: 120}, '
    machine = twin(boards=boards + 'labgrid: {coordinator: "${TWIN_COORDINATOR}", place: telnet}}\n')
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
