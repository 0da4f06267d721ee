"""Boards, on twins of them: machines reached over a serial line, a power switch and TFTP (tests/twins/twin.py)."""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pexpect
import pytest

from tests.e2e.conftest import Twin, harness
from tests.faults.catalogue import Blame, fault

FAULTY = """
defaults:
  twin:
    console: {kind: telnet, host: "${TWIN_HOST}", port: 17341}
    power: {kind: tasmota, host: "${TWIN_HOST}:17342"}
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}"}
    limits: {boot: 120}
boards:
  plain: {like: twin}
  other-directory: {like: twin, boot: {tftp_root: "${OTHER}"}}
  impatient: {like: twin, boot: {uboot_seconds: 5}}
  panics: {like: twin, cmdline: rdinit=/nowhere}
"""


NOISY = """
dmesg -n 8
( i=0; while [ $i -lt 300 ]; do echo "noise $i" > /dev/kmsg; i=$((i+1)); done ) &
i=0; while [ $i -lt 200 ]; do echo "line $i $(printf %0600d $i)"; i=$((i+1)); done
wait; exit 7
"""


@pytest.mark.parametrize(("board", "name"), [("twin-uboot", "uboot"), ("twin-serial", "serial")])
def test_a_command_its_output_and_exit_code_while_the_kernel_logs(
    twin: Callable[..., Twin], board: str, name: str
) -> None:
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


def test_a_suite(twin: Callable[..., Twin]) -> None:
    done = twin().harness("run", "twin-uboot", "--suite", "testcases/function", "-k", "test_calls")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 PASS" in done.stdout


@fault("a panic on a board's kernel", where="kernel", blame=Blame.KERNEL, survives="the report")
def test_a_crash_is_the_kernels_and_the_next_test_gets_a_board_that_was_switched_off_and_on(
    twin: Callable[..., Twin],
) -> None:
    done = twin().harness("boot", "twin-uboot", "--", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")
    assert done.returncode == 1, done.stderr
    assert "sysrq triggered crash" in done.stderr.lower()


@fault(
    "U-Boot does not hear the key that stops autoboot",
    where="boot",
    blame=Blame.NOBODY,
    survives="the command, after another power cycle",
)
def test_autoboot_missed_once_is_tried_again_and_said(twin: Callable[..., Twin]) -> None:
    done = twin(fault="deaf-once", boards=FAULTY).harness("boot", "plain", "--", "echo up")
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr
    assert "switching the board off and on once more" in done.stderr


@pytest.mark.parametrize(
    ("fault", "board", "code", "told"),
    [
        pytest.param("no-power", "impatient", 3, "nothing came at all; see whether the board has power", marks=fault(
            "a board has no power though its switch is on", where="power", blame=Blame.INFRA,
            survives="the switch, off")),
        pytest.param("stuck-on", "plain", 3, "plain.power: expected the board to be silent after it was switched off",
                     marks=fault("a power switch whose relay sticks", where="power", blame=Blame.INFRA,
                                 survives="whatever runs on the board: nothing is booted")),
        pytest.param("none", "other-directory", 3, "File not found.*the directory that boot.tftp_root names",
                     marks=fault("the TFTP server serves another directory than boards.yaml says", where="network",
                                 blame=Blame.INFRA, survives="U-Boot's own words; the board, off")),
        pytest.param("none", "panics", 1,
                     "the kernel panicked at boot: Kernel panic - not syncing: VFS: Unable to mount root",
                     marks=fault("a board's kernel finds no root file system", where="boot", blame=Blame.KERNEL,
                                 survives="the panic; the board, off")),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told_and_the_board_is_off(
    twin: Callable[..., Twin], fault: str, board: str, code: int, told: str
) -> None:
    machine = twin(fault=fault, boards=FAULTY)
    if fault == "stuck-on":  # at its prompt, where somebody left it
        machine.switch("on")
    done = machine.harness("boot", board, "--", "true")
    assert done.returncode == code, done.stderr
    assert re.search(told, done.stderr), done.stderr
    assert fault == "stuck-on" or not machine.is_on()


@fault(
    "the serial device of a board is not plugged in",
    where="console",
    blame=Blame.INFRA,
    survives="the time of a build: it is told at once",
)
def test_a_device_that_is_not_there_is_told_at_once(twin: Callable[..., Twin]) -> None:
    boards = "boards: {b: {console: {kind: serial, device: /dev/serial/by-id/usb-x}, power: {kind: tasmota, host: h}, "
    machine = twin(boards=boards + "boot: {method: uboot, tftp_root: /t}}}")
    started = time.monotonic()
    harness(
        "boards", cwd=machine.cwd, environment=machine.environment
    )  # how long starting takes on a machine that may be busy
    start = time.monotonic()
    done = machine.harness("boot", "b", "--", "true")
    assert time.monotonic() - start < 2.0 + (start - started)
    assert done.returncode == 3
    assert "b.console: expected a serial device at /dev/serial/by-id/usb-x, found none; plug in" in done.stderr


@fault("SIGKILL while a command runs on a board", where="killed", blame=Blame.NOBODY, survives="the board, off")
def test_a_harness_that_is_killed_leaves_the_board_off(twin: Callable[..., Twin]) -> None:
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


@fault(
    "a second harness wants a board that is in use",
    where="two users",
    blame=Blame.INFRA,
    survives="the first one's run; the holder is named",
)
@fault(
    "the holder of a board is killed while another one waits",
    where="killed",
    blame=Blame.NOBODY,
    survives="the board, for who waited, after it was off",
)
def test_a_board_is_one_harness_at_a_time_and_free_when_that_is_killed_and_the_board_is_off(
    twin: Callable[..., Twin],
) -> None:
    machine = twin()
    environment = {**os.environ, **machine.environment}

    def start(*words: str, stdout: int, stderr: int | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "harness", *machine.arguments("boot", "twin-uboot"), *words]
        return subprocess.Popen(command, cwd=machine.cwd, env=environment, text=True, stdout=stdout, stderr=stderr)

    first = start("--", "echo up; sleep 600", stdout=subprocess.PIPE)
    assert first.stdout
    assert first.stdout.readline() == "up\n"
    has_it = f"process {first.pid}: harness boot --build"
    refused = machine.harness("boot", "twin-uboot", "--", "true")
    assert refused.returncode == 3
    assert re.search(rf"twin-uboot: in use by \S+ since [\d:]+, {has_it}.*`--wait` waits", refused.stderr)
    looked_at = harness("boards", "check", "twin-uboot", cwd=machine.cwd, environment=machine.environment)
    assert re.search(rf"FAILED  console +\S+: in use by .* {has_it}", looked_at.stdout), looked_at.stdout
    assert 'ok      power       the switch answers {"POWER1":"ON"}' in looked_at.stdout
    assert re.search(
        rf"in use by .* {has_it}", harness("boards", cwd=machine.cwd, environment=machine.environment).stdout
    )
    second = start("--wait", "--", "echo mine", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert second.stderr
    waits = f"twin-uboot: waiting for {getpass.getuser()}@"
    assert any(waits in line for line in second.stderr)  # up to the first such line; a build may be said something of
    first.kill()
    first.communicate()
    output, told = second.communicate(timeout=300)
    assert (second.returncode, output) == (0, "mine\n"), told
    assert not machine.is_on()
    assert "in use" not in harness("boards", cwd=machine.cwd, environment=machine.environment).stdout


def test_checks_without_booting(twin: Callable[..., Twin]) -> None:
    machine = twin()
    found = harness("boards", "check", "twin-uboot", cwd=machine.cwd, environment=machine.environment)
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["ok", "ok", "ok", "unseen", "ok"], found.stdout
    assert found.returncode == 0
    assert not machine.is_on()
    machine.process.terminate()
    machine.process.wait(timeout=30)
    found = harness("boards", "check", "twin-uboot", cwd=machine.cwd, environment=machine.environment)
    assert found.returncode == 3
    # the password is `twin`, and hidden wherever it stands
    assert "FAILED  console     ***-uboot.console: expected a console server at " in found.stdout
    host = machine.environment["TWIN_HOST"]
    assert f"FAILED  power       ***-uboot.power.query: http://{host}:17342/cm?cmnd=Power1: " in found.stdout


def test_a_person_at_the_console(twin: Callable[..., Twin]) -> None:
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
