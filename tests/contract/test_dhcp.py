"""The real dnsmasq as the harness runs it, in a network of its own: whom it answers, as whom it runs, and when it
ends."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.layout import PROJECT
from harness.target.serving.interfaces import has_default_route, interface_of
from tests.dhcpclient import BOARD, NAK, OFFER, STRANGER
from tests.faults.catalogue import Blame, fault

RANGE = ["10.9.0.10", "10.9.0.20"]
NAMESPACE = ("unshare", "--net")
_LIMIT_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    missing = [program for program in ("dnsmasq", "ip", "unshare", "setpriv", "pgrep") if not shutil.which(program)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    can = subprocess.run([*NAMESPACE, "ip", "link", "add", "type", "veth"], capture_output=True, text=True, check=False)
    if can.returncode:
        pytest.skip(f"needs a network namespace of its own: {can.stderr.strip()}")


def words(**wanted: Any) -> list[str]:
    return [*NAMESPACE, sys.executable, "-m", "tests.dhcpclient", json.dumps(wanted)]


def told(**wanted: Any) -> dict[str, Any]:
    """Networks of their own have equal addresses, so they need locks of their own, too."""
    with tempfile.TemporaryDirectory() as locks:
        environment = {**os.environ, "HARNESS_LOCKS": locks}
        done = subprocess.run(
            words(**wanted),
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@fault(
    "a machine that is not the board asks the harness's DHCP server for an address, and for the one it has elsewhere",
    where="network",
    blame=Blame.NOBODY,
    survives="the stranger's network: it gets no answer; the board gets its address",
)
def test_a_stranger_gets_no_answer() -> None:
    found = told(dhcp=RANGE, mac=BOARD, default_route=True)
    assert found["answers"] == [[BOARD, OFFER]]
    assert f"{STRANGER} ignored" in found["log"]
    assert found["said"] == []


def test_on_a_cable_of_its_own_any_board_gets_an_answer() -> None:
    """Which shows, too, that a stranger's questions arrive; the address that it had elsewhere is not refused."""
    found = told(dhcp=RANGE)
    assert sorted(found["answers"]) == [[BOARD, OFFER], [STRANGER, OFFER]]
    assert NAK not in [kind for _, kind in found["answers"]]
    assert found["said"] == []


@fault(
    "boot.tftp_serve.dhcp without `mac` on an interface that leads to other networks",
    where="network",
    blame=Blame.USER,
    survives="that network: nothing is answered there, and it is told before the build",
)
def test_a_network_with_a_way_out_is_not_answered() -> None:
    found = told(dhcp=RANGE, default_route=True)
    assert found["exit_code"] == 2
    assert found["refused"].startswith(
        "b.boot.tftp_serve.dhcp: expected b.boot.tftp_serve.mac, the address of the board's network card"
    )
    assert "10.9.0.1 is on va, over which this host reaches other networks" in found["refused"]
    assert found["refused"].endswith("Where that is meant, set b.boot.tftp_serve.dhcp_any: true")


def test_who_means_it_is_warned() -> None:
    found = told(dhcp=RANGE, default_route=True, dhcp_any=True)
    assert [BOARD, OFFER] in found["answers"]
    assert found["said"] == [
        "b.boot.tftp_serve: until the kernel has started, every machine on va that asks for an address gets one from "
        "here (dhcp_any)"
    ]


@fault(
    "a file below boot.tftp_root that only root may read is asked for over TFTP",
    where="network",
    blame=Blame.NOBODY,
    survives="the file's content; what everybody may read is served",
)
def test_only_what_everybody_may_read_is_served() -> None:
    """Also that without DHCP it does not matter where the network leads."""
    content, refusal = told(default_route=True)["files"]
    assert content == "content"
    assert refusal.startswith("the server answers: ")


@fault(
    "boot.tftp_root is a directory that the server's user may not read",
    where="disk",
    blame=Blame.INFRA,
    survives="the time of a build: it is told before, with the directory and the user",
)
def test_a_directory_that_can_not_be_served_is_told() -> None:
    found = told(unreadable=True)
    assert found["exit_code"] == 3
    told_so = r"b\.boot\.tftp_serve: expected a directory that user \w+ may read, .* found /tmp/\w+, which it may not"
    assert re.match(told_so, found["refused"])


@pytest.mark.parametrize(
    ("dhcp", "capabilities"), [([], {"NET_BIND_SERVICE": 10}), (RANGE, {"BIND": 10, "ADMIN": 12, "RAW": 13})]
)
def test_it_does_not_run_as_root(dhcp: list[str], capabilities: dict[str, int]) -> None:
    status = told(dhcp=dhcp, mac=BOARD)["status"]
    assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
    for which in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[which], 16) == sum(1 << number for number in capabilities.values()), which
    assert status["NoNewPrivs"] == "1"


def test_it_does_not_know_the_boards_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCH_PASSWORD", "swordfish")
    names = {setting.partition("=")[0] for setting in told()["environment"] if setting}
    assert names <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_"}  # the last three are the shell's


@fault(
    "the harness is killed while its DHCP and TFTP server runs as another user",
    where="killed",
    blame=Blame.NOBODY,
    survives="nothing of it: the server ends",
)
def test_it_ends_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        words(dhcp=RANGE, mac=BOARD, leaves_running=True),
        cwd=PROJECT,
        env={**os.environ, "HARNESS_LOCKS": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        server = os.pidfd_open(json.loads(process.stdout.readline())["server"])
        process.kill()
    assert select.select([server], [], [], 30.0)[0], "the server still runs"
    os.close(server)


def test_the_interface_of_an_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.9") == ""
    assert not has_default_route("lo")
