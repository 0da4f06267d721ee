"""Callbacks around the patching of each object (Documentation/livepatch/callbacks.rst)."""

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpStacks, KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules

_SLEEPS = "is sleeping on function klp_target_caller"


def test_module_loaded_before(livepatches: Livepatches, target: KlpTarget) -> None:
    """Each loaded object's four callbacks are called, once, in this order, pre-patch and post-unpatch around the
    whole transition; those of an object that is not loaded are not (callbacks.rst, "How it works")."""
    with livepatches.in_effect("klp_callbacks") as patch:
        patch.write("log")  # empties it
        patch.disable()
        assert patch.read("log").splitlines() == [
            *("pre_unpatch vmlinux", "pre_unpatch klp_target live"),
            *("post_unpatch vmlinux", "post_unpatch klp_target live"),
        ]


def test_before_and_after_patching(livepatches: Livepatches, target: KlpTarget) -> None:
    """Pre-patch is called before anything is patched, post-patch when all tasks have been switched, and not while
    one of them holds the transition."""
    with (
        target.sleeper() as sleeper,
        livepatches.transition() as transition,
        livepatches.load("klp_callbacks") as patch,
    ):
        transition.wait_held(sleeper, _SLEEPS)
        before = ["pre_patch vmlinux", "pre_patch klp_target live"]
        assert patch.read("log").splitlines() == before
        target.wake()
        assert sleeper.wait() == "1042 original"
        patch.wait()
        assert patch.read("log").splitlines() == [*before, "post_patch vmlinux", "post_patch klp_target live"]


def test_before_and_after_unpatching(livepatches: Livepatches, target: KlpTarget) -> None:
    """Pre-unpatch is called when the patch begins to be taken back, post-unpatch when no task is in a new function any
    more, not while one of them holds the transition."""
    with livepatches.transition() as transition, livepatches.in_effect("klp_callbacks") as patch:
        patch.write("log")
        with target.sleeper() as sleeper:
            patch.begin_disabling()
            transition.wait_held(sleeper, _SLEEPS)
            before = ["pre_unpatch vmlinux", "pre_unpatch klp_target live"]
            assert patch.read("log").splitlines() == before
            target.wake()
            assert sleeper.wait() == "3042 original"
            patch.wait_gone()
        assert patch.read("log").splitlines() == [*before, "post_unpatch vmlinux", "post_unpatch klp_target live"]


def test_reversed(livepatches: Livepatches, target: KlpTarget) -> None:
    """A reversed transition calls post-unpatch, the counterpart of the callback that was called, and no pre-unpatch
    (callbacks.rst: "if a patch transition is reversed")."""
    with (
        target.sleeper() as sleeper,
        livepatches.transition() as transition,
        livepatches.load("klp_callbacks") as patch,
    ):
        transition.wait_held(sleeper, _SLEEPS, tries=1)
        patch.disable()
        assert patch.read("log").splitlines() == [
            *("pre_patch vmlinux", "pre_patch klp_target live"),
            *("post_unpatch vmlinux", "post_unpatch klp_target live"),
        ]


def test_module_loaded_after(modules: Modules, livepatches: Livepatches) -> None:
    """For a module that comes and goes under an enabled patch all four are called, while it comes and goes."""
    with livepatches.in_effect("klp_callbacks") as patch:
        patch.write("log")
        with modules.load("klp_target"):
            assert patch.read("log").splitlines() == ["pre_patch klp_target coming", "post_patch klp_target coming"]
            patch.write("log")
        assert patch.read("log").splitlines() == ["pre_unpatch klp_target going", "post_unpatch klp_target going"]


def test_module_comes_and_goes_in_a_transition(
    guest: Guest, modules: Modules, livepatches: Livepatches, stacks: KlpStacks
) -> None:
    """A module that comes while another's sleeper holds the transition is patched, for tasks already switched, and
    its post-patch callback waits for the end; one that goes meanwhile gets post-unpatch only (klp_module_coming,
    klp_module_going)."""
    with (
        stacks.sleeping_kthread() as kthread,
        livepatches.transition() as transition,
        livepatches.load("klp_callbacks") as patch,
    ):
        transition.wait_held(kthread, "is sleeping on function klp_stacks_outer", tries=1)
        patch.write("log")
        with modules.load("klp_target"):
            assert patch.read("log") == "pre_patch klp_target coming"
            assert patch.patched("klp_target")
            with KlpTarget(guest).sleeper() as sleeper:
                KlpTarget(guest).wake()
                assert sleeper.wait() == "3042 original"
        assert patch.read("log").splitlines()[1:] == ["post_unpatch klp_target going"]
        assert patch.in_transition
        stacks.write("kthread", "0")
        patch.wait()
        assert patch.read("log").splitlines()[2:] == ["post_patch vmlinux", "post_patch klp_stacks live"]


def test_pre_patch_refuses_the_patch(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """A pre-patch callback that fails keeps the patch from being loaded; the object before it, already prepared, gets
    its post-unpatch, and nothing is patched (callbacks.rst, "refuse to load a livepatch")."""
    assert livepatches.refused("klp_callbacks", refuse="klp_target") == "Numerical argument out of domain"
    told = [line for line in guest.check("dmesg").splitlines() if "callbacks until then: " in line][-1]
    assert told.rpartition(": ")[2].strip(";").split(";") == [
        *("pre_patch vmlinux", "pre_patch klp_target live"),
        "post_unpatch vmlinux",
    ]
    with target.sleeper() as sleeper:
        target.wake()
        assert sleeper.wait() == "1042 original"


def test_pre_patch_refuses_the_module(livepatches: Livepatches, modules: Modules) -> None:
    """A pre-patch callback that fails keeps a module from being loaded under an enabled patch (callbacks.rst, "refuse
    to load a module"); the patch stays as it was."""
    with livepatches.in_effect("klp_callbacks", refuse="klp_target") as patch:
        patch.write("log")
        assert modules.refused("klp_target") == "Numerical argument out of domain"
        assert patch.read("log") == "pre_patch klp_target coming"
        assert patch.enabled
        assert not patch.patched("klp_target")
