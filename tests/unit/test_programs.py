"""Suites of test programs: which batches they make, and what becomes of each test when a program is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.board import Limits
from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.model.suite import NOT_BUILT, USER_EVENTS
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.run.suites import programs
from harness.run.suites.programs import ProgramBatch
from harness.run.suites.selftests import why_not
from harness.run.units import Isolation
from tests.faketarget import HANG, LOST, FakeTarget, Kmsg, Step
from tests.faults.catalogue import Blame, fault

P = "selftests/user_events/abi_test"
SOURCE = "TEST_F(user, one) {}\nTEST_F(user, two) {}\nTEST_F(user, three) {}\n"
ELF = b"\x7fELF\0wrapper_user_one\0wrapper_user_two\0wrapper_user_three\0_user_fixture_object\0"
SELECTS = b"\t-r name  run specified test\n\0"
PANIC = Kmsg(
    "[    1.000000] Kernel panic - not syncing: tried to kill init\n"
    "[    1.000000] ---[ end Kernel panic - not syncing: x ]---"
)
IDS = [f"{P}::user.{name}" for name in ("one", "two", "three")]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    directory = tmp_path / "build/selftests/user_events"
    directory.mkdir(parents=True)
    (directory / "abi_test.c").write_text(SOURCE)
    (directory / "abi_test").write_bytes(ELF + SELECTS)
    (directory / "helper.c").write_text("int helper(void) { return 0; }\n")
    return Build(directory=tmp_path / "build", release="7.3.4", key="k", config={"USER_EVENTS": "y"})


def shares(build: Build, isolation: Isolation) -> list[tuple[str, ...]]:
    return [found.tests for found in programs.batches(USER_EVENTS, build, isolation)]


def test_each_test_alone(build: Build) -> None:
    assert shares(build, Isolation.TEST) == [(test,) for test in IDS]


@pytest.mark.parametrize("isolation", [Isolation.FILE, Isolation.CRASH])
def test_a_program_is_a_file(build: Build, isolation: Isolation) -> None:
    assert shares(build, isolation) == [tuple(IDS)]


def test_a_program_that_can_not_select_is_run_as_a_whole(build: Build) -> None:
    (build.selftests / "user_events/abi_test").write_bytes(ELF)
    assert shares(build, Isolation.TEST) == [tuple(IDS)]


def test_what_is_not_built_has_the_same_tests(build: Build) -> None:
    (build.selftests / "user_events/abi_test").unlink()
    assert shares(build, Isolation.FILE) == [tuple(IDS)]


def test_a_suite_that_does_not_compile_says_why(build: Build) -> None:
    assert why_not(USER_EVENTS, build) == ""
    (build.selftests / "user_events" / NOT_BUILT).write_text("abi_test.c:12:10: fatal error: x.h: No such file\n")
    told = "selftests/user_events does not build for 7.3.4: abi_test.c:12:10: fatal error: x.h: No such file"
    assert why_not(USER_EVENTS, build) == told


def test_a_kernel_without_user_events_says_why(tmp_path: Path) -> None:
    build = Build(directory=tmp_path, release="6.1.0", key="k", without={"USER_EVENTS": "needs BROKEN"})
    assert why_not(USER_EVENTS, build) == "no user_events in 6.1.0 on arm64: needs BROKEN"


# -- running -----------------------------------------------------------------------------------------------------


def program(*names: str, last: tuple[Step, ...] = ()) -> list[Step]:
    """What the program prints that passes the tests with these `names`, and `last`."""
    steps: list[Step] = ["TAP version 13", f"1..{len(names)}"]
    for number, name in enumerate(names, start=1):
        steps += [f"#  RUN           user.{name} ...", f"said in {name}", f"ok {number} user.{name}"]
    return [*steps, *last]


class Lab:
    """A machine whose targets, one after the other, answer the program's start with some steps."""

    def __init__(self, tmp_path: Path, *answers: list[Step]) -> None:
        self._steps = list(answers)
        self.targets = [self._target(number) for number in range(len(answers))]
        waiting = list(self.targets)
        self.machine = Machine(
            lambda: (waiting.pop(0), 1.0), limits=Limits(silence=30.0), recorder=Recorder.of(tmp_path)
        )

    def _target(self, number: int) -> FakeTarget:
        return FakeTarget(lambda command: list(self._steps[number]) if "abi_test" in command else [])

    def answer(self, steps: list[Step]) -> None:
        """What the first target answers from now on."""
        self._steps[0] = steps

    def started(self) -> list[str]:
        return [command for target in self.targets for command in target.commands if "abi_test" in command]


def batch(*chosen: str, selects: bool = True) -> ProgramBatch:
    made = ProgramBatch(USER_EVENTS, "abi_test", selects=selects)
    made.choose(chosen or IDS)
    return made


def test_one_process_for_each_test_that_can_be_selected(tmp_path: Path) -> None:
    lab, tests = Lab(tmp_path, program("one")), batch()
    assert tests.outcome(IDS[0], lab.machine).verdict is Verdict.PASS
    lab.answer(program("two"))
    two = tests.outcome(IDS[1], lab.machine)
    assert two.verdict is Verdict.PASS
    assert "said in two" in two.log
    assert "said in one" not in two.log
    assert lab.started() == [
        f"cd /payload/selftests/user_events && ./abi_test -r user.{name} 2>&1" for name in ("one", "two")
    ]


@fault(
    "a test in a program prints that it passed, and the program's own verdict says otherwise",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the program's verdict by its exit code, FAIL",
)
def test_a_test_in_a_program_can_not_pass_itself(tmp_path: Path) -> None:
    lab = Lab(tmp_path, program("one", last=("not ok 1 user.one", "exit=1")))
    outcome = batch(IDS[0]).outcome(IDS[0], lab.machine)
    assert outcome.verdict is Verdict.FAIL
    assert outcome.reason.endswith("although it printed: ok 1 user.one; not ok 1 user.one")


def test_only_chosen_tests_are_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path, program("two"))
    batch(IDS[1]).outcome(IDS[1], lab.machine)
    assert lab.started()[0].endswith("./abi_test -r user.two 2>&1")


def test_after_a_crash_the_rest_goes_on_elsewhere(tmp_path: Path) -> None:
    lab, tests = Lab(tmp_path, program("one"), program("three")), batch()
    assert tests.outcome(IDS[0], lab.machine).verdict is Verdict.PASS
    lab.answer(["#  RUN           user.two ...", PANIC, HANG])
    with pytest.raises(Stopped) as stopped:
        tests.outcome(IDS[1], lab.machine)
    assert stopped.value.outcome.verdict is Verdict.CRASH
    lab.machine.discard("crashed")
    assert tests.outcome(IDS[2], lab.machine).verdict is Verdict.PASS
    assert lab.started()[2].endswith("./abi_test -r user.three 2>&1")


def test_a_program_that_can_not_select_is_not_resumed(tmp_path: Path) -> None:
    crash = program("one", last=("#  RUN           user.two ...", PANIC, HANG))
    lab, tests = Lab(tmp_path, crash, []), batch(selects=False)
    assert tests.outcome(IDS[0], lab.machine).verdict is Verdict.PASS
    with pytest.raises(Stopped):
        tests.outcome(IDS[1], lab.machine)
    lab.machine.discard("crashed")
    with pytest.raises(Stopped, match="can't be resumed in the middle") as stopped:
        tests.outcome(IDS[2], lab.machine)
    assert stopped.value.outcome.verdict is Verdict.NOTRUN
    assert lab.started() == ["cd /payload/selftests/user_events && ./abi_test  2>&1"]


def test_a_program_that_can_not_select_is_run_as_a_whole_again_when_its_machine_was_lost(tmp_path: Path) -> None:
    lost = program("one", last=("#  RUN           user.two ...", LOST))
    lab, tests = Lab(tmp_path, lost, program("one", "two", "three")), batch(selects=False)
    assert tests.outcome(IDS[0], lab.machine).verdict is Verdict.PASS
    with pytest.raises(Stopped) as stopped:
        tests.outcome(IDS[1], lab.machine)
    assert stopped.value.outcome.is_lost
    lab.machine.discard("lost")
    tests.start_over(IDS[1])
    assert [tests.outcome(test, lab.machine).verdict for test in IDS[1:]] == [Verdict.PASS] * 2


def test_tests_that_nobody_listed_run_along_and_are_passed_over(tmp_path: Path) -> None:
    lab = Lab(tmp_path, program("unheard_of", "two"))
    outcome = batch(IDS[1], selects=False).outcome(IDS[1], lab.machine)
    assert outcome.verdict is Verdict.PASS
    assert "unheard_of" not in outcome.log


@pytest.mark.parametrize(
    ("steps", "verdict", "told"),
    [
        (
            ["./abi_test: version `GLIBC_2.99' not found", "exit=1"],
            Verdict.UNRESOLVED,
            "abi_test ended without a verdict on it (exit code 1): ./abi_test: version `GLIBC_2.99' not found",
        ),
        (
            ["1..1", "#  RUN           user.one ...", "Bail out!", "exit=0"],
            Verdict.UNRESOLVED,
            "abi_test ended without a verdict on it (exit code 0): Bail out!",
        ),
        (["TAP version 13", "1..0"], Verdict.SKIP, "abi_test left it out: 1..0"),
        (["exit=4"], Verdict.SKIP, "abi_test left it out: exit code 4"),
    ],
)
def test_a_program_that_ends_without_the_verdict(
    tmp_path: Path, steps: list[Step], verdict: Verdict, told: str
) -> None:
    lab = Lab(tmp_path, steps)
    with pytest.raises(Stopped) as stopped:
        batch(IDS[0]).outcome(IDS[0], lab.machine)
    assert (stopped.value.outcome.verdict, stopped.value.outcome.reason) == (verdict, told)
