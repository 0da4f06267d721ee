"""The function_graph tracer shows calls inside calls."""

from harness.run.api.guest import Guest
from harness.run.api.tracefs import Tracefs


def test_nesting(guest: Guest, tracefs: Tracefs) -> None:
    """ksys_read is shown with vfs_read inside, and both return (Documentation/trace/ftrace.rst, "function graph")."""
    with tracefs.graph("ksys_read"), tracefs.tracer("function_graph") as trace:
        guest.check("cat /proc/version")
        trees = trace.graphs_of("ksys_read")
    assert any("vfs_read" in tree.callees for tree in trees), trace.text[:2000]


def test_returns_where_it_came_from(guest: Guest, tracefs: Tracefs) -> None:
    """What is traced gives the results it gives untraced: the tracer returns to the right place with the right
    value, which the mails ask of ftrace_graph_caller under the new entry code."""
    command = "md5sum /proc/version; echo $((6 * 7)); ls / | wc -l"
    untraced = guest.check(command)
    with tracefs.tracer("function_graph"):
        traced = guest.check(command, seconds=20.0)
    assert traced == untraced
