"""Two users of one host, who share its boards, its locks, its TFTP directory, and by accident a cache."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build import cache
from harness.cli import main
from harness.errors import InfraError
from harness.target.holding import claim, lock
from harness.target.serving import shelf
from tests.faults.catalogue import Blame, fault
from tests.otheruser import as_nobody

MACHINE = "port rack1:4001"


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all users can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def locks(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_LOCKS", str(shared / "locks"))
    return shared / "locks"


def acquire() -> str:
    """Acquire the board, and return who holds it then."""
    with lock.acquired("b", MACHINE, purpose="theirs"):
        return str(lock.holder_of(MACHINE))


def told(error: pytest.ExceptionInfo[InfraError]) -> str:
    return error.value.message


@fault(
    "another user's harness wants a board that is in use",
    where="two users",
    blame=Blame.INFRA,
    survives="the board stays its user's, who is named to the other one; afterwards the other one gets it",
)
def test_a_board_has_one_user_of_all(locks: Path) -> None:
    with lock.acquired("b", MACHINE, purpose="ours"), pytest.raises(lock.InUse) as caught:
        as_nobody(acquire)
    assert f"in use by {getpass.getuser()}@{socket.gethostname()}" in told(caught)
    assert f"process {os.getpid()}: ours" in told(caught)
    assert "nobody@" in as_nobody(acquire)  # with the file that we made
    assert f"{getpass.getuser()}@" in acquire()
    assert [path.suffix for path in locks.iterdir()] == [".lock"]


@fault(
    "another user's harness wants a board whose lock file was removed while it is in use",
    where="two users",
    blame=Blame.INFRA,
    survives="the board stays its user's, who is named with the process",
)
def test_a_claim_is_everybodys(locks: Path) -> None:
    with lock.acquired("b", MACHINE, purpose="ours"):
        next(locks.glob("*.lock")).unlink()
        with pytest.raises(lock.InUse) as caught:
            as_nobody(acquire)
    assert f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()} (the lock file was" in told(caught)


@fault(
    "the directory for locks belongs to another user, and others may not write to it",
    where="two users",
    blame=Blame.INFRA,
    survives="the other user's files; it is told which mode and owner the directory has, and which variable helps",
)
def test_a_directory_of_locks_that_is_another_users_is_told(locks: Path) -> None:
    locks.mkdir(mode=0o755)
    with pytest.raises(InfraError, match="expected a directory for locks that all users may write to") as caught:
        as_nobody(acquire)
    assert f"{locks}: " in told(caught)
    assert f"mode 755, owner {getpass.getuser()}; make it with mode 1777, or name another with HARNESS_LOCKS" in told(
        caught
    )
    assert list(locks.iterdir()) == []


@fault(
    "a lock file belongs to another user, and others may not write to it",
    where="two users",
    blame=Blame.INFRA,
    survives="the file, which is named with what to do",
)
def test_a_lock_file_that_is_another_users_alone_is_told(locks: Path) -> None:
    acquire()
    [file] = locks.iterdir()
    file.chmod(0o600)
    with pytest.raises(InfraError, match="expected a lock file that all users may write, found something else") as e:
        as_nobody(acquire)
    assert f"{file}: " in told(e)
    assert file.exists()


@fault(
    "a directory for locks that another user replaced by a link to a place of theirs",
    where="two users",
    blame=Blame.INFRA,
    survives="what is behind the link: nothing is written there",
)
def test_a_link_is_no_directory_of_locks(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"harness-test-{secrets.token_hex(4)}"
    monkeypatch.delenv("HARNESS_LOCKS", raising=False)
    monkeypatch.setattr(lock, "_PLACE", name)
    with contextlib.ExitStack() as until_done:
        for place in (Path("/run/lock"), Path("/tmp")):
            with contextlib.suppress(OSError):
                (place / name).symlink_to(shared)
                until_done.callback((place / name).unlink)
        with pytest.raises(InfraError, match=rf"/{name}: expected a directory for locks .*: it is a link"):
            acquire()
    assert list(shared.iterdir()) == []


@fault(
    "a lock file names a holder whose harness was killed and whose guard has ended, as after a power cut",
    where="two users",
    blame=Blame.NOBODY,
    survives="the board can be used: what a file says is no lock",
)
@pytest.mark.parametrize("process", [1, 999_999_999])
def test_a_stale_holder_holds_nothing(locks: Path, process: int) -> None:
    acquire()
    [file] = locks.iterdir()
    stale = {"user": "them", "host": socket.gethostname(), "process": process, "purpose": "x", "since": 1.0}
    file.write_text(json.dumps(stale))
    assert lock.holder_of(MACHINE) is None
    assert f"process {os.getpid()}: theirs" in acquire()


@fault(
    "another user's harness was killed while it waited for a board, and left its ticket",
    where="two users",
    blame=Blame.NOBODY,
    survives="the order of those who live; the ticket is its owner's to remove",
)
def test_a_dead_users_ticket_does_not_count(locks: Path) -> None:
    acquire()
    [file] = locks.iterdir()
    ticket = file.with_name(f"{file.stem}.{0:020d}-00000000.ticket")
    ticket.touch()
    assert "nobody@" in as_nobody(acquire)
    assert ticket.exists()  # nobody may not remove our file in such a directory
    acquire()
    assert not ticket.exists()


@fault(
    "another user has the name of a board's claim without using the board",
    where="two users",
    blame=Blame.INFRA,
    survives="the other user's name and process, which are told",
)
def test_who_has_a_claim_alone_is_named(locks: Path) -> None:
    acquire()
    [file] = locks.iterdir()
    [descriptor] = claim.claimed(file)
    try:
        with pytest.raises(lock.InUse, match=rf"in use by {getpass.getuser()}@\S+, process {os.getpid()} "):
            as_nobody(acquire)
    finally:
        os.close(descriptor)


@fault(
    "the directory `harness` below the TFTP server's root belongs to another user, who alone may write there",
    where="two users",
    blame=Blame.INFRA,
    survives="what lies there",
)
def test_a_shelf_that_is_another_users_is_told(shared: Path) -> None:
    (shared / "Image").write_text("ours")
    (shared / "root").mkdir(mode=0o755)
    shelf.Directory(shared / "root", place="b.boot.tftp_root").offer(shared / "Image")
    before = sorted(path.name for path in (shared / "root/harness").iterdir())
    (shared / "Image").write_text("theirs, later")

    def offer() -> str:
        return shelf.Directory(shared / "root", place="b.boot.tftp_root").offer(shared / "Image")

    told_so = rf"{shared}/root/harness: expected a directory that you may write to, it belongs to {getpass.getuser()};"
    with pytest.raises(InfraError, match=told_so):
        as_nobody(offer)
    assert sorted(path.name for path in (shared / "root/harness").iterdir()) == before


@fault(
    "the cache belongs to another user: `sudo harness` was called once with this user's home directory",
    where="two users",
    blame=Blame.INFRA,
    survives="what is in the cache; the file is named, its owner, and what to do",
)
@pytest.mark.parametrize("depth", ["cache", "lock"])
def test_a_cache_that_is_another_users_is_told(shared: Path, monkeypatch: pytest.MonkeyPatch, depth: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    (shared / "cache").mkdir(mode=0o755)
    file = Path("x/lock") if depth == "cache" else Path("lock")
    if depth == "lock":
        with cache.locked(cache.cache_dir() / file):
            pass

    def use() -> None:
        with cache.locked(cache.cache_dir(*file.parts[:-1]) / file.name):
            pass

    told_so = rf"^{shared}/cache\S*: expected .*, it belongs to {getpass.getuser()}; .*chown.*XDG_CACHE_HOME"
    with pytest.raises(InfraError, match=told_so):
        as_nobody(use)


@fault(
    "a file that only another user may write, anywhere in the work of a command",
    where="two users",
    blame=Blame.INFRA,
    survives="the file; it is told as what it is, not as a bug of the harness",
)
def test_a_file_that_is_another_users_is_no_bug(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (shared / "theirs").touch(0o600)
    monkeypatch.setattr(sys, "argv", ["harness", "boards"])
    monkeypatch.setattr(main, "cli", lambda **_: (shared / "theirs").read_text())

    def call() -> object:
        with pytest.raises(SystemExit) as ended:
            main.main()
        return ended.value.code

    assert as_nobody(call) == 3
    said = capfd.readouterr().err
    assert f"harness: {shared}/theirs: expected a file or directory that you may use, it belongs to" in said
    assert "internal error" not in said
