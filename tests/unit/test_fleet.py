"""A run on several boards, in workers that are processes of pytest-xdist's; only the boards are scripted
(tests/fakeboards.py)."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from xdist.workermanage import NodeManager

from harness.errors import HarnessError, InfraError, KernelError
from harness.model import known
from harness.model.board import CommandSwitch, Power
from harness.model.event import Booted, Event, Finished, Started
from harness.model.kernel import Build
from harness.model.known import KnownOutcome
from harness.model.progress import NoDisplay
from harness.model.result import RunResults, Verdict
from harness.parse.events import parse_events
from harness.parse.expectations import parse_expectations
from harness.run import inprocess, session
from harness.run.documents import read_results
from harness.run.workers import distribute
from harness.run.workers.distributor import ARGUMENTS
from harness.target.base import Media, Target
from harness.target.holding.held import HeldBoard
from tests.boards import held, spec
from tests.faults.catalogue import Blame, fault
from tests.records import build_json

GOOD = "def test_one(guest):\n    guest.run('true')\n\ndef test_two(guest):\n    pass\n"
CRASHES = "def test_one(guest):\n    guest.run('crash')\n\ndef test_two(guest):\n    pass\n"
ONE = "def test_only(guest):\n    pass\n"
NEEDS_NONE = "def test_file():\n    pass\n"
DIES_ONCE = """
import os, pathlib, signal

def test_dies(guest):
    died = pathlib.Path(__file__).with_name("died")
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


DIES_ALWAYS = """
import os, signal

def test_dies(guest):
    os.kill(os.getpid(), signal.SIGKILL)
"""


INTERRUPTS = """
import os, pathlib, signal

def test_before(guest):
    pass

def test_interrupts(guest):
    pathlib.Path(__file__).with_name("worker").write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGSTOP)

def test_after(guest):
    pass
"""


REBOOTS = """
def test_reboots(guest):
    guest._machine.discard("on purpose")
    guest.run("true")

def test_after(guest):
    pass
"""


class Told(NoDisplay):
    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        self.problems.append(text)


class Fleet:
    """Runs `files` (name → text; of one name they have the same tests, because pytest imports them once) on boards that
    do what `kinds` says."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path
        self.display = Told()
        self.failure: HarnessError | None = None
        self.code: int | None = None
        self.known: tuple[KnownOutcome, ...] = ()

    def run(self, *kinds: str, **files: str) -> RunResults:
        for name, text in files.items():
            (self.path / "testcases" / f"test_{name}.py").write_text(text)
        (self.path / "run").mkdir()
        boards = tuple(self._board(f"b{number}", kind) for number, kind in enumerate(kinds))
        media = Media(image=Path("Image"), root=Path("root"))
        try:
            _, self.code = session.run(
                Build(directory=self.path / "build", release="7.3.4", key="k"),
                session.Selection(suites=frozenset({"testcases"}), known=self.known, today=date(2026, 12, 1)),
                board=boards[0],
                boot=_never,
                fleet=session.Fleet(boards=boards, media=media),
                run_dir=self.path / "run",
                command="harness run",
                display=self.display,
            )
        except HarnessError as error:
            self.failure = error
        return read_results(self.path / "run")

    def _board(self, name: str, kind: str) -> HeldBoard:
        switch = CommandSwitch(on=("false",), off=("sh", "-c", f"echo {name} >> {self.path}/switched-off"))
        return held(spec(name, power=Power(switch=switch), cmdline=kind))

    @property
    def switched_off(self) -> str:
        """The boards that the run's own process has switched off."""
        path = self.path / "switched-off"
        return path.read_text() if path.exists() else ""

    @property
    def events(self) -> list[Event]:
        with (self.path / "run/events.jsonl").open() as lines:
            return list(parse_events(lines))

    def started_on(self, test: str) -> list[str]:
        """The boards that attempts at a test began on."""
        return [event.board for event in self.events if isinstance(event, Started) and event.test.endswith(test)]

    def finished_on(self, test: str) -> list[str]:
        return [each.board for each in self.events if isinstance(each, Finished) and each.result.test.endswith(test)]


def _never() -> tuple[Target, float]:
    raise AssertionError("workers boot")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", tmp_path / "testcases")
    monkeypatch.setattr(distribute, "ARGUMENTS", (*ARGUMENTS, "-p", "tests.fakeboards"))
    (tmp_path / "testcases").mkdir()
    (tmp_path / "build/selftests").mkdir(parents=True)
    build_json(tmp_path / "build")
    (tmp_path / "build/.config").write_text("CONFIG_FTRACE=y\n")
    return Fleet(tmp_path)


def _verdicts(results: RunResults) -> dict[str, Verdict]:
    return {result.test.removeprefix("testcases/test_"): result.verdict for result in results.results}


def test_every_board_runs_a_part_and_a_crash_is_followed_by_a_boot_of_the_same(fleet: Fleet) -> None:
    results = fleet.run("ok", "ok", a=GOOD, b=GOOD, c=CRASHES, d=GOOD)
    crashed = {"c.py::test_one": Verdict.CRASH}
    assert (
        _verdicts(results)
        == {f"{name}.py::test_{test}": Verdict.PASS for name in "abcd" for test in ("one", "two")} | crashed
    )
    assert (fleet.code, fleet.failure) == (1, None)
    assert results.record.boards == ("b0", "b1")
    ran = [event.board for event in fleet.events if isinstance(event, Finished)]
    assert set(ran) == {"b0", "b1"}
    booted = sorted(event.board for event in fleet.events if isinstance(event, Booted))
    [crashing] = fleet.finished_on("c.py::test_one")
    assert booted == sorted(["b0", "b1", str(crashing)])
    assert sorted(fleet.display.problems) == sorted(f"{name}: up" for name in booted)


KNOWN = """
expectations:
  - {test: '*test_one', verdict: CRASH, fault: 'panic: on purpose', reason: here, board: b*}
  - {test: '*test_one', verdict: CRASH, fault: '*', reason: elsewhere, board: lab-*}
  - {test: '*test_one', verdict: FAIL, reason: no more, until: 2026-11-30}
  - {test: '*test_one', verdict: FAIL, reason: never}
"""


@pytest.mark.parametrize(("fault", "verdict"), [("on purpose", Verdict.XFAIL), ("by accident", Verdict.CRASH)])
def test_workers_hold_outcomes_against_what_is_known_of_their_board(fleet: Fleet, fault: str, verdict: Verdict) -> None:
    fleet.known = parse_expectations(KNOWN.replace("on purpose", fault), place="mine.yaml")
    results = fleet.run("ok", "ok", a=CRASHES, b=CRASHES)
    assert {each.verdict for each in results.results if each.test.endswith("one")} == {verdict}
    assert fleet.code == (0 if verdict is Verdict.XFAIL else 1)
    assert [each.reason for each in known.expired(results)] == ["no more"]
    missed = ["never"] if verdict is Verdict.XFAIL else ["here", "never"]
    assert [each.reason for each in known.unmatched(results)] == missed


@fault(
    "one board of a pool can not be switched on",
    where="power",
    blame=Blame.NOBODY,
    survives="every verdict, from the other board",
)
def test_a_board_that_can_not_be_booted_is_left_out_and_nothing_is_lost(fleet: Fleet) -> None:
    results = fleet.run("ok", "dead", a=GOOD, b=GOOD, c=GOOD, d=GOOD, e=NEEDS_NONE)
    assert set(_verdicts(results).values()) == {Verdict.PASS}
    assert len(results.results) == 9
    assert (fleet.code, fleet.failure) == (0, None)
    told = "board b1 left out: b1.power: the switch does not answer"
    assert [problem for problem in fleet.display.problems if "left out" in problem] == [told]
    assert told in results.notes


def test_a_board_that_does_not_come_back_gives_away_what_it_had_also_where_others_have_ended(fleet: Fleet) -> None:
    """With as many groups as boards each worker has all it will ever get at once, and is told so."""
    results = fleet.run("ok", "once", a=CRASHES, b=CRASHES)
    assert _verdicts(results) == {
        f"{name}.py::test_{test}": Verdict.CRASH if test == "one" else Verdict.PASS
        for name in "ab"
        for test in ("one", "two")
    }
    assert [problem for problem in fleet.display.problems if "left out" in problem] == [
        "board b1 left out: b1.power: the switch does not answer"
    ]
    assert (fleet.code, fleet.failure) == (1, None)


@fault(
    "a board does not come back in the middle of a test",
    where="boot",
    blame=Blame.NOBODY,
    survives="the test's verdict, from another board",
)
def test_a_test_in_whose_middle_the_board_does_not_come_back_has_its_verdict_from_another(fleet: Fleet) -> None:
    results = fleet.run("once", "ok", reboots=REBOOTS, reboots_too=REBOOTS)
    assert set(_verdicts(results).values()) == {Verdict.PASS}
    assert len(results.results) == 4
    assert (fleet.code, fleet.failure) == (0, None)
    finished = [event.board for event in fleet.events if isinstance(event, Finished)]
    assert finished == ["b1"] * 4
    assert "board b0 left out: b0.power: the switch does not answer" in results.notes


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        pytest.param(("dead", "dead"), InfraError, marks=fault(
            "no board of a pool can be switched on", where="power", blame=Blame.INFRA,
            survives="the tests that need no board; the rest as NOTRUN; the documents")),
        pytest.param(("dead", "panics"), KernelError, marks=fault(
            "one board of a pool can not be switched on, and the kernel panics on the other", where="boot",
            blame=Blame.KERNEL, survives="the tests that need no board; the rest as NOTRUN; the documents")),
    ],
)  # fmt: skip
def test_where_no_board_boots_that_is_what_the_run_ends_with(
    fleet: Fleet, kinds: tuple[str, str], kind: type[HarnessError]
) -> None:
    results = fleet.run(*kinds, a=GOOD, b=GOOD, e=NEEDS_NONE)
    assert isinstance(fleet.failure, kind)
    told = "b0.power: the switch does not answer" if kind is InfraError else "b1: the kernel panicked at boot"
    assert fleet.failure.message == told
    assert fleet.failure.details == (("its last words",) if kind is InfraError else ())
    by_test = {result.test: result for result in results.results}
    assert by_test.pop("testcases/test_e.py::test_file").verdict is Verdict.PASS
    assert {result.verdict for result in by_test.values()} == {Verdict.NOTRUN}
    assert all(told in result.reason for result in by_test.values())
    assert (fleet.path / "run/junit.xml").is_file()


@fault(
    "a worker is killed during a test",
    where="killed",
    blame=Blame.NOBODY,
    survives="the test's verdict, from its replacement on the same board",
)
def test_a_worker_that_died_is_replaced_by_one_with_the_same_board(fleet: Fleet) -> None:
    # one test for each: no worker takes a second one, so it is the new one that runs what the dead one had
    results = fleet.run("ok", "ok", dies=DIES_ONCE, other=ONE)
    assert set(_verdicts(results).values()) == {Verdict.PASS}
    started = fleet.started_on("dies.py::test_dies")
    assert len(started) == 2
    booted = [event.board for event in fleet.events if isinstance(event, Booted)]
    assert started[0] == started[1]
    assert sorted(map(str, booted)) == sorted(["b0", "b1", str(started[0])])
    assert fleet.switched_off == ""  # each was left off by its last worker


@fault(
    "a test kills each worker that runs it",
    where="killed",
    blame=Blame.INFRA,
    survives="the other tests; the board, off",
)
def test_a_board_whose_worker_died_at_last_is_switched_off(fleet: Fleet) -> None:
    results = fleet.run("ok", "ok", always=DIES_ALWAYS)
    assert _verdicts(results)["always.py::test_dies"] is Verdict.ERROR
    [result] = [result for result in results.results if result.verdict is Verdict.ERROR]
    assert result.reason == "its worker died 3 times while it ran: Not properly terminated"
    assert fleet.started_on("always.py::test_dies") == ["b0"] * 3
    assert fleet.switched_off == "b0\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT reaches us also where a shell's background job or nohup has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@fault(
    "Ctrl-C while workers run tests",
    where="killed",
    blame=Blame.INFRA,
    survives="the verdicts until then; the board, off",
)
def test_an_interrupt_waits_for_no_worker_and_keeps_what_there_is(
    fleet: Fleet, interruptible: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xdist would end the workers itself, but gives them time first."""
    monkeypatch.setattr(NodeManager, "teardown_nodes", lambda _manager: ended.append(_has_ended(fleet.path)))
    ended: list[bool] = []
    results = fleet.run("ok", interrupts=INTERRUPTS)
    assert ended == [True]
    assert _verdicts(results) == {
        "interrupts.py::test_before": Verdict.PASS,
        "interrupts.py::test_interrupts": Verdict.ERROR,
        "interrupts.py::test_after": Verdict.NOTRUN,
    }
    assert (fleet.code, fleet.failure, fleet.switched_off) == (3, None, "b0\n")


def _has_ended(path: Path) -> bool:
    """Whether the worker, which is stopped, ends though; it does not by itself."""
    pid = int((path / "testcases/worker").read_text())
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(handle):
        ended = bool(select.select([handle], [], [], 30.0)[0])
    if not ended:
        os.kill(pid, signal.SIGKILL)
    return ended
