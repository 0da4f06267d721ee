"""The lock on a board: one process at a time, until that process and its guard have ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.boards import lease
from harness.errors import InfraError
from harness.model.board import CommandConsole, CommandSwitch, ConsoleSpec, NetworkConsole, Power, SerialConsole
from harness.model.boot import QemuBoot
from harness.target.base import Say, silent
from harness.target.holding import claim, lock
from harness.target.holding import held as holding
from harness.target.holding.guard import Guard
from harness.target.holding.held import machine_of
from tests import boards
from tests.boards import is_a, spec
from tests.faults.catalogue import Blame, fault

MACHINE = "port rack1:4001"


def machine(console: ConsoleSpec | None = None, name: str = "b") -> str:
    return machine_of(spec(name, console=console))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "locks"
    monkeypatch.setenv("HARNESS_LOCKS", str(path))
    return path


# Holds the lock with a guard, as the harness does, until a line comes; the board takes a while to switch off.
HARNESS = """
import signal, sys
from harness.model.board import Access, BoardSpec, CommandSwitch, Power
from harness.model.boot import UbootBoot
from harness.target.holding import lock
from harness.target.holding.guard import Guard
from harness.target.holding.held import HeldBoard
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
wait = f"touch {sys.argv[1]}.asked; until [ -e {sys.argv[1]} ]; do sleep 0.05; done"
off = CommandSwitch(on=("true",), off=("sh", "-c", wait))
board = BoardSpec(name="b", boot=UbootBoot(tftp_root="/t"), access=Access(power=Power(switch=off)))
with lock.acquired("b", sys.argv[2], purpose="harness run", wait=float(sys.argv[3])) as descriptors:
    guard = Guard(HeldBoard(spec=board, access=board.access, descriptors=descriptors))
    print("mine", flush=True)
    input()
    guard.release()
"""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts another harness that has the board; switching it off ends when somebody makes tmp_path/off."""
    started: list[subprocess.Popen[str]] = []

    def start(wait: float = 0.0) -> subprocess.Popen[str]:
        words: list[str | Path] = [sys.executable, "-c", HARNESS, tmp_path / "off", MACHINE, str(wait)]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    (tmp_path / "off").touch()  # for the guards
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def holder() -> lock.Holder:
    return is_a(lock.Holder, lock.holder_of(MACHINE))


@contextlib.contextmanager
def held(*, wait: float | None = None, say: Say = silent) -> Iterator[tuple[int, ...]]:
    with lock.acquired("b", MACHINE, purpose="me", wait=wait, say=say) as descriptors:
        yield descriptors


def test_who_has_it_is_told_at_once(harness: Callable[..., subprocess.Popen[str]]) -> None:
    other = harness()
    assert said(other) == "mine\n"
    told = rf"^b: in use by \S+@\S+ since [\d:]+, process {other.pid}: harness run; `--wait` waits"
    with pytest.raises(lock.InUse, match=told), held():
        pass
    assert holder().process == other.pid
    assert lock.holder_of("port rack1:4002") is None


def test_it_is_free_when_the_with_is_over(directory: Path) -> None:
    with held():
        assert holder().purpose == "me"
    assert lock.holder_of(MACHINE) is None
    with held():
        pass
    assert [path.read_text() for path in directory.iterdir()] == [""]  # and no ticket


@fault(
    "SIGKILL of a harness while another one wants its board",
    where="killed",
    blame=Blame.INFRA,
    survives="the board: nobody has it before it is off",
)
def test_after_a_kill_it_is_held_until_the_guard_has_switched_the_board_off(
    harness: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    other = harness()
    assert said(other) == "mine\n"
    other.send_signal(signal.SIGKILL)
    other.wait()
    with pytest.raises(lock.InUse, match=f"process {other.pid} has ended: the board is being switched off"), held():
        pass
    while not (tmp_path / "off.asked").exists():
        time.sleep(0.01)
    assert lock.holder_of(MACHINE)
    (tmp_path / "off").touch()
    with held(wait=30.0):
        pass


def test_it_outlives_the_guards_of_each_boot() -> None:
    power = Power(switch=CommandSwitch(on=("true",), off=("true",)))
    with held() as descriptors:
        board = replace(boards.held(spec(power=power)), descriptors=descriptors)
        for _ in range(2):
            Guard(board).release()
            assert holder().process == os.getpid()


def test_other_children_do_not_hold_it(harness: Callable[..., subprocess.Popen[str]]) -> None:
    with held():
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert lock.holder_of(MACHINE) is None
    finally:
        child.kill()
        child.wait()


def test_who_waits_gets_it_and_says_for_whom_it_waits(harness: Callable[..., subprocess.Popen[str]]) -> None:
    other = harness()
    assert said(other) == "mine\n"
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        other.communicate("go\n")

    with held(wait=30.0, say=say):
        assert holder().purpose == "me"
    assert re.fullmatch(rf"b: waiting for \S+@\S+ since [\d:]+, process {other.pid}: harness run", told[0])


def test_a_wait_that_is_over_is_told(harness: Callable[..., subprocess.Popen[str]]) -> None:
    assert said(harness()) == "mine\n"
    with pytest.raises(lock.InUse, match="harness run; waited 0 s;"), held(wait=0.1):
        pass


def test_who_waits_longest_is_next_and_who_died_waiting_is_not(
    harness: Callable[..., subprocess.Popen[str]], directory: Path
) -> None:
    first = harness()
    assert said(first) == "mine\n"
    waiting = []
    for number in range(1, 4):
        waiting.append(harness(60.0))
        while len(list(directory.glob("*.ticket"))) < number:
            time.sleep(0.01)
    waiting[0].kill()
    waiting[0].wait()
    with pytest.raises(lock.InUse), held():
        pass
    first.communicate("go\n")
    assert said(waiting[1]) == "mine\n"
    assert holder().process == waiting[1].pid
    waiting[1].communicate("go\n")
    assert said(waiting[2]) == "mine\n"
    assert list(directory.glob("*.ticket")) == []


@fault(
    "the lock file of a board that another harness uses is removed, by hand or by what cleans /tmp",
    where="two users",
    blame=Blame.INFRA,
    survives="the board stays its user's, who is named; then the next one gets it",
)
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_lock_whose_file_is_removed_still_holds(
    harness: Callable[..., subprocess.Popen[str]], directory: Path, what: str
) -> None:
    other = harness()
    assert said(other) == "mine\n"
    if what == "file":
        next(directory.glob("*.lock")).unlink()
    else:
        shutil.rmtree(directory)
    told = rf"^b: in use by \S+@\S+, process {other.pid} \(the lock file was removed\)"
    with pytest.raises(lock.InUse, match=told), held():
        pass
    assert (holder().process, holder().lost_its_file) == (other.pid, True)
    waiting = harness(60.0)
    other.communicate("go\n")
    assert said(waiting) == "mine\n"
    assert (holder().process, holder().lost_its_file) == (waiting.pid, False)


@fault(
    "a harness whose lock file was removed is killed while a second one wants the board",
    where="two users",
    blame=Blame.INFRA,
    survives="the board stays locked until it is off",
)
def test_a_lock_without_its_file_holds_until_the_board_is_off(
    harness: Callable[..., subprocess.Popen[str]], directory: Path, tmp_path: Path
) -> None:
    other = harness()
    assert said(other) == "mine\n"
    next(directory.glob("*.lock")).unlink()
    other.kill()
    other.wait()
    with pytest.raises(lock.InUse, match=f"process {other.pid}, which has ended: the board is being switched"), held():
        pass
    (tmp_path / "off").touch()
    with held(wait=30.0):
        pass


@fault(
    "the lock file is removed while a harness waits for it, and the board's user goes",
    where="two users",
    blame=Blame.NOBODY,
    survives="one user at a time: who waits locks the file that is there now",
)
def test_who_waits_does_not_get_a_file_that_was_removed(
    harness: Callable[..., subprocess.Popen[str]], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the claim does not help: in another network namespace."""
    monkeypatch.setattr(claim, "claimed", lambda _path: ())
    monkeypatch.setattr(claim, "claimant", lambda _path: None)
    other = harness()
    assert said(other) == "mine\n"

    def say(_text: str) -> None:
        next(directory.glob("*.lock")).unlink()
        other.communicate("go\n")

    with held(wait=30.0, say=say) as (descriptor,):
        [file] = directory.glob("*.lock")
        assert os.path.samestat(os.fstat(descriptor), file.stat())
        with pytest.raises(lock.InUse, match=f"process {os.getpid()}: me"), held():
            pass


@fault(
    "a host, or a sandbox, that allows no sockets in the abstract name space",
    where="two users",
    blame=Blame.NOBODY,
    survives="the lock, by its file",
)
def test_without_a_claim_there_is_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object, _address: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("socket.socket.bind", refuse)
    with held() as descriptors, pytest.raises(lock.InUse), held():
        pass
    assert len(descriptors) == 1


def test_a_ticket_that_somebody_removed_is_made_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its creation and its lock it looks like one of a dead process."""
    real = fcntl.flock
    removed: list[Path] = []
    queued: list[bool] = []

    def late(file: int, how: int) -> None:
        for ticket in directory.glob("*.ticket") if not removed else ():
            removed.append(ticket)
            ticket.unlink()
        real(file, how)

    def nobody_before(_path: Path, ticket: Path) -> None:
        queued.append(ticket.exists())

    monkeypatch.setattr(fcntl, "flock", late)
    monkeypatch.setattr(lock, "_first_in_line", nobody_before)
    with held():
        assert removed
        assert queued == [True]


def test_an_interrupt_ends_the_wait(harness: Callable[..., subprocess.Popen[str]], directory: Path) -> None:
    other = harness()
    assert said(other) == "mine\n"
    waiting = harness(60.0)
    while not list(directory.glob("*.ticket")):
        time.sleep(0.01)
    waiting.send_signal(signal.SIGINT)
    waiting.wait(timeout=30)
    assert list(directory.glob("*.ticket")) == []


def test_a_machine_of_ones_own_needs_no_lock(directory: Path) -> None:
    with lease.locked(spec(boot=QemuBoot())) as descriptors:
        assert descriptors == ()
        assert not directory.exists()


def test_a_device_is_told_by_the_name_that_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_BY_ID", tmp_path / "by-id")
    (tmp_path / "by-id").mkdir()
    (tmp_path / "ttyUSB0").touch()
    by_id = tmp_path / "by-id/usb-A"
    by_id.symlink_to(tmp_path / "ttyUSB0")
    consoles = [SerialConsole(device=str(path)) for path in (tmp_path / "ttyUSB0", by_id)]
    assert [machine(console) for console in consoles] == [f"device {by_id}"] * 2
    by_id.unlink()  # unplugged, and plugged in anew
    by_id.symlink_to((tmp_path / "ttyUSB0").rename(tmp_path / "ttyUSB1"))
    assert machine(consoles[1]) == f"device {by_id}"
    by_id.unlink()
    assert machine(SerialConsole(device=str(tmp_path / "ttyUSB1"))) == f"device {tmp_path / 'ttyUSB1'}"


def test_a_board_is_told_by_its_console() -> None:
    rack = machine(NetworkConsole(host="Rack1", port=4001))
    assert rack == machine(NetworkConsole(host="rack1", port=4001, telnet=True), "x")
    assert rack != machine(NetworkConsole(host="rack1", port=4002))
    assert machine(name="a") != machine(name="b")


def test_a_commands_words_are_not_in_the_locks_name(directory: Path) -> None:
    sol = machine(CommandConsole(argv=("ipmitool", "-P", "s3cret", "sol", "activate")))
    with lock.acquired("b", sol, purpose="me"):
        assert re.fullmatch(r"command-[0-9a-f]{12}\.lock", next(directory.iterdir()).name)


@pytest.mark.parametrize(
    "content",
    ["", "nothing", "[]", '{"process": 1}', '{"user": "u", "host": "h", "process": 1, "purpose": "p", "since": 1e999}'],
)
@fault(
    "another user writes anything to a lock file",
    where="two users",
    blame=Blame.NOBODY,
    survives="the lock; the message shows no escape sequence",
)
def test_what_a_lock_file_says_is_not_trusted(content: str, directory: Path) -> None:
    with held():
        next(directory.iterdir()).write_text(content)
        assert str(lock.holder_of(MACHINE))
    with held():
        forged = {"user": "\x1b[2Ju", "host": "h\n", "process": -1, "purpose": "p" * 2000, "since": 0.0}
        next(directory.iterdir()).write_text(json.dumps(forged))
        assert len(str(lock.holder_of(MACHINE))) < 400
        assert not re.search(r"[\x1b\n]", str(lock.holder_of(MACHINE)))


def test_locks_are_everybodys_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0o077)
    try:
        with held():
            assert directory.stat().st_mode & 0o7777 == 0o1777
            assert next(directory.iterdir()).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_link_is_no_lock_file(directory: Path, tmp_path: Path) -> None:
    with held():
        place = next(directory.iterdir())
    place.unlink()
    (tmp_path / "precious").write_text("precious")
    for plant in (place.symlink_to, place.hardlink_to):
        plant(tmp_path / "precious")
        with pytest.raises(InfraError, match="expected a lock file"), held():
            pass
        place.unlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_directory_that_is_none_is_told(directory: Path) -> None:
    directory.write_text("")
    with pytest.raises(InfraError, match=r"expected a directory for locks .*HARNESS_LOCKS"), held():
        pass


@fault("many processes want one board at once", where="two users", blame=Blame.NOBODY, survives="one user at a time")
def test_many_at_once_never_have_it_together() -> None:
    inside, most = [0], [0]

    def work() -> None:
        with held(wait=60.0):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        for job in [pool.submit(work) for _ in range(6)]:
            job.result()
    assert most == [1]
