"""The parts of a night over many machines, each by itself: what is kept, what is sent, who is asked."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from harness.boards.inventory import read_inventory
from harness.campaign.lab import host as hosting
from harness.campaign.lab.addresses import Address, Credentials, parse_address
from harness.campaign.lab.builds import Arrivals
from harness.campaign.lab.engine import require
from harness.campaign.lab.host import LabHost
from harness.campaign.lab.spool import Spool
from harness.campaign.request import LabAccess
from harness.errors import HarnessError, InfraError, UserError
from harness.model.lab import Done, Gone, Order
from harness.model.night import Cell, PlannedTests, Slot
from harness.model.progress import Silent
from harness.run.documents import read_results
from harness.run.session import key_of_testcases
from harness.run.side_run import Ended, SideRuns
from harness.shortage import Shortage
from tests import fakenight
from tests.command import harness
from tests.fakelab import LIMIT_S, Builds, FakeLab
from tests.faults.catalogue import Blame, fault

KEY = "ab" * 32
SLOT = Slot(kernel="k", toolchain="gcc", configuration="c", board="twins", suites="s")
CELL = Cell(slot=SLOT, identity="i", build="b", tests=PlannedTests(name="s"), candidates=("a", "b"))
TLS = Credentials(ca=Path("ca"), certificate=Path("cert"), key=Path("key"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path / "locks"))
    (tmp_path / "locks").mkdir()


def leave_run(place: Path, *, ends: str = "PASS") -> None:
    place.mkdir(parents=True, exist_ok=True)
    fakenight.write_run(place / "run", CELL, board="a", ends=ends, began=1.0, seconds=1.0)
    (place / "run.log").write_text("OK: 2 PASS\n")


# -- addresses --------------------------------------------------------------------------------------------------------


def test_addresses() -> None:
    assert parse_address("127.0.0.1", option="--listen", tls=None) == Address(host="127.0.0.1", port=8786)
    assert parse_address("tcp://localhost:1", option="--listen", tls=None) == Address(host="localhost", port=1)
    assert str(parse_address("[::1]:9", option="--listen", tls=None)) == "[::1]:9"
    assert parse_address("tls://198.51.100.7:9", option="--listen", tls=TLS).host == "198.51.100.7"


@pytest.mark.parametrize("text", ["", ":9", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "::1", "http://127.0.0.1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--listen: expected HOST:PORT such as 127\.0\.0\.1:8786, found "):
        parse_address(text, option="--listen", tls=None)


@pytest.mark.parametrize("text", ["198.51.100.7", "0.0.0.0:1", "[::]:1", "nowhere.invalid:1"])
def test_what_others_reach_needs_tls(text: str) -> None:
    with pytest.raises(UserError, match="without TLS, whoever reaches the port can run any program"):
        parse_address(text, option="--scheduler", tls=None)


def test_the_protocol_has_to_fit() -> None:
    with pytest.raises(UserError, match="expected --tls-ca, --tls-cert and --tls-key with tls://"):
        parse_address("tls://127.0.0.1", option="--scheduler", tls=None)
    with pytest.raises(UserError, match="expected no --tls options with tcp://"):
        parse_address("tcp://127.0.0.1", option="--scheduler", tls=TLS)


@pytest.mark.parametrize(
    ("access", "told"),
    [
        (LabAccess(listen="l", tls_ca=Path("ca")), "expected all three of them, or none"),
        (LabAccess(tls_ca=Path("ca"), tls_cert=Path("c"), tls_key=Path("k")), "expected --scheduler or --listen"),
        (LabAccess(listen="l", scheduler="s"), "expected one of them"),
    ],
)
def test_options_that_contradict_each_other(access: LabAccess, told: str) -> None:
    with pytest.raises(UserError, match=told):
        access.checked()


@pytest.mark.parametrize(
    "words",
    [["worker", "--scheduler", "198.51.100.7:1"], ["nightly", "plan.yaml", "--listen", "0.0.0.0:1"]],
)
def test_wrong_options_are_told_before_anything_begins(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(fakenight.ONE.replace("[one]", "[qemu-virt]"))
    done = harness(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"harness: {words[-2]} {words[-1]}: expected an address of this host's loopback")


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"dask\.distributed, which is missing .*; install the extra: pip install "):
        require()


# -- what a worker keeps ----------------------------------------------------------------------------------------------


def test_finished_cells_stay_until_they_are_fetched(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with spool.held(KEY):
        leave_run(spool.begin(KEY))
        done = spool.finish(KEY, code=0, last_line="OK", was_ended=False)
    again = Spool(tmp_path / "spool")
    again.clear()
    assert again.finished(KEY) == done
    assert again.keys() == (KEY,)
    assert len(again.read(KEY, 0)) == done.results.size
    again.drop(KEY)
    assert (again.finished(KEY), again.keys()) == (None, ())


def test_a_run_that_was_cut_short_is_kept_but_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    leave_run(spool.begin(KEY), ends="GAP")
    spool.finish(KEY, code=130, last_line="interrupted", was_ended=True)
    assert spool.finished(KEY) is None
    assert list(spool.begin(KEY).iterdir()) == []
    assert len(list(tmp_path.glob("*cut-short*/results.tar.gz"))) == 1


def test_what_nobody_fetches_goes_after_two_weeks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    with spool.held(KEY):
        leave_run(spool.begin(KEY))
        spool.finish(KEY, code=0, last_line="OK", was_ended=False)
        monkeypatch.setattr("harness.campaign.lab.spool._DAYS", -1.0)
        spool.clear()
        assert spool.keys() == (KEY,)  # it is held
    spool.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "..", "../" + KEY, KEY.upper(), KEY + "0"])
def test_only_keys_are_names_in_the_spool(key: str, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="expected the key of a cell"):
        Spool(tmp_path).begin(key)


class Runs(SideRuns):
    """Runs that are over at once, or when somebody asks for it."""

    said = "OK: 2 PASS"
    began: ClassVar[list[Sequence[object]]]
    waits: ClassVar[threading.Event | None]
    is_waiting: ClassVar[threading.Event]

    def run_words(self, options: Sequence[object], run_dir: Path) -> Ended:
        type(self).began.append(options)
        if self.waits:
            self.is_waiting.set()
            assert self.waits.wait(LIMIT_S)
            (run_dir.parent / "run.log").write_text("interrupted\n")
            return Ended(code=130, results=None, last_line="interrupted")
        leave_run(run_dir.parent)
        return Ended(code=0, results=read_results(run_dir), last_line=self.said)

    def stop(self) -> None:
        if self.waits:
            self.waits.set()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], LabHost]:
    monkeypatch.setattr(hosting, "SideRuns", Runs)
    monkeypatch.setattr(Runs, "began", [], raising=False)
    monkeypatch.setattr(Runs, "waits", None, raising=False)
    monkeypatch.setattr(Runs, "is_waiting", threading.Event(), raising=False)
    inventory = read_inventory(FakeLab(tmp_path / "lab").boards_file("a", "b"))
    arrivals = Arrivals(tmp_path, Silent())
    builds = Builds(tmp_path / "builds")
    builds.build(CELL)
    monkeypatch.setattr(arrivals, "get", lambda _: builds.built("b"))

    def make() -> LabHost:
        return LabHost(
            inventory, ["a"], shared=[], spool=Spool(tmp_path / "spool"), builds=arrivals, say=lambda _: None
        )

    return make


ORDER = Order(key=KEY, build="address", board="a", words=("-k", "x"), expectations=("expectations: []\n",))


def test_a_cell_is_run_once_until_its_results_are_fetched(host: Callable[[], LabHost]) -> None:
    first = host()
    done = first.run(ORDER)
    assert done == host().run(ORDER)  # another process, later
    assert len(Runs.began) == 1
    words = list(map(str, Runs.began[0]))
    assert words[words.index("--board") + 1] == "a"
    assert words[-4:-1] == ["-k", "x", "--expectations"]
    assert Path(words[-1]).read_text() == "expectations: []\n"
    assert first.offer().kept == (KEY,)
    first.drop(KEY)
    first.run(ORDER)
    assert len(Runs.began) == 2


class _Watched(threading.Event):
    """Tells who waits for it."""

    asked = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.release()
        return super().wait(timeout)


class _Job(hosting._Job):
    def __init__(self, runs: SideRuns) -> None:
        super().__init__(runs)
        self.is_over = _Watched()


def test_who_asks_for_a_cell_that_is_run_waits_for_it(
    host: Callable[[], LabHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "_Job", _Job)
    Runs.waits = threading.Event()
    one, got = host(), list[Done]()
    threads = [threading.Thread(target=lambda: got.append(one.run(ORDER))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert _Watched.asked.acquire(timeout=LIMIT_S)
    assert one.offer().kept == (KEY,)
    one.end([KEY])
    for thread in threads:
        thread.join(LIMIT_S)
    assert [done.was_ended for done in got] == [True, True]
    assert len(Runs.began) == 1


@fault(
    "SIGKILL of a worker between the end of a run and its record", where="killed", blame=Blame.NOBODY,
    survives="the run, which is not made again",
)  # fmt: skip
def test_a_run_that_had_ended_is_taken_as_it_is(host: Callable[[], LabHost], tmp_path: Path) -> None:
    leave_run(Spool(tmp_path / "spool").begin(KEY))
    assert host().run(ORDER).code == 0
    assert Runs.began == []


@fault(
    "a worker's host can start no more processes", where="host", blame=Blame.INFRA,
    survives="the worker, which runs the cell when there are some again",
)  # fmt: skip
def test_a_shortage_on_the_workers_host_is_told_as_one(
    host: Callable[[], LabHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host()

    def no_descriptors(*_: object) -> Ended:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as short:
        short.setattr(Runs, "run_words", no_descriptors)
        with pytest.raises(Shortage, match="raise the limit of open files"):
            one.run(ORDER)
    assert one.run(ORDER).code == 0


def test_a_worker_that_ends_says_so(host: Callable[[], LabHost]) -> None:
    Runs.waits = threading.Event()
    one, errors = host(), list[HarnessError]()

    def ask() -> None:
        try:
            one.run(ORDER)
        except HarnessError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert Runs.is_waiting.wait(LIMIT_S)
    one.stop()
    thread.join(LIMIT_S)
    assert [type(error) for error in errors] == [Gone]
    for method in (one.offer, lambda: one.run(ORDER)):
        with pytest.raises(Gone, match="ends"):
            method()


def test_a_board_that_is_not_offered_is_not_used(host: Callable[[], LabHost]) -> None:
    with pytest.raises(InfraError, match="expected one of the boards a, found 'b'"):
        host().run(dataclasses.replace(ORDER, board="b"))
    assert Runs.began == []


def test_what_a_worker_offers(host: Callable[[], LabHost]) -> None:
    offer = host().offer()
    assert (offer.boards, offer.host, offer.testcases) == ({"a": True}, socket.gethostname(), key_of_testcases())
    assert offer.cpus > 0
