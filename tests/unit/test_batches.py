"""What shares a target: the batches that come out for each isolation, and how a script goes on after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.board import Limits
from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.run.suites import ftrace as ftrace_suite
from harness.run.suites import livepatch
from harness.run.suites.batch import Found
from harness.run.suites.livepatch import LivepatchBatch
from harness.run.units import PATCH_BUSY_CODE, Isolation, cpus_for, is_timed
from harness.target.base import Cpus
from tests.faketarget import HANG, LOST, FakeTarget, Kmsg, Step
from tests.faults.catalogue import Blame, fault
from tests.marked import marked
from tests.unit.small_ftracetest import UPSTREAM

PLAIN = '. functions.sh\nM=mod\nstart_test "one"\ncheck_result "x"\nN=more\nstart_test "two"\ncheck_result "y"\n'
NESTED = '. functions.sh\nstart_test "one"\nif true; then\n\tstart_test "two"\nfi\nstart_test "three"\n'
PANIC = Kmsg(
    "[    1.000000] Kernel panic - not syncing: tried to kill init\n"
    "[    1.000000] ---[ end Kernel panic - not syncing: x ]---"
)
ROOT = Path(__file__).resolve().parents[2]
D = "selftests/ftrace/test.d/basic"
L = "selftests/livepatch/test-x"


@pytest.fixture
def ftrace(tmp_path: Path) -> Path:
    directory = tmp_path / "ftrace"
    (directory / "test.d/basic").mkdir(parents=True)
    for number in range(18):
        flags = "# flags: instance\n" if number == 1 else ""
        (directory / f"test.d/basic/t{number:02}.tc").write_text(f"# description: x\n{flags}")
    return directory


def _ftrace(directory: Path, isolation: Isolation) -> list[list[str]]:
    return [
        [test.removeprefix(f"{D}/").replace(".tc", "") for test in tests]
        for tests in ftrace_suite._shares(directory, isolation)
    ]


def test_each_ftrace_test_alone(ftrace: Path) -> None:
    batches = _ftrace(ftrace, Isolation.TEST)
    assert batches[:4] == [["t00"], ["t01"], ["t01[instance]"], ["t02"]]
    assert len(batches) == 19


def test_each_ftrace_file_alone_with_its_second_run(ftrace: Path) -> None:
    batches = _ftrace(ftrace, Isolation.FILE)
    assert batches[:3] == [["t00"], ["t01", "t01[instance]"], ["t02"]]
    assert len(batches) == 18


def test_many_ftrace_files_together_where_only_a_crash_parts_them(ftrace: Path) -> None:
    first, second = _ftrace(ftrace, Isolation.CRASH)
    assert first == [*(f"t{number:02}" for number in range(16)), "t01[instance]"]
    assert second == ["t16", "t17"]


def _script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "test-x.sh"
    path.write_text(text)
    return path


def test_a_livepatch_script_is_cut_where_each_test_is_to_be_alone(tmp_path: Path) -> None:
    batches = list(livepatch.batches_of(_script(tmp_path, PLAIN), Isolation.TEST))
    assert [found.tests for found in batches] == [(f"{L}::one",), (f"{L}::two",)]
    texts = [_livepatch(found)._text for found in batches]
    assert texts[0] == '. functions.sh\nM=mod\nstart_test "one"\ncheck_result "x"\nN=more\n'
    assert texts[1] == '. functions.sh\nM=mod\nN=more\nstart_test "two"\ncheck_result "y"\n'


def _livepatch(found: Found) -> LivepatchBatch:
    assert isinstance(found.batch, LivepatchBatch)
    return found.batch


@pytest.mark.parametrize("isolation", [Isolation.FILE, Isolation.CRASH])
def test_a_livepatch_script_is_a_file(tmp_path: Path, isolation: Isolation) -> None:
    [found] = livepatch.batches_of(_script(tmp_path, PLAIN), isolation)
    assert found.tests == (f"{L}::one", f"{L}::two")
    assert _livepatch(found)._text == PLAIN


@pytest.mark.parametrize("text", [NESTED, '. functions.sh\nstart_test "one"\n'])
def test_a_script_that_can_not_be_cut_or_need_not_is_run_as_it_stands(tmp_path: Path, text: str) -> None:
    [found] = livepatch.batches_of(_script(tmp_path, text), Isolation.TEST)
    assert found.tests[0] == f"{L}::one"
    assert _livepatch(found)._text == text


def test_a_script_without_tests_is_no_batch(tmp_path: Path) -> None:
    assert list(livepatch.batches_of(_script(tmp_path, ". functions.sh\n"), Isolation.TEST)) == []


@pytest.mark.parametrize(
    ("test", "timed"),
    [
        ("selftests/ftrace/test.d/tracer/wakeup_rt.tc", True),
        ("selftests/ftrace/test.d/tracer/wakeup.tc[instance]", True),
        ("selftests/ftrace/test.d/preemptirq/irqsoff_tracer.tc", True),
        ("selftests/ftrace/test.d/ftrace/func_profiler.tc", False),
        ("testcases/function/test_calls.py::test_notrace", False),
    ],
)
def test_what_has_the_host_to_itself(test: str, timed: bool) -> None:
    assert is_timed(test) is timed


@pytest.mark.parametrize(
    ("test", "cpus"),
    [
        ("selftests/livepatch/test-syscall::patch getpid while it is hammered", Cpus.SEEING_PATCHES),
        ("selftests/livepatch/test-livepatch::basic function patching", Cpus.SIDE_BY_SIDE),
        (
            "testcases/livepatch/test_transition.py::test_busy_kthread_is_switched_by_the_scheduler",
            Cpus.SEEING_PATCHES,
        ),
        ("testcases/livepatch/test_transition.py::test_idle_cpus_are_switched", Cpus.SIDE_BY_SIDE),
        ("testcases/function/test_calls.py::test_notrace", Cpus.SIDE_BY_SIDE),
    ],
)
def test_how_the_cpus_of_its_machine_run(test: str, cpus: Cpus) -> None:
    assert cpus_for(test) is cpus


def test_what_is_listed_as_patching_busy_code_is_there() -> None:
    for test in PATCH_BUSY_CODE:
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(), test


# -- after a stop ------------------------------------------------------------------------------------------------


def _machine(tmp_path: Path, *targets: FakeTarget) -> Machine:
    waiting = list(targets)
    return Machine(lambda: (waiting.pop(0), 1.0), limits=Limits(silence=30.0), recorder=Recorder.of(tmp_path))


def _target(*steps: Step) -> FakeTarget:
    return FakeTarget(lambda command: marked(command, steps) if "./marked-test-x.sh" in command else [])


def _passed(name: str) -> tuple[str, str, str]:
    return (f"@begin: {name}", f"TEST: {name} ... ok", "@end: ok")


def _batch(text: str) -> LivepatchBatch:
    tests = [f"{L}::{name}" for name in (("one", "two", "three") if text is NESTED else ("one", "two"))]
    batch = LivepatchBatch("test-x.sh", text, tests)
    batch.choose(tests)
    return batch


def test_what_is_behind_a_crash_in_a_script_that_can_not_be_resumed_is_not_run(tmp_path: Path) -> None:
    machine, batch = _machine(tmp_path, _target(PANIC, HANG), _target()), _batch(NESTED)
    with pytest.raises(Stopped) as crashed:
        batch.outcome(f"{L}::one", machine)
    machine.discard("crashed")
    assert crashed.value.outcome.verdict is Verdict.CRASH
    for name in ("two", "three"):
        with pytest.raises(Stopped, match="can't be resumed in the middle") as stopped:
            batch.outcome(f"{L}::{name}", machine)
        assert stopped.value.outcome.verdict is Verdict.NOTRUN


def test_a_script_that_can_not_be_resumed_is_run_as_a_whole_again_when_its_machine_was_lost(tmp_path: Path) -> None:
    said = [line for name in ("one", "two", "three") for line in _passed(name)]
    machine, batch = _machine(tmp_path, _target(*said[:3], LOST), _target(*said)), _batch(NESTED)
    assert batch.outcome(f"{L}::one", machine).verdict is Verdict.PASS
    with pytest.raises(Stopped) as stopped:
        batch.outcome(f"{L}::two", machine)
    assert stopped.value.outcome.is_lost
    machine.discard("lost")
    batch.start_over(f"{L}::two")
    assert batch.outcome(f"{L}::two", machine).verdict is Verdict.PASS
    assert batch.outcome(f"{L}::three", machine).verdict is Verdict.PASS


# -- verdicts that do not come as they should --------------------------------------------------------------------


@fault(
    "a test's log has ftracetest's verdicts and beginnings, for itself and for other tests",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="each test's own verdict, and a log of its own",
)
def test_each_ftrace_test_has_its_own_outcome_whatever_the_logs_say(tmp_path: Path) -> None:
    t = "/payload/selftests/ftrace/test.d/basic"
    said = (
        *("TAP version 13", f"@begin: {t}/a.tc", f"execute: {t}/a.tc", "ok 1 first", "words\t[PASS]"),
        *(f"@begin: {t}/b.tc", f"execute: {t}/b.tc", f"execute: {t}/c.tc", "ok 2 x", "not ok 2 second", "@end: 1"),
        *(f"@begin: {t}/c.tc", f"execute: {t}/c.tc", "", "words:ok 3 third", "@end: 0", "over"),
    )
    tests = [f"{D}/{name}.tc" for name in "abc"]
    target = FakeTarget(lambda command: marked(command, said) if "./ftracetest-marked" in command else [])
    (tmp_path / "ftracetest").write_text(UPSTREAM)
    machine, batch = _machine(tmp_path, target), ftrace_suite.FtraceBatch(tmp_path / "ftracetest")
    batch.choose(tests)
    outcomes = [batch.outcome(test, machine) for test in tests]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.UNRESOLVED, Verdict.FAIL, Verdict.PASS]
    assert outcomes[0].reason == "ftracetest printed no verdict for it"
    assert outcomes[2].log == f"execute: {t}/c.tc\n\nwords:ok 3 third\n"
    assert len([command for command in target.commands if "./ftracetest" in command]) == 1


def test_what_the_kernel_is_not_configured_for_is_skipped(tmp_path: Path) -> None:
    """A sample module that a distribution does not build. The file says so, so no output of the target can."""
    directory = tmp_path / "selftests/ftrace"
    (directory / "test.d/basic").mkdir(parents=True)
    (directory / "ftracetest").write_text(UPSTREAM)
    for name, asked in (("a", "CONFIG_SAMPLE_A=m"), ("b", "CONFIG_SAMPLE_B=m"), ("c", "nothing")):
        (directory / f"test.d/basic/{name}.tc").write_text(f'echo "please make {asked}"; exit_unresolved\n')
    config = {"SAMPLE_B": "m"}
    build = Build(directory=tmp_path, release="7.3.4", key="k", config=config, without={"SAMPLE_A": "no SAMPLES"})
    (found,) = ftrace_suite.batches(build, Isolation.CRASH)
    t = "/payload/selftests/ftrace/test.d/basic"
    said = [line for name in "abc" for line in (f"@begin: {t}/{name}.tc", "please make CONFIG_SAMPLE_A=m", "@end: 2")]
    target = FakeTarget(lambda command: marked(command, (*said, "over")) if "./ftracetest-marked" in command else [])
    machine = _machine(tmp_path, target)
    found.batch.choose(found.tests)
    outcomes = [found.batch.outcome(test, machine) for test in found.tests]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.SKIP, Verdict.UNRESOLVED, Verdict.UNRESOLVED]
    assert outcomes[0].reason == "this kernel has no CONFIG_SAMPLE_A: no SAMPLES"


@fault(
    "a livepatch TEST prints a bare line ok and then fails",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the script's verdict, FAIL, with the difference; the target is discarded",
)
def test_a_livepatch_test_that_says_ok_itself_fails_and_leaves_no_target_behind(tmp_path: Path) -> None:
    lines = ("TEST: one ... ", "ok", "not ok", "-livepatch: x", "ERROR: livepatch kselftest(s) failed")
    target = _target("@begin: one", *lines, "@end: not ok", "exit=1")
    machine, batch = _machine(tmp_path, target), _batch(PLAIN)
    failed = batch.outcome(f"{L}::one", machine)
    assert (failed.verdict, failed.reason) == (Verdict.FAIL, "-livepatch: x")
    assert failed.log == "\n".join([*lines, ""])
    assert batch.outcome(f"{L}::two", machine).verdict is Verdict.NOTRUN
    assert target.closed
