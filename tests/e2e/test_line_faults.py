"""A serial line that is bad: noise on it, its cable pulled. Results stay right, or it is an error of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import TWINS, Twin
from tests.faults.catalogue import Blame, fault

SHORT = """
boards:
  short:
    console: {kind: telnet, host: "${TWIN_HOST}", port: 17341}
    power: {kind: tasmota, host: "${TWIN_HOST}:17342"}
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}", load_seconds: 8}
    limits: {boot: 120}
"""
LINES = "i=0; while [ $i -lt 300 ]; do echo line $i; echo log $i > /dev/kmsg; i=$((i+1)); done"
WHOLE = [f"line {number}" for number in range(300)]


def test_a_line_that_loses_and_changes_bytes_from_power_on_to_power_off(twin: Callable[..., Twin]) -> None:
    """One byte in 1500: every conversation with U-Boot is hit, and dozens of frames."""
    machine = twin(fault="noise", every=1500)
    done = machine.harness("boot", "twin-uboot", "--", f"{LINES}; exit 7")
    if done.returncode == 3:  # U-Boot's output is not proof against everything; then that is what is said
        assert re.search(r"twin-uboot: (U-Boot|bytes|expected U-Boot)", done.stderr), done.stderr
    else:
        assert (done.returncode, done.stdout.splitlines()) == (7, WHOLE), done.stderr
    assert not machine.is_on()


@fault(
    "a serial line that changes or loses a byte in 200",
    where="console",
    blame=Blame.NOBODY,
    survives="output, exit code and kernel log, whole",
)
def test_a_line_that_becomes_noisy_costs_no_result(twin: Callable[..., Twin]) -> None:
    machine = twin(fault="noise", every=200, at="Run /harness/board-init")
    done = machine.harness("boot", "twin-uboot", "--", f"{LINES}; exit 7")
    assert (done.returncode, done.stdout.splitlines()) == (7, WHOLE), done.stderr
    console = next(machine.cwd.glob("out/boot-*/console.log")).read_text(errors="replace")
    assert all(re.search(rf"\] log {number}$", console, re.MULTILINE) for number in range(300))


STAMPED = """
boards:
  stamped:
    console: {kind: telnet, host: "${TWIN_HOST}", port: 17341}
    power: {kind: tasmota, host: "${TWIN_HOST}:17342"}
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}", stop_from: power-on}
    cmdline: console_msg_format=syslog
    limits: {boot: 120}
"""


@fault("a console server puts the time before each line and a carriage return at its end, from power-on to power-off, "
       "and the kernel puts its levels there", where="console", blame=Blame.NOBODY,
       survives="the output, the exit code, each kernel line once")  # fmt: skip
def test_a_console_server_that_adds_to_each_line_costs_nothing(twin: Callable[..., Twin]) -> None:
    machine = twin(fault="times", boards=STAMPED)
    done = machine.harness("boot", "stamped", "--", f"dmesg -n 8; {LINES}; exit 7")
    assert (done.returncode, done.stdout.splitlines()) == (7, WHOLE), done.stderr
    logs = next(machine.cwd.glob("out/boot-*"))
    console, serial = ((logs / name).read_text(errors="replace") for name in ("console.log", "serial.log"))
    assert [len(re.findall(rf"\] log {number}$", console, re.MULTILINE)) for number in range(300)] == [1] * 300
    assert re.search(r"\[\d{4}-\d\d-\d\d [\d:]{8}\] @C\d+:", serial)
    assert re.search(r"\] <\d+>\[ *\d+\.\d{6}\] log \d+", serial)


@fault(
    "the serial cable is pulled while the kernel boots, and put back",
    where="console",
    blame=Blame.NOBODY,
    survives="the boot",
)
def test_a_cable_that_is_pulled_while_the_kernel_boots_and_put_back(twin: Callable[..., Twin]) -> None:
    machine = twin(fault="pulled", seconds=4, at="Booting Linux on")
    done = machine.harness("boot", "twin-uboot", "--", "echo up")
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr


@fault(
    "the serial cable is pulled during a command, and put back",
    where="console",
    blame=Blame.NOBODY,
    survives="output and exit code, whole",
)
def test_a_cable_that_is_pulled_during_a_command_and_put_back_costs_nothing_that_the_board_still_knows(
    twin: Callable[..., Twin],
) -> None:
    machine = twin(fault="pulled", seconds=4, at="pull-it")
    done = machine.harness("boot", "twin-uboot", "--", f"echo pull-it; {LINES}; sleep 8; exit 7")
    assert (done.returncode, done.stdout.splitlines()) == (7, ["pull-it", *WHOLE]), done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(
            {"fault": "pulled", "seconds": 600, "at": "Booting Linux on"},
            "the serial line was lost while the kernel booted, and did not come back; see its cable or console server",
            marks=fault("the serial cable is pulled while the kernel boots, and stays out", where="console",
                        blame=Blame.INFRA, survives="the kernel's good name; the board, off"),
        ),
        pytest.param(
            {"fault": "no-net", "at": "Loading: "},
            "short: U-Boot: harness/.*-Image: the transfer did not end within 8 s; see whether the TFTP server",
            marks=fault("the network cable is pulled while U-Boot loads", where="network", blame=Blame.INFRA,
                        survives="the time limit; the board, off"),
        ),
    ],
    ids=["serial", "network"],
)  # fmt: skip
def test_a_cable_that_stays_out(twin: Callable[..., Twin], options: dict[str, str | int | str], told: str) -> None:
    machine = twin(boards=SHORT, **options)
    done = machine.harness("boot", "short", "--", "true")
    assert done.returncode == 3, done.stderr
    assert re.search(told, done.stderr), done.stderr
    assert not machine.is_on()


@pytest.mark.usefixtures("_u_boot")
def test_verdicts_stay_the_same_while_the_kernel_logs(build: Path, tmp_path: Path) -> None:
    """The ten repetitions of the whole set are repeat.py's own business."""
    words: list[str | Path] = [
        "--build",
        build,
        "--repetitions",
        "2",
        "--out",
        tmp_path / "out",
        "--keyword",
        "test_calls and filter",
    ]
    done = subprocess.run([sys.executable, TWINS / "repeat.py", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^[12]: 4 PASS; [1-9]\d+ lines logged", done.stdout, re.MULTILINE)) == 2, done.stdout
    assert "4 tests, 2 repetitions, 0 with a verdict that differs" in done.stdout
