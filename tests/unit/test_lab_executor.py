"""The plan's process of a night over many machines: who is asked, what is sent there, what comes back."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.campaign.lab import executor as executing
from harness.campaign.lab import parcels
from harness.campaign.lab.builds import Arrivals
from harness.campaign.lab.engine import Member
from harness.campaign.lab.executor import LabExecutor
from harness.campaign.lab.spool import Spool
from harness.errors import InfraError
from harness.model.lab import Done, Gone, Offer, Order, Parcel
from harness.model.night import State
from harness.model.progress import Silent
from harness.run.documents import read_results
from harness.run.session import key_of_testcases
from tests.fakelab import LIMIT_S, Builds
from tests.faults.catalogue import Blame, fault
from tests.unit.test_lab_parts import CELL, cache, leave_run

__all__ = ["cache"]


class Scripted:
    """A Lab whose workers are as a test says."""

    def __init__(self, *members: Member) -> None:
        self.there = list(members)
        self.calls: list[tuple[str, str]] = []
        self.answers: dict[str, Callable[..., Any]] = {}
        self.forgotten: list[str] = []

    def members(self) -> tuple[Member, ...]:
        return tuple(self.there)

    def wait_until(self, condition: Callable[[], bool], limit: float) -> None:
        condition()

    def wake(self) -> None: ...

    def forget(self, member: Member) -> None:
        self.forgotten.append(member.name)
        self.there.remove(member)

    def call(self, member: Member, method: str, *arguments: Any, limit: float | None, board: str = "") -> Any:
        self.calls.append((member.name, method))
        return self.answers[method](*arguments)


def member(name: str, *, boards: dict[str, bool] | None = None, locks: str = "", **properties: Any) -> Member:
    told = {"host": name, "harness": "0", "testcases": key_of_testcases(), **properties}
    offer = Offer(boards={"a": True} if boards is None else boards, locks=locks or name, **told)
    return Member(name=name, address=f"tcp://{name}", offer=offer)


class Night:
    """An executor over scripted workers; each has every build, and its runs leave results."""

    def __init__(self, root: Path, *members: Member) -> None:
        self.said: list[str] = []
        self.lab = Scripted(*members)
        self.spool = Spool(root / "spool")
        self.builds = Builds(root / "builds")
        self.builds.build(CELL)
        self.executor = LabExecutor(
            self.builds, self.lab, expectations=(), history=root / "history", scratch=root, say=self.said.append  # type: ignore[arg-type]
        )  # fmt: skip
        self.place = root / "nights/1/attempts/one.1"
        self.place.mkdir(parents=True)
        self.lab.answers = {
            "has_build": lambda _: True, "run": self.run, "read": self.spool.read, "drop": self.spool.drop,
            "probe": lambda board: f"{board}: no answer",
        }  # fmt: skip

    def run(self, order: Order) -> Done:
        leave_run(self.spool.begin(order.key))
        return self.spool.finish(order.key, code=0, last_line="OK: 2 PASS", was_ended=False)

    def asked(self, method: str = "run") -> list[str]:
        return [name for name, called in self.lab.calls if called == method]


def test_a_run_comes_back(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one"))
    tested = night.executor.test(CELL, "a", night.place)
    assert (tested.state, tested.code, tested.board) == (State.TESTED, 0, "a")
    assert sorted(path.name for path in night.place.iterdir()) == ["run", "run.log"]
    assert night.spool.keys() == ()


def test_a_build_that_no_cell_needs_takes_no_room(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one"))
    sent: list[bytes] = []
    night.lab.answers |= {
        "has_build": lambda _: False, "begin_build": lambda _: "x", "complete_build": lambda *_: None,
        "add_to_build": lambda _name, _offset, data: sent.append(data),
    }  # fmt: skip
    night.executor.test(CELL, "a", night.place)
    (packed,) = tmp_path.glob("*.tar.gz")
    assert packed.read_bytes() == b"".join(sent)
    night.executor.release(CELL.build)
    assert not packed.exists()
    assert night.builds.released == [CELL.build]


@fault(
    "a worker is lost while it runs a cell", where="lab", blame=Blame.NOBODY,
    survives="the cell, which another worker runs; the board does not count as failed",
)  # fmt: skip
def test_another_worker_goes_on(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one", cpus=2, locks="l"), member("two", locks="l"))
    lose = [True]

    def run(order: Order) -> Done:
        if lose.pop() if lose else False:
            raise Gone("the worker on one was lost")
        return night.run(order)

    night.lab.answers["run"] = run
    assert night.executor.test(CELL, "a", night.place).state is State.TESTED
    assert night.asked() == ["one", "two"]
    assert night.lab.forgotten == ["one"]
    assert any("the worker on one was lost" in line for line in night.said)


def test_a_cell_that_loses_all_its_workers_fails(tmp_path: Path) -> None:
    night = Night(tmp_path, *(member(f"w{number}", locks="l") for number in range(9)))

    def run(_: Order) -> Done:
        raise Gone("lost")

    night.lab.answers["run"] = run
    with pytest.raises(InfraError, match="4 workers in a row were lost while they ran this cell"):
        night.executor.test(CELL, "a", night.place)


def test_a_board_that_nobody_offers_fails(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one", boards={"b": True}))
    with pytest.raises(InfraError, match="no worker offers this board, and none came within 120 s"):
        night.executor.test(CELL, "a", night.place)
    assert night.executor.probe("a") == "no worker offers it"
    assert night.executor.probe("b") == "b: no answer"


def test_a_board_belongs_to_one_host(tmp_path: Path) -> None:
    """Nothing would keep two hosts from using it at once, whoever of them is there when."""
    one, two = member("one"), member("two", cpus=64)
    night = Night(tmp_path, one)
    night.executor.test(CELL, "a", night.place)
    night.lab.there = [two]
    with pytest.raises(InfraError, match="no worker offers this board"):
        night.executor.test(CELL, "a", night.place)
    night.lab.there = [two, one]
    another = night.place.with_name("one.2")
    another.mkdir()
    night.executor.test(CELL, "a", another)
    assert night.asked() == ["one", "one"]
    assert sum("its board a is left out" in line for line in night.said) == 1


def test_a_host_that_has_booted_keeps_its_boards(tmp_path: Path) -> None:
    """Its locks are others then."""
    night = Night(tmp_path, member("one", locks="first boot"))
    night.executor.test(CELL, "a", night.place)
    night.lab.there = [member("one", locks="second boot")]
    another = night.place.with_name("one.2")
    another.mkdir()
    assert night.executor.test(CELL, "a", another).state is State.TESTED


def test_an_emulated_board_or_one_of_a_labgrid_place_is_any_hosts(tmp_path: Path) -> None:
    boards = {"a": False}
    night = Night(
        tmp_path, member("few", boards=boards, cpus=2), member("many", boards=boards, cpus=64),
        member("kvm", boards=boards, cpus=4, kvm=True),
    )  # fmt: skip
    for expected in ("kvm", "many", "few"):
        night.executor.test(CELL, "a", night.place)
        assert night.asked()[-1] == expected
        night.lab.there = [each for each in night.lab.there if each.name != expected]
        for path in night.place.iterdir():
            path.rename(tmp_path / f"{expected}-{path.name}")


def test_a_worker_that_has_the_results_is_asked_first_whatever_its_boards(tmp_path: Path) -> None:
    """The night was killed while another board ran the cell. If the lab was to blame, it is run again then."""
    night = Night(tmp_path, member("best"))
    key = executing._key_of(CELL, night.place)
    night.run(Order(key=key, build="", board="other", words=()))
    night.lab.there.append(member("keeper", boards={"other": True}, kept=(key,)))
    night.lab.answers["run"] = lambda order: night.spool.finished(order.key) or night.run(order)
    tested = night.executor.test(CELL, "a", night.place)
    assert (night.asked(), night.asked("has_build")) == (["keeper"], [])
    assert tested.board == read_results(night.place / "run").record.board.name
    again = night.place.with_name("one.2")
    again.mkdir()
    night.executor.test(CELL, "a", again)
    assert night.asked() == ["keeper", "best"]


def test_the_key_is_the_same_for_every_attempt_of_a_night(tmp_path: Path) -> None:
    keys = {
        executing._key_of(cell, tmp_path / place)
        for cell in (CELL, dataclasses.replace(CELL, identity="j"))
        for place in ("nights/1/attempts/one.1", "nights/1/attempts/one.2", "nights/2/attempts/one.1")
    }
    assert len(keys) == 4


def test_a_worker_with_other_testcases_is_left_out(tmp_path: Path) -> None:
    night = Night(tmp_path, member("old", testcases="other", harness="0.0.9"))
    with pytest.raises(InfraError, match="no worker offers this board"):
        night.executor.test(CELL, "a", night.place)
    assert night.said == [
        "the worker on old is left out: it has other testcases (harness 0.0.9); install the same harness there as here"
    ]


@fault(
    "a worker sends results that are not what it announced", where="network", blame=Blame.INFRA,
    survives="the attempt has no results; the worker keeps its own",
)  # fmt: skip
def test_results_come_back_whole_or_not_at_all(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one"))
    night.lab.answers["read"] = lambda key, offset: bytes(1 + len(night.spool.read(key, offset)))
    with pytest.raises(InfraError, match="results from one: expected an archive of"):
        night.executor.test(CELL, "a", night.place)
    assert list(night.place.iterdir()) == []
    assert len(night.spool.keys()) == 1


def test_a_build_is_sent_where_it_is_missing_and_packed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "CHUNK_BYTES", 100)
    night = Night(tmp_path, member("one"), member("two", boards={"b": True}))
    has: set[str] = set()
    arrivals = Arrivals(tmp_path, Silent())

    class WithBuilds(Scripted):
        def call(self, to: Member, method: str, *arguments: Any, limit: float | None, board: str = "") -> Any:
            if method == "has_build":
                return to.name in has
            if method == "complete_build":
                has.add(to.name)
            return super().call(to, method, *arguments, limit=limit, board=board)

    night.lab.__class__ = WithBuilds
    night.lab.answers |= {
        "begin_build": arrivals.begin,
        "add_to_build": arrivals.add,
        "complete_build": lambda name, address: arrivals.complete(name, address, print),
    }
    packed: list[Path] = []
    pack = parcels.pack

    def packing(directory: Path, *arguments: Any, **more: Any) -> Parcel:
        packed.append(directory)
        return pack(directory, *arguments, **more)

    monkeypatch.setattr(parcels, "pack", packing)
    for number, board in enumerate("aab"):
        place = night.place.with_name(f"one.{number + 2}")
        place.mkdir()
        night.executor.test(CELL, board, place)
    assert night.asked("complete_build") == ["one", "two"]
    assert packed.count(tmp_path / "builds/b") == 1
    assert len(night.asked("add_to_build")) > 4


def test_a_night_that_is_ended_begins_nothing_and_ends_what_runs(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one"))
    ended = threading.Event()

    def run(order: Order) -> Done:
        night.executor.stop()
        assert ended.wait(LIMIT_S)
        leave_run(night.spool.begin(order.key), ends="GAP")
        return night.spool.finish(order.key, code=130, last_line="interrupted", was_ended=True)

    night.lab.answers |= {"run": run, "end": lambda _: ended.set()}
    tested = night.executor.test(CELL, "a", night.place)
    assert (tested.code, tested.state) == (130, None)
    assert (night.place / "run").is_dir()
    with pytest.raises(InfraError, match="the night was ended"):
        night.executor.test(CELL, "a", night.place)


def test_a_worker_that_does_not_end_its_runs_is_not_waited_for(tmp_path: Path) -> None:
    night = Night(tmp_path, member("one"))
    is_forgotten = threading.Event()

    def run(_: Order) -> Done:
        night.executor.stop()
        assert is_forgotten.wait(LIMIT_S)
        raise Gone("the worker on one was lost")

    def end(_: object) -> None:
        raise Gone("it did not answer")

    class Forgetful(Scripted):
        def forget(self, member: Member) -> None:
            if member in self.there:
                super().forget(member)
            is_forgotten.set()

    night.lab.__class__ = Forgetful
    night.lab.answers |= {"run": run, "end": end}
    with pytest.raises(Gone):
        night.executor.test(CELL, "a", night.place)
