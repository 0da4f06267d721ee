"""Forced transitions: nobody knows who still runs the replaced functions, so their module must stay for ever."""

import contextlib

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatch, Livepatches
from harness.run.api.modules import Modules

_SLEEPS = "is sleeping on function klp_target_caller"


def _can_not_go(guest: Guest, patch: Livepatch) -> None:
    """The patch is gone, its module is not, and can't be removed."""
    guest.wait_until(lambda: not patch.known, f"{patch.name} is taken back")
    assert guest.line(f"/sys/module/{patch.name}/refcnt") == "1"
    refused = guest.run(f"rmmod {patch.name}")
    assert not refused.ok
    assert "in use" in refused.output
    assert patch.loaded


def test_forced_patches_never_unload(
    guest: Guest, modules: Modules, livepatches: Livepatches, target: KlpTarget
) -> None:
    """A patch whose disabling was forced, and one that another replaced by force, are no longer in effect; but their
    modules can't be unloaded, for tasks still sleep in their functions, which go on there, and come back. The patch
    that replaced the other is gone like any other when it is disabled (klp_force_transition: patch->forced;
    livepatch.rst, "force"). Two of the three modules stay, so the next test gets a fresh kernel."""
    for name in ("klp_caller", "klp_hold", "klp_second"):
        modules.require(name)
    guest.use_up("modules of forced livepatches can't be unloaded")
    disabled, replaced = (Livepatch(guest, name, version=modules.version) for name in ("klp_caller", "klp_hold"))
    with livepatches.transition() as transition, contextlib.ExitStack() as stack:
        disabled.insert()
        disabled.wait()
        first = stack.enter_context(target.sleeper())
        disabled.begin_disabling()
        transition.wait_held(first, _SLEEPS, tries=1)
        disabled.force()
        guest.wait_until(lambda: not disabled.known, "klp_caller is taken back")
        replaced.insert()
        replaced.wait()
        second = stack.enter_context(target.sleeper())
        with livepatches.at_hand("klp_second") as replacing:
            replacing.insert(replace=1)
            transition.wait_held(second, _SLEEPS, tries=1)
            replacing.force()
            replacing.wait()
            assert target.says == "klp_second"
            _can_not_go(guest, replaced)
        # klp_second has been put and unloaded: what the kernel had to do about those before it is done
        assert not replacing.loaded
        for patch in (disabled, replaced):
            _can_not_go(guest, patch)
        assert target.says == "original"
        target.wake()
        assert first.wait() == "2042 original"
        assert second.wait() == "3042 original"
