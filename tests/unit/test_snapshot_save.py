"""Saving a QEMU machine, with a monitor that is scripted: what is kept is whole, or it is not kept."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.model.board import BoardSpec
from harness.model.boot import QemuBoot
from harness.target.base import Media, TargetLost
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.methods import snapshot
from harness.target.methods.qemu import QemuTarget
from harness.target.methods.snapshot import Snapshots
from harness.target.shells.serial import Shell
from tests import damage
from tests.faults.catalogue import Blame, fault

STATE = b"state " * 1000


class Machine(QemuTarget):
    """Migrates through a shell that reads all that was sent only after QEMU has said it is done."""

    def migrate(self, uri: str) -> None:
        command = uri.removeprefix("exec:")
        self.shell = subprocess.Popen(["sh", "-c", f"read go; {command}"], stdin=subprocess.PIPE)

    def monitor(self, command: str, *, timeout: float = 5.0, **arguments: Any) -> dict[str, Any]:
        if command == "migrate":
            self.migrate(arguments["uri"])
        if command == "query-migrate":
            threading.Timer(0.05, self.shell.communicate, args=(b"go\n" + STATE,)).start()
            return {"status": "completed"}
        return {}


@pytest.fixture
def machine() -> Iterator[Machine]:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sleep", "60"])
    console = Console(SocketTransport(ours), log=None, name="fake")
    target = Machine(process=process, console=console, tty=console)
    yield target
    target.close()
    theirs.close()


@pytest.fixture
def snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshots:
    for name in ("Image", "root"):
        (tmp_path / name).touch()
    monkeypatch.setattr(snapshot, "QEMU", "true")
    media = Media(image=tmp_path / "Image", root=tmp_path / "root")
    directory = tmp_path / "a 'directory', odd"
    directory.mkdir()
    return Snapshots(BoardSpec(name="b", boot=QemuBoot()), media, directory, logs=tmp_path)


def test_a_snapshot_is_there_when_its_state_is_on_the_disk(machine: Machine, snapshots: Snapshots) -> None:
    snapshots.save(machine)
    assert (snapshots._directory / "state").read_bytes() == STATE
    assert snapshots.is_saved
    assert machine.process.poll() is not None


def test_a_state_that_could_not_be_written_is_no_snapshot(
    machine: Machine, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(uri: str) -> None:
        Machine.migrate(machine, uri.replace("cat >", "false >"))

    monkeypatch.setattr(machine, "migrate", full)
    with pytest.raises(InfraError, match="state could not be written"):
        snapshots.save(machine)
    assert not snapshots.is_saved
    assert machine.process.poll() is not None


def test_a_record_that_can_not_be_written_is_no_bug(
    machine: Machine, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    (snapshots._directory / "snapshot.json").mkdir()
    with pytest.raises(InfraError, match=r"snapshot\.json: Is a directory"):
        snapshots.save(machine)
    assert not snapshots.is_saved


def test_a_snapshot_is_refused_with_another_kernel(machine: Machine, snapshots: Snapshots) -> None:
    snapshots.save(machine)
    snapshots._media.image.write_text("another")
    with pytest.raises(InfraError, match="made with another kernel"):
        snapshots.restore("a test")


@pytest.mark.parametrize(("is_dead", "told"), [(True, None), (False, False)])
def test_a_machine_that_is_gone_is_no_kernel_that_answers_no_more(is_dead: bool, told: bool | None) -> None:
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="aux")
    process = subprocess.Popen(["sleep", "0" if is_dead else "60"])
    target = QemuTarget(process=process, console=console, tty=console, _shells={"aux": Shell(console)})
    theirs.close()
    if told is None:
        with pytest.raises(TargetLost):
            target.is_alive(timeout=5)
    else:
        assert target.is_alive(timeout=5) is told
    target.close()


def test_a_monitors_late_answer_is_not_taken_for_the_next_one() -> None:
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="qmp")
    process = subprocess.Popen(["true"])
    process.wait()
    target = QemuTarget(process=process, console=console, tty=console, _qmp=console)
    assert "no answer" in target.monitor("stop", timeout=0.05)["error"]["desc"]
    asked = json.loads(theirs.recv(4096))
    late = {"return": {"status": "too late"}, "id": asked["id"]}
    event = {"event": "STOP", "timestamp": {"seconds": 1}}
    # QEMU puts the id first where it refuses
    refused = {"id": "harness-2", "error": {"class": "GenericError", "desc": "no"}}
    theirs.sendall(b"".join(json.dumps(each).encode() + b"\r\n" for each in (late, event, refused)))
    assert target.monitor("cont") == {"error": {"class": "GenericError", "desc": "no"}, "id": "harness-2"}
    told = {"return": {"status": "running"}, "id": "harness-3"}
    theirs.sendall(json.dumps(told).encode() + b"\r\n")
    assert target.monitor("query-status") == {"status": "running"}
    target.close()
    theirs.close()


@pytest.mark.parametrize(
    ("event", "went_down"),
    [
        ({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}, True),
        ({"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-signal"}}, False),
        ({"event": "STOP"}, True),
    ],
)
def test_a_machine_that_the_host_told_to_end_did_not_go_down_by_itself(event: dict[str, Any], went_down: bool) -> None:
    """QEMU ends with 0 for both: a signal that asks it to end, and a power-off of the guest's."""
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="qmp")
    process = subprocess.Popen(["true"])
    process.wait()
    target = QemuTarget(process=process, console=console, tty=console, _qmp=console)
    theirs.sendall(json.dumps(event).encode() + b"\r\n")
    theirs.close()
    assert target.went_down is went_down
    target.close()


@pytest.mark.parametrize("name", ["state", "root.qcow2", "snapshot.json"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            how,
            id=what,
            marks=fault(
                f"a file of a run's snapshot is {what}",
                where="memory",
                blame=Blame.INFRA,
                survives="results so far; the message names the file, not the kernel",
            ),
        )
        for what, how in damage.HOW.items()
        if what != "changed by one bit"
    ],
)
def test_no_machine_starts_from_a_damaged_snapshot(
    machine: Machine, snapshots: Snapshots, name: str, how: Callable[[Path], None]
) -> None:
    (snapshots._directory / "root.qcow2").write_bytes(STATE)
    snapshots.save(machine)
    how(snapshots._directory / name)
    with pytest.raises(InfraError, match=rf"snapshot: .*{name}: .*expected .*, found:? .*start again"):
        snapshots.restore("a test")
