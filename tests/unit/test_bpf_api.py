"""BPF programs in testcases: attached by a program on the guest, which reports what they have seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.run.api import bpf
from harness.run.api.bpf import Bpf
from harness.run.api.guest import Guest
from harness.run.judging import outcome_of
from harness.run.stopped import Refused
from harness.target.base import Completed
from tests.faults.catalogue import Blame, fault

REPORT = """\
fentry calls:calls_saved calls 2 argument 1000 result 0 stack ffff800080001234 ffff800080005678
multiret calls_wide calls 0 argument 0 result ffffffffffffffea stack
end
"""


class Target:
    """A guest on which bpfattach prints `first`, and `report` whenever it gets the signal."""

    remembered: dict[object, object]

    def __init__(self, first: str = "attached\n", report: str = REPORT) -> None:
        self.remembered = {}
        self.commands: list[str] = []
        self.output = first
        self._report = report

    @staticmethod
    def scaled(seconds: float) -> float:
        return seconds

    def run(self, command: str, *, timeout: float) -> Completed:
        self.commands.append(command)
        said, code = "", 0
        if "echo $!" in command:
            said = "41\n"
        elif "kill -USR1 41" in command:
            self.output += self._report
        elif command.startswith("cat /tmp/harness-background"):
            said = self.output
        elif "/proc/41/stat" in command:
            code = 1  # it has ended
        return Completed(command=command, returncode=code, output=said, seconds=0.0)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    (tmp_path / "vmlinux").touch()
    return Build(directory=tmp_path, release="7.3.4", key="k")


def _bpf(target: Target, build: Build) -> Bpf:
    return Bpf(Guest(target), build)  # type: ignore[arg-type]


def test_what_the_programs_have_seen(build: Build) -> None:
    target = Target()
    with _bpf(target, build).attach(("fentry", "calls:calls_saved"), ("multiret", "calls_wide")) as programs:
        first, second = programs.seen()
        assert programs.seen() == [first, second]  # the second report, not the first one again
    assert (first.kind, first.function, first.calls, first.argument) == ("fentry", "calls:calls_saved", 2, 0x1000)
    assert first.stack == (0xFFFF800080001234, 0xFFFF800080005678)
    assert (second.calls, second.result, second.stack) == (0, 0xFFFF_FFFF_FFFF_FFEA, ())
    assert any("bpfattach fentry calls:calls_saved multiret calls_wide" in command for command in target.commands)
    assert sum("kill -USR1" in command for command in target.commands) == 2


def test_the_modules_are_waited_for_when_the_programs_go(build: Build) -> None:
    target = Target()
    with _bpf(target, build).attach(("fentry", "calls:calls_saved"), ("multi", "calls_wide")):
        attached = len(target.commands)
    assert [command for command in target.commands[attached:] if "/sys/module/" in command] == [
        "! { read -r users < /sys/module/calls/refcnt; } 2>/dev/null || [ $users = 0 ]"
    ]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        pytest.param(
            "R1 type=ctx expected=fp\nbpfattach: calls:calls_saved: the kernel refuses to load: error 13\n",
            Verdict.FAIL,
            marks=fault("the kernel refuses to load or attach a BPF program", where="kernel", blame=Blame.KERNEL,
                        survives="FAIL: the reason says what bpfattach says"),
        ),
        ("bpfattach: calls:calls_saved: the kernel refuses to attach: error 524\n", Verdict.FAIL),
        pytest.param(
            "bpfattach: /sys/kernel/btf/calls: open: error 2\n",
            Verdict.ERROR,
            marks=fault("bpfattach has no BTF that it can read, so the kernel is asked nothing", where="host",
                        blame=Blame.INFRA, survives="ERROR: the reason says what bpfattach says"),
        ),
        ("bpfattach: calls:calls_saved: BTF has no such function: error 2\n", Verdict.ERROR),
        ("sh: /payload/bin/bpfattach: not found\n", Verdict.ERROR),
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_setup", [True, False])
def test_whose_fault_it_is_that_a_program_is_not_attached(
    build: Build, said: str, verdict: Verdict, *, in_setup: bool
) -> None:
    with (
        pytest.raises((Refused, InfraError), match="fentry calls:calls_saved") as caught,
        _bpf(Target(first=said), build).attach(("fentry", "calls:calls_saved")),
    ):
        pass
    outcome = outcome_of(caught.value, in_setup=in_setup)
    assert outcome.verdict is verdict
    assert said.splitlines()[-1] in caught.value.args[0]


@pytest.mark.parametrize(("function", "is_skipped"), [("calls:calls_saved", True), ("cmdline_proc_show", False)])
def test_a_module_without_types_skips_the_test_if_there_is_no_vmlinux(
    function: str, build: Build, *, is_skipped: bool
) -> None:
    """The target has no such file: it answers every other command with success."""
    (build.directory / "vmlinux").unlink()
    target = Target()
    run = target.run
    target.run = lambda command, *, timeout: (  # type: ignore[method-assign]
        Completed(command=command, returncode=1, output="", seconds=0.0)
        if "[ -e /sys/kernel/btf/calls ]" in command
        else run(command, timeout=timeout)
    )
    reason = ""
    try:
        with _bpf(target, build).attach(("fentry", function)):
            pass
    except pytest.skip.Exception as skipped:
        reason = str(skipped)
    assert reason == ("calls has no BTF: there is no vmlinux of this kernel to make it from" if is_skipped else "")


def test_the_program_words_a_refusal_as_it_is_looked_for() -> None:
    source = (Path(bpf.__file__).parents[2] / "build/overlay/bpfattach.c").read_text()
    assert f'"{bpf._REFUSED[2:]}"' in source
    asked = re.findall(r"must\((?:load|bpf)\([^;]*;", source)
    assert len(asked) == 6
    assert all("REFUSED" in each for each in asked)
    assert source.count("REFUSED") == len(asked) + 2  # nothing else says so: its definition, and the comment
