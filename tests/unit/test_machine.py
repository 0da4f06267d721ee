"""The machine: who is to blame when a test stops, and what becomes of the target."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BootError, InfraError
from harness.model.board import Limits
from harness.model.fault import FaultKind
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.target.base import Target
from tests.faketarget import HANG, LOST, FakeTarget, Kmsg, Step
from tests.faults.catalogue import Blame, fault

OOPS = Kmsg(
    """\
[   12.0] Unable to handle kernel paging request at virtual address ffff80007a000000
[   12.0] Internal error: Oops: 0000000086000007 [#1]  SMP
[   12.0] CPU: 1 UID: 0 PID: 71 Comm: sh Not tainted 7.3.4 #1 PREEMPT
[   12.0] pc : wake_up_process+0x18/0x30
[   12.0] lr : foo+0x18/0x30
[   12.0] Call trace:
[   12.0]  wake_up_process+0x18/0x30 (P)
[   12.0] Kernel panic - not syncing: Oops: Fatal exception in interrupt
[   12.0] ---[ end Kernel panic - not syncing: Oops: Fatal exception in interrupt ]---""".replace("12.0", "12.000000")
)


MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[MakeMachine]:
    machines: list[Machine] = []

    def make(*targets: Target | Exception, silence: float = 30.0) -> Machine:
        waiting = list(targets)

        def boot() -> tuple[Target, float]:
            target = waiting.pop(0)
            if isinstance(target, Exception):
                raise target
            return target, 1.5

        machine = Machine(boot, limits=Limits(silence=silence), recorder=Recorder.of(tmp_path))
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.close()


def _events(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]


def _stopped(machine: Machine, command: str = "test", timeout: float = 30.0) -> Outcome:
    with pytest.raises(Stopped) as caught:
        machine.run(command, timeout=timeout)
    return caught.value.outcome


def test_a_command_that_ends(make_machine: MakeMachine) -> None:
    machine = make_machine(FakeTarget(lambda command: ["one", "two", "exit=3"]))
    done = machine.run("test")
    assert (done.output, done.returncode) == ("one\ntwo", 3)


def test_a_panic_while_a_command_runs_is_a_crash_with_its_title(make_machine: MakeMachine) -> None:
    stopped = _stopped(make_machine(FakeTarget(lambda command: ["line", OOPS, HANG] if command == "test" else [])))
    assert stopped.verdict is Verdict.CRASH
    assert stopped.reason == "panic: Unable to handle kernel paging request in wake_up_process"
    assert stopped.fault is not None
    assert any("pc : wake_up_process" in line for line in stopped.fault.lines)


@fault(
    "the connection is lost as the kernel panics",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the panic, as the reason",
)
def test_a_panic_outranks_a_lost_connection(make_machine: MakeMachine) -> None:
    stopped = _stopped(make_machine(FakeTarget(lambda command: [OOPS, LOST] if command == "test" else [])))
    assert stopped.verdict is Verdict.CRASH
    assert stopped.reason.startswith("panic: ")


@fault(
    "the channel to the target closes without a word of the kernel's",
    where="console",
    blame=Blame.INFRA,
    survives="the kernel's good name",
)
def test_a_lost_connection_alone_is_an_infrastructure_error(make_machine: MakeMachine) -> None:
    stopped = _stopped(make_machine(FakeTarget(lambda command: [LOST] if command == "test" else [])))
    assert stopped.verdict is Verdict.ERROR
    assert stopped.fault is None


def test_a_report_that_is_still_on_its_way_when_the_command_ends_is_not_missed(make_machine: MakeMachine) -> None:
    machine = make_machine(FakeTarget(lambda command: ["exit=0"], late=OOPS))
    machine.run("test")
    fault = machine.fault()
    assert fault is not None
    assert "wake_up_process" in fault.title


@fault(
    "the machine resets itself during a test",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the last lines of its log",
)
def test_a_machine_that_resets_itself_is_a_crash(make_machine: MakeMachine) -> None:
    stopped = _stopped(make_machine(FakeTarget(lambda command: [LOST] if command == "test" else [], went_down=True)))
    assert stopped.verdict is Verdict.CRASH
    assert stopped.reason.startswith("reset: ")


def test_over_its_limit_on_a_living_kernel_is_a_timeout(make_machine: MakeMachine) -> None:
    target = FakeTarget(lambda command: [HANG] if command == "test" else [])
    stopped = _stopped(make_machine(target), timeout=0.1)
    assert stopped.verdict is Verdict.TIMEOUT
    assert target.diagnosed == 1


@fault(
    "the network is lost, and the test exceeds its limit",
    where="network",
    blame=Blame.INFRA,
    survives="the kernel's good name",
)
def test_over_its_limit_when_the_way_to_a_living_kernel_is_lost_is_an_error_of_ours(make_machine: MakeMachine) -> None:
    target = FakeTarget(lambda command: [HANG] if command == "test" else [], connected=False)
    stopped = _stopped(make_machine(target), timeout=0.1)
    assert stopped.verdict is Verdict.ERROR
    assert "network to the target was lost" in stopped.reason


def test_a_way_that_is_lost_is_noticed_long_before_the_limit(make_machine: MakeMachine) -> None:
    target = FakeTarget(lambda command: [HANG] if command == "test" else [], connected=False)
    started = time.monotonic()
    assert _stopped(make_machine(target, silence=0.2), timeout=600.0).verdict is Verdict.ERROR
    assert time.monotonic() - started < 60


def test_over_its_limit_on_a_dead_kernel_is_a_crash(make_machine: MakeMachine) -> None:
    stopped = _stopped(
        make_machine(FakeTarget(lambda command: [HANG] if command == "test" else [], alive=False)), timeout=0.1
    )
    assert stopped.verdict is Verdict.CRASH
    assert stopped.fault is not None
    assert stopped.fault.kind is FaultKind.SILENCE


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([HANG], marks=fault("the serial line breaks, and the test exceeds its limit", where="console",
                                         blame=Blame.INFRA, survives="the kernel's good name")),
        pytest.param([OOPS, HANG], marks=fault("the serial line breaks behind a kernel's oops", where="console",
                                               blame=Blame.KERNEL, survives="the oops")),
    ],
    ids=["", "after an oops"],
)  # fmt: skip
def test_over_its_limit_while_the_line_is_broken_is_an_error_unless_the_kernel_said_why(
    make_machine: MakeMachine, steps: list[Step]
) -> None:
    target = FakeTarget(lambda command: steps if command == "test" else [])
    target.line_lost = "b: bytes were lost on the serial line"
    stopped = _stopped(make_machine(target), timeout=0.1)
    expected = Verdict.CRASH if OOPS in steps else Verdict.ERROR
    assert stopped.verdict is expected
    assert OOPS in steps or stopped.reason == target.line_lost


@fault(
    "the kernel goes silent and answers no more",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the time until the test's limit",
)
def test_silence_is_noticed_long_before_the_limit(make_machine: MakeMachine) -> None:
    machine = make_machine(FakeTarget(lambda command: [HANG] if command == "test" else [], alive=False), silence=0.2)
    started = time.monotonic()
    assert _stopped(machine, timeout=600.0).verdict is Verdict.CRASH
    assert time.monotonic() - started < 60


def test_a_silent_kernel_that_answers_goes_on(make_machine: MakeMachine) -> None:
    machine = make_machine(FakeTarget(lambda command: [HANG] if command == "test" else []), silence=0.05)
    assert _stopped(machine, timeout=1.0).verdict is Verdict.TIMEOUT


def test_the_target_is_booted_once_and_anew_after_a_discard(make_machine: MakeMachine, tmp_path: Path) -> None:
    first, second = FakeTarget(lambda command: []), FakeTarget(lambda command: [])
    machine = make_machine(first, second)
    assert machine.target is first
    assert machine.target is first
    epoch = machine.epoch
    machine.discard("CRASH in x")
    assert first.closed
    assert not machine.is_up
    assert machine.target is second
    assert machine.epoch == epoch + 1
    assert [event["data"]["text"] for event in _events(tmp_path) if event["kind"] == "note"] == [
        "target discarded: CRASH in x"
    ]


def test_a_fault_of_an_earlier_target_is_forgotten(make_machine: MakeMachine) -> None:
    first = FakeTarget(lambda command: [OOPS, HANG] if command == "test" else [])
    machine = make_machine(first, FakeTarget(lambda command: []))
    _stopped(machine)
    assert machine.fault() is not None
    machine.discard("crash")
    assert machine.run("echo").output == ""
    assert machine.fault() is None


def test_the_first_boot_that_fails_is_final(make_machine: MakeMachine) -> None:
    machine = make_machine(BootError("panicked at boot"), FakeTarget(lambda command: []))
    for _ in range(2):
        with pytest.raises(BootError, match="panicked"):
            _ = machine.target


def test_a_later_boot_is_tried_twice(make_machine: MakeMachine) -> None:
    good = FakeTarget(lambda command: [])
    machine = make_machine(FakeTarget(lambda command: []), InfraError("no memory"), good)
    assert machine.target
    machine.discard("x")
    assert machine.target is good


def test_a_warning_without_end_is_taken_when_the_console_is_quiet(make_machine: MakeMachine) -> None:
    warning = Kmsg("[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/trace/ftrace.c:123 ftrace_bug+0x10/0x20")
    machine = make_machine(FakeTarget(lambda command: [warning, "ok"] if command == "test" else []))
    assert machine.run("test").output == "ok"
    fault = machine.fault()
    assert fault is not None
    assert fault.title.startswith("WARNING in ftrace_bug")


@fault("a test prints without end", where="hostile target", blame=Blame.KERNEL, survives="the test's time limit")
def test_a_test_that_prints_for_ever_is_over_its_limit_too(make_machine: MakeMachine) -> None:
    def script(command: str) -> Iterable[str]:
        return itertools.repeat("y") if command == "test" else []

    assert _stopped(make_machine(FakeTarget(script)), timeout=0.2).verdict is Verdict.TIMEOUT


def test_what_was_said_before_a_fault_comes_first(make_machine: MakeMachine) -> None:
    target = FakeTarget(lambda command: ["verdict", OOPS, HANG] if command == "test" else [])
    machine = make_machine(target)
    running = machine.target.start("test")
    deadline = time.monotonic() + 30
    assert machine.next_line(running, deadline=deadline, what="t") == "verdict"
    before = time.monotonic()
    with pytest.raises(Stopped):
        machine.next_line(running, deadline=deadline, what="t")
    assert machine.fault_before(before) is None
    assert machine.fault_before(time.monotonic()) is not None


@fault(
    "the kernel reports a WARNING while it boots",
    where="kernel",
    blame=Blame.NOBODY,
    survives="the report, as a note of the run",
)
def test_a_report_at_boot_is_a_note_and_nobodys_fault(make_machine: MakeMachine, tmp_path: Path) -> None:
    target = FakeTarget(lambda command: [])
    target.kernel_says("[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 early+0x10/0x20")
    machine = make_machine(target)
    assert machine.run("echo").returncode == 0
    assert machine.fault() is None
    assert "the kernel reported while booting: WARNING in early" in (tmp_path / "events.jsonl").read_text()


@fault(
    "the kernel reports an oops between two tests",
    where="kernel",
    blame=Blame.NOBODY,
    survives="both tests; the next one gets another machine",
)
def test_a_report_between_two_tests_costs_no_test(make_machine: MakeMachine) -> None:
    first, second = FakeTarget(lambda command: []), FakeTarget(lambda command: [])
    machine = make_machine(first, second)
    assert machine.target is first
    first.kernel_says(OOPS)
    machine.leave_faults_behind()
    assert first.closed
    assert machine.target is second


@fault(
    "the target's out-of-memory killer ends the shell on which a test runs",
    where="memory",
    blame=Blame.INFRA,
    survives="the kernel's own words, in the reason",
)
def test_a_target_that_ran_out_of_memory_says_so(make_machine: MakeMachine) -> None:
    killed = Kmsg("[    6.800000] Out of memory: Killed process 97 (sh) total-vm:1200kB, anon-rss:64kB")
    stopped = _stopped(make_machine(FakeTarget(lambda command: [killed, LOST] if command == "test" else [])))
    assert stopped.verdict is Verdict.ERROR
    assert stopped.fault is None
    assert stopped.reason.endswith(f"; the target ran out of memory: {killed}")
