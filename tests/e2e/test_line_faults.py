"""A serial line that is bad: noise on it, its cable pulled. Results stay right, or it is an error of ours."""

from __future__ import annotations

import re

LINES = "i=0; while [ $i -lt 300 ]; do echo line $i; echo log $i > /dev/kmsg; i=$((i+1)); done"
WHOLE = [f"line {number}" for number in range(300)]


def test_a_line_that_loses_and_changes_bytes_from_power_on_to_power_off(twin):
    """One byte in 1500: every conversation with U-Boot is hit, and dozens of frames."""
    machine = twin(fault="noise", every=1500)
    done = machine.harness("boot", "twin-uboot", "--", f"{LINES}; exit 7")
    if done.returncode == 3:  # U-Boot's output is not proof against everything; then that is what is said
        assert re.search(r"twin-uboot: (U-Boot|bytes|expected U-Boot)", done.stderr), done.stderr
    else:
        assert (done.returncode, done.stdout.splitlines()) == (7, WHOLE), done.stderr
    assert not machine.is_on()


def test_a_line_that_becomes_noisy_costs_no_result(twin):
    machine = twin(fault="noise", every=200, at="Run /harness/board-init")
    done = machine.harness("boot", "twin-uboot", "--", f"{LINES}; exit 7")
    assert (done.returncode, done.stdout.splitlines()) == (7, WHOLE), done.stderr
    console = next(machine.cwd.glob("out/boot-*/console.log")).read_text(errors="replace")
    assert all(re.search(rf"\] log {number}$", console, re.MULTILINE) for number in range(300))


def test_a_cable_that_is_pulled_while_the_kernel_boots_and_in_the_middle_of_a_command_and_put_back(twin):
    machine = twin(fault="pulled", seconds=4, at="Booting Linux on")
    done = machine.harness("boot", "twin-uboot", "--", "echo up")
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr
