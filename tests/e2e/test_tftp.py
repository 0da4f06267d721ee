"""A TFTP server that the harness starts, and U-Boot that loads from it: a network namespace with a cable between."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.host import ensure_host
from tests.e2e.conftest import PROJECT, Boots
from tests.faults.catalogue import Blame, fault

BOARDS = """
boards:
  twin:
    console: {kind: telnet, host: 127.0.0.1, port: 17341}
    power: {kind: tasmota, host: "127.0.0.1:17342"}
    boot:
      method: uboot
      tftp_root: ROOT
      tftp_serve: {address: 10.77.0.1, dhcp: [10.77.0.10, 10.77.0.20], mac: 52:52:52:52:52:52}  # U-Boot's own
    limits: {boot: 120}
"""


@pytest.fixture
def boot(cabled: Callable[..., Boots]) -> Boots:
    """`harness boot` on a twin at the other end of the cable."""
    ensure_host(needed_for={"qemu", "u-boot", "tftp"})
    return cabled(BOARDS)


def test_a_board_gets_its_address_and_its_kernel_from_a_server_that_lives_as_long_as_it_is_needed(
    boot: Boots, tmp_path: Path
) -> None:
    old = tmp_path / "tftp/harness/0123456789ab-Image"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (0, 0))
    done = boot("echo up")
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["up"]), done.stderr
    assert not old.exists()
    log = next(tmp_path.glob("out/boot-*/tftp.log")).read_text()
    assert re.search(r"-Image to 10\.77\.0\.[12]\d$", log, re.MULTILINE), log
    assert re.search(r"DHCPACK\(tap0\) 10\.77\.0\.[12]\d ", log), log
    assert subprocess.run(["pgrep", "-f", f"tftp-root={(tmp_path / 'tftp').resolve()}"], check=False).returncode == 1


@fault(
    "boot.tftp_serve.mac is not that of the board's network card",
    where="network",
    blame=Blame.INFRA,
    survives="the card's address, which is told; nobody gets an answer",
)
def test_a_mac_address_that_is_not_the_boards_is_told(cabled: Callable[..., Boots]) -> None:
    ensure_host(needed_for={"qemu", "u-boot", "tftp"})
    done = cabled(BOARDS.replace("mac: 52:52:52:52:52:52", "mac: 52:54:00:12:34:56"))("true")
    assert done.returncode == 3
    assert "twin: U-Boot: `setenv autoload no; dhcp`: " in done.stderr
    told = "twin.boot.tftp_serve.mac is 52:54:00:12:34:56, and DHCP requests of these were ignored: 52:52:52:52:52:52;"
    assert told in done.stderr


@fault("another server has the TFTP port", where="network", blame=Blame.INFRA, survives="the board, not switched on")
def test_a_port_that_is_taken_is_told_before_anything_is_booted(boot: Boots, inside: list[str]) -> None:
    taken = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('10.77.0.1', 69)); "
        "print('bound', flush=True); input()"
    )
    with subprocess.Popen(
        [*inside, sys.executable, "-c", taken], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "bound\n"
        done = boot("true")
        other.communicate("\n")
    assert done.returncode == 3
    assert "twin.boot.tftp_serve: port 69 of 10.77.0.1 is taken; end the server that has it" in done.stderr


SERVER = """
import sys, time
from pathlib import Path
from harness.model.boot import TftpServe
from harness.target.serving.tftp import Dnsmasq
root = Path(sys.argv[1])
server = Dnsmasq(TftpServe(address="10.77.0.1"), root, place="b", log=root / "log")
print(server._process.pid, flush=True)
time.sleep(600)
"""
ASK = """
import socket
line = socket.socket(type=socket.SOCK_DGRAM)
line.settimeout(20)
line.sendto(b"\\0\\1file\\0octet\\0", ("10.77.0.1", 69))
print(line.recv(600)[4:].decode())
"""


def test_a_server_serves_and_ends_with_a_harness_that_is_killed(inside: list[str], everybodys: Path) -> None:
    ensure_host(needed_for={"tftp"})
    (everybodys / "file").write_text("what is in it")
    words: list[str | Path] = [*inside, sys.executable, "-c", SERVER, everybodys]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout
        server = os.pidfd_open(int(process.stdout.readline()))
        asked = subprocess.run([*inside, sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
        assert asked.stdout == "what is in it\n"
        process.kill()
    assert select.select([server], [], [], 20.0)[0], "the server still runs"
    os.close(server)
