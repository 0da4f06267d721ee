"""This host has no room or no memory while a target runs: the target is not blamed, and what reads it never stops."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BootError, InfraError
from harness.model.board import BoardSpec, Limits
from harness.model.boot import HttpServe, QemuBoot, TftpServe
from harness.run.documents import read_results
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.shortage import Shortage
from harness.target.base import Media, Target, TargetLost
from harness.target.holding import lock
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.methods import qemu
from harness.target.methods.qemu import QemuTarget
from harness.target.methods.qemuhost import why_ended
from harness.target.methods.snapshot import Snapshots
from harness.target.serving import shelf, tftp
from harness.target.serving.http import WebServer
from harness.target.shells.serial import Shell
from tests.fakerun import documented, fake_build, fake_run, fake_target
from tests.fakesnapshots import FakeSnapshots
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import Disk, mounted
from tests.unit.pieces import Pieces
from tests.unit.toytree import write_script

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@fault(
    "the console log can not be written for a while", where="disk", blame=Blame.INFRA,
    survives="every line for who listens; the log says where bytes are missing",
)  # fmt: skip
def test_a_console_goes_on_without_its_log_and_then_with_it(tmp_path: Path) -> None:
    heard: list[str] = []
    disk = Disk(tmp_path)
    pieces = Pieces([b"one\n", b"two\n", b"three\n", b"four\n"])
    with mounted(disk):
        disk._fails_at, disk._recovers = 3, True  # after its creation: the second piece
        console = Console(pieces, log=tmp_path / "console.log", name="c")
        console.listen(lambda _, line: heard.append(line))
        pieces.begin.set()
        assert console.wait_closed(10)
    assert heard == ["one", "two", "three", "four"]
    text = (tmp_path / "console.log").read_text()
    assert "about 19 bytes are missing here" in text
    assert text.index("one") < text.index("missing") < text.index("three") < text.index("four")
    assert console.log_failure
    assert console.log_failure[1] == tmp_path / "console.log"


@fault(
    "the console log can not be written during a run", where="disk", blame=Blame.INFRA,
    survives="the verdicts until then, in events and documents",
)  # fmt: skip
def test_a_run_ends_when_the_console_log_has_gaps(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    def fill(name: str) -> None:
        if name == "b.tc":
            target.console.log_failure = (FULL, run_dir / "console.log")

    target = fake_target(on_verdict=fill)
    with pytest.raises(Shortage, match=rf"ended early: {run_dir}/console\.log: no space.*the verdicts of 2 of 3 tests"):
        fake_run(fake_build(tmp_path / "build"), run_dir, target=target)
    assert [result.verdict for result in read_results(run_dir).results] == ["PASS", "PASS", "NOTRUN"]
    assert list(documented(run_dir).values()) == ["PASS", "PASS", "NOTRUN"]


@fault(
    "the log of our web server can not be written", where="disk", blame=Blame.NOBODY,
    survives="the board's kernel, whole",
)  # fmt: skip
def test_a_board_gets_its_kernel_though_the_servers_log_is_full(tmp_path: Path) -> None:
    (tmp_path / "Image").write_bytes(b"kernel" * 1000)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        spec = HttpServe(address="127.0.0.1", port=free.getsockname()[1])
    server = WebServer(spec, place="b", log=Path("/dev/full"))
    try:
        name = server.offer(tmp_path / "Image")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{spec.port}/{name}", timeout=10) as answer:
            assert answer.read() == b"kernel" * 1000
    finally:
        server.close()


@fault(
    "the log of dnsmasq can not be written", where="disk", blame=Blame.NOBODY,
    survives="dnsmasq, which is never made to wait",
)  # fmt: skip
def test_dnsmasq_never_waits_for_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_script(
        tmp_path / "dnsmasq",
        f"#!/bin/sh\necho 'TFTP root is x'; yes 'a line of its log' | head -c 300000; touch {tmp_path}/through; cat\n",
    )
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(tftp, "_check_ports", lambda *_: None)
    monkeypatch.setattr(tftp, "_unprivileged", lambda: None)  # it could not read the program above
    (tmp_path / "log").symlink_to("/dev/full")
    server = tftp.Dnsmasq(TftpServe(address="127.0.0.1"), tmp_path, place="b", log=tmp_path / "log")
    server._process.wait(timeout=20)
    assert (tmp_path / "through").exists()
    server.close()


@fault(
    "the server's directory has no room for a kernel",
    where="disk",
    blame=Blame.INFRA,
    survives="no file that is cut short",
)
def test_a_kernel_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    image, served = tmp_path / "Image", tmp_path / "served"
    image.write_bytes(b"x" * 100)
    served.mkdir()
    with mounted(Disk(served, fails_at=2)), pytest.raises(Shortage, match="needed: 0 KiB for Image"):
        shelf.publish(image, served)
    assert list(served.iterdir()) == []


@pytest.mark.parametrize("what", ["open", "pwrite"])
@fault(
    "the file system of the boards' locks is full", where="disk", blame=Blame.INFRA,
    survives="the board, free for others",
)  # fmt: skip
def test_a_lock_that_can_not_be_written_leaves_the_board_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    real = getattr(os, what)

    def full(where: Any, *rest: Any, **more: Any) -> Any:
        if what == "pwrite" or (str(where).endswith((".ticket", ".lock")) and rest[0] & os.O_CREAT):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), None if what == "pwrite" else where)
        return real(where, *rest, **more)

    monkeypatch.setattr(os, what, full)
    with (
        pytest.raises(OSError if what == "open" else Shortage, match=r"(?i)no space left"),
        lock.acquired("b", "command x", purpose="a test"),
    ):
        raise AssertionError("not reached")
    monkeypatch.setattr(os, what, real)
    assert lock.holder_of("command x") is None
    with lock.acquired("b", "command x", purpose="a test"):
        assert lock.holder_of("command x")


# -- QEMU --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ended_by(tmp_path: Path) -> Iterator[Any]:
    """Makes a machine whose QEMU was ended by a signal, after it had printed something."""
    made: list[QemuTarget] = []

    def make(number: int, *, printed: bytes = b"[    0.000000] Booting Linux\n") -> QemuTarget:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(["sleep", "60"])
        console = Console(SocketTransport(ours), log=None, name="ttyAMA0")
        heard = Shell(console, why_closed=lambda: why_ended(process))
        theirs.sendall(printed)
        process.send_signal(number)
        theirs.close()
        target = QemuTarget(process=process, console=console, tty=console, _shells={"cmd": heard, "aux": heard})
        made.append(target)
        return target

    yield make
    for target in made:
        target.close()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        pytest.param(signal.SIGKILL, "SIGKILL, as this host's out-of-memory killer sends it",
                     marks=fault("the host's out-of-memory killer ends QEMU while it boots", where="memory",
                                 blame=Blame.INFRA, survives="the console log")),
        pytest.param(signal.SIGBUS, "SIGBUS: the file with its memory could not grow",
                     marks=fault("the file with a machine's memory can not grow", where="disk",
                                 blame=Blame.INFRA, survives="the console log")),
        pytest.param(signal.SIGSEGV, "SIGSEGV;",
                     marks=fault("QEMU itself crashes while the kernel boots", where="boot",
                                 blame=Blame.INFRA, survives="the console log and QEMU's own")),
    ],
)  # fmt: skip
def test_a_machine_whose_qemu_was_killed_did_not_reset_at_boot(
    ended_by: Any, tmp_path: Path, number: int, told: str
) -> None:
    (tmp_path / "qemu.log").write_text("$ qemu\n")
    target = ended_by(number)
    target.process.wait()
    error = qemu._boot_failure(target, panicked=False, limit=60.0, logs=tmp_path)
    assert isinstance(error, InfraError)
    assert told in error.message
    assert any("Booting Linux" in line for line in target.console.tail())


def test_a_kernel_that_panicked_is_not_excused_by_what_became_of_qemu(ended_by: Any, tmp_path: Path) -> None:
    target = ended_by(signal.SIGKILL, printed=b"[    1.0] Kernel panic - not syncing: VFS\n")
    target.process.wait()
    assert isinstance(qemu._boot_failure(target, panicked=False, limit=60.0, logs=tmp_path), BootError)


@fault(
    "the host's out-of-memory killer ends QEMU during a test", where="memory", blame=Blame.INFRA,
    survives="the reason, in the test's verdict ERROR",
)  # fmt: skip
def test_a_test_whose_qemu_was_killed_says_so(ended_by: Any) -> None:
    target = ended_by(signal.SIGKILL)
    with pytest.raises(TargetLost, match="QEMU was ended by SIGKILL, as this host's out-of-memory killer"):
        target.run("true", timeout=10)
    assert not target.went_down


class Stopped(QemuTarget):
    """Its monitor says that the machine was stopped, and nobody answers on its channels."""

    def monitor(self, command: str, *, timeout: float = 5.0, **arguments: Any) -> dict[str, Any]:
        return {"status": "io-error"} if command == "query-status" else {}


@fault(
    "QEMU can not write to the machine's disk and stops it during a test", where="disk", blame=Blame.INFRA,
    survives="the kernel's good name: no hang is reported",
)  # fmt: skip
def test_a_machine_that_qemu_has_stopped_is_no_kernel_that_hangs(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="aux")
    process = subprocess.Popen(["sleep", "60"])
    target = Stopped(process=process, console=console, tty=console, _shells={"aux": Shell(console)}, _qmp=console)
    with pytest.raises(TargetLost, match="QEMU has stopped the machine: it can't write to the machine's disk"):
        target.is_alive(timeout=0.1)
    (tmp_path / "qemu.log").touch()
    error = qemu._boot_failure(target, panicked=False, limit=1.0, logs=tmp_path)
    assert isinstance(error, InfraError)
    assert "it can't write" in error.message
    target.close()
    theirs.close()


@fault("QEMU finds no room for its temporary files", where="disk", blame=Blame.INFRA, survives="QEMU's own words")
def test_a_qemu_that_finds_the_disk_full_when_it_starts(ended_by: Any, tmp_path: Path) -> None:
    target = ended_by(signal.SIGTERM, printed=b"")
    target.process.wait()
    words = "qemu-system-aarch64: -drive x: Could not create temporary overlay '/t/vl.A': No space left on device"
    (tmp_path / "qemu.log").write_text(f"$ qemu\n{words}\n")
    error = qemu._boot_failure(target, panicked=False, limit=1.0, logs=tmp_path)
    assert isinstance(error, Shortage)
    assert error.details == (words,)


@fault(
    "saving a snapshot finds the disk full", where="disk", blame=Blame.INFRA, survives="no snapshot that is cut short"
)
def test_a_snapshot_for_which_there_is_no_room(tmp_path: Path) -> None:
    for name in ("Image", "root"):
        (tmp_path / name).touch()
    (tmp_path / "qemu.log").write_text("cat: write error: No space left on device\n")
    media = Media(image=tmp_path / "Image", root=tmp_path / "root")
    snapshots = Snapshots(BoardSpec(name="b", boot=QemuBoot()), media, tmp_path, logs=tmp_path)
    error = snapshots._unsaved("the machine's state could not be written; see qemu.log")
    assert isinstance(error, Shortage)
    assert f"snapshot: {tmp_path}: no space left on device (file system /" in error.message
    assert "for the machine's memory" in error.message
    assert not snapshots.is_saved


def test_restoring_is_not_tried_again_on_a_full_disk() -> None:
    """Each try would fail likewise, and so would those of each later test."""
    snapshots = FakeSnapshots(restore_errors=[Shortage("no space left"), InfraError("not reached")])
    snapshots.is_saved = True
    machine = Machine(_no_boot, limits=Limits(), recorder=Recorder.nowhere(), snapshots=snapshots)
    with pytest.raises(Shortage, match="no space left"):
        assert machine.target
    assert machine.is_dead


def _no_boot() -> tuple[Target, float]:
    raise AssertionError("not reached")
