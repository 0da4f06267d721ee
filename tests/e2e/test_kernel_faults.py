"""Kernels on boards that hang, flood their console or never say a word: what a run makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Twin
from tests.faults.catalogue import Blame, fault

TWIN = """
defaults:
  twin:
    console: {kind: telnet, host: "${TWIN_HOST}", port: 17341}
    power: {kind: tasmota, host: "${TWIN_HOST}:17342"}
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}"}
    limits: {boot: 120, silence: 8}
boards:
  one-cpu: {like: twin, cmdline: maxcpus=1, limits: {silence: 20}}  # a flood on a busy host takes its time
  plain: {like: twin}
  reboots: {like: twin, cmdline: rdinit=/nowhere panic=1}
  login: {like: twin, cmdline: 'rdinit=/bin/dash -- -c "echo -n twin login: ; sleep 600"'}
  dtb: {like: twin, boot: {dtb: other.dtb, dtb_at: "0x60000000"}, cmdline: panic=0, limits: {boot: 10}}
"""

TESTS = """
def test_1_passes(guest):
    assert guest.check("echo 42") == "42"

def test_2_loses_its_cable(guest):
    guest.check("echo pull-it; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")

def test_3_hangs(guest):
    guest.check("modprobe preemptirq_delay_test test_mode=irq delay=600000000 burst_size=1", seconds=60)

def test_4_floods(guest):
    guest.check("dmesg -n 8")
    flood = "( while [ ! -e /tmp/over ]; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx > /dev/kmsg; done ) > /dev/null 2>&1 &"
    guest.check(flood)
    for _ in range(3):
        assert guest.check("seq 100", seconds=60) == "\\\\n".join(map(str, range(1, 101)))
    guest.check("echo t > /proc/sysrq-trigger", seconds=60)
    guest.check("touch /tmp/over; sleep 1", seconds=60)

def test_5_passes(guest):
    assert guest.check("echo 42", seconds=60) == "42"
"""


@fault(
    "the serial cable is pulled out during a test and stays out past what the board remembers",
    where="console",
    blame=Blame.INFRA,
    survives="the verdicts before and after; the board, booted again and off at the end",
)
@fault(
    "a CPU hangs with interrupts off during a test",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the tests behind it, on a board that was switched off and on",
)
@fault(
    "the target floods the kernel log without end",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="every verdict; bounded memory",
)
def test_a_run_goes_on_after_a_pulled_cable_a_hang_and_a_flood(twin: Callable[..., Twin]) -> None:
    machine = twin(fault="pulled", seconds=3, at="pull-it", boards=TWIN)
    results = machine.run_testcases(TESTS.replace("\\\\n", "\\n"), "one-cpu")
    told = {test: (result["verdict"], result.get("reason", "")) for test, result in results.items()}
    assert told["test_1_passes"][0] == told["test_4_floods"][0] == told["test_5_passes"][0] == "PASS", told
    assert told["test_2_loses_its_cable"][0] == "ERROR"
    assert "one-cpu: bytes were lost or changed on the serial line" in told["test_2_loses_its_cable"][1]
    assert told["test_3_hangs"][0] == "CRASH"
    assert "hang: the kernel answers no more" in told["test_3_hangs"][1]
    assert int((machine.cwd / "memory").read_text()) < 300 << 10
    assert not machine.is_on()


@pytest.mark.parametrize(
    ("board", "code", "told"),
    [
        pytest.param(
            "reboots", 1, "the kernel panicked at boot: Kernel panic - not syncing: VFS: Unable to mount root",
            marks=fault("a board's kernel panics and reboots without end", where="boot", blame=Blame.KERNEL,
                        survives="the panic; the board, off"),
        ),
        pytest.param(
            "login", 3,
            r"login: expected the harness's own shell, but another system asks for a login, 'twin login:'; see whether",
            marks=fault("another system than the harness's boots and asks for a login", where="boot",
                        blame=Blame.INFRA, survives="the kernel's good name; the board, off"),
        ),
    ],
    ids=["panics and reboots for ever", "login prompt"],
)  # fmt: skip
def test_a_kernel_that_does_not_come_up_is_told_before_the_limit(
    twin: Callable[..., Twin], board: str, code: int, told: str
) -> None:
    machine = twin(boards=TWIN)
    done = machine.harness("boot", board, "--", "true")
    assert done.returncode == code, done.stderr
    assert re.search(told, done.stderr), done.stderr
    assert not machine.is_on()


@fault(
    "a device tree of another machine",
    where="boot",
    blame=Blame.INFRA,
    survives="the kernel's good name; what to look at",
)
def test_a_device_tree_of_another_machine(twin: Callable[..., Twin], tmp_path: Path) -> None:
    """The kernel dies before it has a console; that is not the kernel's fault."""
    machine = twin(boards=TWIN)
    build = tmp_path / "build"
    (build / "dtbs").mkdir(parents=True)
    shutil.copytree(machine.build, build, dirs_exist_ok=True)
    dump = f"virt,gic-version=3,dumpdtb={build / 'dtbs/other.dtb'}"
    subprocess.run(["qemu-system-aarch64", "-M", dump, "-cpu", "cortex-a72"], check=True, capture_output=True)
    machine.build = build
    done = machine.harness("boot", "dtb", "--", "true")
    assert done.returncode == 3, done.stderr
    assert "dtb: expected output of the kernel on its console, found none in 1" in done.stderr
    assert "Its device tree is of another machine (boot.dtb), its console another line" in done.stderr
    assert "with `cmdline: earlycon` a kernel that starts at all prints at once" in done.stderr
    assert not machine.is_on()
