"""function_graph shows calls inside calls, exactly, and returns to where the call came from."""

from harness.parse.trace import GraphCall
from harness.run.api.guest import Guest
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs

# calls.c, as nested lists of [name, callee, ...]
LEFT = ["left", ["leaf"], ["leaf"]]
TREE = ["root", LEFT, ["right", LEFT]]


def shape(call: GraphCall) -> list[object]:
    """A call tree as nested lists."""
    return [call.function.removeprefix("calls_tree_"), *(shape(callee) for callee in call.calls)]


def test_exact_tree(tracefs: Tracefs, modules: Modules) -> None:
    """Every call stands inside its caller, in order, none missing, none twice (ftrace.rst, "function graph tracer")."""
    with modules.load("calls") as calls, tracefs.filter("calls_tree_*"), tracefs.tracer("function_graph") as trace:
        assert calls.read("tree") == "464"
        trees = [shape(tree) for tree in trace.graphs]
    assert trees == [TREE]


def test_set_graph_function(tracefs: Tracefs, modules: Modules) -> None:
    """set_graph_function shows a function and what it calls, and nothing of its callers (ftrace.rst)."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*"),
        tracefs.graph("calls_tree_right"),
        tracefs.tracer("function_graph") as trace,
    ):
        calls.read("tree")
        trees = [shape(tree) for tree in trace.graphs]
    assert trees == [["right", LEFT]]


def test_set_graph_notrace(tracefs: Tracefs, modules: Modules) -> None:
    """set_graph_notrace leaves out a function with all it calls (ftrace.rst)."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*"),
        tracefs.filter("calls_tree_right", file="set_graph_notrace"),
        tracefs.tracer("function_graph") as trace,
    ):
        calls.read("tree")
        trees = [shape(tree) for tree in trace.graphs]
    assert trees == [["root", LEFT]]


def test_depth(tracefs: Tracefs, modules: Modules) -> None:
    """max_graph_depth cuts the tree (ftrace.rst)."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*"),
        tracefs.value("max_graph_depth", "2"),
        tracefs.tracer("function_graph") as trace,
    ):
        calls.read("tree")
        trees = [shape(tree) for tree in trace.graphs]
    assert trees == [["root", ["left"], ["right"]]]


def test_recursion(tracefs: Tracefs, modules: Modules) -> None:
    """A function that calls itself has a return address of its own for every depth (kernel/trace/fgraph.c:
    the shadow stack)."""
    with modules.load("calls") as calls, tracefs.filter("calls_factorial"), tracefs.tracer("function_graph") as trace:
        assert calls.read("factorial") == f"{120:x}"
        trees = [shape(tree) for tree in trace.graphs]
    nested: list[object] = ["calls_factorial"]
    for _ in range(4):
        nested = ["calls_factorial", nested]
    assert trees == [nested]


def test_tail_call(tracefs: Tracefs, modules: Modules) -> None:
    """A function that ends in a jump to another returns once for both, and the result comes through."""
    with modules.load("calls") as calls, tracefs.filter("calls_tail*"), tracefs.tracer("function_graph") as trace:
        results = calls.read("args").splitlines()
        trees = [shape(tree) for tree in trace.graphs]
    assert f"tail {0x101 * 3:x}" in results
    assert trees == [["calls_tail", ["calls_tail_goal"]]]


def test_interrupt(tracefs: Tracefs, modules: Modules) -> None:
    """A tree in hard interrupt context, on the interrupted task's shadow stack (ftrace.rst, "funcgraph-irqs")."""
    with modules.load("calls") as calls, tracefs.filter("calls_irq*"), tracefs.tracer("function_graph") as trace:
        assert calls.read("irq") == "2"
        trees = [shape(tree) for tree in trace.graphs]
    assert trees == [["calls_irq", ["calls_irq_leaf"]]]


def test_next_to_the_function_tracer(tracefs: Tracefs, modules: Modules) -> None:
    """Both tracers on the same functions, in two instances, each see every call ("the graph tracer … must cope")."""
    with (
        modules.load("calls") as calls,
        tracefs.instance("other") as other,
        other.filter("calls_tree_*"),
        tracefs.filter("calls_tree_*"),
        other.tracer("function") as flat,
        tracefs.tracer("function_graph") as nested,
    ):
        assert calls.read("tree") == "464"
        trees = [shape(tree) for tree in nested.graphs]
        names = sorted(call.function.removeprefix("calls_tree_") for call in flat.calls)
        parents = {call.parent for call in flat.calls_of("calls_tree_leaf")}
    assert trees == [TREE]
    assert names == sorted(["root", "left", "left", "right", *["leaf"] * 4])
    assert parents <= {"calls_tree_left", "return_to_handler"}  # whichever of the two comes first


def test_kernel_proper(guest: Guest, tracefs: Tracefs) -> None:
    """ksys_read is shown with vfs_read inside."""
    with tracefs.graph("ksys_read"), tracefs.filter("ksys_read", "vfs_read"), tracefs.tracer("function_graph") as trace:
        guest.check("cat /proc/version")
        trees = trace.graphs_of("ksys_read")
    assert ["vfs_read"] in [tree.callees for tree in trees]


def test_user_space_does_not_notice(guest: Guest, tracefs: Tracefs) -> None:
    """With every function graph-traced, programs give the results they give untraced: the tracer returns to the
    right place with the right value, on every path of every system call that they use."""
    command = "md5sum /proc/version /etc/passwd; echo $((6 * 7)); ls /etc | md5sum; cat /proc/self/comm"
    untraced = guest.check(command)
    with tracefs.tracer("function_graph"):
        traced = guest.check(command, seconds=20.0)
    assert traced == untraced
