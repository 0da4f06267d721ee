"""BPF's trampolines (fentry, fexit): direct calls that a just-in-time compiler writes, at functions of the kernel and
of modules, beside the graph tracer and a livepatch (arch/arm64/net/bpf_jit_comp.c, prepare_trampoline)."""

import contextlib
from collections.abc import Callable

import pytest

from harness.run.api.bpf import Bpf
from harness.run.api.guest import Guest
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Module, Modules
from harness.run.api.tracefs import Tracefs

PATCH = "klp_calls"
_places = pytest.mark.parametrize("place", ["near", "far"])


@pytest.fixture(autouse=True)
def _has_trampolines(needs: Callable[..., None]) -> None:
    """Skip the tests on a kernel without BPF trampolines, or without the types of its functions."""
    needs("DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "BPF_JIT", "DEBUG_INFO_BTF", "DEBUG_INFO_BTF_MODULES")


def _saved(calls: Module) -> str:
    """Call calls_saved() with every register set; what it says about them."""
    return calls.read("saved").splitlines()[0]


@_places
def test_module_function(modules: Modules, bpf: Bpf, place: str) -> None:
    """Programs at the entry and the return of a module's function see argument and result; the function, and who calls
    it, notice nothing of it. Without programs there are no calls of them."""
    with modules.placed("calls", place) as calls:
        with bpf.attach(("fentry", "calls:calls_saved"), ("fexit", "calls:calls_saved")) as programs:
            results = [_saved(calls), _saved(calls)]
            entered, left = programs.seen()
        results.append(_saved(calls))
    assert results == ["wrong 0"] * 3
    assert (entered.calls, entered.argument) == (2, 0x1000)
    assert (left.calls, left.argument, left.result) == (2, 0x1000, 0xEFFF)


def test_arguments_on_the_stack(modules: Modules, bpf: Bpf, kernel_files: KernelFiles) -> None:
    """A function with ten arguments, two of them on the stack, gets all of them from the trampoline that calls it."""
    if kernel_files.version < (6, 17):
        pytest.skip("before 6.17 arm64 has no BPF trampolines for functions of more than eight arguments")
    factors = (1, 3, 5, 7, 11, 13, 17, 19, 23, 29)
    result = sum((i + 1) * factor for i, factor in enumerate(factors))
    with modules.load("calls") as calls, bpf.attach(("fexit", "calls:calls_stack_args")) as programs:
        said = calls.read("args").splitlines()[1]
        (left,) = programs.seen()
    assert said == f"stack_args {result:x}"
    assert (left.calls, left.argument, left.result) == (1, 1, result)


def test_kernel_function(guest: Guest, bpf: Bpf) -> None:
    """Programs at a function of the kernel proper, which lies out of the trampoline's reach or not."""
    with bpf.attach(("fentry", "cmdline_proc_show"), ("fexit", "cmdline_proc_show")) as programs:
        before = guest.read("/proc/cmdline")
        entered, left = programs.seen()
    assert guest.read("/proc/cmdline") == before
    assert (entered.calls, left.calls, left.result) == (1, 1, 0)
    assert entered.argument == left.argument != 0


@pytest.mark.parametrize("first", ["bpf", "tracer"])
def test_graph_traced(modules: Modules, bpf: Bpf, tracefs: Tracefs, first: str) -> None:
    """The graph tracer and BPF programs on one function: each sees every call, whichever came first, and the tree is
    what it is without them."""
    programs = (("fentry", "calls:calls_tree_left"), ("fexit", "calls:calls_tree_left"))
    with modules.load("calls") as calls, tracefs.filter("calls_tree_*"), contextlib.ExitStack() as stack:
        if first == "bpf":
            attached = stack.enter_context(bpf.attach(*programs))
        trace = stack.enter_context(tracefs.tracer("function_graph"))
        if first == "tracer":
            attached = stack.enter_context(bpf.attach(*programs))
        assert calls.read("tree") == "464"
        entered, left = attached.seen()
        (root,) = trace.graphs
    assert (entered.calls, entered.argument) == (2, 0xC)
    assert (left.calls, left.result) == (2, 0x18)
    assert root.callees == ["calls_tree_left", "calls_tree_right"]
    assert [call.callees for call in root.calls] == [["calls_tree_leaf"] * 2, ["calls_tree_left"]]


@pytest.mark.parametrize("first", ["bpf", "livepatch"])
@_places
def test_livepatched(
    guest: Guest, modules: Modules, bpf: Bpf, livepatches: Livepatches, place: str, first: str
) -> None:
    """A livepatch and BPF programs on one function: the new function runs, the programs see its argument and result,
    whichever came first, and the programs go on when the livepatch has gone."""
    modules.require(PATCH)
    programs = (("fentry", "calls:calls_saved"), ("fexit", "calls:calls_saved"))
    with modules.placed("calls", place) as calls, livepatches.at_hand(PATCH) as patch, contextlib.ExitStack() as stack:
        if first == "bpf":
            attached = stack.enter_context(bpf.attach(*programs))
        patch.insert()
        patch.wait()
        if first == "livepatch":
            attached = stack.enter_context(bpf.attach(*programs))
        results = [_saved(calls)]
        runs = guest.line(f"/sys/module/{PATCH}/parameters/runs")
        both = [(each.calls, each.argument) for each in attached.seen()]
        patch.disable()
        results.append(_saved(calls))
        alone = [(each.calls, each.argument) for each in attached.seen()]
        result = attached.seen()[1].result
    assert results == ["wrong 0"] * 2
    assert runs == "1"
    assert both == [(1, 0x1000)] * 2
    assert alone == [(2, 0x1000)] * 2
    assert result == 0xEFFF


@pytest.mark.parametrize("traced", [False, True], ids=["untraced", "function_graph"])
def test_stack_trace_inside(modules: Modules, bpf: Bpf, tracefs: Tracefs, traced: bool) -> None:
    """A stack trace taken in a function that a trampoline called shows its callers, and the trampoline between them:
    the function's own frame twice, for the trampoline makes one for it as well."""
    with modules.load("calls") as calls, contextlib.ExitStack() as stack:
        untraced = [line.partition("+")[0] for line in calls.read("stack").splitlines()]
        stack.enter_context(bpf.attach(("fexit", "calls:calls_stack_middle")))
        if traced:
            stack.enter_context(tracefs.filter("calls_stack_middle"))
            stack.enter_context(tracefs.tracer("function_graph"))
        names = [line.partition("+")[0] for line in calls.read("stack").splitlines()]
    (trampoline,) = [name for name in names if name.startswith("bpf_trampoline_")]
    assert names == [*untraced[:2], trampoline, *untraced[1:]]
