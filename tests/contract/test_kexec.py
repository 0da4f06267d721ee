"""Starting a kernel from a board's own system, up to the moment when that system would be left: a real sshd on
loopback, with a kexec that only writes down what it is told."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.board import BoardSpec, CommandSwitch, Login, Power, Ssh
from harness.model.boot import KexecBoot
from harness.target.base import Media, silent
from harness.target.line.console import Console
from harness.target.methods import kexec, ownsystem
from harness.target.shells.ssh import HostKeyChanged, LoginRefused, SshHost
from tests.boards import held, spec
from tests.contract import sshd
from tests.contract.sshd import Sshd
from tests.faults.catalogue import Blame, fault

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())


def write_kexec(tools: Path, *, refuses: str = "") -> Path:
    """A kexec that appends its arguments to a file, and fails where `refuses` is among them."""
    told = tools.parent / "told"
    program = tools / "kexec"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {shlex.quote(str(told))}\n'
        f'case " $* " in *" {refuses or "nothing"} "*) echo "kexec_load failed: not permitted"; exit 1 ;; esac\n'
    )
    program.chmod(0o755)
    return told


def board_at(server: Sshd, tmp_path: Path, **boot: object) -> BoardSpec:
    return spec(
        name="b",
        boot=KexecBoot(directory=str(tmp_path / "there"), **boot),  # type: ignore[arg-type]
        power=Power(switch=CommandSwitch(on=("true",), off=("true",)), off_seconds=0.01, check_silence=False),
        ssh=Ssh(host="127.0.0.1", port=server.port, login=Login(key=str(server.key))),
    )


def with_dtb(board: BoardSpec, dtb: str) -> BoardSpec:
    assert isinstance(board.boot, KexecBoot)
    return replace(board, boot=replace(board.boot, dtb=dtb))


@pytest.fixture
def system(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BoardSpec, SshHost]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with sshd.running(tmp_path, path=str(tools)) as server:
        board = board_at(server, tmp_path)
        host = ownsystem.own_system(board, board.access)
        yield board, host
        host.close()


def test_kernel_and_root_are_brought_there_and_loaded(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media, tmp_path: Path
) -> None:
    board, host = system
    told = write_kexec(tools)
    kexec.load(board, media, host, "rdinit=/x quiet")
    assert media.root
    assert media.payload
    words = told.read_text().split(maxsplit=2)
    assert words[0] == "-l"
    assert Path(words[1]).read_bytes() == media.image.read_bytes()
    assert words[2] == f"--initrd={tmp_path}/there/initrd --command-line=rdinit=/x quiet\n"
    assert (tmp_path / "there/initrd").read_bytes() == media.root.read_bytes() + media.payload.read_bytes()


def test_what_is_there_already_is_not_brought_again(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media, tmp_path: Path
) -> None:
    board, host = system
    write_kexec(tools)
    kexec.load(board, media, host, "")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "there").glob("*-harness")}
    assert len(before) == 3
    broken = next((tmp_path / "there").glob("*-harness"))
    broken.write_bytes(b"broken")
    kexec.load(board, media, host, "")
    after = {path.name: path.stat().st_ino for path in (tmp_path / "there").glob("*-harness")}
    assert {name for name in before if before[name] != after[name]} == {broken.name}


def test_files_that_nobody_used_for_long_are_cleared_up(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media, tmp_path: Path
) -> None:
    board, host = system
    write_kexec(tools)
    (tmp_path / "there").mkdir()
    for name in ("old-harness", "not-ours"):
        (tmp_path / "there" / name).touch()
        os.utime(tmp_path / "there" / name, (0, 0))
    kexec.load(board, media, host, "")
    assert not (tmp_path / "there/old-harness").exists()
    assert (tmp_path / "there/not-ours").exists()


def test_the_other_system_call_is_tried_where_one_is_refused(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media
) -> None:
    board, host = system
    told = write_kexec(tools)
    program = tools / "kexec"
    program.write_text(program.read_text().replace('case " $* "', 'case " $1 "').replace('" nothing "', '" -l "'))
    kexec.load(board, media, host, "")
    assert [text.split()[0] for text in told.read_text().splitlines()] == ["-l", "-s"]


def test_a_kernel_that_is_not_loaded_is_told_with_what_kexec_says(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media
) -> None:
    board, host = system
    write_kexec(tools, refuses="-l")
    with pytest.raises(InfraError, match="does not load it; see whether it was built with KEXEC") as told:
        kexec.load(board, media, host, "")
    assert "kexec_load failed: not permitted" in told.value.details


def test_a_device_tree_of_the_build(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media, tmp_path: Path
) -> None:
    board, host = system
    told = write_kexec(tools)
    (tmp_path / "x.dtb").write_bytes(b"tree")
    media, board = replace(media, dtbs=tmp_path), with_dtb(board, "x.dtb")
    kexec.load(board, media, host, "")
    brought = told.read_text().split("--dtb=")[1].strip()
    assert Path(brought).read_bytes() == b"tree"
    with pytest.raises(InfraError, match=r"b\.boot\.dtb: expected y\.dtb among the build's device trees"):
        kexec.load(with_dtb(board, "y.dtb"), media, host, "")


@fault("a server without kexec", where="host", blame=Blame.INFRA, survives="what to install there")
def test_a_system_without_kexec(system: tuple[BoardSpec, SshHost], media: Media) -> None:
    board, host = system
    with pytest.raises(InfraError, match=r"b: kexec: expected `kexec` .* install kexec-tools there"):
        kexec.load(board, media, host, "")


class Switch:
    """A power switch that starts an SSH server."""

    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack, port: int, name: str) -> None:
        self.told: list[str] = []

        def start() -> None:
            stack.enter_context(sshd.running(tmp_path, port=port, name=name))

        self._start = start

    def on(self) -> None:
        self.told.append("on")
        self._start()

    def off(self) -> None:
        self.told.append("off")


@pytest.mark.parametrize("name", ["host", "another"])
def test_a_system_that_does_not_answer_is_switched_off_and_on(
    tmp_path: Path, line: Console, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its host key is still held against the one it had."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with sshd.running(tmp_path) as server:
        board = board_at(server, tmp_path)
        ownsystem.own_system(board, board.access).connect()
    ownsystem.check(board, board.access)  # it may come back
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        switch = Switch(tmp_path, stack, server.port, name)
        host = stack.enter_context(contextlib.closing(ownsystem.own_system(board, board.access)))
        if name == "host":
            ownsystem.reach(held(board), host, line, switch, said.append)
            assert host.connected
        else:
            with pytest.raises(HostKeyChanged, match="expected the host key"):
                ownsystem.reach(held(board), host, line, switch, said.append)
            with pytest.raises(HostKeyChanged):
                ownsystem.check(board, board.access)
    assert switch.told == ["off", "on"]
    assert "switching the board off and on" in said[0]


@fault("a server refuses the login", where="network", blame=Blame.INFRA, survives="the server, not switched off")
def test_a_login_that_is_refused_switches_nothing(
    tmp_path: Path, line: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "another").mkdir()
    with sshd.running(tmp_path) as server, sshd.running(tmp_path / "another") as other, contextlib.ExitStack() as stack:
        board = board_at(Sshd(port=server.port, key=other.key, host_key=""), tmp_path)
        switch = Switch(tmp_path, stack, 0, "host")
        host = stack.enter_context(contextlib.closing(ownsystem.own_system(board, board.access)))
        with pytest.raises(LoginRefused, match=r"see b\.ssh\.user and b\.ssh\.key"):
            ownsystem.reach(held(board), host, line, switch, silent)
        with pytest.raises(LoginRefused):
            ownsystem.check(board, board.access)
    assert switch.told == []


@fault(
    "a server's directory for kernels can not be written",
    where="disk",
    blame=Blame.INFRA,
    survives="the reason that it gives",
)
def test_files_that_can_not_be_written_there(
    system: tuple[BoardSpec, SshHost], tools: Path, media: Media, tmp_path: Path
) -> None:
    board, host = system
    write_kexec(tools)
    digest = hashlib.sha256(media.image.read_bytes()).hexdigest()
    (tmp_path / f"there/{digest[:12]}-harness").mkdir(parents=True)  # in the way
    with pytest.raises(InfraError, match=r"see boot\.directory, and whether that disk has room"):
        kexec.load(board, media, host, "")


@fault(
    "a server's own system stays away after it was switched off and on",
    where="boot",
    blame=Blame.INFRA,
    survives="the limit and its key in the message",
)
def test_a_system_that_stays_away(tmp_path: Path, line: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with sshd.running(tmp_path) as server:
        board = board_at(server, tmp_path, system_seconds=0.2)
    with contextlib.ExitStack() as stack:
        switch = Switch(tmp_path, stack, 0, "host")  # somewhere else
        host = stack.enter_context(contextlib.closing(ownsystem.own_system(board, board.access)))
        with pytest.raises(InfraError, match=r"did not come up within 0 s \(boot\.system_seconds\)"):
            ownsystem.reach(held(board), host, line, switch, silent)


def test_what_is_seen_without_booting(system: tuple[BoardSpec, SshHost], tools: Path) -> None:
    board, _ = system
    with pytest.raises(InfraError, match="install kexec-tools there"):
        kexec.look(board, board.access)
    write_kexec(tools)
    (tools / "uname").symlink_to(shutil.which("uname") or "uname")
    assert kexec.look(board, board.access) == f"answers as {os.uname().nodename} {os.uname().release}, and has kexec"
