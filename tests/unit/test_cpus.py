"""Testcases that need more than one CPU: skipped where there is one, and a CPU taken off line always comes back."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from typing import cast

import pytest

from harness.layout import TESTCASES
from harness.run.api.cpus import RemovableCpu
from harness.run.api.guest import Guest
from harness.target.base import Completed

_ONE = r"needs 2 CPUs, this target has 1"
_ONLINE = "/sys/devices/system/cpu/cpu1/online"


class Target:
    """A target with so many CPUs, of which the last one can go off line if `removable`."""

    def __init__(self, cpus: int, *, removable: bool = True) -> None:
        self._cpus = cpus
        self._removable = removable
        self.written: list[str] = []
        self.remembered: dict[object, object] = {}

    @staticmethod
    def scaled(seconds: float) -> float:
        return seconds

    def run(self, command: str, *, timeout: float) -> Completed:
        if command.startswith("printf"):
            self.written.append(command)
        missing = command == f"[ -e {_ONLINE} ]" and not self._removable
        output = str(self._cpus) if command == "nproc" else ""
        return Completed(command=command, returncode=int(missing), output=output, seconds=0.0)


def _guest(target: Target) -> Guest:
    return Guest(target)  # type: ignore[arg-type]


@pytest.mark.parametrize("cpus", [2, 3])
def test_enough_cpus(cpus: int) -> None:
    """A skip would be no failure by itself."""
    with contextlib.suppress(pytest.skip.Exception):
        _guest(Target(cpus)).need_cpus(2)
        return
    pytest.fail("skipped")


def test_a_test_that_needs_more_cpus_is_skipped_with_both_numbers() -> None:
    with pytest.raises(pytest.skip.Exception, match=_ONE):
        _guest(Target(1)).need_cpus(2)


def test_no_cpu_of_one_can_go_off_line() -> None:
    with pytest.raises(pytest.skip.Exception, match=_ONE):
        RemovableCpu(_guest(Target(1)))


def test_a_cpu_that_has_to_stay() -> None:
    with pytest.raises(pytest.skip.Exception, match=f"CPU 1 of this target can't go off line: it has no {_ONLINE}"):
        RemovableCpu(_guest(Target(2, removable=False)))


def test_the_last_cpu_comes_back_whatever_the_test_does() -> None:
    target = Target(2)
    cpu = RemovableCpu(_guest(target))
    with pytest.raises(ZeroDivisionError), cpu.gone():
        raise ZeroDivisionError
    assert cpu.number == 1
    assert target.written == [f"printf '%s\\n' {digit} > {_ONLINE}" for digit in "01"]


def test_no_livepatch_test_uses_a_cpu_that_is_not_there() -> None:
    quiet_cpu = _quiet_cpu(_guest(Target(1)))
    with pytest.raises(pytest.skip.Exception, match=_ONE), quiet_cpu(1):
        pass


def _quiet_cpu(guest: Guest) -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """What the fixture of testcases/livepatch gives a test."""
    spec = importlib.util.spec_from_file_location("livepatch_fixtures", TESTCASES / "livepatch/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fixture = module.quiet_cpu.__wrapped__
    return cast(Callable[[int], contextlib.AbstractContextManager[None]], fixture(guest))
