"""What shares a target: the batches that come out for each isolation, and how a script goes on after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.board import Limits
from harness.model.result import Verdict
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.run.suites import ftrace as ftrace_suite
from harness.run.suites import livepatch
from harness.run.suites.batch import Found
from harness.run.suites.livepatch import LivepatchBatch
from harness.run.units import Isolation, cpus_for, is_timed
from harness.target.base import Cpus
from tests.faketarget import HANG, LOST, FakeTarget, Kmsg

PLAIN = '. functions.sh\nM=mod\nstart_test "one"\ncheck_result "x"\nN=more\nstart_test "two"\ncheck_result "y"\n'
NESTED = '. functions.sh\nstart_test "one"\nif true; then\n\tstart_test "two"\nfi\nstart_test "three"\n'
PANIC = Kmsg(
    "[    1.000000] Kernel panic - not syncing: tried to kill init\n"
    "[    1.000000] ---[ end Kernel panic - not syncing: x ]---"
)
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
    assert all(_livepatch(found)._is_part for found in batches)


def _livepatch(found: Found) -> LivepatchBatch:
    assert isinstance(found.batch, LivepatchBatch)
    return found.batch


@pytest.mark.parametrize("isolation", [Isolation.FILE, Isolation.CRASH])
def test_a_livepatch_script_is_a_file(tmp_path: Path, isolation: Isolation) -> None:
    [found] = livepatch.batches_of(_script(tmp_path, PLAIN), isolation)
    assert found.tests == (f"{L}::one", f"{L}::two")
    assert not _livepatch(found)._is_part


@pytest.mark.parametrize("text", [NESTED, '. functions.sh\nstart_test "one"\n'])
def test_a_script_that_can_not_be_cut_or_need_not_is_run_as_it_stands(tmp_path: Path, text: str) -> None:
    [found] = livepatch.batches_of(_script(tmp_path, text), Isolation.TEST)
    assert found.tests[0] == f"{L}::one"
    assert not _livepatch(found)._is_part


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
        ("testcases/function/test_calls.py::test_notrace", Cpus.SIDE_BY_SIDE),
    ],
)
def test_how_the_cpus_of_its_machine_run(test: str, cpus: Cpus) -> None:
    assert cpus_for(test) is cpus


# -- after a stop ------------------------------------------------------------------------------------------------


def _machine(tmp_path: Path, *targets: FakeTarget) -> Machine:
    waiting = list(targets)
    return Machine(lambda: (waiting.pop(0), 1.0), limits=Limits(silence=30.0), recorder=Recorder.of(tmp_path))


def _target(*steps: object) -> FakeTarget:
    return FakeTarget(lambda command: list(steps) if "test-x" in command else [])


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
    said = ("TEST: one ... ok", "TEST: two ... ok", "TEST: three ... ok")
    machine, batch = _machine(tmp_path, _target(said[0], LOST), _target(*said)), _batch(NESTED)
    assert batch.outcome(f"{L}::one", machine).verdict is Verdict.PASS
    with pytest.raises(Stopped) as stopped:
        batch.outcome(f"{L}::two", machine)
    assert stopped.value.outcome.is_lost
    machine.discard("lost")
    batch.start_over(f"{L}::two")
    assert batch.outcome(f"{L}::two", machine).verdict is Verdict.PASS
    assert batch.outcome(f"{L}::three", machine).verdict is Verdict.PASS


# -- verdicts that do not come as they should --------------------------------------------------------------------


def test_each_ftrace_test_has_its_own_outcome_where_verdicts_are_missing_or_stand_behind_other_output(
    tmp_path: Path,
) -> None:
    t = "execute: /payload/selftests/ftrace/test.d/basic"
    said = ("TAP version 13", f"{t}/a.tc", f"{t}/b.tc", "words:not ok 2 second", f"{t}/c.tc", "words:ok 3 third")
    tests = [f"{D}/{name}.tc" for name in "abc"]
    target = FakeTarget(lambda command: list(said) if "ftracetest" in command else [])
    machine, batch = _machine(tmp_path, target), ftrace_suite.FtraceBatch()
    batch.choose(tests)
    outcomes = [batch.outcome(test, machine) for test in tests]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.UNRESOLVED, Verdict.FAIL, Verdict.PASS]
    assert outcomes[0].reason == "ftracetest printed no verdict for it"
    assert outcomes[2].log == f"{t}/c.tc\nwords:ok 3 third\n"
    assert len([command for command in target.commands if "ftracetest" in command]) == 1
