"""/proc/sys/kernel/ftrace_enabled, which once turned all of ftrace off, against livepatches, which are built on it."""

import pytest

from harness.run.api.guest import Guest
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.tracefs import Tracefs

_SWITCH = "/proc/sys/kernel/ftrace_enabled"


@pytest.fixture(autouse=True)
def _has_the_switch(guest: Guest, kernel_files: KernelFiles) -> None:
    if not guest.exists(_SWITCH):
        pytest.skip(f"this kernel has no {_SWITCH}")
    if kernel_files.version < (5, 5):
        pytest.skip("before 5.5 there is no FTRACE_OPS_FL_PERMANENT: ftrace_enabled turns livepatches off")


def test_can_not_be_switched_off_under_a_livepatch(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, tracefs: Tracefs
) -> None:
    """As long as a livepatch is enabled ftrace can't be switched off (EBUSY; later kernels refuse it always,
    EOPNOTSUPP). Afterwards everything is as it was: the switch is on, the patch in effect, tracers see its function,
    another patch can be loaded, and both can be taken back (FTRACE_OPS_FL_PERMANENT; ftrace_enable_sysctl)."""
    with tracefs.filter("klp_target_name", "klp_target_other"), livepatches.in_effect("klp_first") as patch:
        for _ in range(2):
            assert not guest.run(f"echo 0 > {_SWITCH}").ok
            assert guest.read(_SWITCH).strip() == "1"
        assert (target.says, target.says_other) == ("klp_first", "klp_first")
        with tracefs.tracer("function") as trace:
            assert target.says == "klp_first"
            assert not guest.run(f"echo 0 > {_SWITCH}").ok
            assert target.says_other == "klp_first"
            assert len(trace.calls_of("klp_target_name")) == len(trace.calls_of("klp_target_other")) == 1
        with livepatches.in_effect("klp_callbacks"), livepatches.in_effect("klp_second"):
            assert (target.says, target.says_other) == ("klp_second", "klp_first")
        assert guest.run(f"echo 1 > {_SWITCH}").ok
        patch.disable()
    assert (target.says, target.says_other) == ("original", "original")


def test_livepatch_where_it_is_switched_off(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, tracefs: Tracefs
) -> None:
    """Without a livepatch ftrace can be switched off in kernels that still have that; then a livepatch is refused, for
    it would have no effect. Where it can't be, or can be again, a livepatch and a tracer have theirs."""
    assert guest.read(_SWITCH).strip() == "1"
    try:
        if guest.run(f"echo 0 > {_SWITCH}").ok:
            assert livepatches.refused("klp_first") == "Device or resource busy"
            assert target.says == "original"
        else:
            assert guest.read(_SWITCH).strip() == "1"
    finally:
        guest.write(_SWITCH, "1")
    with (
        livepatches.in_effect("klp_first"),
        tracefs.filter("klp_target_name"),
        tracefs.tracer("function") as trace,
    ):
        assert target.says == "klp_first"
        assert len(trace.calls_of("klp_target_name")) == 1
    assert target.says == "original"
