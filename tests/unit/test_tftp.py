"""What is told before a TFTP or DHCP server of ours starts, and that one serves at a time."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.boot import TftpServe
from harness.target.holding import lock
from harness.target.serving import tftp
from tests.faults.catalogue import Blame, fault


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory that users other than root may read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def dnsmasq(everybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dnsmasq that is only looked for."""
    program = everybodys / "dnsmasq"
    program.write_text("#!/bin/sh\necho dnsmasq: no such directory; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_an_address_of_another_machine_is_told(dnsmasq: None) -> None:
    with pytest.raises(InfraError, match=r"b: expected an address of this host, found 203\.0\.113\.9, which none of"):
        tftp.check(TftpServe(address="203.0.113.9"), root=None, place="b")


def test_a_dnsmasq_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InfraError, match="install Debian's package dnsmasq-base"):
        tftp.check(TftpServe(address="127.0.0.1"), root=None, place="b")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "denied"), "sudo sysctl net.ipv4.ip_unprivileged_port_start=69"),
        (OSError(98, "in use"), "port 69 of 127.0.0.1 is taken"),
        (OSError(5, "broken"), "can't open port 69 of 127.0.0.1: broken"),
    ],
)
def test_a_port_that_may_not_be_opened_is_told(
    dnsmasq: None, monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
) -> None:
    def refuse(_self: object, _address: object) -> None:
        raise error

    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(InfraError) as caught:
        tftp.check(TftpServe(address="127.0.0.1"), root=None, place="b")
    assert told in caught.value.message


def test_only_root_answers_dhcp(dnsmasq: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.bind", lambda _self, _address: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InfraError, match="only root may answer DHCP"):
        tftp.check(TftpServe(address="127.0.0.1", dhcp=("127.0.0.2", "127.0.0.3")), root=None, place="b")


@fault(
    "the file system of tftp_root hangs", where="host", blame=Blame.INFRA, survives="the message names the directory"
)
def test_a_directory_that_does_not_answer_is_told(everybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(words: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(words, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.setattr(tftp, "_unprivileged", lambda: pwd.getpwuid(os.getuid()))
    with pytest.raises(InfraError, match=f"^b: expected to see whether .* may read {everybodys}, got no answer within"):
        tftp._check_readable(everybodys, "b")


@fault("dnsmasq does not start", where="network", blame=Blame.INFRA, survives="its own words")
def test_what_a_server_says_that_does_not_start_is_told(
    dnsmasq: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.bind", lambda _self, _address: None)
    with pytest.raises(InfraError, match="b: dnsmasq does not serve /srv/tftp") as caught:
        tftp.Dnsmasq(TftpServe(address="127.0.0.1"), Path("/srv/tftp"), place="b", log=tmp_path / "log")
    assert caught.value.details == ("dnsmasq: no such directory",)


def test_a_harness_that_serves_there_now_is_no_hindrance(
    dnsmasq: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object, _address: object) -> None:
        raise OSError(98, "in use")

    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    spec = TftpServe(address="127.0.0.1")
    with lock.acquired("b1", "tftp 127.0.0.1", purpose="a board loads"):
        monkeypatch.setattr("socket.socket.bind", refuse)
        tftp.check(spec, root=None, place="b2")
    with pytest.raises(InfraError, match="is taken"):
        tftp.check(spec, root=None, place="b2")


class Server:
    """Counts how many serve at once."""

    now, most = 0, 0
    ignored: tuple[str, ...] = ()

    def __init__(self, *_: object, **__: object) -> None:
        Server.now += 1
        Server.most = max(Server.most, Server.now)

    def close(self) -> None:
        Server.now -= 1


def test_boards_that_are_served_on_one_address_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    monkeypatch.setattr(tftp, "Dnsmasq", Server)
    spec, said = TftpServe(address="10.0.0.1"), list[str]()
    waits = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    def load() -> None:
        with tftp.served(spec, tmp_path, place="b2.boot.tftp_serve", log=tmp_path / "log", say=say):
            said.append("serves")

    second = threading.Thread(target=load)
    with tftp.served(spec, tmp_path, place="b1.boot.tftp_serve", log=tmp_path / "log", say=said.append):
        second.start()
        assert waits.wait(30.0)
        assert Server.now == 1
    second.join(30.0)
    waiting, serves = said
    assert re.fullmatch(r"b2\.boot\.tftp_serve: waiting for .*: b1\.boot\.tftp_serve: a board loads", waiting)
    assert (serves, Server.most, Server.now) == ("serves", 1, 0)
