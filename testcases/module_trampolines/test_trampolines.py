"""Modules beyond a direct branch's reach of the kernel are traced by way of trampolines of their own."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.model.kernel import Build
from harness.parse.trace import function_calls
from harness.run.api.guest import Guest
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Module, Modules
from harness.run.api.text import Text
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches

TREE = {"calls_tree_root": 1, "calls_tree_left": 2, "calls_tree_right": 1, "calls_tree_leaf": 4}
SITE = "calls:calls_tree_leaf"


# Where a branch changes its sign, or its size by one more bit, matters to what finds and writes trampolines.
everywhere = pytest.mark.parametrize("place", ["near", "far", "farthest", "above"])


@pytest.fixture(params=["near", "far"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def calls(modules: Modules, place: str) -> Iterator[Module]:
    with modules.placed("calls", place) as module:
        yield module


@everywhere
def test_traced(calls: Module, tracefs: Tracefs, text: Text, place: str) -> None:
    """Every function of the module is traced, near by a direct branch, far by the module's trampoline
    ("use_ftrace_trampoline()", "Introduce and handle an ftrace_regs_trampoline for module PLTs")."""
    with tracefs.filter("calls_tree_*"), tracefs.tracer("function") as trace:
        entry = text.entry_called(SITE)
        assert calls.read("tree") == "464"
        seen = Counter(call.function for call in trace.calls)
    assert entry == ("ftrace_caller", place != "near")
    assert seen == TREE


def test_two_entry_points(calls: Module, watches: Watches, text: Text, place: str, build: Build) -> None:
    """A plain ops and one that asks for registers, at different functions of one module: each function reaches its
    own entry point, so where there are two of them each has its trampoline ("double the size of this special
    section"; before, "far branches to multiple entry points unsupported inside a single module")."""
    has_regs = build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y"
    with (
        watches.attach("calls_tree_leaf", "plain") as plain,
        watches.attach("calls_tree_right", "regs" if has_regs else "args") as full,
    ):
        entries = [text.entry_called(f"calls:calls_tree_{name}") for name in ("leaf", "right")]
        assert calls.read("tree") == "464"
        hits = [plain.seen().hits, full.seen().hits]
    assert entries == [("ftrace_caller", place != "near"), (_entry(has_regs), place != "near")]
    assert hits == [4, 1]


@everywhere
def test_switched_between_entry_points(calls: Module, watches: Watches, text: Text, place: str, build: Build) -> None:
    """A call site goes from one entry point to the other and back while it stays enabled: ftrace_modify_call, which
    has to find the module's trampolines for the old and the new goal alike (v6, ftrace_modify_call)."""
    has_regs = build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y"
    with watches.attach("calls_tree_leaf", "plain") as plain:
        entries = [text.entry_called(SITE)]
        for _ in range(2):
            with watches.attach("calls_tree_leaf", "regs" if has_regs else "args") as full:
                entries.append(text.entry_called(SITE))
                assert calls.read("tree") == "464"
                assert full.seen().hits == 4
            entries.append(text.entry_called(SITE))
            assert calls.read("tree") == "464"
        hits = plain.seen().hits
    far = place != "near"
    plainly, fully = ("ftrace_caller", far), (_entry(has_regs), far)
    assert entries == [plainly, fully, plainly, fully, plainly]
    assert hits == 16


def _entry(has_regs: bool) -> str:
    return "ftrace_regs_caller" if has_regs else "ftrace_caller"


def test_graph_traced(calls: Module, tracefs: Tracefs) -> None:
    """The graph tracer sees the whole tree."""
    with tracefs.filter("calls_tree_*"), tracefs.tracer("function_graph") as trace:
        assert calls.read("tree") == "464"
        (root,) = trace.graphs
    left, right = root.calls
    assert (left.callees, right.callees) == (["calls_tree_leaf"] * 2, ["calls_tree_left"])
    assert right.calls[0].callees == ["calls_tree_leaf"] * 2


def test_livepatched(guest: Guest, calls: Module, livepatches: Livepatches) -> None:
    """A function of the module is livepatched, and the patch taken back ("Remember to apply Jessica's addendum in
    order to livepatch functions that live in modules", cover letter of v4)."""
    runs = "/sys/module/klp_calls/parameters/runs"
    with livepatches.load("klp_calls") as patch:
        patch.wait()
        assert calls.read("tree") == "464"
        assert guest.read(runs).strip() == "4"
        patch.disable()
        assert calls.read("tree") == "464"
        assert guest.read(runs).strip() == "4"


@pytest.mark.parametrize("tracer", ["function", "function_graph"])
def test_init_functions(tracefs: Tracefs, modules: Modules, place: str, tracer: str) -> None:
    """Functions that exist only while the module is initialised are traced: their text is another part of the
    module, which in newer kernels has a trampoline of its own (commit 3e234289f86b, "ftrace: Allow module init
    functions to be traced"; .init.text.ftrace_trampoline)."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(tracefs.filter("calls_init_*:mod:calls"))
        trace = stack.enter_context(tracefs.tracer(tracer))
        calls = stack.enter_context(modules.placed("calls", place))
        assert calls.read("init") == f"{14:x}"
        if tracer == "function":
            seen = [call.function for call in trace.calls]
        else:
            seen = [name for tree in trace.graphs for name in (tree.function, *tree.callees)]
    assert seen == ["calls_init_root", "calls_init_leaf"]


def test_unloaded_while_traced(tracefs: Tracefs, modules: Modules, place: str) -> None:
    """A module goes while its functions are traced; others are traced on, and nothing of it stays enabled
    (kernel/trace/ftrace.c: ftrace_release_mod)."""
    with (
        modules.placed("calls", place) as calls,
        tracefs.filter("calls_tree_*", "vfs_read"),
        tracefs.tracer("function") as trace,
    ):
        calls.read("tree")
        assert "calls_tree_leaf" in tracefs.read("enabled_functions")
        calls.remove()
        enabled = tracefs.read("enabled_functions")
        assert trace.calls_of("vfs_read")
    assert [line.split()[0] for line in enabled.splitlines()] == ["vfs_read"]


def test_loaded_under_an_active_filter(tracefs: Tracefs, modules: Modules, text: Text, place: str) -> None:
    """While the tracer runs, a filter is set for a module that is not there yet: it takes hold when the module
    comes, and once more when the module has gone and comes anew (ftrace.rst: ":mod:"; kernel/trace/ftrace.c:
    ftrace_module_enable, process_cached_mods)."""
    seen = []
    with tracefs.filter("vfs_open"), tracefs.tracer("function"):
        for _ in range(2):
            tracefs.write("set_ftrace_filter", "calls_tree_*:mod:calls", append=True)
            with modules.placed("calls", place) as calls:
                assert text.entry_called(SITE) == ("ftrace_caller", place != "near")
                tracefs.write("trace", "")
                assert calls.read("tree") == "464"
                names = [call.function for call in function_calls(tracefs.read("trace"))]
                seen.append(Counter(name for name in names if name.startswith("calls_")))
    assert seen == [TREE, TREE]


def test_loaded_under_an_active_notrace(tracefs: Tracefs, modules: Modules) -> None:
    """What must not be traced in a module that is not there yet is not, when the module comes (ftrace.rst: ":mod:",
    "set_ftrace_notrace"; process_cached_mods)."""
    with (
        tracefs.filter("calls_tree_*:mod:calls"),
        tracefs.filter("calls_tree_leaf:mod:calls", file="set_ftrace_notrace"),
        tracefs.tracer("function") as trace,
        modules.load("calls") as calls,
    ):
        assert calls.read("tree") == "464"
        seen = Counter(call.function for call in trace.calls)
    assert seen == {name: count for name, count in TREE.items() if name != "calls_tree_leaf"}


def test_loaded_while_everything_is_traced(guest: Guest, tracefs: Tracefs, modules: Modules, place: str) -> None:
    """A module that is loaded while all functions are traced is traced from its first call on, without a warning."""
    with tracefs.instance("all") as instance, instance.tracer("function"):
        instance.write("tracing_on", "0")  # the sites are enabled, only nothing is kept
        with modules.placed("calls", place) as calls:
            assert calls.read("tree") == "464"
            assert calls.read("init") == f"{14:x}"
            assert guest.run(f"grep -q calls_tree_leaf {tracefs.root}/enabled_functions").ok
