"""What a tracer is handed: the registers as they are at the function's entry."""

from collections.abc import Callable

import pytest

from harness.model.kernel import Build
from harness.run.api.guest import Guest
from harness.run.api.modules import Module, Modules
from harness.run.api.text import Text
from harness.run.api.watch import Watches

ARGUMENTS = {f"x{i}": 0x1000 + i for i in range(9)}  # what call_with_registers() of calls.c loads
SCRATCH = {f"x{i}": 0x1000 + int(f"{i}", 16) for i in range(10, 16)}  # x16 and x17 may be a trampoline's
CALLEE_SAVED = {f"x{i}": 0x1000 + int(f"{i}", 16) for i in range(19, 29)}
PLACES = pytest.mark.parametrize("place", ["near", "far"])


def _around_the_call(calls: Module) -> dict[str, int]:
    """sp, fp and lr, as the caller had them."""
    told = dict(line.split() for line in calls.read("saved").splitlines())
    assert told.pop("wrong") == "0"
    return {name: int(value, 16) for name, value in told.items()}


@PLACES
def test_ftrace_regs(modules: Modules, watches: Watches, text: Text, needs: Callable[..., None], place: str) -> None:
    """struct ftrace_regs tells x0–x8, sp, fp and lr as they were at the call, and the pc behind the call site
    (arch/arm64/include/asm/ftrace.h; commit 26299b3f6ba2, "ftrace: arm64: move from REGS to ARGS")."""
    needs("DYNAMIC_FTRACE_WITH_ARGS")
    with modules.placed("calls", place) as calls, watches.attach("calls_saved", "args") as watch:
        caller = _around_the_call(calls)
        seen = watch.seen()
        site = text.site("calls:calls_saved")
    assert seen.hits == 1
    assert (seen.ip, seen.parent_ip) == (site.ip, caller["lr"])
    expected = {"sp": caller["sp"], "x29": caller["fp"], "x30": caller["lr"], "pc": site.ip + 4}
    assert seen.registers == ARGUMENTS | expected


@PLACES
def test_pt_regs(modules: Modules, watches: Watches, text: Text, needs: Callable[..., None], place: str) -> None:
    """An ops with SAVE_REGS sees all of x0–x30, sp and pc: ftrace_regs_caller "will write out a complete pt_regs"
    (changes from v1), "dump the complete register set for inspection" (v6)."""
    needs("DYNAMIC_FTRACE_WITH_REGS")
    with modules.placed("calls", place) as calls, watches.attach("calls_saved", "regs") as watch:
        caller = _around_the_call(calls)
        seen = watch.seen()
        site = text.site("calls:calls_saved")
    assert seen.hits == 1
    assert (seen.ip, seen.parent_ip) == (site.ip, caller["lr"])
    seen_registers = dict(seen.registers)
    seen_registers.pop("pstate")  # the next test's
    seen_registers.pop("x9")  # holds lr since the function's first instruction
    for name in ("x16", "x17", "x18"):  # trampolines between functions may use the first two; the platform has x18
        seen_registers.pop(name)
    expected = {"sp": caller["sp"], "x29": caller["fp"], "x30": caller["lr"], "pc": site.ip + 4}
    assert seen_registers == ARGUMENTS | SCRATCH | CALLEE_SAVED | expected


def test_pstate(modules: Modules, watches: Watches, needs: Callable[..., None]) -> None:
    """The pstate in a "complete pt_regs" is that of the kernel at EL1, and not what happened to be on the stack."""
    needs("DYNAMIC_FTRACE_WITH_REGS")
    with modules.load("calls") as calls, watches.attach("calls_saved", "regs") as watch:
        calls.read("saved")
        pstate = watch.seen().registers["pstate"]
    assert pstate >> 32 == 0
    assert pstate & 0xF == 0x5  # PSR_MODE_EL1h


@PLACES
def test_several_ops_see_the_same(modules: Modules, watches: Watches, place: str, build: Build) -> None:
    """Ops that ask for different things share a call site, and each is called once a call, with the same ip."""
    kinds = ["plain", "args", "plain"]
    if build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y":
        kinds[1] = "regs"
    with (
        modules.placed("calls", place) as calls,
        watches.attach("calls_tree_leaf", kinds[0]) as first,
        watches.attach("calls_tree_leaf", kinds[1]) as second,
        watches.attach("calls_tree_leaf", kinds[2]) as third,
    ):
        assert calls.read("tree") == "464"
        seen = [watch.seen() for watch in (first, second, third)]
    assert [one.hits for one in seen] == [4, 4, 4]
    assert len({(one.ip, one.parent_ip) for one in seen}) == 1


def test_in_the_kernel_proper(guest: Guest, watches: Watches, text: Text, build: Build) -> None:
    """The same at a function of vmlinux: each ops is called once a call, and the call site goes from the plain entry
    point to the one that saves all registers and back, where there are two."""
    has_regs = build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y"
    plainly = ("ftrace_caller", False)
    fully = ("ftrace_regs_caller" if has_regs else "ftrace_caller", False)
    untraced = guest.read("/proc/version")
    with watches.attach("version_proc_show", "plain") as first:
        entries = [text.entry_called("version_proc_show")]
        with watches.attach("version_proc_show", "regs" if has_regs else "args") as second:
            entries.append(text.entry_called("version_proc_show"))
            assert guest.read("/proc/version") == untraced
            both = [first.seen(), second.seen()]
        entries.append(text.entry_called("version_proc_show"))
        assert guest.read("/proc/version") == untraced
        alone = first.seen()
        site = text.site("version_proc_show")
    assert entries == [plainly, fully, plainly]
    assert [one.hits for one in (*both, alone)] == [1, 1, 2]
    assert {one.ip for one in (*both, alone)} == {site.ip}


def test_detached_ops_are_not_called(modules: Modules, watches: Watches) -> None:
    """An ops that is taken away is not called any more, one that stays is, through every change at their site."""
    with modules.load("calls") as calls, watches.attach("calls_tree_leaf") as stays:
        with watches.attach("calls_tree_leaf", "args") as goes:
            calls.read("tree")
            assert (stays.seen().hits, goes.seen().hits) == (4, 4)
        calls.read("tree")
        with watches.attach("calls_tree_leaf") as comes:
            calls.read("tree")
            assert (stays.seen().hits, comes.seen().hits) == (12, 4)


def test_saving_registers_is_refused_where_there_are_none(modules: Modules, watches: Watches, build: Build) -> None:
    """A kernel that hands over arguments only refuses an ops that insists on all registers, instead of giving it
    garbage (include/linux/ftrace.h: FTRACE_OPS_FL_SAVE_REGS)."""
    if build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y":
        pytest.skip("this kernel has CONFIG_DYNAMIC_FTRACE_WITH_REGS: it can save all registers")
    with modules.load("calls"):
        assert not watches.would_attach("calls_saved", "regs")
