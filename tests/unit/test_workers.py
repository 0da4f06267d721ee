"""Workers: how many there can be, and what becomes of the test whose worker died."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import available
from harness.errors import BootError
from harness.model.board import BoardSpec
from harness.model.boot import KexecBoot, QemuBoot
from harness.model.event import Finished, Note
from harness.model.result import Result, Verdict
from harness.parse.events import parse_events
from harness.run.collecting import Planned
from harness.run.recorder import Recorder
from harness.run.units import Isolation
from harness.run.workers.board_worker import Output
from harness.run.workers.distributor import Distributor
from harness.run.workers.schedule import LongestFirst
from harness.run.workers.worker import INPUT, Restored, Setup
from harness.target.base import Media
from harness.target.methods.table import boot_method
from tests.boards import held, spec
from tests.faults.catalogue import Blame, fault

QEMU = spec("q", boot=QemuBoot(memory_mib=600))  # 1000 MiB a machine, with what QEMU and a worker need


def capacity(board: BoardSpec, wanted: int | None) -> int:
    return boot_method(board).capacity(board, wanted)


@pytest.mark.parametrize(("free", "count"), [(1024 + 3999, 3), (1024 + 4000, 4), (1024 + 99_000, 8), (1024, 1), (0, 1)])
def test_no_more_machines_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch, free: int, count: int) -> None:
    monkeypatch.setattr(available, "memory_mib", lambda: free)
    assert capacity(QEMU, 8) == count


@pytest.mark.parametrize(("cpus", "count"), [(1, 2), (2, 3), (4, 6)])
def test_half_again_as_many_as_cpus(monkeypatch: pytest.MonkeyPatch, cpus: int, count: int) -> None:
    monkeypatch.setattr(available, "cpus", lambda: cpus)
    monkeypatch.setattr(available, "memory_mib", lambda: 100_000)
    assert capacity(QEMU, None) == count
    monkeypatch.setattr(available, "memory_mib", lambda: 1024 + 1000)
    assert capacity(QEMU, None) == 1


class Report:
    outcome = "failed"


def _distributor(tmp_path: Path) -> tuple[Distributor, LongestFirst, Recorder]:
    planned = {"x.py::t": Planned("t", "t")}
    recorder = Recorder.of(tmp_path)
    schedule = LongestFirst(1, planned, lambda _test: 1.0)
    schedule._ids = ["x.py::t"]
    return Distributor([], planned=planned, seconds=lambda _test: 1.0, recorder=recorder), schedule, recorder


def _died(distributor: Distributor, schedule: LongestFirst) -> str:
    report = Report()
    distributor.pytest_handlecrashitem("x.py::t", report, schedule)  # type: ignore[arg-type]
    return report.outcome


def _verdicts(recorder: Recorder) -> list[object]:
    with recorder.path.open() as lines:
        return [event.result.verdict for event in parse_events(lines) if isinstance(event, Finished)]


def test_a_test_whose_worker_died_is_run_again_but_not_for_ever(tmp_path: Path) -> None:
    distributor, schedule, recorder = _distributor(tmp_path)
    for _ in range(2):
        assert _died(distributor, schedule) == "rerun"
        assert schedule.has_pending
        schedule._waiting.clear()  # it runs
        assert _verdicts(recorder) == []
    assert _died(distributor, schedule) == "failed"
    assert not schedule.has_pending
    assert _verdicts(recorder) == [Verdict.ERROR]


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.CRASH])
@fault(
    "a worker dies between recording a verdict and telling it",
    where="killed",
    blame=Blame.NOBODY,
    survives="the verdict that was recorded",
)
def test_a_verdict_that_is_written_down_is_not_replaced(tmp_path: Path, verdict: Verdict) -> None:
    """The worker died between that and telling the run's own process."""
    distributor, schedule, recorder = _distributor(tmp_path)
    recorder.finished(Result(test="t", verdict=verdict, seconds=1.0))
    assert _died(distributor, schedule) == "rerun"
    assert not schedule.has_pending
    assert _verdicts(recorder) == [verdict]


def test_a_board_is_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "memory_mib", lambda: 100_000)
    assert capacity(spec(boot=KexecBoot()), 4) == 1


class Node:
    """A worker as xdist shows it to its hooks."""

    def __init__(self) -> None:
        self.workerinput: dict[str, str] = {}
        self.workeroutput: dict[str, object] = {}
        self.shutting_down = False

    @property
    def board(self) -> str:
        return Setup.unpacked(self.workerinput[INPUT]).board.name

    def send_runtest_some(self, indices: object) -> None:
        """Nothing."""

    def shutdown(self) -> None:
        self.shutting_down = True


class Config:
    def __init__(self) -> None:
        self.workeroutput: dict[str, object] = {}


@pytest.fixture
def boards(tmp_path: Path) -> Distributor:
    """A distributor over the boards a and b, and one test for each."""
    setups = [
        Setup(
            board=held(spec(name, boot=KexecBoot())),
            media=Media(image=tmp_path, root=tmp_path),
            build=tmp_path,
            run_dir=tmp_path,
            suites=frozenset(),
            isolation=Isolation.CRASH,
            timeout_factor=1.0,
            hammer_seconds=1.0,
            known=(),
            today=date(2026, 12, 1),
        )
        for name in "ab"
    ]
    planned = {"x.py::t": Planned("t", "t"), "y.py::t": Planned("u", "u")}
    return Distributor(setups, planned=planned, seconds=lambda _test: 1.0, recorder=Recorder.of(tmp_path))


def _started(distributor: Distributor) -> Node:
    node = Node()
    distributor.pytest_configure_node(node)
    return node


def _ended(distributor: Distributor, node: Node, output: Output) -> None:
    config = Config()
    output.tell(config)  # type: ignore[arg-type]
    node.workeroutput = config.workeroutput
    distributor.pytest_testnodedown(node, None)


def test_a_worker_in_place_of_one_that_died_gets_its_board(boards: Distributor) -> None:
    first, second = _started(boards), _started(boards)
    assert (first.board, second.board) == ("a", "b")
    _ended(boards, first, Output(has_booted=True))
    boards.pytest_testnodedown(second, "killed")
    third = _started(boards)
    assert third.board == "b"
    assert [board.name for board in boards.left_on] == ["b"]
    _ended(boards, third, Output(has_booted=True))
    assert boards.left_on == []


def test_a_board_whose_worker_died_is_on_until_another_one_has_had_it(boards: Distributor) -> None:
    first, second = _started(boards), _started(boards)
    boards.pytest_testnodedown(first, "killed")
    _ended(boards, _started(boards), Output())  # there was nothing left for it to do
    assert [board.name for board in boards.left_on] == ["a", "b"]
    _ended(boards, second, Output())
    assert [board.name for board in boards.left_on] == ["a"]


def test_a_worker_that_gives_up_is_told_of_and_its_tests_are_given_back(boards: Distributor, tmp_path: Path) -> None:
    schedule = boards.pytest_xdist_make_scheduler(None, None)  # type: ignore[arg-type]
    first, second = _started(boards), _started(boards)
    for node in (first, second):
        schedule.add_node(node)
        schedule.add_node_collection(node, ["x.py::t", "y.py::t"])
    schedule.schedule()
    _ended(boards, second, Output(failure=BootError("it panicked", details=["line"])))
    assert schedule.remove_node(second) is None
    assert boards.left_out["b"].message == "it panicked"
    assert (boards.left_out["b"].exit_code, boards.left_out["b"].details) == (1, ("line",))
    with (tmp_path / "events.jsonl").open() as lines:
        [note] = parse_events(lines)
    assert isinstance(note, Note)
    assert (note.text, note.is_problem) == ("board b left out: it panicked", True)
    assert schedule.has_pending
    assert list(boards.left_over()) == ["x.py::t", "y.py::t"]


def test_what_killed_a_worker_is_said(tmp_path: Path) -> None:
    distributor, schedule, recorder = _distributor(tmp_path)
    distributor.pytest_testnodedown(Node(), "Traceback\nOSError: it was killed\n")
    _died(distributor, schedule)
    with recorder.path.open() as lines:
        notes = [event.text for event in parse_events(lines) if isinstance(event, Note)]
    assert notes == ["t: run again, because its worker died: OSError: it was killed"]
    assert distributor.last_loss == "OSError: it was killed"


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_worker_that_gets_no_machine_any_more_ends_instead_of_making_errors(
    monkeypatch: pytest.MonkeyPatch, is_dead: bool
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    rig = SimpleNamespace(machine=SimpleNamespace(is_dead=is_dead), recorder=Recorder.nowhere())
    Restored(rig).before_verdict()  # type: ignore[arg-type]
    assert ended == ([1] if is_dead else [])
