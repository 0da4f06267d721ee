"""Places of a real labgrid coordinator with a real exporter: acquired, used, and released however we end."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import pty
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from harness.build.host import ensure_host
from harness.errors import InfraError, UserError
from harness.model.board import Access, BoardSpec, LabgridPlace, Login, NetworkConsole, Ssh
from harness.model.boot import KexecBoot
from harness.target.base import Say, silent
from harness.target.holding.labgridclient import Wanted, connected
from harness.target.holding.place import Acquired, acquired, look_up
from harness.target.holding.resources import access_to
from harness.target.line.open import open_line, open_when_there
from harness.target.power import BoardPower, Switch, switch_of
from tests.boards import spec
from tests.faults.catalogue import Blame, fault
from tests.labgridlab import Lab

pytest.importorskip("labgrid", reason="the extra is not installed: pip install '.[labgrid]'")
pytestmark = pytest.mark.xdist_group("labgrid")  # else each worker starts a lab

US = f"{socket.gethostname()}/{getpass.getuser()}"


SYSTEM = {"cls": "NetworkService", "address": "10.0.0.3", "username": "lab", "password": "swordfish"}


def serial(port: int = 7, **more: str) -> dict[str, object]:
    return {"cls": "NetworkSerialPort", "host": "127.0.0.1", "port": port, "speed": 9600, **more}


@pytest.fixture(scope="module")
def switched() -> tuple[str, list[str]]:
    """A power switch that speaks HTTP: its address, and what it was asked."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                asked.append(client.recv(1000).decode().split()[1])
                client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/{{index}}/{{value}}", asked


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, switched: tuple[str, list[str]]) -> Iterator[Lab]:
    names = ("plain", "taken", "mine", "killed", "left", "busy", "reserved", "away", "restarted", "stolen", "kicked")
    power = {"cls": "NetworkPowerPort", "model": "simplerest", "host": switched[0], "index": 3}
    lab = Lab(
        tmp_path_factory.mktemp("labgrid"),
        places={**{name: name for name in names}, "gone": "gone"},
        groups={name: {"uart": serial(), "plug": dict(power), "system": dict(SYSTEM)} for name in names},
    )
    yield lab
    lab.end()


class Hold(Protocol):
    def __call__(self, name: str, *, say: Say = silent) -> contextlib.AbstractContextManager[Acquired]: ...


@pytest.fixture
def hold(lab: Lab, tmp_path: Path) -> Hold:
    """Holds a place as a board."""

    def held(name: str, *, say: Say = silent) -> contextlib.AbstractContextManager[Acquired]:
        return acquired(board(lab, name), records=tmp_path, say=say)

    return held


def switch(access: Access) -> Switch:
    assert access.power
    return switch_of(BoardPower(name="b", spec=access.power, restarts=False))


def board(lab: Lab, place: str) -> BoardSpec:
    labgrid = LabgridPlace(coordinator=lab.coordinator, place=place, off_seconds=5.0)
    return spec(labgrid=labgrid)


def test_a_place_is_ours_while_we_use_it_and_is_a_board(
    lab: Lab, hold: Hold, tmp_path: Path, switched: tuple[str, list[str]]
) -> None:
    look_up(board(lab, "plain"), records=tmp_path)
    assert lab.owner("plain") == ""
    with hold("plain") as ready:
        assert lab.owner("plain") == US
        assert ready.access.console == NetworkConsole(host="127.0.0.1", port=7, telnet=True, baud=9600)
        assert ready.access.power
        assert ready.access.power.off_seconds == 5.0
        switch(ready.access).on()
        switch(ready.access).off()
    assert switched[1] == ["/3/1", "/3/0"]
    assert lab.owner("plain") == ""


def test_a_places_network_service_is_where_the_board_is_reached_before_it_is_acquired_and_after(
    lab: Lab, tmp_path: Path
) -> None:
    labgrid = LabgridPlace(coordinator=lab.coordinator, place="plain")
    server = spec(boot=KexecBoot(), labgrid=labgrid, ssh=Ssh())
    expected = Ssh(host="10.0.0.3", login=Login(user="lab", password="swordfish"), of_place=True)
    assert look_up(server, records=tmp_path).ssh == expected
    with acquired(server, records=tmp_path, say=lambda _text: None) as ready:
        assert ready.access.ssh == expected


@pytest.mark.parametrize(
    ("model", "told"),
    [("simplerest", "simplerest: ConnectionError: "), ("nosuch", "nosuch: ModuleNotFoundError: No module named ")],
)
@fault("labgrid's power driver fails", where="power", blame=Blame.INFRA, survives="the driver's own words")
def test_a_switch_that_fails_is_told_by_labgrids_driver(model: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/{{index}}/{{value}}"
    labgrid = LabgridPlace(coordinator="lab", place="p")
    plug = {"model": model, "host": address, "index": 3}
    resources = [
        {"name": "uart", "cls": "NetworkSerialPort", "params": {"host": "h", "port": 7}, "extra": {}, "avail": True},
        {"name": "plug", "cls": "NetworkPowerPort", "params": plug, "extra": {}, "avail": True},
    ]
    access = access_to(spec(labgrid=labgrid), resources)
    with pytest.raises(InfraError, match=rf"^b\.power\.off: .* ended with exit code 1: labgrid's power driver {told}"):
        switch(access).off()


def test_a_place_that_somebody_else_has_is_told_with_the_holder_and_used_where_they_allow_it(
    lab: Lab, hold: Hold, tmp_path: Path
) -> None:
    lab.client("taken", "acquire", user="alice")
    for attempt in (lambda: look_up(board(lab, "taken"), records=tmp_path), lambda: hold("taken").__enter__()):
        with pytest.raises(InfraError, match=r"^b: labgrid place taken: expected it to be free, elsewhere/alice has"):
            attempt()
    lab.client("taken", "allow", US, user="alice")
    with hold("taken") as ready:
        assert ready.access.console
    assert lab.owner("taken") == "elsewhere/alice"


@fault(
    "somebody else has reserved the labgrid place",
    where="two users",
    blame=Blame.INFRA,
    survives="their reservation; they are named",
)
def test_a_place_that_somebody_else_has_reserved_is_told(lab: Lab, hold: Hold) -> None:
    lab.client("reserved", "reserve", "name=reserved", user="alice")
    with pytest.raises(InfraError, match=r"place reserved: expected it to be free, elsewhere/alice has reserved it"):
        hold("reserved").__enter__()
    assert lab.owner("reserved") == ""


def test_a_place_that_we_have_already_is_used_and_stays_ours(lab: Lab, hold: Hold) -> None:
    lab.client("mine", "acquire")
    said: list[str] = []
    with hold("mine", say=said.append):
        assert lab.owner("mine") == US
    assert lab.owner("mine") == US
    assert "not released afterwards" in said[0]


HARNESS = """
import sys
from pathlib import Path
from typing import Protocol
from harness.model.board import *
from harness.model.boot import UbootBoot
from harness.target.holding import guard, place as places
from harness.target.holding.held import HeldBoard
coordinator, place, records, log, let = sys.argv[1:]
labgrid = LabgridPlace(coordinator=coordinator, place=place)
board = BoardSpec(name="b", boot=UbootBoot(tftp_root="/t"), labgrid=labgrid)
with places.acquired(board, records=Path(records), say=lambda text: None) as ready:
    # `off` takes until the test lets it
    off = ("sh", "-c", f"echo begun > {log}; read x < {let}; echo off > {log}")
    switch = CommandSwitch(on=("true",), off=off)
    access = Access(power=Power(switch=switch))
    watching = guard.Guard(HeldBoard(spec=board, access=access, descriptors=(ready.descriptor,)))
    print("held", flush=True)
    input()
    watching.release()
"""


Other = Callable[[str], tuple[subprocess.Popen[str], Path, Path]]


@pytest.fixture
def other(lab: Lab, tmp_path: Path) -> Iterator[Other]:
    """Starts another harness that holds a place, with a guard whose switch answers when it is let."""
    started: list[subprocess.Popen[str]] = []
    log, let = tmp_path / "log", tmp_path / "let"
    os.mkfifo(log)
    os.mkfifo(let)

    def start(place: str) -> tuple[subprocess.Popen[str], Path, Path]:
        words: list[str | Path] = [sys.executable, "-c", HARNESS, lab.coordinator, place, tmp_path, log, let]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process, log, let

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _children(process: subprocess.Popen[str], what: str) -> list[int]:
    """Processes that `process` started, by a word of their command line."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if what in Path(f"/proc/{pid}/cmdline").read_text()]


def _wait_gone(handle: int) -> None:
    with os.fdopen(handle):
        assert select.select([handle], [], [], 60.0)[0], "the process did not end"


def test_a_harness_that_is_killed_leaves_the_board_off_and_then_the_place_free(lab: Lab, other: Other) -> None:
    process, log, let = other("killed")
    [keeper] = _children(process, "harness.target.holding.labgrid")
    assert "BUILD_ID=dontKillMe" in Path(f"/proc/{keeper}/environ").read_text().split("\0")  # else Jenkins would
    handle = os.pidfd_open(keeper)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert log.read_text() == "begun\n"
    os.kill(keeper, signal.SIGTERM)  # as a job's last processes get it
    assert lab.owner("killed") == US
    threading.Thread(target=let.write_text, args=("\n",), daemon=True).start()
    assert log.read_text() == "off\n"
    _wait_gone(handle)
    assert lab.owner("killed") == ""


@fault(
    "SIGKILL of a harness, its guard and its keeper of a labgrid place, as when a container ends",
    where="killed",
    blame=Blame.NOBODY,
    survives="the place: the next run knows it as ours, and releases it",
)
def test_a_place_that_nobody_could_release_is_known_as_our_own(lab: Lab, other: Other, hold: Hold) -> None:
    process, _, _ = other("left")
    for pid in [
        *_children(process, "harness.target.holding.labgrid"),
        *_children(process, "harness.target.holding.guard"),
    ]:
        os.kill(pid, signal.SIGKILL)  # as when a container ends
    process.kill()
    process.wait()
    assert lab.owner("left") == US
    said: list[str] = []
    with hold("left", say=said.append):
        assert said[0].endswith(": acquired")
    assert lab.owner("left") == ""


def test_two_harnesses_of_one_user_do_not_share_a_place(lab: Lab, other: Other, hold: Hold) -> None:
    process, _, _ = other("busy")
    told = rf"another harness on this host has it: process {process.pid}, .*, since "
    with pytest.raises(InfraError, match=told):
        hold("busy").__enter__()
    assert lab.owner("busy") == US
    process.communicate("\n")
    assert process.returncode == 0
    assert lab.owner("busy") == ""


def test_what_is_not_there_is_told(lab: Lab, hold: Hold, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"boards.yaml: b.labgrid.place: expected a place .*busy.*, found 'nowhere'"):
        hold("nowhere").__enter__()
    with pytest.raises(InfraError, match=r"does not have exp/gone/\*: exporter exp is connected, but does not have it"):
        hold("gone").__enter__()
    assert lab.owner("gone") == ""


GONE = r"does not have exp/{}/\*: exporter exp is not connected.*see whether labgrid-exporter runs"


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab whose exporter may be ended."""
    power = {"cls": "NetworkPowerPort", "model": "simplerest", "host": "http://127.0.0.1:1/", "index": 3}
    names = ("free", "mine", "used")
    lab = Lab(tmp_path, places={name: name for name in names},
              groups={name: {"uart": serial(), "plug": dict(power)} for name in names})  # fmt: skip
    yield lab
    lab.end()


@fault("labgrid's exporter of a board is down", where="lab", blame=Blame.INFRA,
       survives="the place: it stays free, or with who has it")  # fmt: skip
def test_an_exporter_that_is_down_is_named(own_lab: Lab, tmp_path: Path) -> None:
    own_lab.client("mine", "acquire")
    own_lab.end_exporter()
    with pytest.raises(InfraError, match=GONE.format("free")):
        look_up(board(own_lab, "free"), records=tmp_path)
    with pytest.raises(InfraError, match=GONE.format("free")):
        acquired(board(own_lab, "free"), records=tmp_path, say=silent).__enter__()
    for take in (look_up, lambda *board, **more: acquired(*board, **more, say=silent).__enter__()):
        with pytest.raises(InfraError, match="expected one of NetworkSerialPort.*" + GONE.format("mine")):
            take(board(own_lab, "mine"), records=tmp_path)
    assert (own_lab.owner("free"), own_lab.owner("mine")) == ("", US)


@fault("labgrid's exporter goes away while its board is used", where="lab", blame=Blame.NOBODY,
       survives="the place, which is released at the end")  # fmt: skip
def test_an_exporter_that_goes_away_while_we_use_its_place_is_told(own_lab: Lab, tmp_path: Path) -> None:
    told: queue.Queue[str] = queue.Queue()
    with acquired(board(own_lab, "used"), records=tmp_path, say=told.put):
        assert told.get(timeout=30).endswith("acquired")
        own_lab.end_exporter()
        assert "no longer has exp/used/*: exporter exp is not connected" in told.get(timeout=60)
        own_lab.start_exporter()
        assert told.get(timeout=60).endswith("all that it is made of is back")
    assert own_lab.owner("used") == ""


def test_sessions_of_one_process_do_not_get_in_each_others_way(lab: Lab, tmp_path: Path) -> None:
    """The one that acquires a place may still be closing when the one that watches it begins."""
    wanted = Wanted(board="b", coordinator=lab.coordinator, place="plain", serial="", purpose="", record=str(tmp_path))

    async def places() -> list[set[str]]:
        async with connected(wanted) as first, connected(wanted) as second:
            return [set(first.places), set(second.places)]

    first, second = asyncio.run(places())
    assert "plain" in first
    assert first == second


@fault("labgrid's coordinator does not run", where="lab", blame=Blame.INFRA, survives="its address in the message")
def test_no_coordinator_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    labgrid = LabgridPlace(coordinator=f"127.0.0.1:{port}", place="p")
    missing = spec(labgrid=labgrid)
    with pytest.raises(InfraError, match=rf"b.labgrid.coordinator: expected .* at 127.0.0.1:{port}, can't connect"):
        look_up(missing, records=tmp_path)


@fault("the Python package labgrid is missing", where="host", blame=Blame.INFRA, survives="what to install")
def test_labgrid_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labgrid.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    labgrid = LabgridPlace(coordinator="127.0.0.1:1", place="p")
    with pytest.raises(InfraError, match=r"b.labgrid: expected the Python package labgrid.*'\.\[labgrid\]'"):
        look_up(spec(labgrid=labgrid), records=tmp_path)


Told = Callable[[str], contextlib.AbstractContextManager[tuple[Callable[[], str], int]]]


@pytest.fixture
def told(lab: Lab, hold: Hold) -> Told:
    """Holds a place; gives what is said meanwhile, line by line, and the process that holds it."""

    @contextlib.contextmanager
    def holding(name: str) -> Iterator[tuple[Callable[[], str], int]]:
        said: queue.SimpleQueue[str] = queue.SimpleQueue()
        with hold(name, say=said.put):
            assert said.get(timeout=60).endswith(": acquired")
            keepers = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            [keeper] = [pid for pid in map(int, keepers) if "labgrid\0keep" in Path(f"/proc/{pid}/cmdline").read_text()]
            yield partial(said.get, timeout=60), keeper

    return holding


@fault(
    "labgrid's coordinator is away when a place is to be released",
    where="lab",
    blame=Blame.NOBODY,
    survives="the place, free in the end",
)
def test_a_coordinator_that_is_away_at_the_end_is_told_and_tried_again(lab: Lab, told: Told) -> None:
    with told("away") as (line, keeper):
        handle = os.pidfd_open(keeper)
        lab.end_coordinator()
        assert "place away: lost the coordinator " in (news := line())
        assert "; the run continues without it" in news
    trouble = line()
    assert "can't connect" in trouble
    assert "the release is retried" in trouble
    lab.start_coordinator()
    assert line().endswith("there was nothing to release: it is free now, and not ours any more")
    _wait_gone(handle)
    lab.start_exporter()


def test_a_coordinator_that_is_restarted_while_we_use_a_place_gets_it_acquired_again(lab: Lab, told: Told) -> None:
    with told("restarted") as (line, _):
        lab.end_coordinator()
        assert "lost the coordinator" in line()
        lab.start_coordinator()
        lab.start_exporter()
        assert line().endswith("the coordinator is back and forgot that the place was ours; it is acquired again")
        assert lab.owner("restarted") == US
    assert lab.owner("restarted") == ""


def test_a_serial_line_of_the_exporters_own_is_where_it_is_started_again(tmp_path: Path) -> None:
    """The exporter ends with the coordinator, its ser2net with it; a new one gets another port."""
    ensure_host(needed_for={"labgrid"})
    master, slave = pty.openpty()  # a serial port has to lie in /dev
    power = {"cls": "NetworkPowerPort", "model": "simplerest", "host": "http://127.0.0.1:9/{index}{value}", "index": 3}
    uart = {"cls": "RawSerialPort", "port": os.ttyname(slave), "speed": 115200}
    (tmp_path / "lab").mkdir()
    lab = Lab(tmp_path / "lab", places={"usb": "usb"}, groups={"usb": {"uart": uart, "plug": power}})
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    try:
        with acquired(board(lab, "usb"), records=tmp_path, say=said.put) as ready:
            console = ready.access.console
            assert console
            lab.end_coordinator()
            while "lost the coordinator" not in said.get(timeout=60):
                pass
            with pytest.raises(InfraError, match=r"b\.console: "):
                open_line(console, board="b")
            with ThreadPoolExecutor() as waiting:
                opened = waiting.submit(open_when_there, console, board="b")
                lab.start_coordinator()
                lab.start_exporter()
                line = opened.result(timeout=120)
            line.send(b"hello")
            arrived = b""
            while not arrived.endswith(b"hello"):
                arrived += os.read(master, 100)
            line.close()
    finally:
        lab.end()
        os.close(master)
        os.close(slave)


@fault(
    "somebody takes the place while a restarted coordinator has forgotten us",
    where="two users",
    blame=Blame.NOBODY,
    survives="their place, and we say so",
)
def test_a_place_that_somebody_took_when_the_coordinator_had_forgotten_us_is_theirs(lab: Lab, told: Told) -> None:
    with told("stolen") as (line, keeper):
        os.kill(keeper, signal.SIGSTOP)
        lab.end_coordinator()
        lab.start_coordinator()
        lab.start_exporter()
        lab.client("stolen", "acquire", user="alice")
        os.kill(keeper, signal.SIGCONT)
        news = line()
        news = line() if "lost the coordinator" in news else news  # it may not yet have listened when it was stopped
        assert "back and forgot that the place was ours: elsewhere/alice has it now (since " in news
    assert lab.owner("stolen") == "elsewhere/alice"


@fault(
    "somebody releases our labgrid place during a run",
    where="two users",
    blame=Blame.NOBODY,
    survives="the next owner's place, which we leave alone",
)
def test_a_place_that_somebody_releases_while_we_use_it_is_told_and_left_alone(lab: Lab, told: Told) -> None:
    with told("kicked") as (line, _):
        lab.client("kicked", "release")
        assert "somebody released it during this run: it is free now, and not ours any more; the run" in line()
        lab.client("kicked", "acquire", user="alice")
    assert lab.owner("kicked") == "elsewhere/alice"
