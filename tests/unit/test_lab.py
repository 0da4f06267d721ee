"""Nights over many machines: a real scheduler and real workers on this host's loopback, whose runs are stand-ins."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.campaign.lab.executor import LabExecutor
from harness.campaign.nightly import night
from harness.campaign.nightly.place import NightPlace
from harness.model.night import Morning, State
from harness.run.documents import read_results
from tests import fakenight
from tests.fakelab import LIMIT_S, Builds, FakeLab, playing
from tests.fakenight import states
from tests.faults.catalogue import Blame, fault

PLAN = """
kernels: {stable: {kernel: 7.3.4}}
configurations: {default: [], size: [variants/size]}
boards: [twins]
suites: {ours: {suites: [testcases]}}
"""
ONE = PLAN.replace(", size: [variants/size]", "")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeLab]:
    lab = FakeLab(tmp_path / "lab")
    yield lab
    lab.end()
    for process in lab.workers:
        assert process.poll() is not None
    assert lab.powered() == []
    assert lab.used_at_once() == []


class Plays:
    """A night in a thread of its own."""

    def __init__(self, fake: FakeLab, root: Path, plan: str, lab: object, said: list[str]) -> None:
        scripted = fakenight.Lab(root, plan=plan)
        (root / "boards.yaml").write_text(fake.boards_file(*fake.boards).read_text())
        (root / "scratch").mkdir()
        self._made: list[tuple[Morning, NightPlace]] = []
        self.executor = LabExecutor(
            Builds(root), lab, expectations=(), history=root / "history", scratch=root / "scratch", say=said.append  # type: ignore[arg-type]
        )  # fmt: skip

        checked = scripted.checked()

        def play() -> None:
            self._made.append(
                night.play(
                    checked, executor=lambda _: self.executor, resolver=scripted.resolve,
                    progress=scripted.lines, clock=lambda: scripted.now,
                )
            )  # fmt: skip

        self._thread = threading.Thread(target=play)
        self._thread.start()

    def made(self) -> tuple[Morning, NightPlace]:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        return self._made[0]


def test_cells_run_where_their_boards_are(fake: FakeLab, tmp_path: Path) -> None:
    said: list[str] = []
    fake.hold.touch()
    with playing(say=said) as (scheduler, lab):
        fake.worker(scheduler, "a", host="one")
        fake.worker(scheduler, "b", host="two")
        plays = Plays(fake, tmp_path, PLAN, lab, said)
        fake.wait_for("begins", board="a")
        fake.wait_for("begins", board="b")
        fake.hold.unlink()
        made, here = plays.made()
    assert set(states(made).values()) == {State.TESTED}
    assert made.exit_code == 0
    for row in made.rows:
        assert read_results(here.cell(row.ended.slot) / "run").is_complete
    assert sorted(fake.did("passed")) == ["a", "b"]
    for host in ("one", "two"):
        assert list((fake.root / host / "cache/arm64-ftrace-harness/lab-results").glob("*/")) == []


@fault(
    "SIGKILL of a worker while a cell runs on one of its boards", where="killed", blame=Blame.NOBODY,
    survives="the board is switched off before it is used again; the cell is run again, and has one result",
)  # fmt: skip
def test_a_worker_that_is_killed_loses_nothing(fake: FakeLab, tmp_path: Path) -> None:
    said: list[str] = []
    fake.hold.touch()
    with playing(say=said) as (scheduler, lab):
        first = fake.worker(scheduler, "a", "b")
        plays = Plays(fake, tmp_path, ONE, lab, said)
        fake.wait_for("begins")
        first.send_signal(signal.SIGKILL)
        first.wait(LIMIT_S)
        fake.wait_for("off")
        fake.worker(scheduler, "a", "b")
        fake.wait_for("begins", count=2)
        fake.hold.unlink()
        made, _ = plays.made()
    assert set(states(made).values()) == {State.TESTED}
    assert made.exit_code == 0
    assert made.boards == ()  # it was no failure of theirs
    assert len(fake.did("passed")) == 1
    assert any("was lost" in line for line in said)


def test_a_worker_that_is_asked_to_end_switches_its_boards_off(fake: FakeLab, tmp_path: Path) -> None:
    said: list[str] = []
    fake.hold.touch()
    with playing(say=said) as (scheduler, lab):
        first = fake.worker(scheduler, "a", "b")
        plays = Plays(fake, tmp_path, ONE, lab, said)
        fake.wait_for("begins")
        first.terminate()
        assert first.wait(LIMIT_S) == 0, fake.told()
        assert len(fake.did("interrupted")) == 1
        assert fake.powered() == []
        fake.hold.unlink()
        fake.worker(scheduler, "a", "b")
        made, _ = plays.made()
    assert made.exit_code == 0
    assert made.boards == ()
