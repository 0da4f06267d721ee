"""Arguments, results and callee-saved registers are the same whatever watches the calls."""

import contextlib
from collections.abc import Iterator

import pytest

from harness.model.kernel import Build
from harness.run.api.guest import Guest
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches

# what calls.c computes; each value is worked out from its source, none is copied from a run
ARGS = [
    "args " + " ".join(f"a{i}" * 8 for i in range(8)),
    f"stack_args {sum((i + 1) * factor for i, factor in enumerate((1, 3, 5, 7, 11, 13, 17, 19, 23, 29))):x}",
    f"varargs {sum(i * i for i in range(1, 11)):x}",
    f"pair {0xFFFF_FFFF_FFFF_FFFF ^ 0x1111:x} {0xFFFF_FFFF_FFFF_FFFF ^ 0x2222:x}",
    "negative -22",
    f"wide {0xFFFF_FFFF_FFFF_FFFF ^ 0x0123_4567_89AB_CDEF:x}",
    f"tail {0x101 * 3:x}",
    f"factorial {3628800:x}",
    f"tree {1000 + 100 + 2 * 10 + 4:x}",
]
WATCHED = tuple(f"calls_{name}" for name in ("args", "stack_args", "varargs", "pair", "wide", "saved", "results"))


@contextlib.contextmanager
def _untraced(by: "Means") -> Iterator[None]:
    yield


@contextlib.contextmanager
def _function(by: "Means") -> Iterator[None]:
    with by.tracefs.instance("function") as instance, instance.filter("calls_*"), instance.tracer("function"):
        yield


@contextlib.contextmanager
def _graph(by: "Means") -> Iterator[None]:
    with by.tracefs.filter("calls_*"), by.tracefs.tracer("function_graph"):
        yield


@contextlib.contextmanager
def _kprobe(by: "Means") -> Iterator[None]:
    with by.tracefs.probe(*(f"p:at_{name} {name}" for name in WATCHED)):
        yield


@contextlib.contextmanager
def _kretprobe(by: "Means") -> Iterator[None]:
    with by.tracefs.probe(*(f"r:of_{name} {name}" for name in WATCHED), group="harness_return"):
        yield


@contextlib.contextmanager
def _livepatch(by: "Means") -> Iterator[None]:
    with by.livepatches.load("klp_calls") as patch:
        patch.wait()
        yield


@contextlib.contextmanager
def _ops(by: "Means") -> Iterator[None]:
    kinds = ("plain", "args", "regs" if by.has_regs else "plain")
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(by.watches.attach("calls_*", kind))
        yield


class Means:
    """What the means of watching work with."""

    def __init__(self, tracefs: Tracefs, livepatches: Livepatches, watches: Watches, *, has_regs: bool) -> None:
        self.tracefs = tracefs
        self.livepatches = livepatches
        self.watches = watches
        self.has_regs = has_regs


MEANS = {
    "untraced": [_untraced],
    "function": [_function],
    "function_graph": [_graph],
    "ops": [_ops],
    "kprobe": [_kprobe],
    "kretprobe": [_kretprobe],
    "livepatch": [_livepatch],
    "function_and_graph": [_function, _graph],
    "all_but_livepatch": [_function, _graph, _ops, _kprobe, _kretprobe],
    "all": [_function, _graph, _ops, _kprobe, _kretprobe, _livepatch],
}


@pytest.fixture
def means(tracefs: Tracefs, livepatches: Livepatches, watches: Watches, build: Build) -> Means:
    return Means(tracefs, livepatches, watches, has_regs=build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y")


@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("watched_by", MEANS)
def test_results_and_registers_are_untouched(modules: Modules, means: Means, watched_by: str, place: str) -> None:
    """Eight arguments in x0–x7 with a result at x8, arguments on the stack, varargs, results in x0 and up to x7, a
    tail call, recursion, and the callee-saved x19–x29 and sp come through, for a module within and beyond a direct
    branch's reach ("At least the argument registers need to be preserved"; "all non-argument registers are either
    scratch / dead or callee-saved", ftrace_common of the mail)."""
    with contextlib.ExitStack() as stack:
        calls = stack.enter_context(modules.placed("calls", place))
        for enter in MEANS[watched_by]:
            stack.enter_context(enter(means))
        results = calls.read("args").splitlines()
        registers = calls.read("saved").splitlines()
        result_registers = calls.read("results")
    assert results == ARGS
    assert result_registers == "wrong 0", f"bit N stands for xN: {result_registers}"
    assert registers[0] == "wrong 0", f"bit N stands for xN, 31 for sp, 0 for the result: {registers[0]}"


def test_livepatch_ran(guest: Guest, modules: Modules, livepatches: Livepatches) -> None:
    """The livepatch of the test above is not passed by: its functions ran instead of the old ones."""
    with modules.load("calls") as calls, livepatches.load("klp_calls") as patch:
        patch.wait()
        calls.read("args")
        assert int(guest.read("/sys/module/klp_calls/parameters/runs")) == 7  # three, and the leaf four times
        calls.read("saved")
        assert int(guest.read("/sys/module/klp_calls/parameters/runs")) == 8
