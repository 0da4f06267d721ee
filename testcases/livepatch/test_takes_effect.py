"""A livepatch takes effect, and is taken back."""

from harness.run.api.guest import Guest
from harness.run.api.modules import Livepatches
from harness.run.api.tracefs import Tracefs

_PATCHED = "patched by klp_version"


def test_function_of_the_kernel_proper(guest: Guest, livepatches: Livepatches) -> None:
    """A function of vmlinux is replaced once the transition is over, and is itself again when the patch is disabled
    (Documentation/livepatch/livepatch.rst; "livepatching the kernel proper does work", cover letter of v4)."""
    original = guest.read("/proc/version")
    with livepatches.load("klp_version") as patch:
        patch.wait()
        assert guest.read("/proc/version").strip() == _PATCHED
        patch.disable()
        assert guest.read("/proc/version") == original


def test_traced_function_is_patched(guest: Guest, tracefs: Tracefs, livepatches: Livepatches) -> None:
    """Tracing a function and patching it at once work together: the call is recorded, the new code runs
    (qa_test_klp TC13)."""
    with (
        tracefs.filter("version_proc_show"),
        tracefs.tracer("function") as trace,
        livepatches.load("klp_version") as patch,
    ):
        patch.wait()
        assert guest.read("/proc/version").strip() == _PATCHED
        assert trace.calls_of("version_proc_show")
