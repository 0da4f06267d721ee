"""The function tracer records which function was called, by whom and where, for exactly the selected functions."""

from collections import Counter
from collections.abc import Callable

from harness.run.api.guest import Guest
from harness.run.api.modules import Modules
from harness.run.api.text import Text
from harness.run.api.tracefs import Tracefs

# calls.c: root calls left and right, right calls left, left calls leaf twice
TREE = {
    ("calls_tree_root", "show_tree"): 1,
    ("calls_tree_left", "calls_tree_root"): 1,
    ("calls_tree_right", "calls_tree_root"): 1,
    ("calls_tree_left", "calls_tree_right"): 1,
    ("calls_tree_leaf", "calls_tree_left"): 4,
}


def test_every_call_and_its_caller(tracefs: Tracefs, modules: Modules) -> None:
    """Every call is recorded once, with its caller (Documentation/trace/ftrace.rst, "function"): parent_ip is the
    link register at the function's entry, which ftrace_caller gets in x9 (the mail: "the first insn saves LR")."""
    with modules.load("calls") as calls, tracefs.filter("calls_tree_*"), tracefs.tracer("function") as trace:
        assert calls.read("tree") == "464"
        seen = Counter((call.function, call.parent) for call in trace.calls)
    assert seen == TREE


def test_ip_is_the_call_site(tracefs: Tracefs, modules: Modules, text: Text) -> None:
    """The ip handed to tracers is the address of the patched instruction, neither the one before nor the return
    address behind it: what v6 of the series fixed ("fix mentioned pc in x0 to hold the start address of the call
    site, not the return address or the branch address. This resolves the problem found by Amit")."""
    with (
        modules.load("calls") as calls,
        tracefs.option("sym-offset", True),
        tracefs.filter("calls_tree_leaf", "vfs_read"),
        tracefs.tracer("function") as trace,
    ):
        calls.read("tree")
        for function, symbol in (("calls_tree_leaf", "calls:calls_tree_leaf"), ("vfs_read", "vfs_read")):
            site = text.site(symbol)
            offsets = {call.offset for call in trace.calls_of(function)}
            assert offsets == {site.ip - site.address}, function


def test_parent_ip_is_the_return_address(tracefs: Tracefs, modules: Modules, text: Text) -> None:
    """parent_ip is the very instruction the function returns to, behind the caller's bl (ftrace-design.rst:
    "parent_ip")."""
    with (
        modules.load("calls") as calls,
        tracefs.option("sym-offset", True),
        tracefs.filter("calls_tree_right"),
        tracefs.tracer("function") as trace,
    ):
        calls.read("tree")
        (call,) = trace.calls_of("calls_tree_right")
        assert call.parent_offset is not None
        address, _ = text.words("calls:calls_tree_root", 0, 0)
        _, (word,) = text.words("calls:calls_tree_root", call.parent_offset // 4 - 1, 1)
        goal, _ = text.words("calls:calls_tree_right", 0, 0)
    distance = (word & 0x3FFFFFF) << 2
    assert word >> 26 == 0b100101, f"expected a bl before the return address, found {word:#010x}"
    assert (address + call.parent_offset - 4 + distance - goal) % (1 << 28) == 0


def test_filter_by_name_and_glob(guest: Guest, tracefs: Tracefs, modules: Modules) -> None:
    """set_ftrace_filter limits what is traced, by names and globs (ftrace.rst, "dynamic ftrace")."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_r*", "vfs_open"),
        tracefs.tracer("function") as trace,
    ):
        calls.read("tree")
        guest.check("cat /proc/version")
        seen = {call.function for call in trace.calls}
    assert seen == {"calls_tree_root", "calls_tree_right", "vfs_open"}


def test_filter_by_module(guest: Guest, tracefs: Tracefs, modules: Modules) -> None:
    """``:mod:NAME`` chooses the functions of a module and no others (ftrace.rst, "filter commands")."""
    with modules.load("calls") as calls, tracefs.filter(":mod:calls"), tracefs.tracer("function") as trace:
        calls.read("tree")
        guest.check("cat /proc/version")
        seen = Counter((call.function, call.parent) for call in trace.calls)
    assert seen == TREE


def test_notrace(tracefs: Tracefs, modules: Modules) -> None:
    """set_ftrace_notrace excludes functions, and takes precedence over set_ftrace_filter (ftrace.rst)."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*"),
        tracefs.filter("calls_tree_leaf", "calls_tree_right", file="set_ftrace_notrace"),
        tracefs.tracer("function") as trace,
    ):
        calls.read("tree")
        seen = Counter(call.function for call in trace.calls)
    assert seen == {"calls_tree_root": 1, "calls_tree_left": 2}


def test_removed_from_filter_while_traced(tracefs: Tracefs, modules: Modules) -> None:
    """``!NAME`` removes a function while tracing continues: only its call site is disabled (ftrace.rst)."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_leaf", "calls_tree_right"),
        tracefs.tracer("function") as trace,
    ):
        tracefs.write("set_ftrace_filter", "!calls_tree_leaf", append=True)
        calls.read("tree")
        seen = Counter(call.function for call in trace.calls)
    assert seen == {"calls_tree_right": 1}


def test_pid_filter(guest: Guest, tracefs: Tracefs, modules: Modules) -> None:
    """set_ftrace_pid limits tracing to a task (ftrace.rst, "single thread tracing")."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_right"),
        tracefs.tracer("function") as trace,
    ):
        try:
            # exec: the shell that writes its pid becomes the reader
            inner = f"echo $$ > {tracefs.root}/set_ftrace_pid; exec cat {calls.files}/tree"
            guest.check(f"cat {calls.files}/tree; sh -c {inner!r}; cat {calls.files}/tree")
            seen = [call.function for call in trace.calls]
        finally:
            tracefs.write("set_ftrace_pid", "")
    assert seen == ["calls_tree_right"] * 2  # one call before the limit was set, and the one of the task


def test_instances_are_independent(tracefs: Tracefs, modules: Modules) -> None:
    """Two instances trace functions of their own at once, one of them in both (ftrace.rst, "instances"): several
    ops at one call site."""
    with (
        modules.load("calls") as calls,
        tracefs.instance("one") as one,
        tracefs.instance("two") as two,
        one.filter("calls_tree_leaf", "calls_tree_right"),
        two.filter("calls_tree_leaf", "calls_tree_root"),
        one.tracer("function") as first,
        two.tracer("function") as second,
    ):
        calls.read("tree")
        seen = [Counter(call.function for call in trace.calls) for trace in (first, second)]
    assert seen == [{"calls_tree_leaf": 4, "calls_tree_right": 1}, {"calls_tree_leaf": 4, "calls_tree_root": 1}]


def test_stack_trace_at_the_entry(tracefs: Tracefs, modules: Modules) -> None:
    """func_stack_trace shows the call chain to the function with no caller missing: the frame that ftrace_caller makes
    for the callee (the mail: "creates 2 stack frames … one for the callee, another for ftrace_caller itself")."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_leaf"),
        tracefs.option("func_stack_trace", True),
        tracefs.tracer("function") as trace,
    ):
        calls.read("tree")
        stacks = trace.stacks
    ways = [[name for name in stack if name.startswith("calls_tree")] for stack in stacks]
    short, long = ["calls_tree_leaf", "calls_tree_left"], ["calls_tree_leaf", "calls_tree_left", "calls_tree_right"]
    assert ways == [[*short, "calls_tree_root"]] * 2 + [[*long, "calls_tree_root"]] * 2


def test_profiler_counts(tracefs: Tracefs, modules: Modules, needs: Callable[..., None]) -> None:
    """The function profiler counts every call (ftrace.rst, "function profiling")."""
    needs("FUNCTION_PROFILER")
    with modules.load("calls") as calls, tracefs.filter("calls_*"), tracefs.profile() as profile:
        calls.read("tree")
        calls.read("factorial")
        hits = [profile.hits(f"calls_{name}") for name in ("tree_leaf", "tree_left", "tree_root", "factorial")]
    assert hits == [4, 2, 1, 5]


def test_interrupts_are_traced(tracefs: Tracefs, modules: Modules) -> None:
    """A function called in hard interrupt context is traced like any other (ftrace.rst, "irqs-off" flags)."""
    with modules.load("calls") as calls, tracefs.filter("calls_irq*"), tracefs.tracer("function") as trace:
        assert calls.read("irq") == "2"
        seen = [(call.function, call.parent) for call in trace.calls]
    assert seen == [("calls_irq", "work_in_irq"), ("calls_irq_leaf", "calls_irq")]


def test_notrace_functions_cannot_be_traced(tracefs: Tracefs, modules: Modules) -> None:
    """A function that is marked notrace has no call site at all ("notrace __attribute__((patchable_function_entry
    (0)))", v6), its neighbours in the same file have."""
    with modules.load("calls"):
        traceable = {name: tracefs.can_trace(name) for name in ("calls_tree_leaf", "show_tree", "work_in_irq")}
    assert traceable == {"calls_tree_leaf": True, "show_tree": False, "work_in_irq": False}
