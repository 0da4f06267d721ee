"""Forced transitions: nobody knows who still runs the replaced functions, so their module must stay for ever."""

import contextlib

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatch, Livepatches
from harness.run.api.modules import Modules

_SLEEPS = "is sleeping on function klp_target_caller"


_STAY = "modules of forced livepatches can't be unloaded"


def _can_not_go(guest: Guest, patch: Livepatch) -> None:
    """The patch is gone, its module is not, and can't be removed."""
    guest.wait_until(lambda: patch.dropped, f"{patch.name} is taken back")
    assert guest.line(f"/sys/module/{patch.name}/refcnt") == "1"
    refused = guest.run(f"rmmod {patch.name}")
    assert not refused.ok
    assert "in use" in refused.output
    assert patch.loaded


def test_forced_patch_never_unloads(
    guest: Guest, modules: Modules, livepatches: Livepatches, target: KlpTarget
) -> None:
    """A patch whose disabling was forced is no longer in effect; but its module can't be unloaded, for a task still
    sleeps in its functions, goes on there, and comes back (klp_force_transition: patch->forced; livepatch.rst,
    "force"). The module stays, so the next test gets a fresh kernel."""
    modules.require("klp_caller")
    guest.use_up(_STAY)
    disabled = Livepatch(guest, "klp_caller", version=modules.version)
    with livepatches.transition() as transition, contextlib.ExitStack() as stack:
        disabled.insert()
        disabled.wait()
        sleeper = stack.enter_context(target.sleeper())
        disabled.begin_disabling()
        transition.wait_held(sleeper, _SLEEPS, tries=1)
        disabled.force()
        _can_not_go(guest, disabled)
        assert target.says == "original"
        target.wake()
        assert sleeper.wait() == "2042 original"


def test_patch_replaced_by_force_never_unloads(
    guest: Guest, modules: Modules, livepatches: Livepatches, target: KlpTarget
) -> None:
    """The same for a patch that another replaced by force. The one that replaced it is gone like any other when it is
    disabled."""
    for name in ("klp_hold", "klp_second"):
        modules.require(name)
    guest.use_up(_STAY)
    replaced = Livepatch(guest, "klp_hold", version=modules.version)
    with livepatches.transition() as transition, contextlib.ExitStack() as stack:
        with livepatches.at_hand("klp_second") as replacing:
            replaced.insert()
            replaced.wait()
            sleeper = stack.enter_context(target.sleeper())
            replacing.insert(replace=1)
            transition.wait_held(sleeper, _SLEEPS, tries=1)
            replacing.force()
            replacing.wait()
            assert target.says == "klp_second"
            _can_not_go(guest, replaced)
        # klp_second has been put and unloaded: what the kernel had to do about the other before it is done
        assert not replacing.loaded
        _can_not_go(guest, replaced)
        assert target.says == "original"
        target.wake()
        assert sleeper.wait() == "3042 original"
