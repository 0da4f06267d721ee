"""Boards with a network, on twins: commands over SSH beside the serial line, kernels started by kexec."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import SERVED_BY, Twin, harness
from tests.faults.catalogue import Blame, fault


def test_commands_go_over_the_network_and_the_log_over_the_serial_line(twin: Callable[..., Twin]) -> None:
    machine = twin("ssh")
    done = machine.harness("boot", "twin-ssh", "--", f"{SERVED_BY}; echo hello > /dev/kmsg; sleep 2; exit 5")
    assert done.returncode == 5, done.stderr
    assert done.stdout.startswith("dropbear ")
    assert "] hello\n" in next(machine.cwd.glob("out/boot-*/console.log")).read_text()
    assert not machine.is_on("ssh")


@fault(
    "the target's network goes down during a command",
    where="network",
    blame=Blame.INFRA,
    survives="the kernel's good name: it still answers on the serial line",
)
def test_a_network_that_goes_down_is_no_fault_of_the_kernel(twin: Callable[..., Twin]) -> None:
    machine = twin("ssh")
    done = machine.harness("boot", "twin-ssh", "--", "ip link set eth0 down; sleep 600")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "network to the target was lost; its kernel still answers" in done.stderr
    assert not machine.is_on("ssh")


@fault(
    "a board has another address than its entry says",
    where="network",
    blame=Blame.NOBODY,
    survives="the command, over the serial line",
)
def test_a_board_without_the_network_it_should_have_does_with_its_serial_line(twin: Callable[..., Twin]) -> None:
    machine = twin("ssh", boards=NO_NETWORK)
    done = machine.harness("boot", "elsewhere", "--", SERVED_BY)
    assert (done.returncode, "board-init" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "its own address is 10.0.2.15); continuing over the serial line alone" in done.stderr


def checked(machine: Twin) -> str:
    return harness("boards", "check", "twin-server", cwd=machine.cwd, environment=machine.environment).stdout


def test_a_server_starts_the_kernel_by_kexec_and_has_its_own_system_back_afterwards(
    twin: Callable[..., Twin], system: Path
) -> None:
    machine = twin("server", system=system)
    done = machine.harness("run", "twin-server", "--suite", "testcases/function", "-k", "test_calls")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 PASS" in done.stdout
    assert machine.is_on("server")
    deadline = time.monotonic() + 120
    while "ok      own system  answers as" not in (seen := checked(machine)):
        assert time.monotonic() < deadline, seen


NO_NETWORK = """
boards:
  elsewhere:
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}"}
    console: {kind: telnet, host: "${TWIN_HOST}", port: 17345}
    power: {kind: tasmota, host: "${TWIN_HOST}:17346"}
    ssh: {host: "${TWIN_HOST}", port: 1, address: 10.0.2.15/24}
"""
