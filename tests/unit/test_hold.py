"""Tasks held at the entry of a function: what is said where the kernel lacks it, and that they are let go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.run.api.guest import Guest
from harness.run.api.hold import Hold
from harness.target.base import Completed


class FakeKernel:
    """A kernel that refuses to redirect `refused` functions, and can trace `traced` ones."""

    def __init__(self, *, refused: frozenset[str] = frozenset(), traced: frozenset[str] = frozenset()) -> None:
        self.refused = refused
        self.traced = traced
        self.released = 0

    def run(self, command: str, *, timeout: float) -> Completed:
        if command.endswith("/release"):
            self.released += 1
        if command.endswith("/at"):
            fails = any(f"{name} " in command for name in self.refused)
        else:
            fails = "available_" in command and not any(f"^{name}(" in command for name in self.traced)
        return Completed(command=command, returncode=int(fails), output="", seconds=0.0)


def _hold(kernel: FakeKernel) -> Hold:
    machine = SimpleNamespace(run=kernel.run, scaled=lambda seconds: seconds, remembered={})
    return Hold(Guest(machine))  # type: ignore[arg-type]


def test_a_function_that_the_kernel_lacks_skips_the_test_by_name() -> None:
    kernel = FakeKernel(refused=frozenset({"kobject_uevent"}))
    with pytest.raises(pytest.skip.Exception, match=r"this kernel has no kobject_uevent\(\) that can be traced"):
        _hold(kernel).at("kobject_uevent", comm="insmod").__enter__()


def test_a_refusal_to_redirect_what_can_be_traced_is_the_kernels_fault() -> None:
    kernel = FakeKernel(refused=frozenset({"copy_thread"}), traced=frozenset({"copy_thread"}))
    with pytest.raises(AssertionError, match=r"the kernel refused to redirect copy_thread\(\)"):
        _hold(kernel).at("copy_thread", comm="bash").__enter__()


def test_the_task_is_let_go_whatever_the_test_does() -> None:
    kernel = FakeKernel()
    with pytest.raises(ZeroDivisionError), _hold(kernel).at("copy_thread", comm="bash"):
        raise ZeroDivisionError
    assert kernel.released == 1
