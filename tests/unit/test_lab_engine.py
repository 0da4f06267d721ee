"""The door to dask.distributed: who is there, what calls return and raise. All of it is in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.campaign.lab import engine
from harness.campaign.lab.addresses import Address
from harness.campaign.lab.engine import Lab, Member, Membership
from harness.errors import InfraError
from harness.model.lab import Gone, Offer
from tests.fakelab import ANY, LIMIT_S, playing
from tests.faults.catalogue import Blame, fault


class Host:
    """What calls are made on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.began = threading.Semaphore(0)
        self.offers: Offer | Exception = Offer(host="here", harness="1", testcases="t", locks="l", boards={"a": True})

    def offer(self) -> Offer:
        if isinstance(self.offers, Exception):
            raise self.offers
        return self.offers

    def add(self, one: int, other: bytes) -> int:
        return one + len(other)

    def refuse(self) -> None:
        raise InfraError("no room", details=("/dev/sda1",))

    def break_down(self) -> None:
        raise ZeroDivisionError("division by zero")

    def wait(self) -> str:
        self.began.release()
        assert self.go_on.wait(LIMIT_S)
        return "done"


class Net:
    """A scheduler, the plan's process, and a worker."""

    def __init__(self, until_done: ExitStack, scratch: Path) -> None:
        self.said: list[str] = []
        self.host = Host()
        self.scheduler, self.lab = until_done.enter_context(playing(say=self.said))
        self._scratch = scratch
        self.worker = self.join()
        until_done.callback(self.host.go_on.set)

    def join(self) -> Membership:
        return Membership(
            self.host,
            self.scheduler,
            None,
            boards=("a",),
            here=Address(host="127.0.0.1", port=0),
            scratch=self._scratch,
        )

    def member(self) -> Member:
        """Wait for the worker."""
        self.lab.wait_until(lambda: bool(self.lab.members()), LIMIT_S)
        [found] = self.lab.members()
        return found

    def wait_for(self, text: str) -> None:
        """Wait until something was said."""
        deadline = time.monotonic() + LIMIT_S
        while not any(text in line for line in self.said):
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with ExitStack() as until_done:
        made = Net(until_done, tmp_path)
        yield made
        made.host.go_on.set()
        made.worker.close()


def test_calls_return_and_raise_what_the_method_does(net: Net) -> None:
    member = net.member()
    assert member.offer == net.host.offers
    assert net.lab.call(member, "add", 2, b"four", limit=LIMIT_S) == 6
    with pytest.raises(InfraError, match="no room") as told:
        net.lab.call(member, "refuse", limit=LIMIT_S)
    assert (type(told.value), told.value.details) == (InfraError, ("/dev/sda1",))
    with pytest.raises(Gone, match="the worker on here was lost: division by zero"):
        net.lab.call(member, "break_down", limit=LIMIT_S)


def test_calls_that_use_a_board_come_one_after_the_other(net: Net) -> None:
    member, done = net.member(), list[str]()
    threads = [
        threading.Thread(target=lambda: done.append(net.lab.call(member, "wait", limit=None, board="a")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert net.host.began.acquire(timeout=LIMIT_S)
    assert net.lab.call(member, "add", 2, b"four", limit=LIMIT_S) == 6  # others do not wait
    assert not net.host.began.acquire(blocking=False)
    net.host.go_on.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert done == ["done", "done"]


@fault("a worker does not answer", where="network", blame=Blame.INFRA, survives="the night, which asks another worker")
def test_a_worker_that_does_not_answer_is_given_up(net: Net) -> None:
    member = net.member()
    with pytest.raises(Gone, match="the worker on here did not answer within 0 s"):
        net.lab.call(member, "wait", limit=0.2)
    net.lab.forget(member)
    net.member()  # it is asked again, and answers


@fault(
    "the connection to a worker is lost", where="network", blame=Blame.INFRA,
    survives="the night: who waits for the worker is told at once",
)  # fmt: skip
def test_who_waits_for_a_worker_that_goes_is_told(net: Net) -> None:
    member = net.member()
    errors: list[Gone] = []

    def ask() -> None:
        try:
            net.lab.call(member, "wait", limit=None, board="a")
        except Gone as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert net.host.began.acquire(timeout=LIMIT_S)
    net.worker.close()
    thread.join(LIMIT_S)
    assert [error.message for error in errors] == ["the worker on here was lost"]
    with pytest.raises(Gone):
        net.lab.call(member, "add", 1, b"", limit=LIMIT_S)
    net.worker = net.join()
    assert net.member() != member


@pytest.mark.parametrize(
    ("offers", "told"),
    [
        (Gone("the worker on here ends"), "left out: the worker on here ends"),
        (AttributeError("no such field"), "left out: it can't be asked what it offers: no such field"),
    ],
)
def test_a_worker_that_offers_nothing_is_left_out(offers: Exception, told: str, net: Net) -> None:
    member = net.member()
    net.host.offers = offers
    net.lab.forget(member)
    net.wait_for(told)
    assert net.lab.members() == ()


def test_a_worker_of_dask_itself_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as until_done:
        net = Net(until_done, tmp_path)
        member = net.member()
        monkeypatch.setattr(engine, "_host", None)
        net.lab.forget(member)
        net.wait_for("left out: expected a process of `harness worker`, found another worker of dask.distributed")
        net.worker.close()


def test_no_scheduler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with playing(say=[]) as (scheduler, _):
        pass
    monkeypatch.setattr(engine, "_CONNECT_S", 0.5)
    with pytest.raises(InfraError, match=f"{scheduler}: expected a scheduler there: "):
        Lab(scheduler, None, say=print)
    with pytest.raises(InfraError, match=f"{scheduler}: expected a scheduler there: "):
        Membership(Host(), scheduler, None, boards=(), here=ANY, scratch=tmp_path)


def test_by_itself_a_worker_listens_on_the_interface_towards_the_scheduler() -> None:
    assert engine._facing(Address(host="127.0.0.1", port=1)) == ANY
    with pytest.raises(InfraError, match="expected a host that can be reached"):
        engine._facing(Address(host="nowhere.invalid", port=1))
