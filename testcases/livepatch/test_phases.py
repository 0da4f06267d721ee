"""Modules to be patched that come and go in every phase, caught in the middle of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.run.api.guest import Guest
from harness.run.api.hold import Hold
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import DIRECTORY, Modules
from harness.run.api.process import Process, background

_INSMOD = f"insmod {DIRECTORY}/klp_target.ko"
_RMMOD = "rmmod klp_target"

# where insmod and rmmod are held: the module is complete, and patched, its initialisation has not begun; its exit
# function has been called, livepatch not yet told; livepatch has forgotten it, its text and its symbols are still there
_COMING = "do_one_initcall", "insmod"
_GOING = "klp_module_going", "rmmod"
_GONE = "mod_sysfs_teardown", "rmmod"


@pytest.fixture
def hold(guest: Guest, modules: Modules) -> Iterator[Hold]:
    with modules.load("hold"):
        yield Hold(guest)


@contextlib.contextmanager
def _caught(guest: Guest, modules: Modules, hold: Hold, where: tuple[str, str], command: str) -> Iterator[Process]:
    """Run insmod or rmmod in the background until it is held; let it go at the end of the ``with``."""
    modules.require("klp_target")
    function, comm = where
    try:
        with hold.at(function, comm=comm), background(guest, command) as process, contextlib.ExitStack() as stack:
            stack.callback(hold.release)  # before it is killed
            hold.wait()
            yield process
            hold.release()
            assert process.wait() == ""
    finally:
        guest.run(f"[ ! -e /sys/module/klp_target ] || {_RMMOD}")


def test_patched_while_it_is_coming(guest: Guest, modules: Modules, livepatches: Livepatches, hold: Hold) -> None:
    """A patch is loaded while a module is there but not initialised yet: the module is patched with it, before its
    initialisation runs (klp_find_object_module: klp_alive)."""
    target = KlpTarget(guest)
    with contextlib.ExitStack() as stack, _caught(guest, modules, hold, _COMING, _INSMOD) as insmod:
        patch = stack.enter_context(livepatches.in_effect("klp_first"))
        assert patch.patched("klp_target")
        hold.release()
        assert insmod.wait() == ""
        assert (target.says, target.says_other) == ("klp_first", "klp_first")
        patch.disable()
        assert (target.says, target.says_other) == ("original", "original")


def test_disabled_while_it_is_coming(guest: Guest, modules: Modules, livepatches: Livepatches, hold: Hold) -> None:
    """A patch is disabled, and unloaded, while a module that came patched is not initialised yet: the module is
    itself, and nothing in it leads to what is gone."""
    target = KlpTarget(guest)
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(livepatches.in_effect("klp_first"))
        with _caught(guest, modules, hold, _COMING, _INSMOD) as insmod:
            assert patch.patched("klp_target")
            patch.disable()
            patch.remove()
            hold.release()
            assert insmod.wait() == ""
            assert (target.says, target.says_other) == ("original", "original")
            with livepatches.in_effect("klp_first"):
                assert target.says == "klp_first"


def test_disabled_while_it_is_going(guest: Guest, modules: Modules, livepatches: Livepatches, hold: Hold) -> None:
    """A patch is disabled while a module is going, before livepatch has been told of that: there is nothing left to
    revert then, and both can come again."""
    target = KlpTarget(guest)
    modules.require("klp_target")
    with livepatches.load("klp_first") as patch:
        patch.wait()
        guest.check(_INSMOD)
        with _caught(guest, modules, hold, _GOING, _RMMOD):
            assert patch.patched("klp_target")
            patch.disable()
            patch.remove()
        with livepatches.in_effect("klp_first"), modules.load("klp_target"):
            assert target.says == "klp_first"


def test_patched_while_it_is_going(guest: Guest, modules: Modules, livepatches: Livepatches, hold: Hold) -> None:
    """A patch is loaded while a module is going: before livepatch has been told, it patches the module, and takes that
    back when it is (klp_cleanup_module_patches_limited); afterwards, it must not touch it any more (klp_alive),
    although all its symbols are there. The module is patched when it comes again."""
    target = KlpTarget(guest)
    modules.require("klp_target")
    for where, alive in ((_GOING, True), (_GONE, False)):
        guest.check(_INSMOD)
        with contextlib.ExitStack() as stack:
            with _caught(guest, modules, hold, where, _RMMOD):
                patch = stack.enter_context(livepatches.in_effect("klp_first"))
                assert patch.patched("klp_target") == alive
            assert not patch.patched("klp_target")
            with modules.load("klp_target"):
                assert patch.patched("klp_target")
                assert (target.says, target.says_other) == ("klp_first", "klp_first")


def test_one_of_two_patches_can_not_be_applied(guest: Guest, modules: Modules, livepatches: Livepatches) -> None:
    """A module comes that one patch can be applied to and the next can't: it is not loaded, and the first patch is as
    if it had never come; without the second it is loaded, and patched (klp_module_coming, its error path)."""
    target = KlpTarget(guest)
    with livepatches.in_effect("klp_callbacks") as callbacks, livepatches.in_effect("klp_first") as first:
        callbacks.write("log")
        with livepatches.in_effect("klp_named", object="klp_target", function="no_such_function"):
            for _ in range(2):
                assert modules.refused("klp_target") == "Invalid parameters"
                assert not first.patched("klp_target")
        told = ["pre_patch klp_target coming", "post_patch klp_target coming"]
        undone = ["pre_unpatch klp_target coming", "post_unpatch klp_target coming"]
        assert callbacks.read("log").splitlines() == (told + undone) * 2
        with modules.load("klp_target"):
            assert first.patched("klp_target")
            assert (target.says, target.says_other) == ("klp_first", "klp_first")


def test_initialisation_fails_under_a_patch(
    guest: Guest, modules: Modules, livepatches: Livepatches, hold: Hold
) -> None:
    """A module that came patched, and whose initialisation then fails, leaves nothing in the patch."""
    target = KlpTarget(guest)
    with livepatches.in_effect("klp_first") as patch:
        assert modules.refused("klp_target", fail=1) == "Numerical argument out of domain"
        assert not patch.patched("klp_target")
        with modules.load("klp_target"):
            assert patch.patched("klp_target")
            assert target.says == "klp_first"
