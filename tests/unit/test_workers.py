"""Workers: how many there can be, and what becomes of the test whose worker died."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.model.board import Board, KexecBoot, QemuBoot
from harness.model.result import EventKind, Verdict
from harness.report.events import parse_events
from harness.run.eventlog import EventLog
from harness.run.plugin import Planned
from harness.run.schedule import LongestFirst
from harness.run.workers import Distributor, how_many

QEMU = Board(name="q", boot=QemuBoot(memory_mib=600))  # 1000 MiB a machine, with what QEMU and a worker need


def _meminfo(tmp_path: Path, mib: int) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal:       99999999 kB\nMemFree:   1 kB\nMemAvailable:   {mib * 1024} kB\n")
    return path


@pytest.mark.parametrize(
    ("available", "count"), [(1024 + 3999, 3), (1024 + 4000, 4), (1024 + 99_000, 8), (1024, 1), (0, 1)]
)
def test_no_more_machines_than_memory_has_room_for(tmp_path: Path, available: int, count: int) -> None:
    assert how_many(8, QEMU, meminfo=_meminfo(tmp_path, available)) == count


@pytest.mark.parametrize(("cpus", "count"), [(1, 2), (2, 3), (4, 6)])
def test_half_again_as_many_as_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, count: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert how_many(None, QEMU, meminfo=_meminfo(tmp_path, 100_000)) == count
    assert how_many(None, QEMU, meminfo=_meminfo(tmp_path, 1024 + 1000)) == 1


def test_a_host_that_does_not_tell_its_memory_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 4 kB\n")
    assert how_many(4, QEMU, meminfo=path) == 1


class Report:
    outcome = "failed"


def _distributor(tmp_path: Path) -> tuple[Distributor, LongestFirst, EventLog]:
    planned = {"x.py::t": Planned("t", "t")}
    events = EventLog(tmp_path / "events.jsonl")
    schedule = LongestFirst(1, planned, lambda _test: 1.0)
    schedule._ids = ["x.py::t"]
    return Distributor(None, 1, planned=planned, seconds=lambda _test: 1.0, events=events), schedule, events  # type: ignore[arg-type]


def _died(distributor: Distributor, schedule: LongestFirst) -> str:
    report = Report()
    distributor.pytest_handlecrashitem("x.py::t", report, schedule)  # type: ignore[arg-type]
    return report.outcome


def _verdicts(events: EventLog) -> list[object]:
    with events.path.open() as lines:
        return [event.data["verdict"] for event in parse_events(lines) if event.kind is EventKind.FINISHED]


def test_a_test_whose_worker_died_is_run_again_but_not_for_ever(tmp_path: Path) -> None:
    distributor, schedule, events = _distributor(tmp_path)
    for _ in range(2):
        assert _died(distributor, schedule) == "rerun"
        assert schedule.has_pending
        schedule._waiting.clear()  # it runs
        assert _verdicts(events) == []
    assert _died(distributor, schedule) == "failed"
    assert not schedule.has_pending
    assert _verdicts(events) == [Verdict.ERROR]


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.CRASH])
def test_a_verdict_that_is_written_down_is_not_replaced(tmp_path: Path, verdict: Verdict) -> None:
    """The worker died between that and telling the run's own process."""
    distributor, schedule, events = _distributor(tmp_path)
    events.write(EventKind.FINISHED, test="t", verdict=str(verdict), seconds=1.0)
    assert _died(distributor, schedule) == "rerun"
    assert not schedule.has_pending
    assert _verdicts(events) == [verdict]


def test_a_board_is_one_machine(tmp_path: Path) -> None:
    assert how_many(4, Board(name="b", boot=KexecBoot()), meminfo=_meminfo(tmp_path, 100_000)) == 1
