"""A module that is not there: whose fault it is that insmod, or what prepares a test, failed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.run.api.insmod import error_of
from harness.run.api.modules import Module, Modules
from harness.run.judging import outcome_of
from harness.target.base import Completed
from tests.faults.catalogue import Blame, fault
from tests.unit.test_testcase_api import ScriptedMachine, guest

KMOD = "insmod: ERROR: could not insert module /payload/testcases/calls.ko: "
BUSYBOX = "insmod: can't insert '/payload/testcases/calls.ko': "

EXPORTED = ("debugfs_create_dir", "symbol_put_addr")  # by the kernel that runs


class Refusing(ScriptedMachine):
    """insmod fails with `error`, the kernel's log has `log`."""

    def __init__(self, error: str, log: str = "", *, is_there: bool = True) -> None:
        exports = {f"__ksymtab_{symbol}": 0 for symbol in EXPORTED} | {"__ksymtab_": 1}
        super().__init__({"dmesg": log, "[ -e /payload": 0 if is_there else 1, **exports})
        self.error = error

    def run(self, command: str, *, timeout: float) -> Completed:
        if "insmod /payload" in command:
            self.commands.append(command)
            return Completed(command=command, returncode=1, output=f"{self.error}\n", seconds=0.0)
        return super().run(command, timeout=timeout)


def verdict(machine: ScriptedMachine) -> tuple[Verdict, str]:
    """How a test ends whose fixture loads the module calls."""
    there, _ = guest()
    there._machine = machine  # type: ignore[assignment]
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        Module(there, "calls").insert()
    outcome = outcome_of(caught.value, in_setup=True)
    return outcome.verdict, outcome.reason


@fault("a test module is not on the target", where="host", blame=Blame.INFRA, survives="ERROR: the reason names it")
def test_a_module_that_is_not_there_is_no_fault_of_the_kernels() -> None:
    error = "insmod: ERROR: could not load module /payload/testcases/calls.ko: No such file or directory"
    found, reason = verdict(Refusing(error, is_there=False))
    assert found is Verdict.ERROR
    assert reason.startswith("/payload/testcases/calls.ko: expected this module on the target, found none")


@pytest.mark.parametrize(
    ("error", "log"),
    [
        ("Invalid module format", "calls: version magic '7.3.4 SMP' should be '7.3.5 SMP'"),
        ("invalid module format", "calls: disagrees about version of symbol module_layout"),
        ("Key was rejected by service", ""),
    ],
)
@pytest.mark.parametrize("program", [KMOD, BUSYBOX])
@fault("a test module was built for another kernel than the one that runs, or is not signed for it", where="kernel",
       blame=Blame.INFRA, survives="ERROR: the reason quotes the kernel")  # fmt: skip
def test_a_module_for_another_kernel_is_no_fault_of_the_kernels(program: str, error: str, log: str) -> None:
    found, reason = verdict(Refusing(program + error, f"[    4.8] {log}\n" if log else ""))
    assert found is Verdict.ERROR
    assert log in reason


@pytest.mark.parametrize(
    ("error", "log", "reason"),
    [
        ("Unknown symbol in module", "calls: Unknown symbol stack_trace_save (err -2)", "no symbol stack_trace_save,"),
        ("unknown symbol in module, or unknown parameter", "calls: Unknown symbol foo (err 0)", "no symbol foo,"),
        ("Operation not supported", "calls: this kernel lacks task_call_func()", "lacks task_call_func(),"),
    ],
)
def test_what_the_kernel_lacks_skips_the_test(error: str, log: str, reason: str) -> None:
    machine = Refusing(KMOD + error, f"[    1.0] calls: something else\n[    4.8] {log}\n")
    found, told = verdict(machine)
    assert found is Verdict.SKIP
    assert told == f"this kernel {told.partition('this kernel ')[2]}"
    assert reason in told
    assert told.endswith("which the module calls needs")


@pytest.mark.parametrize(
    ("error", "log"),
    [
        ("Invalid module format", "calls: module ftrace trampoline(s) missing"),
        ("Invalid module format", ""),
        ("Unknown symbol in module", "calls: Unknown symbol symbol_put_addr (err -22)"),
        ("Unknown symbol in module", "calls: Unknown symbol debugfs_create_dir (err -2)"),
        ("Unknown symbol in module", "calls: Unknown symbol .klp.sym.klp_target.klp_target_secret,0 (err -2)"),
        ("Unknown symbol in module", ""),
        ("Operation not supported", "calls: loading out-of-tree module taints kernel."),
        ("Device or resource busy", "calls: this kernel lacks nothing of that"),
        ("Cannot allocate memory", ""),
        ("Input/output error", ""),
    ],
)
@fault("the kernel refuses a module that it should take", where="kernel", blame=Blame.KERNEL,
       survives="FAIL: the reason says what insmod and the kernel say")  # fmt: skip
def test_a_kernel_that_refuses_a_module_fails_the_test_even_before_it_begins(error: str, log: str) -> None:
    found, reason = verdict(Refusing(KMOD + error, f"[    4.8] {log}\n" if log else ""))
    assert found is Verdict.FAIL
    assert reason == f"the kernel refuses the module calls: {error}{f'; it says: {log}' if log else ''}"


def modules(machine: ScriptedMachine, tmp_path: Path) -> Modules:
    there, _ = guest()
    there._machine = machine  # type: ignore[assignment]
    return Modules(there, Build(directory=tmp_path, release="7.3.4", key="k"))


def test_a_refusal_that_is_expected_is_told_from_a_module_that_is_not_there(tmp_path: Path) -> None:
    there = modules(Refusing(KMOD + "Device or resource busy"), tmp_path)
    assert there.refused("calls") == "Device or resource busy"
    error = "insmod: ERROR: could not load module /payload/testcases/calls.ko: No such file or directory"
    with pytest.raises(InfraError, match="found none"):
        modules(Refusing(error, is_there=False), tmp_path).refused("calls")
    lacking = Refusing(KMOD + "Operation not supported", "calls: this kernel lacks atomic replace of livepatches\n")
    with pytest.raises(pytest.skip.Exception, match="this kernel lacks atomic replace"):
        modules(lacking, tmp_path).refused("calls")


@fault("near_filler can not take the addresses near the kernel", where="kernel", blame=Blame.INFRA,
       survives="ERROR: the reason quotes the module")  # fmt: skip
def test_a_filler_that_fails_is_no_fault_of_the_kernels(tmp_path: Path) -> None:
    log = "[    4.8] near_filler: this kernel lacks x\n[    5.8] near_filler: more than 512 pieces of free addresses\n"
    machine = ScriptedMachine({"harness-near_filler/fill": 1, "dmesg": log})
    there = modules(machine, tmp_path)
    told = r"near_filler could not leave room for calls .*: more than 512"
    with pytest.raises(InfraError, match=told) as caught, there.placed("calls", "far"):
        pass
    assert outcome_of(caught.value).verdict is Verdict.ERROR
    assert machine.commands[-1].endswith("rmmod near_filler")


def test_a_filler_that_lacks_something_skips_the_test(tmp_path: Path) -> None:
    log = "[    4.8] near_filler: this kernel lacks room for modules far above itself\n"
    there = modules(ScriptedMachine({"harness-near_filler/fill": 1, "dmesg": log}), tmp_path)
    told = "lacks room for modules far above itself, which the module near"
    with pytest.raises(pytest.skip.Exception, match=told), there.placed("calls", "above"):
        pass


def test_the_error_is_what_stands_last() -> None:
    assert (
        error_of("warning: x\ninsmod: ERROR: could not insert module a.ko: Invalid parameters\n")
        == "Invalid parameters"
    )
    assert error_of("") == "no message"


# -- which lines of the kernel's log count -----------------------------------------------------------------------------


class Logging(ScriptedMachine):
    """insmod, and what writes to a module's file, fail with `error`; the kernel's log is a file, which gets `says` from
    that command on. Everything else is run by a shell."""

    def __init__(self, log: Path, error: str, *, before: str = "", says: str = "") -> None:
        super().__init__()
        self.log, self.error, self.says = log, error, says
        log.write_text(before)

    def run(self, command: str, *, timeout: float) -> Completed:
        self.commands.append(command)
        mark, is_marked, _ = command.partition("> /dev/kmsg; ")
        if is_marked:
            said = subprocess.run(["sh", "-c", mark], capture_output=True, text=True, check=True).stdout
            with self.log.open("a") as log:
                log.write(f"[   98.0] {said}{self.says}")
            return Completed(command=command, returncode=1, output=f"{self.error}\n", seconds=0.0)
        there = "true" if command.startswith("[ -e /payload") else command.replace("dmesg", f"cat {self.log}")
        done = subprocess.run(["sh", "-c", there], capture_output=True, text=True, check=False)
        return Completed(command=command, returncode=done.returncode, output=done.stdout, seconds=0.0)


LACKS = "calls: this kernel lacks foo()"


@pytest.mark.parametrize("error", ["Operation not supported", "Unknown symbol in module"])
@pytest.mark.parametrize(
    ("before", "says"),
    [
        (f"[    1.0] {LACKS}\n[    2.0] calls: Unknown symbol foo (err -2)\n", ""),
        ("", f"[   99.0] klp_{LACKS}\n[   99.0] klp_calls: Unknown symbol foo (err -2)\n"),
        (f"[    1.0] {LACKS}\n[    2.0] {LACKS}\n", "[   99.0] ftrace: failed to modify\n"),
    ],
)
@fault("the kernel refuses a module, and its log has older excuses, or those of another module", where="kernel",
       blame=Blame.KERNEL, survives="FAIL: the reason says what insmod says")  # fmt: skip
def test_what_was_said_before_or_by_another_module_is_no_excuse(
    tmp_path: Path, error: str, before: str, says: str
) -> None:
    found, reason = verdict(Logging(tmp_path / "log", KMOD + error, before=before, says=says))
    assert (found, reason) == (Verdict.FAIL, f"the kernel refuses the module calls: {error}")


@pytest.mark.parametrize("stamp", ["[   99.0] ", "[   99.0][  T412] ", "", "<3>[   99.0] "])
def test_what_is_said_now_counts(tmp_path: Path, stamp: str) -> None:
    machine = Logging(tmp_path / "log", KMOD + "Operation not supported", says=f"{stamp}{LACKS}\n")
    assert verdict(machine) == (Verdict.SKIP, "this kernel lacks foo(), which the module calls needs")


def test_an_older_excuse_does_not_hide_that_a_preparation_fails(tmp_path: Path) -> None:
    older = "[    4.8] near_filler: this kernel lacks room for modules far above itself\n"
    there, _ = guest()
    there._machine = Logging(tmp_path / "log", "", before=older)  # type: ignore[assignment]
    with pytest.raises(InfraError, match="near_filler could not leave room: the kernel says nothing"):
        Module(there, "near_filler").prepare("fill", "and far away", what="leave room")
