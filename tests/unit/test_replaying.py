"""One test again and again: on new machines, after what ran before it, and held for a person when it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import Condition, RunResults, Verdict
from harness.run import inprocess, session
from harness.run.replaying import Hold, Replay
from harness.run.units import Isolation
from harness.target.base import Media, Target
from tests.boards import held, is_a, spec
from tests.fakesnapshots import FakeSnapshots
from tests.faketarget import HANG, FakeTarget, Kmsg
from tests.faults.catalogue import Blame, fault
from tests.records import build_json

ONE, TWO, THREE = (f"testcases/test_it.py::test_{name}" for name in ("one", "two", "three"))
CASES = """\
def test_one(guest):
    guest.run('one')

def test_two(guest):
    assert guest.run('two').output == 'fine'

def test_three(guest):
    guest.run('three')
"""
OOPS = Kmsg(
    "[    2.000000] Unable to handle kernel paging request at virtual address 8\n"
    "[    2.000001] pc : f+0x1/0x2\n[    2.000002] ---[ end trace 0000000000000000 ]---"
)
WORDS: dict[str, list[object]] = {".": ["fine"], "F": ["not fine"], "C": [OOPS, HANG], "P": [OOPS, "fine"]}
Run = Callable[..., RunResults]


class Machines:
    """Machines on which test_two gets the answers of `letters`, one each. `made`: all of them."""

    def __init__(self, letters: Iterable[str]) -> None:
        self._letters = iter(letters)
        self.made: list[FakeTarget] = []

    def one(self) -> FakeTarget:
        letter = next(self._letters)

        def says(command: str) -> list[object]:
            if command == "two":
                return WORDS[letter]
            return ["release 7.3.4"] if "echo release" in command else []

        self.made.append(FakeTarget(says))
        return self.made[-1]


def commands(target: FakeTarget) -> list[str]:
    """What of the tests has run there."""
    return [command for command in target.commands if command in ("one", "two", "three")]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Replay test_two on machines restored from a snapshot, or on booted ones."""
    sys.modules.pop("testcases.test_it", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "testcases"
    directory.mkdir()
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", directory)
    build_json(tmp_path / "build")
    (directory / "test_it.py").write_text(CASES)

    def replayed(
        machines: Machines, what: Replay, *, restored: bool = True, isolation: Isolation | None = None
    ) -> RunResults:
        snapshots = FakeSnapshots(booted_as=lambda: FakeTarget(release), restored_as=machines.one)
        monkeypatch.setattr(session, "_snapshots", lambda *_: snapshots if restored else None)
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        keeping = session.Keeping(media=Media(image=Path("Image"), root=Path("root")), directory=tmp_path)
        results, _code = session.run(
            Build(directory=tmp_path / "build", release="7.3.4", key="k", config={}),
            session.Selection(suites=frozenset({"testcases"}), isolation=isolation, replay=what),
            board=held(spec("fake", boot=QemuBoot())),
            boot=lambda: (machines.one(), 1.0),
            keeping=keeping if restored else None,
            run_dir=run_dir,
            command="harness repro",
            display=NoDisplay(),
        )
        return results

    return replayed


def release(command: str) -> list[object]:
    return ["release 7.3.4"] if "echo release" in command else []


def ends(results: RunResults) -> str:
    (result,) = (each for each in results.results if each.test == TWO)
    letters = {Verdict.PASS: ".", Verdict.FAIL: "F", Verdict.CRASH: "C"}
    return "".join(letters[each.verdict] for each in (result, *result.repeats))


def test_every_repetition_has_a_machine_of_its_own(run: Run) -> None:
    machines = Machines("F.CF.")
    results = run(machines, Replay(test=TWO, times=5))
    assert ends(results) == "F.CF."
    assert [result.test for result in results.results] == [TWO]
    assert [commands(target) for target in machines.made] == [["two"]] * 5
    assert {repeat.condition for repeat in results.results[0].repeats} == {Condition.RESTORED}
    assert all(target.closed for target in machines.made)


def test_what_ran_before_runs_before_each_time(run: Run) -> None:
    machines = Machines("F.F")
    results = run(machines, Replay(test=TWO, before=(THREE, ONE), times=3), isolation=Isolation.CRASH)
    assert ends(results) == "F.F"
    assert [commands(target) for target in machines.made] == [["three", "one", "two"]] * 3
    assert [each.test for each in results.results] == [THREE, ONE, TWO]
    assert [len(each.repeats) for each in results.results] == [0, 0, 2]


def test_where_there_are_no_snapshots_it_boots_each_time(run: Run) -> None:
    machines = Machines("F.")
    results = run(machines, Replay(test=TWO, times=2), restored=False)
    assert ends(results) == "F."
    assert [commands(target) for target in machines.made] == [["two"]] * 2
    assert [each.condition for each in results.results[0].repeats] == [Condition.BOOTED]


def test_a_test_that_there_is_not_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match=r"test_tw: expected a test that this harness has .* such as .*test_two, "):
        run(Machines(""), Replay(test=TWO[:-1]))


class Person:
    """Looks at a machine: `halted` when it is stopped, with what its console has said; `kept` with the reason."""

    def __init__(self, *, leaves: bool = False) -> None:
        self.halted: list[list[str]] = []
        self.kept: list[tuple[Target, str, bool]] = []
        self._leaves = leaves

    def halt(self, target: Target) -> None:
        self.halted.append(target.console.tail())

    def keep(self, target: Target, why: str) -> None:
        self.kept.append((target, why, is_a(FakeTarget, target).closed))
        if self._leaves:
            raise KeyboardInterrupt

    @property
    def hold(self) -> Hold:
        return Hold(halt=self.halt, keep=self.keep)


@pytest.mark.parametrize("leaves", [False, True], ids=["the machine ends", "Ctrl-C"])
def test_the_first_failure_is_held(run: Run, leaves: bool) -> None:
    machines, person = Machines("..F."), Person(leaves=leaves)
    results = run(machines, Replay(test=TWO, times=4, hold=person.hold))
    assert ends(results) == "..F"
    ((target, why, was_closed),) = person.kept
    assert (target, was_closed) == (machines.made[-1], False)
    assert why.startswith("assert 'not fine' == 'fine'")
    assert all(each.closed for each in machines.made)


@fault(
    "the kernel oopses, and somebody waits for that with a debugger",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the machine, stopped as the report begins",
)
def test_a_kernel_report_stops_the_machine_as_it_begins(run: Run) -> None:
    machines, person = Machines(".C"), Person()
    results = run(machines, Replay(test=TWO, times=9, hold=person.hold))
    assert ends(results) == ".C"
    ((target, why, was_closed),) = person.kept
    assert (target, was_closed) == (machines.made[-1], False)
    assert why == "Unable to handle kernel paging request in f"
    assert person.halted[0][-1:] != []  # from the console's thread
    assert len(person.halted) == 2  # and again when the test has its verdict, in case that there was no report


def test_a_report_of_a_test_that_goes_on_is_held_too(run: Run) -> None:
    person = Person()
    assert ends(run(Machines("P"), Replay(test=TWO, hold=person.hold))) == "C"
    assert len(person.kept) == 1


def test_what_does_not_fail_is_not_held(run: Run) -> None:
    person = Person()
    assert ends(run(Machines("..."), Replay(test=TWO, times=3, hold=person.hold))) == "..."
    assert (person.kept, person.halted) == ([], [])
