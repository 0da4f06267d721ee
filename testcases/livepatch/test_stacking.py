"""Several livepatches: stacked on one another, or one that replaces all. And patches that are refused."""

import pytest

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs


def test_the_newest_is_in_effect(livepatches: Livepatches, target: KlpTarget) -> None:
    """Of several patches of a function the one loaded last is in effect; when it goes the one before it is again; a
    function that only an earlier one replaces stays replaced (livepatch.rst, "Livepatch life-cycle")."""
    with livepatches.in_effect("klp_first") as first, livepatches.in_effect("klp_second") as second:
        assert (first.stack_order, second.stack_order) == (1, 2)
        assert (target.says, target.says_other) == ("klp_second", "klp_first")
        second.disable()
        assert (target.says, target.says_other) == ("klp_first", "klp_first")
    assert (target.says, target.says_other) == ("original", "original")


def test_disabled_in_any_order(livepatches: Livepatches, target: KlpTarget) -> None:
    """The earliest can go first: the others move down, and what the last one replaces stays as it is; what only the
    first one replaced is itself again (ABI/testing/sysfs-kernel-livepatch, "stack_order")."""
    with (
        livepatches.load("klp_first") as first,
        livepatches.at_hand("klp_second") as second,
        livepatches.at_hand("klp_third") as third,
    ):
        for patch in (first, second, third):
            if not patch.loaded:
                patch.insert()
            patch.wait()
        assert [patch.stack_order for patch in (first, second, third)] == [1, 2, 3]
        first.disable()
        assert [patch.stack_order for patch in (second, third)] == [1, 2]
        assert (target.says, target.says_other) == ("klp_third", "original")
        third.disable()
        assert second.stack_order == 1
        assert target.says == "klp_second"


def test_stacked_on_a_module_that_comes_later(guest: Guest, modules: Modules, livepatches: Livepatches) -> None:
    """A module that is loaded while several patches are enabled gets them in their order."""
    with livepatches.in_effect("klp_first"), livepatches.in_effect("klp_second"), modules.load("klp_target"):
        target = KlpTarget(guest)
        assert (target.says, target.says_other) == ("klp_second", "klp_first")


def test_atomic_replace(livepatches: Livepatches, target: KlpTarget, tracefs: Tracefs) -> None:
    """A cumulative patch takes the place of all before it: they are disabled and can be unloaded, functions that it
    does not have are themselves again and are called directly (Documentation/livepatch/cumulative-patches.rst;
    qa_test_klp TC8)."""
    with livepatches.load("klp_first") as first, livepatches.at_hand("klp_second") as second:
        first.wait()
        second.insert(replace=1)
        second.wait()
        first.wait_gone()
        assert second.replaces_all
        assert second.stack_order == 1
        assert (target.says, target.says_other) == ("klp_second", "original")
        assert second.functions("klp_target") == ["klp_target_name,1"]
        listed = [line for line in tracefs.read("enabled_functions").splitlines() if "klp_target_" in line]
        assert [line.split()[0] for line in listed] == ["klp_target_name"]
        assert " I" in listed[0]  # one that may change the ip
        first.remove()
        assert (target.says, target.says_other) == ("klp_second", "original")
        second.disable()
        assert target.says == "original"


def test_atomic_replace_is_atomic(livepatches: Livepatches, target: KlpTarget) -> None:
    """As long as a task holds the transition the replaced patch stays enabled, and tasks that are switched already
    see the new one whole: the functions that it drops are original ones for them, while the task that holds it has
    the former ones (cumulative-patches.rst, "atomic")."""
    with (
        livepatches.in_effect("klp_caller") as caller,
        livepatches.in_effect("klp_first") as first,
        livepatches.transition() as transition,
        target.sleeper() as sleeper,
        livepatches.at_hand("klp_second") as second,
    ):
        second.insert(replace=1)
        transition.wait_held(sleeper, "is sleeping on function klp_target_caller", tries=1)
        transition.wait_only(sleeper)
        assert caller.enabled
        assert first.enabled
        assert (target.says, target.says_other) == ("klp_second", "original")
        target.wake()
        assert sleeper.wait() == "2042 klp_first"
        second.wait()
        caller.wait_gone()
        first.wait_gone()
        with target.sleeper() as sleeper:
            target.wake()
            assert sleeper.wait() == "1042 klp_second"


def test_atomic_replace_turned_round(livepatches: Livepatches, target: KlpTarget) -> None:
    """A cumulative patch disabled before its transition is over leaves the former patches as they were."""
    with (
        livepatches.in_effect("klp_caller") as caller,
        livepatches.in_effect("klp_first") as first,
        target.sleeper() as sleeper,
        livepatches.at_hand("klp_second") as second,
    ):
        second.insert(replace=1)
        assert second.in_transition
        second.disable()
        assert caller.enabled
        assert first.enabled
        assert (target.says, target.says_other) == ("klp_first", "klp_first")
        target.wake()
        assert sleeper.wait() == "2042 klp_first"


def test_a_patch_in_sysfs(livepatches: Livepatches, target: KlpTarget) -> None:
    """What sysfs tells of a patch (ABI/testing/sysfs-kernel-livepatch), and what it does not let happen: to enable
    what is enabled, to force what is in no transition."""
    with livepatches.in_effect("klp_first") as patch:
        assert patch.enabled
        assert not patch.replaces_all
        assert patch.patched("klp_target")
        assert patch.functions("klp_target") == ["klp_target_name,1", "klp_target_other,1"]
        assert patch.refuses("enabled", "1")
        assert patch.refuses("force", "1")
        assert int(patch.attribute("../../../module/klp_first/refcnt")) == 1


def test_of_several_functions_of_a_name(guest: Guest, livepatches: Livepatches) -> None:
    """A function whose name is not unique is patched by its position only (old_sympos in livepatch.rst): the first is
    one, the second another; without a position, and beyond the last one, the patch is refused."""
    pci, virtio = "/sys/bus/pci/devices/*/vendor", "/sys/bus/virtio/devices/*/vendor"
    if not guest.run(f"cat {pci} {virtio} > /dev/null").ok:
        pytest.skip("this machine has not both PCI and virtio devices, whose vendor_show() there is twice")
    originals = [guest.check(f"cat {files} | sort -u") for files in (pci, virtio)]
    there = int(guest.check("grep -c ' vendor_show$' /proc/kallsyms"))
    assert there >= 2
    assert livepatches.refused("klp_named", function="vendor_show") == "Invalid parameters"
    assert livepatches.refused("klp_named", function="vendor_show", position=there + 1) == "Invalid parameters"
    patched = []
    for position in range(1, there + 1):
        with livepatches.in_effect("klp_named", function="vendor_show", position=position) as patch:
            assert patch.functions() == [f"vendor_show,{position}"]
            now = [guest.check(f"cat {files} | sort -u") for files in (pci, virtio)]
            patched += [n for n in range(2) if now[n] != originals[n]]
            assert all(
                text in (original, "patched by klp_named") for text, original in zip(now, originals, strict=True)
            )
    assert sorted(patched) == [0, 1]


def test_what_is_refused(guest: Guest, livepatches: Livepatches) -> None:
    """A patch of a function that there is not, or that can't be traced, is refused as a whole, and leaves nothing
    behind (klp_init_object_loaded, klp_patch_func)."""
    assert livepatches.refused("klp_named", function="no_such_function") == "Invalid parameters"
    assert livepatches.refused("klp_named", function="arch_stack_walk_reliable") == "Invalid parameters"
    assert guest.check("ls /sys/kernel/livepatch").strip() == ""
