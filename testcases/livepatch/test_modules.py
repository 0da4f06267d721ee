"""Livepatches of modules, loaded before or after the module, and removed before or after it."""

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import REACH_BYTES, Modules


def test_module_loaded_before_the_patch(livepatches: Livepatches, target: KlpTarget) -> None:
    """A function of a loaded module is replaced, and restored when the patch is disabled (livepatch.rst;
    "remember to apply Jessica's addendum in order to livepatch functions that live in modules", v4)."""
    with livepatches.in_effect("klp_first") as patch:
        assert patch.patched("klp_target")
        assert target.says == target.says_other == "klp_first"
        patch.disable()
        assert target.says == target.says_other == "original"


def test_module_loaded_after_the_patch(guest: Guest, modules: Modules, livepatches: Livepatches) -> None:
    """A module that comes later is patched before it is used, without a transition; one that goes leaves the patch
    ready for the next; one that is there when the patch is disabled is itself again (livepatch.rst, "Adding";
    klp_module_coming, klp_module_going)."""
    target = KlpTarget(guest)
    with livepatches.in_effect("klp_first") as patch:
        assert not patch.patched("klp_target")
        with modules.load("klp_target"):
            assert patch.patched("klp_target")
            assert not patch.in_transition
            assert target.says == target.says_other == "klp_first"
        assert not patch.patched("klp_target")
        with modules.load("klp_target"):
            assert target.says == target.says_other == "klp_first"
            patch.disable()
            assert target.says == target.says_other == "original"


def test_relocations_to_a_module_loaded_before(livepatches: Livepatches, target: KlpTarget) -> None:
    """The new functions reach what the module does not export: a variable, through code and through a pointer in
    data, and a function (Documentation/livepatch/module-elf-format.rst; Jessica Yu's addendum)."""
    target.write("secret", "815")
    with livepatches.in_effect("klp_relocated"):
        # data first: a call that was not relocated would not come back
        assert target.says == "secret 815, by pointer 815"
        assert target.says_other == "twice 1630"
        target.write("secret", "816")
        assert target.says == "secret 816, by pointer 816"


def test_relocations_to_a_module_loaded_after(guest: Guest, modules: Modules, livepatches: Livepatches) -> None:
    """They are resolved when the module comes, and anew when it comes again elsewhere (module-elf-format.rst: "when
    the target module loads")."""
    with livepatches.in_effect("klp_relocated"):
        for secret in (100, 200):
            with modules.load("klp_target"):
                target = KlpTarget(guest)
                target.write("secret", str(secret))
                with modules.load("klp_shadow"):  # takes room, so that the next one comes elsewhere
                    assert target.says == f"secret {secret}, by pointer {secret}"
                    assert target.says_other == f"twice {2 * secret}"


def test_relocations_to_the_kernel_proper(guest: Guest, livepatches: Livepatches) -> None:
    """What the kernel does not export is reached as soon as the livepatch is loaded, whether its module is there or
    not (module-elf-format.rst, ".klp.rela.vmlinux"; klp_apply_section_relocs)."""
    with livepatches.load("klp_relocated"):
        parameters = "/sys/module/klp_relocated/parameters"
        assert guest.read(f"{parameters}/banner") == guest.read("/proc/version")
        told, there = guest.check(f"cat {parameters}/processes; ls -d /proc/[0-9]* | wc -l").split()
        assert abs(int(told) - int(there)) < 10


def test_relocations_far_from_the_kernel(guest: Guest, modules: Modules, livepatches: Livepatches) -> None:
    """The same where module and livepatch lie beyond a direct branch's reach of the kernel, so that the call of its
    function needs one of the livepatch's PLT entries (module_emit_plt_entry)."""
    with modules.placed("klp_target", "farthest"), livepatches.in_effect("klp_relocated") as patch:
        assert patch.distances()[0] > REACH_BYTES
        target = KlpTarget(guest)
        target.write("secret", "815")
        assert target.says == "secret 815, by pointer 815"
        assert target.says_other == "twice 1630"
        assert int(guest.line(f"/sys/module/{patch.name}/parameters/processes")) > 0


def test_relocations_beyond_a_branchs_reach(modules: Modules, livepatches: Livepatches, target: KlpTarget) -> None:
    """The same where the livepatch lies so far from the module that calling it needs a PLT entry, made when the
    livepatch's text is no longer writable (apply_relocate_add, called by the livepatch core)."""
    with modules.load("near_filler") as filler:
        filler.prepare("fill", "near", what="leave no room near the kernel")
        with livepatches.in_effect("klp_relocated"):
            target.write("secret", "815")
            assert target.says == "secret 815, by pointer 815"
            assert target.says_other == "twice 1630"


def test_a_module_that_can_not_be_patched_is_refused(modules: Modules, livepatches: Livepatches) -> None:
    """A module that lacks a function of an enabled patch is not loaded; the system never runs half a patch
    (livepatch.rst, "Limitations"; klp_module_coming)."""
    with livepatches.in_effect("klp_named", object="klp_target", function="no_such_function") as patch:
        assert modules.refused("klp_target") == "Invalid parameters"
        assert not patch.patched("klp_target")
