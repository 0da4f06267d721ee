"""A test whose machine was lost has told nothing: it is run again, within bounds; what a kernel did is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import Result, Verdict
from harness.run import inprocess, runner, session
from harness.run.units import Isolation
from harness.target.base import Media
from tests.boards import held, spec
from tests.fakesnapshots import FakeSnapshots
from tests.faketarget import LOST, FakeTarget, Kmsg
from tests.faults.catalogue import Blame, fault
from tests.records import build_json

PANIC = Kmsg(
    "[    1.000000] Kernel panic - not syncing: tried to kill init\n"
    "[    1.000000] ---[ end Kernel panic - not syncing: x ]---"
)
ONE = "testcases/test_it.py::test_one"
TWO = "testcases/test_it.py::test_two"
CASES = """\
def test_one(guest):
    assert guest.run("one").output == "fine"

def test_two(guest):
    assert guest.run("two").output == "fine"
"""
# fails, and its machine goes away while it puts things back
FAILS = """\
import pytest

@pytest.fixture
def put_back(guest):
    yield
    guest.run("put back")

def test_one(guest, put_back):
    assert guest.run("one").output == "fine"

def test_two(guest):
    assert guest.run("two").output == "fine"
"""
Runs = Callable[..., tuple[dict[str, Result], int, list[dict[str, Any]]]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs `cases` on restored targets; `answers`: for each restore in turn what each command says, the last one for
    all that follow."""
    sys.modules.pop("testcases.test_it", None)  # pytest would take the one of the test before for ours
    directory = tmp_path / "testcases"
    directory.mkdir()
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", directory)
    build_json(tmp_path / "build")
    build = Build(directory=tmp_path / "build", release="7.3.4", key="k", config={})

    def run(
        *answers: dict[str, list[object]],
        cases: str = CASES,
        maxfail: int = 0,
        save_error: InfraError | None = None,
        warming: list[object] | None = None,
        workers: int = 1,
    ) -> tuple[dict[str, Result], int, list[dict[str, Any]]]:
        (directory / "test_it.py").write_text(cases)
        waiting = list(answers)

        def ready(command: str) -> list[object]:
            return ["release 7.3.4"] if "echo release" in command else []

        def booted() -> FakeTarget:
            nonlocal warming
            said, warming = warming, None  # the first one only
            return FakeTarget(lambda command: said if said and "find /payload" in command else ready(command))

        def restored() -> FakeTarget:
            said = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            return FakeTarget(lambda command: said.get(command, ready(command)))

        snapshots = FakeSnapshots(booted_as=booted, restored_as=restored, save_error=save_error)
        monkeypatch.setattr(session, "_snapshots", lambda *_: snapshots)
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        results, code = session.run(
            build,
            session.Selection(
                suites=frozenset({"testcases"}), maxfail=maxfail, isolation=Isolation.TEST, workers=workers
            ),
            board=held(spec("fake", boot=QemuBoot())),
            boot=lambda: (restored(), 1.0) if save_error else pytest.fail("restored, not booted"),
            keeping=session.Keeping(media=Media(image=Path("Image"), root=Path("root")), directory=tmp_path),
            run_dir=run_dir,
            command="harness run",
            display=NoDisplay(),
        )
        events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
        return {result.test: result for result in results.results}, code, events

    return run


def _again(events: list[dict[str, Any]]) -> list[str]:
    told = [event["data"]["text"] for event in events if event["kind"] == "note"]
    return [text for text in told if "run again" in text]


def _verdicts(events: list[dict[str, Any]], test: str) -> list[str]:
    return [event["data"]["verdict"] for event in events if event["kind"] == "finished" and event["test"] == test]


FINE: dict[str, list[object]] = {"one": ["fine"], "two": ["fine"]}


@pytest.mark.parametrize("workers", [1, 2])
@fault(
    "no snapshot can be saved",
    where="host",
    blame=Blame.NOBODY,
    survives="every verdict; the isolation that there was, on record",
)
def test_without_a_snapshot_the_run_goes_on_and_says_so(runs: Runs, tmp_path: Path, workers: int) -> None:
    results, code, events = runs(FINE, save_error=InfraError("snapshot: disk full"), workers=workers)
    assert [results[test].verdict for test in (ONE, TWO)] == [Verdict.PASS, Verdict.PASS]
    assert code == 0
    notes = [event["data"]["text"] for event in events if event["kind"] == "note"]
    assert notes[0] == "no snapshot, so the target is booted again only after a crash: snapshot: disk full"
    assert len(notes) == workers
    assert workers == 1 or notes[1].startswith("-j: one machine runs all tests")
    documents = json.loads((tmp_path / "run/results.json").read_text())
    assert documents["properties"]["isolation"] == "crash"
    assert documents["properties"]["workers"] == 1


@pytest.mark.parametrize("said", [[LOST], [PANIC, LOST]])
@fault(
    "the machine is lost while it is warmed up",
    where="host",
    blame=Blame.NOBODY,
    survives="every test, on machines that were not warmed up",
)
def test_a_kernel_that_fails_while_it_is_warmed_up_is_left_to_the_tests(runs: Runs, said: list[object]) -> None:
    results, code, events = runs(FINE, warming=said)
    assert [results[test].verdict for test in (ONE, TWO)] == [Verdict.PASS, Verdict.PASS]
    assert code == 0
    notes = [event["data"]["text"] for event in events if event["kind"] == "note"]
    assert any(text.startswith("warming up failed, so every test does it itself: ") for text in notes)
    assert [event["data"]["restored"] for event in events if event["kind"] == "booted"] == [False, False, True, True]


@fault(
    "a machine is lost during a test, without a kernel report",
    where="host",
    blame=Blame.NOBODY,
    survives="the test's verdict, from another machine; both attempts",
)
def test_a_lost_machine_costs_no_result(runs: Runs) -> None:
    results, code, events = runs({"one": [LOST]}, FINE)
    assert [results[test].verdict for test in (ONE, TWO)] == [Verdict.PASS, Verdict.PASS]
    assert _verdicts(events, ONE) == ["PASS"]
    assert len(_again(events)) == 1
    assert code == 0


PRINTS = """\
def test_one(guest):
    print("printed by an attempt")
    assert guest.run("one").output == "fine"

def test_two(guest):
    pass
"""


def test_each_attempt_is_started_and_has_its_own_machine_times_and_log(runs: Runs, tmp_path: Path) -> None:
    results, _, events = runs({"one": [LOST]}, FINE, cases=PRINTS)
    assert [event["kind"] for event in events if event.get("test") == ONE].count("started") == 2
    lost, passed = results[ONE].attempts
    assert (lost.verdict, passed.verdict) == (Verdict.ERROR, Verdict.PASS)
    assert lost.machine != passed.machine
    assert lost.started is not None
    assert passed.started is not None
    assert passed.started >= lost.started + lost.seconds - 0.001  # as they are rounded
    for attempt in (lost, passed):
        assert attempt.log is not None
        assert (tmp_path / "run" / attempt.log).read_text().count("-- stdout --\nprinted by an attempt\n") == 1


def test_what_is_run_again_does_not_count_for_maxfail(runs: Runs) -> None:
    results, code, events = runs({"one": [LOST]}, {"one": [LOST]}, FINE, maxfail=1)
    assert [results[test].verdict for test in (ONE, TWO)] == [Verdict.PASS, Verdict.PASS]
    assert len(_again(events)) == 2
    assert code == 0


@fault(
    "every machine on which a test runs is lost",
    where="host",
    blame=Blame.INFRA,
    survives="the other tests' verdicts",
)
def test_a_machine_that_is_always_lost_is_an_error_in_the_end(runs: Runs) -> None:
    results, code, events = runs({"one": [LOST], "two": ["fine"]})
    assert results[ONE].verdict is Verdict.ERROR
    assert results[TWO].verdict is Verdict.PASS
    assert len(_again(events)) == runner.RERUNS
    assert code == 3


def test_a_machine_that_is_always_lost_counts_once_for_maxfail(runs: Runs) -> None:
    results, _, _ = runs({"one": [LOST], "two": ["fine"]}, maxfail=2)
    assert [results[test].verdict for test in (ONE, TWO)] == [Verdict.ERROR, Verdict.PASS]


@pytest.mark.parametrize("steps", [[PANIC, LOST], ["fine", PANIC]])
def test_what_a_kernel_did_is_never_run_again(runs: Runs, steps: list[object]) -> None:
    results, code, events = runs({"one": steps}, FINE)
    assert results[ONE].verdict is Verdict.CRASH
    assert results[TWO].verdict is Verdict.PASS
    assert _again(events) == []
    assert code == 1


@fault("the machine is lost after a test has failed", where="host", blame=Blame.KERNEL, survives="the failure")
def test_a_failure_stays_one_when_the_machine_is_lost_behind_it(runs: Runs) -> None:
    results, code, events = runs({"one": ["wrong"], "put back": [LOST]}, FINE, cases=FAILS)
    assert results[ONE].verdict is Verdict.FAIL
    assert _verdicts(events, ONE) == ["FAIL"]
    assert _again(events) == []
    assert code == 1


def test_a_test_that_passed_but_lost_its_machine_at_the_end_is_run_again(runs: Runs) -> None:
    results, _, events = runs({"one": ["fine"], "put back": [LOST]}, FINE, cases=FAILS)
    assert results[ONE].verdict is Verdict.PASS
    assert len(_again(events)) == 1
