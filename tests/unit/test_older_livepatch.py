"""Livepatches on kernels that lack some of what 7.3 has: nothing of that is the kernel's fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.kernel import Build
from harness.run.api.livepatch import Livepatch, Livepatches
from harness.run.api.modules import Modules
from tests.unit.test_testcase_api import ScriptedMachine, guest


def livepatches(machine: ScriptedMachine, tmp_path: Path, release: str) -> Livepatches:
    there, _ = guest()
    there._machine = machine  # type: ignore[assignment]
    return Livepatches(there, Modules(there, Build(directory=tmp_path, release=release, key="k")))


@pytest.mark.parametrize(
    ("attribute", "version", "since"),
    [("stack_order", (6, 13), "6.14"), ("replace", (5, 0), "6.11"), ("vmlinux/patched", (6, 0, 19), "6.1")],
)
def test_an_attribute_of_later_kernels_skips_the_test(attribute: str, version: tuple[int, ...], since: str) -> None:
    there, _ = guest({"[ -e": 1})
    with pytest.raises(pytest.skip.Exception, match=rf"no /sys/.*{attribute}: such files came with {since}"):
        Livepatch(there, "klp_first", version=version).attribute(attribute)


def test_an_attribute_that_should_be_there_and_is_not_fails_the_test() -> None:
    there, _ = guest({"stack_order": 1})
    with pytest.raises(AssertionError, match="stack_order"):
        Livepatch(there, "klp_first", version=(6, 14)).attribute("stack_order")


def test_an_attribute_that_was_backported_is_read() -> None:
    there, _ = guest({"read -r line": "1"})
    assert Livepatch(there, "klp_first", version=(5, 10)).patched()


@pytest.mark.parametrize(("release", "waits_for"), [("5.0.0+", "[ $on$busy = 00 ]"), ("5.1.0", "[ ! -e /sys")])
def test_a_patch_that_its_module_has_to_unregister_is_unloaded_once_it_is_off(
    tmp_path: Path, release: str, waits_for: str
) -> None:
    machine = ScriptedMachine()
    there = livepatches(machine, tmp_path, release)
    with there.at_hand("klp_first"):
        pass
    waited, unloaded = machine.commands[-2:]
    assert waits_for in waited
    assert unloaded.endswith("rmmod klp_first")
    assert waits_for in there.toggled("klp_first")
    assert ("$on$busy" in waited) == (release == "5.0.0+")


@pytest.mark.parametrize(
    ("lacking", "used"),
    [({}, "/proc/dynamic_debug/control"), ({"/proc/dynamic": 1}, "/sys/kernel/debug/dynamic_debug/control")],
)
def test_debug_messages_are_switched_where_this_kernel_has_the_file(
    tmp_path: Path, lacking: dict[str, str | int], used: str
) -> None:
    machine = ScriptedMachine({f"[ -e {path}": answer for path, answer in lacking.items()})
    assert livepatches(machine, tmp_path, "5.0.0")._dynamic_debug() == used


def test_a_kernel_without_debug_messages_skips_the_test(tmp_path: Path) -> None:
    there = livepatches(ScriptedMachine({"[ -e": 1}), tmp_path, "7.3.4")
    with pytest.raises(pytest.skip.Exception, match="no CONFIG_DYNAMIC_DEBUG"):
        there._dynamic_debug()
