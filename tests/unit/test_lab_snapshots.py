"""The lab with snapshots: what is kept, who gets a target that nobody used, whose loss is whose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError, InfraError
from harness.model.board import Limits
from harness.model.result import Verdict
from harness.run.lab import Lab, Stopped
from harness.run.recorder import Recorder
from harness.target.base import CommandTimeout, Cpus, TargetLost
from tests.fakesnapshots import FakeSnapshots
from tests.faketarget import LOST, FakeTarget, Kmsg

WARNING = Kmsg(
    "[    1.000000] ------------[ cut here ]------------\n"
    "[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 foo+0x1/0x2\n"
    "[    1.000000] ---[ end trace 0000000000000000 ]---"
)
MakeLab = Callable[..., Lab]


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    labs: list[Lab] = []

    def make(snapshots: FakeSnapshots | None, *booted: FakeTarget) -> Lab:
        waiting = list(booted)
        lab = Lab(
            lambda: (waiting.pop(0), 2.0),
            limits=Limits(silence=30.0),
            recorder=Recorder.of(tmp_path),
            snapshots=snapshots,
        )
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.close()


def _kept(make_lab: MakeLab, **more: object) -> tuple[Lab, FakeSnapshots]:
    snapshots = FakeSnapshots(**more)
    lab = make_lab(snapshots)
    assert lab.can_keep
    assert lab.target is snapshots.booted[0]
    assert lab.keep() == ""
    return lab, snapshots


def test_every_target_after_keep_starts_from_what_was_kept(make_lab: MakeLab, tmp_path: Path) -> None:
    lab, snapshots = _kept(make_lab)
    assert snapshots.booted[0].closed
    assert lab.restores
    assert not lab.can_keep
    assert not lab.is_up
    lab.begin("t", fresh=True)
    assert lab.target is snapshots.restored[0]
    assert snapshots.whys == ["t"]
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["data"]["restored"] for event in told if event["kind"] == "booted"] == [False, True]


def test_only_who_asks_for_it_gets_a_target_that_nobody_used(make_lab: MakeLab) -> None:
    lab, snapshots = _kept(make_lab)
    lab.begin("a", fresh=True)
    first = lab.target
    lab.begin("b", fresh=False)
    assert lab.target is first
    lab.begin("c", fresh=True)
    assert first.closed  # type: ignore[attr-defined]
    assert lab.target is snapshots.restored[1]


def test_who_wants_other_cpus_gets_another_target(make_lab: MakeLab) -> None:
    lab, snapshots = _kept(make_lab)
    wanted = [Cpus.SIDE_BY_SIDE, Cpus.SEEING_PATCHES, Cpus.SIDE_BY_SIDE, Cpus.SIDE_BY_SIDE]
    for test, cpus in zip("abcd", wanted, strict=True):
        lab.begin(test, fresh=False, cpus=cpus)
        assert lab.target
    assert snapshots.whys == ["a", "b", "c"]
    assert snapshots.cpus == wanted[:3]


def test_without_snapshots_a_target_is_used_until_it_is_discarded(make_lab: MakeLab) -> None:
    lab = make_lab(None, FakeTarget(lambda _: []), FakeTarget(lambda _: []))
    lab.begin("a", fresh=False)
    first = lab.target
    lab.begin("b", fresh=True)
    assert lab.target is first
    assert not lab.can_keep
    assert not lab.restores


def test_a_kernel_that_has_reported_something_is_not_kept(make_lab: MakeLab) -> None:
    snapshots = FakeSnapshots()
    lab = make_lab(snapshots, FakeTarget(lambda _: []))
    lab.target.kernel_says(WARNING)  # type: ignore[attr-defined]
    assert "its kernel reported: " in lab.keep()
    assert not lab.can_keep
    assert not lab.restores


@pytest.mark.parametrize("error", [InfraError("disk full"), TargetLost("gone"), CommandTimeout("slow")])
def test_a_target_that_can_not_be_kept_is_booted_anew(make_lab: MakeLab, error: HarnessError) -> None:
    snapshots = FakeSnapshots(save_error=error)
    anew = FakeTarget(lambda _: [])
    lab = make_lab(snapshots, anew)
    assert lab.target is snapshots.booted[0]
    assert lab.keep() == error.message
    assert not lab.restores
    assert lab.target is anew


def test_the_first_test_on_a_target_is_the_only_one_that_finds_it_fresh(make_lab: MakeLab) -> None:
    lab, _ = _kept(make_lab)
    fresh = []
    for test in ("a", "b", "c"):
        lab.begin(test, fresh=False)
        assert lab.target
        fresh.append(lab.is_fresh)
    lab.discard("crash")
    for test in ("d", "e"):
        lab.begin(test, fresh=False)
        assert lab.target
        fresh.append(lab.is_fresh)
    assert fresh == [True, False, False, True, False]


def test_a_target_that_was_looked_at_before_the_first_test_is_fresh_for_that(make_lab: MakeLab) -> None:
    lab = make_lab(None, FakeTarget(lambda _: []))
    assert lab.target
    lab.begin("a", fresh=False)
    assert lab.is_fresh
    lab.begin("b", fresh=False)
    assert not lab.is_fresh


def test_an_ftracetest_waits_on_every_restored_target_and_is_taken_once(make_lab: MakeLab) -> None:
    snapshots = FakeSnapshots()
    lab = make_lab(snapshots)
    assert lab.target
    lab.has_waiting_ftracetest = True
    assert not lab.take_waiting_ftracetest()  # the one that is going to be kept is not to be used
    assert lab.keep() == ""
    for test in ("a", "b"):
        lab.begin(test, fresh=True)
        assert lab.target
        assert [lab.take_waiting_ftracetest() for _ in range(2)] == [True, False]


def test_a_waiting_ftracetest_is_not_used_behind_another_test(make_lab: MakeLab) -> None:
    """It has its reset behind it."""
    snapshots = FakeSnapshots()
    lab = make_lab(snapshots)
    assert lab.target
    lab.has_waiting_ftracetest = True
    assert lab.keep() == ""
    for test in ("a", "b"):
        lab.begin(test, fresh=False)
        assert lab.target
    assert not lab.take_waiting_ftracetest()


def test_a_restore_that_fails_is_tried_again(make_lab: MakeLab) -> None:
    lab, snapshots = _kept(make_lab, restore_errors=[InfraError("QEMU was killed")])
    assert lab.target is snapshots.restored[0]


def test_a_machine_that_went_away_is_lost_unless_its_kernel_said_why_or_it_went_down(make_lab: MakeLab) -> None:
    lost = [Kmsg("[    1.000000] quiet"), LOST]
    targets = {
        "lost": FakeTarget(lambda _: lost),
        "down": FakeTarget(lambda _: lost, went_down=True),
        "fault": FakeTarget(lambda _: [WARNING, LOST]),
    }
    found = {}
    for name, target in targets.items():
        lab = make_lab(None, target)
        with pytest.raises(Stopped) as stopped:
            lab.run("test")
        found[name] = (lab.was_lost(stopped.value), stopped.value.verdict)
    assert found == {
        "lost": (True, Verdict.ERROR),
        "down": (False, Verdict.CRASH),
        "fault": (False, Verdict.CRASH),
    }


def test_a_lost_machine_met_outside_of_the_watch_is_lost_too(make_lab: MakeLab) -> None:
    lab = make_lab(None, FakeTarget(lambda _: []), FakeTarget(lambda _: [], went_down=True))
    assert lab.target
    assert lab.was_lost(TargetLost("gone"))
    assert not lab.was_lost(InfraError("something else"))
    lab.target.kernel_says(WARNING)  # type: ignore[attr-defined]
    assert not lab.was_lost(TargetLost("gone"))
    lab.discard("next")
    assert lab.target
    assert not lab.was_lost(TargetLost("gone"))
