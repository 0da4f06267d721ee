"""Telling GRUB to boot a kernel once, up to the moment when the own system would be left: a real sshd on loopback, with
a `reboot` that only writes down that it was called. What GRUB makes of it is tests/e2e/test_twin_grub.py's."""

from __future__ import annotations

import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.board import BoardSpec, CommandSwitch, Login, Power, Ssh
from harness.model.boot import GrubBoot
from harness.target.base import Media, silent
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.methods import grub, grubcfg, ownsystem
from harness.target.methods.grub import Grub
from harness.target.methods.start import Start
from tests.boards import held, spec
from tests.contract import sshd
from tests.contract.conftest import write_tool
from tests.faults.catalogue import Blame, fault

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
SOURCES = "if [ -f  ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\nfi\n"
OWN = b"set superusers=m\xe9\n"  # not UTF-8


class Switch:
    def on(self) -> None: ...

    def off(self) -> None: ...


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """GRUB's directory on the own system."""
    directory = tmp_path / "grub"
    directory.mkdir()
    (directory / "grub.cfg").write_text(SOURCES)
    return directory


@pytest.fixture
def board(tmp_path: Path, tools: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardSpec]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_tool(tools, "reboot", f"echo rebooted > {tmp_path}/rebooted")
    with sshd.running(tmp_path, path=str(tools)) as server:
        yield spec(
            name="b",
            boot=GrubBoot(directory=str(there), system_seconds=20.0),
            power=Power(switch=CommandSwitch(on=("true",), off=("true",)), check_silence=False),
            ssh=Ssh(host="127.0.0.1", port=server.port, login=Login(key=str(server.key))),
        )


@pytest.fixture
def media(media: Media) -> Media:
    media.image.write_bytes(b"MZ a kernel")
    return media


def prepared(board: BoardSpec, media: Media, token: str = "abc") -> Grub:
    system = ownsystem.own_system(board, board.access)
    made = Grub.found(board, system)
    made.prepare(media, token, "rdinit=/x quiet")
    return made


def started(board: BoardSpec, media: Media, tmp_path: Path, *says: bytes) -> None:
    """`grub.start`, with a console that says something when the own system has been told to reboot."""
    ours, theirs = socket.socketpair()
    line = Console(SocketTransport(ours), log=None, name="b's serial line")

    def talk() -> None:
        while not (tmp_path / "rebooted").exists():
            time.sleep(0.01)
        block = (tmp_path / "grub/harness/env").read_bytes()
        for said in says:
            theirs.sendall(said.replace(b"TOKEN", grubcfg.value_of(block).encode()))

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        grub.start(
            Start(
                board=held(board),
                media=media,
                line=line,
                switch=Switch(),
                arguments="rdinit=/x",
                logs=tmp_path,
                say=silent,
            )
        )
    finally:
        theirs.close()
        line.close()


def test_nothing_is_armed_before_the_own_system_is_left(board: BoardSpec, media: Media, there: Path) -> None:
    (there / "custom.cfg").write_bytes(OWN)
    made = prepared(board, media)
    assert grubcfg.value_of((there / "harness/env").read_bytes()) == grubcfg.TAKEN
    text = OWN.decode(errors="surrogateescape")
    assert (there / "custom.cfg").read_text(errors="surrogateescape") == grubcfg.with_block(text)
    brought = {path.read_bytes(): path.name for path in (there / "harness").glob("*-harness")}
    assert media.root
    assert media.payload
    names = [brought[path.read_bytes()] for path in (media.image, media.root, media.payload)]
    told = (there / "harness/grub.cfg").read_text()
    assert f"linux \"${{harness}}/{names[0]}\" 'rdinit=/x' 'quiet'" in told
    assert f'initrd "${{harness}}/{names[1]}" "${{harness}}/{names[2]}"' in told
    made.system.close()


def test_a_kernel_that_was_brought_for_an_earlier_boot_makes_room(board: BoardSpec, media: Media, there: Path) -> None:
    prepared(board, media).system.close()
    before = {path.name for path in (there / "harness").glob("*-harness")}
    media.image.write_bytes(b"MZ another kernel")
    (there / "harness/x.partial").touch()
    prepared(board, media).system.close()
    after = {path.name for path in (there / "harness").glob("*-harness")}
    assert len(before) == len(after) == 3
    assert len(before & after) == 2
    assert not (there / "harness/x.partial").exists()


def test_the_own_system_reboots_and_the_kernel_shows(
    board: BoardSpec, media: Media, there: Path, tmp_path: Path
) -> None:
    started(board, media, tmp_path, b"GRUB loading.\r\n", b"harness TOKEN: starting\r\n")
    assert (tmp_path / "rebooted").exists()
    assert len(grubcfg.value_of((there / "harness/env").read_bytes())) == 8


def test_a_kernel_shows_by_its_command_line_where_grub_is_not_heard(
    board: BoardSpec, media: Media, tmp_path: Path
) -> None:
    started(board, media, tmp_path, b"[    0.000000] Kernel command line: BOOT_IMAGE=/x panic=60 rdinit=/x\r\n")


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"error: file not found.\r\nharness TOKEN: not started\r\n", "GRUB does not start the kernel; it says why"),
        (b"error: x.\r\nharness TOKEN: not disarmed\r\n", "could not undo the one-time boot, and boots"),
    ],
)
def test_what_grub_says_when_it_does_not(
    board: BoardSpec, media: Media, tmp_path: Path, says: bytes, told: str
) -> None:
    with pytest.raises(InfraError, match=told) as raised:
        started(board, media, tmp_path, says)
    assert any(line.startswith("error: ") for line in raised.value.details)


@pytest.mark.parametrize(("taken", "told"), [(False, "GRUB did not read .*custom.cfg"), (True, "GRUB took the kernel")])
@fault(
    "the server's own system boots instead of the kernel",
    where="boot",
    blame=Blame.INFRA,
    survives="its GRUB configuration, as it was",
)
def test_an_own_system_that_comes_back_is_told_and_left_as_it_was(
    board: BoardSpec,
    media: Media,
    there: Path,
    tmp_path: Path,
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    taken: bool,
    told: str,
) -> None:
    """Which boot it is tells the file that is put in place of the kernel's."""
    boots = tmp_path / "boot_id"
    boots.write_text(f"{uuid.uuid4()}\n")
    monkeypatch.setattr(grub, "_BOOT_ID", f"cat {boots}")
    take = f"printf 'harness_once=taken\\n' > {there}/harness/env;" if taken else ""
    write_tool(tools, "reboot", f"{take} echo {uuid.uuid4()} > {boots}; echo x > {tmp_path}/rebooted")
    with pytest.raises(InfraError, match=told):
        started(board, media, tmp_path, b"\r\nb login: ")
    assert not (there / "custom.cfg").exists()
    assert {path.name[-8:] for path in (there / "harness").iterdir()} == {"-harness"}


@fault(
    "a server that can not reboot",
    where="boot",
    blame=Blame.INFRA,
    survives="its GRUB configuration, as it was, mode and all",
)
def test_a_system_that_can_not_reboot_is_left_as_it_was(
    board: BoardSpec, media: Media, there: Path, tmp_path: Path, tools: Path
) -> None:
    (tools / "reboot").unlink()
    real = tmp_path / "custom"
    real.write_bytes(OWN)
    real.chmod(0o600)  # it may hold a password
    (there / "custom.cfg").symlink_to(real)
    with pytest.raises(InfraError, match="expected the board's own system to reboot"):
        started(board, media, tmp_path)
    assert (there / "custom.cfg").is_symlink()
    assert real.read_bytes() == OWN
    assert real.stat().st_mode & 0o777 == 0o600
    assert {path.name[-8:] for path in (there / "harness").iterdir()} == {"-harness"}


@fault(
    "a server that neither reboots nor comes back",
    where="boot",
    blame=Blame.INFRA,
    survives="its name in the message",
)
def test_a_system_that_neither_goes_nor_comes(board: BoardSpec, media: Media, tmp_path: Path, tools: Path) -> None:
    write_tool(tools, "cat", f'echo "$$ is noise"; exec {shutil.which("cat")} "$@"')
    assert isinstance(board.boot, GrubBoot)
    slow = replace(board, boot=replace(board.boot, system_seconds=0.5))
    with pytest.raises(InfraError, match=r"neither the kernel nor the board's own system showed within 0 s"):
        started(slow, media, tmp_path)


def test_what_is_seen_without_booting(board: BoardSpec, there: Path, tools: Path, tmp_path: Path) -> None:
    write_tool(tools, "uname", "echo b 6.1")
    assert grub.look(board, board.access) == f"answers as b 6.1; GRUB reads {there}/custom.cfg, and can write beside it"
    assert [path.name for path in there.iterdir()] == ["grub.cfg"]
    write_tool(tools, "od", "echo '   1'")
    with pytest.raises(InfraError, match="Secure Boot is on"):
        grub.look(board, board.access)
    write_tool(tools, "grub2-probe", 'case "$2" in fs) echo xfs ;; *) echo diskfilter; echo lvm ;; esac')
    with pytest.raises(InfraError, match=r"can't write to .*, which is on diskfilter and lvm"):
        grub.look(board, board.access)
    (there / "grub.cfg").write_text("set default=0\n")
    with pytest.raises(InfraError, match=r"to read custom\.cfg, it does not; see that /etc/grub\.d/41_custom"):
        grub.look(board, board.access)
    (there / "grub.cfg").unlink()
    with pytest.raises(InfraError, match=r"expected grub\.cfg in .*/grub on the board's own system, found none"):
        grub.look(board, board.access)


@fault(
    "a kernel without EFI stub, for a server that boots by EFI",
    where="boot",
    blame=Blame.INFRA,
    survives="the server, not rebooted",
)
def test_a_kernel_that_grub_can_not_start(board: BoardSpec, media: Media, tmp_path: Path) -> None:
    media.image.write_bytes(b"\x1f\x20")
    with pytest.raises(InfraError, match="starts kernels with an EFI stub only"):
        started(board, media, tmp_path)
    assert not (tmp_path / "rebooted").exists()


@fault(
    "no room for a kernel in a server's /boot",
    where="disk",
    blame=Blame.INFRA,
    survives="the free space that its own system needs",
)
def test_a_full_disk(board: BoardSpec, media: Media, tmp_path: Path, tools: Path) -> None:
    write_tool(tools, "df", "echo x; echo /dev/sda1 1000 1000 40000 50% /boot")
    prepared(board, media).system.close()  # 7 MB more than what is to be left
    media.image.write_bytes(b"MZ" + bytes(8 << 20))
    with pytest.raises(InfraError, match=r"/harness: expected 40 MB free, found 39 MB; make room there"):
        prepared(board, media)
