"""The machine with snapshots: what is kept, who gets a target that nobody used, whose loss is whose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, InfraError
from harness.model.board import Limits
from harness.model.result import Verdict
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.target.base import CommandTimeout, Cpus, TargetLost
from tests.boards import is_a
from tests.fakesnapshots import FakeSnapshots
from tests.faketarget import LOST, FakeTarget, Kmsg
from tests.faults.catalogue import Blame, fault

WARNING = Kmsg(
    "[    1.000000] ------------[ cut here ]------------\n"
    "[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 foo+0x1/0x2\n"
    "[    1.000000] ---[ end trace 0000000000000000 ]---"
)
MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[MakeMachine]:
    machines: list[Machine] = []

    def make(snapshots: FakeSnapshots | None, *booted: FakeTarget) -> Machine:
        waiting = list(booted)
        machine = Machine(
            lambda: (waiting.pop(0), 2.0),
            limits=Limits(silence=30.0),
            recorder=Recorder.of(tmp_path),
            snapshots=snapshots,
        )
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.close()


def _kept(make_machine: MakeMachine, **more: Any) -> tuple[Machine, FakeSnapshots]:
    snapshots = FakeSnapshots(**more)
    machine = make_machine(snapshots)
    assert machine.can_keep
    assert machine.target is snapshots.booted[0]
    assert machine.keep() == ""
    return machine, snapshots


def test_every_target_after_keep_starts_from_what_was_kept(make_machine: MakeMachine, tmp_path: Path) -> None:
    machine, snapshots = _kept(make_machine)
    assert snapshots.booted[0].closed
    assert machine.restores
    assert not machine.can_keep
    assert not machine.is_up
    machine.begin("t", fresh=True)
    assert machine.target is snapshots.restored[0]
    assert snapshots.whys == ["t"]
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["data"]["restored"] for event in told if event["kind"] == "booted"] == [False, True]


def test_a_host_that_has_become_busy_gives_tests_more_time(make_machine: MakeMachine) -> None:
    """A machine that takes three times as long to restore runs the test at a third of the speed, too."""
    machine, snapshots = _kept(make_machine)
    machine.factor = 10.0
    scaled, limits = [], []
    for snapshots.seconds in (0.5, 1.5, 500.0, 0.5):
        machine.begin("t", fresh=True)
        assert machine.target is snapshots.restored[-1]
        scaled.append(machine.scaled(1.0))
        limits.append(machine.time_limit("t"))
    assert scaled == [10.0, 30.0, 80.0, 10.0]
    assert limits == [60.0 + 30.0, 180.0 + 30.0, 480.0 + 30.0, 60.0 + 30.0]


def test_only_who_asks_for_it_gets_a_target_that_nobody_used(make_machine: MakeMachine) -> None:
    machine, snapshots = _kept(make_machine)
    machine.begin("a", fresh=True)
    first = machine.target
    machine.begin("b", fresh=False)
    assert machine.target is first
    machine.begin("c", fresh=True)
    assert is_a(FakeTarget, first).closed
    assert machine.target is snapshots.restored[1]


def test_who_wants_other_cpus_gets_another_target(make_machine: MakeMachine) -> None:
    machine, snapshots = _kept(make_machine)
    wanted = [Cpus.SIDE_BY_SIDE, Cpus.SEEING_PATCHES, Cpus.SIDE_BY_SIDE, Cpus.SIDE_BY_SIDE]
    for test, cpus in zip("abcd", wanted, strict=True):
        machine.begin(test, fresh=False, cpus=cpus)
        assert machine.target
    assert snapshots.whys == ["a", "b", "c"]
    assert snapshots.cpus == wanted[:3]


def test_without_snapshots_a_target_is_used_until_it_is_discarded(make_machine: MakeMachine) -> None:
    machine = make_machine(None, FakeTarget(lambda _: []), FakeTarget(lambda _: []))
    machine.begin("a", fresh=False)
    first = machine.target
    machine.begin("b", fresh=True)
    assert machine.target is first
    assert not machine.can_keep
    assert not machine.restores


def test_a_kernel_that_has_reported_something_is_not_kept(make_machine: MakeMachine) -> None:
    snapshots = FakeSnapshots()
    machine = make_machine(snapshots, FakeTarget(lambda _: []))
    is_a(FakeTarget, machine.target).kernel_says(WARNING)
    assert "its kernel reported: " in machine.keep()
    assert not machine.can_keep
    assert not machine.restores


@pytest.mark.parametrize("error", [InfraError("disk full"), TargetLost("gone"), CommandTimeout("slow")])
def test_a_target_that_can_not_be_kept_is_booted_anew(make_machine: MakeMachine, error: HarnessError) -> None:
    snapshots = FakeSnapshots(save_error=error)
    anew = FakeTarget(lambda _: [])
    machine = make_machine(snapshots, anew)
    assert machine.target is snapshots.booted[0]
    assert machine.keep() == error.message
    assert not machine.restores
    assert machine.target is anew


def test_the_first_test_on_a_target_is_the_only_one_that_finds_it_fresh(make_machine: MakeMachine) -> None:
    machine, _ = _kept(make_machine)
    fresh = []
    for test in ("a", "b", "c"):
        machine.begin(test, fresh=False)
        assert machine.target
        fresh.append(machine.is_fresh)
    machine.discard("crash")
    for test in ("d", "e"):
        machine.begin(test, fresh=False)
        assert machine.target
        fresh.append(machine.is_fresh)
    assert fresh == [True, False, False, True, False]


def test_a_target_that_was_looked_at_before_the_first_test_is_fresh_for_that(make_machine: MakeMachine) -> None:
    machine = make_machine(None, FakeTarget(lambda _: []))
    assert machine.target
    machine.begin("a", fresh=False)
    assert machine.is_fresh
    machine.begin("b", fresh=False)
    assert not machine.is_fresh


def test_an_ftracetest_waits_on_every_restored_target_and_is_taken_once(make_machine: MakeMachine) -> None:
    snapshots = FakeSnapshots()
    machine = make_machine(snapshots)
    assert machine.target
    machine.has_waiting_ftracetest = True
    assert not machine.take_waiting_ftracetest()  # the one that is going to be kept is not to be used
    assert machine.keep() == ""
    for test in ("a", "b"):
        machine.begin(test, fresh=True)
        assert machine.target
        assert [machine.take_waiting_ftracetest() for _ in range(2)] == [True, False]


def test_a_waiting_ftracetest_is_not_used_behind_another_test(make_machine: MakeMachine) -> None:
    """It has its reset behind it."""
    snapshots = FakeSnapshots()
    machine = make_machine(snapshots)
    assert machine.target
    machine.has_waiting_ftracetest = True
    assert machine.keep() == ""
    for test in ("a", "b"):
        machine.begin(test, fresh=False)
        assert machine.target
    assert not machine.take_waiting_ftracetest()


@fault("restoring a machine fails once", where="host", blame=Blame.NOBODY, survives="the test, on the next try")
def test_a_restore_that_fails_is_tried_again(make_machine: MakeMachine) -> None:
    machine, snapshots = _kept(make_machine, restore_errors=[InfraError("QEMU was killed")])
    assert machine.target is snapshots.restored[0]


def test_a_machine_that_went_away_is_lost_unless_its_kernel_said_why_or_it_went_down(make_machine: MakeMachine) -> None:
    lost = [Kmsg("[    1.000000] quiet"), LOST]
    targets = {
        "lost": FakeTarget(lambda _: lost),
        "down": FakeTarget(lambda _: lost, went_down=True),
        "fault": FakeTarget(lambda _: [WARNING, LOST]),
    }
    found = {}
    for name, target in targets.items():
        machine = make_machine(None, target)
        with pytest.raises(Stopped) as stopped:
            machine.run("test")
        found[name] = (machine.was_lost(stopped.value), stopped.value.outcome.verdict)
    assert found == {
        "lost": (True, Verdict.ERROR),
        "down": (False, Verdict.CRASH),
        "fault": (False, Verdict.CRASH),
    }


def test_a_lost_machine_met_outside_of_the_watch_is_lost_too(make_machine: MakeMachine) -> None:
    machine = make_machine(None, FakeTarget(lambda _: []), FakeTarget(lambda _: [], went_down=True))
    assert machine.target
    assert machine.was_lost(TargetLost("gone"))
    assert not machine.was_lost(InfraError("something else"))
    is_a(FakeTarget, machine.target).kernel_says(WARNING)
    assert not machine.was_lost(TargetLost("gone"))
    machine.discard("next")
    assert machine.target
    assert not machine.was_lost(TargetLost("gone"))
