"""One command under watch."""

from __future__ import annotations

import pytest

from harness.errors import CrashError
from harness.model.board import Limits
from harness.run.watched import run_watched
from tests.faketarget import HANG, FakeTarget, Kmsg
from tests.faults.catalogue import Blame, fault

PANIC = Kmsg("[   12.000000] Kernel panic - not syncing: at last\n[   12.000000] ---[ end Kernel panic ]---")


def test_the_target_gets_the_command_and_nothing_else_and_is_closed() -> None:
    asked: list[str] = []
    told: list[str] = []

    def answers(command: str) -> list[str]:
        asked.append(command)
        return ["one", "exit=3"]

    target = FakeTarget(answers)
    assert run_watched(target, "test", limits=Limits(), on_line=told.append) == 3
    assert (asked, told, target.closed) == (["test"], ["one"], True)


@fault(
    "a panic, and then silence, while a command is watched",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the report",
)
def test_a_kernel_that_panics_meanwhile() -> None:
    target = FakeTarget(lambda command: [PANIC, HANG])
    with pytest.raises(CrashError, match="at last"):
        run_watched(target, "test", limits=Limits(), on_line=lambda line: None)
    assert target.closed


@fault("an oops that a slow console tells only after the command has ended", where="kernel", blame=Blame.KERNEL,
       survives="the report, and the command's output")  # fmt: skip
def test_what_the_kernel_says_at_the_very_end_counts() -> None:
    told: list[str] = []
    target = FakeTarget(lambda command: ["one"], late=str(PANIC))
    with pytest.raises(CrashError, match="at last"):
        run_watched(target, "test", limits=Limits(), on_line=told.append)
    assert (told, target.closed) == (["one"], True)
