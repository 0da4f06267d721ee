"""Nights over many machines: a real scheduler and real workers on this host's loopback, whose runs are stand-ins."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.campaign.lab import playing as playing_module
from harness.campaign.lab.addresses import Credentials, parse_address
from harness.campaign.lab.engine import Lab
from harness.campaign.lab.executor import LabExecutor
from harness.campaign.nightly.cells import Resolved
from harness.campaign.request import LabAccess
from harness.errors import InfraError, UserError
from harness.model.lab import Gone
from harness.model.night import State
from harness.run.documents import read_results
from tests import fakenight
from tests.fakelab import LIMIT_S, Builds, FakeLab, Plays, make_credentials, playing
from tests.fakenight import states
from tests.faults.catalogue import Blame, fault
from tests.unit.test_lab_parts import CELL

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


@fault(
    "the plan's process ends while a worker runs a cell for it", where="killed", blame=Blame.NOBODY,
    survives="the run, whose results are there when the night goes on",
)  # fmt: skip
def test_what_runs_when_the_connection_is_lost_goes_on_and_is_kept(fake: FakeLab, tmp_path: Path) -> None:
    said: list[str] = []
    builds = Builds(tmp_path / "builds")
    builds.build(CELL)

    def attempt(number: int, lab: Lab) -> tuple[LabExecutor, Path]:
        place = tmp_path / f"nights/1/attempts/one.{number}"
        place.mkdir(parents=True)
        (scratch := tmp_path / f"scratch-{number}").mkdir()
        history = tmp_path / "history"
        return LabExecutor(
            builds, lab, expectations=(), history=history, scratch=scratch, say=said.append
        ), place  # fmt: skip

    fake.hold.touch()
    with playing(say=said) as (scheduler, lab):
        fake.worker(scheduler, "a")
        first, place = attempt(1, lab)

        lost: list[Gone] = []

        def test() -> None:
            try:
                first.test(CELL, "a", place)
            except Gone as error:
                lost.append(error)

        killed = threading.Thread(target=test)
        killed.start()
        fake.wait_for("begins")
        first._stopped = True  # whoever is killed asks nobody to end
    killed.join(LIMIT_S)
    assert lost
    fake.hold.unlink()
    fake.wait_for("passed")
    with playing(say=said, address=scheduler) as (_, lab):
        second, place = attempt(2, lab)
        tested = second.test(CELL, "a", place)
    assert (tested.state, tested.code) == (State.TESTED, 0)
    assert read_results(place / "run").is_complete
    assert len(fake.did("begins")) == 1


def test_with_tls_only_certificates_of_one_authority_are_good(
    fake: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, others = make_credentials(tmp_path / "ours"), make_credentials(tmp_path / "others")
    said: list[str] = []
    with playing(ours, say=said) as (scheduler, lab):
        fake.worker(scheduler, "a", "b", tls=ours)
        made, _ = Plays(fake, tmp_path, ONE, lab, said).made()
        assert made.exit_code == 0
        monkeypatch.setattr("harness.campaign.lab.engine._CONNECT_S", 0.5)
        with pytest.raises(InfraError, match=f"{scheduler}: expected a scheduler there: "):
            Lab(scheduler, others, say=said.append)
        with pytest.raises(InfraError, match=f"{scheduler}: expected a scheduler there: "):
            Lab(scheduler, None, say=said.append)


def test_an_address_that_is_taken_is_told(fake: FakeLab) -> None:
    said: list[str] = []
    with (
        playing(say=said) as (scheduler, _),
        pytest.raises(InfraError, match=f"--listen {scheduler}: expected to be able to listen there: .*in use"),
        playing(say=said, address=scheduler),
    ):
        pytest.fail("two schedulers at one address")


@pytest.mark.parametrize("line", ["", "no PEM"])
def test_files_that_are_no_certificates_are_told(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text(line)
    tls = Credentials(ca=path, certificate=path, key=path)
    with (
        pytest.raises(UserError, match="--tls-ca, --tls-cert, --tls-key: expected a certificate, its key and"),
        playing(tls, say=[]),
    ):
        pytest.fail("it took them")


def test_a_night_that_listens_says_where_and_has_the_texts_of_its_expectations(
    fake: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (known := tmp_path / "known.yaml").write_text("expectations: []\n")
    scripted = fakenight.Lab(tmp_path, plan=ONE.replace("twins", "one"))
    offered: list[str] = []
    access = LabAccess(listen="127.0.0.1:0")

    def play(_checked: object, *, executor: Callable[[Resolved], LabExecutor], progress: fakenight.Lines) -> None:
        there = executor(Resolved(cells=()))
        assert there._expectations == ("expectations: []\n",)
        assert progress.said[0].startswith("workers join by: harness worker --scheduler 127.0.0.1:")
        fake.worker(parse_address(progress.said[0].split()[-1], option="--scheduler", tls=None), "a")
        there._lab.wait_until(lambda: bool(there._lab.members()), LIMIT_S)
        offered.extend(there._lab.members()[0].offer.boards)

    monkeypatch.setattr(playing_module, "play", play)
    playing_module.play_in_lab(scripted.checked(expectations=(known,)), access, scripted.lines)
    assert offered == ["a"]


def test_expectations_that_can_not_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"known\.yaml: expected a file of known outcomes, can't read it"):
        playing_module._text(tmp_path / "known.yaml")
