"""tracefs' trace file: recorded lines in, calls out."""

from harness.parse.trace import function_calls, graph_calls, stack_traces

FUNCTION = """\
# tracer: function
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
             cat-1234    [001] .....   123.456789: vfs_read <-ksys_read
     kworker/0:1-15      [000] d..2.   123.456790: foo_fn+0x8/0x40 [my_mod] <-bar+0x24/0x50 [my_mod]
   dd with space-77      [000] .....     3.000001: cpu_show(arg=1) <-x.isra.0
          insmod-90      [001] .....     4.000001: init_leaf <-0xffff800079006018
CPU:1 [LOST 22 EVENTS]
"""
GRAPH = """\
# tracer: function_graph
# CPU  DURATION                  FUNCTION CALLS
 1)               |  ksys_read() {
 0)   0.100 us    |  other();
 1)   0.512 us    |    fdget_pos();
 1)               |    vfs_read() {
 1)   0.2 us      |      rw_verify_area(); /* = 0x0 */
 1) + 12.300 us   |    } /* vfs_read ret=0x10 */
 1) ! 120.000 us  |  } /* ksys_read */
 ------------------------------------------
"""


def test_function_lines() -> None:
    first, second, third, fourth = function_calls(FUNCTION)
    assert (first.function, first.parent, first.pid, first.cpu, first.offset) == (
        "vfs_read",
        "ksys_read",
        1234,
        1,
        None,
    )
    assert (second.function, second.module, second.offset, second.parent_offset) == ("foo_fn", "my_mod", 8, 0x24)
    assert (third.function, third.parent) == ("cpu_show", "x.isra.0")
    assert (fourth.function, fourth.parent) == ("init_leaf", "0xffff800079006018")  # the caller has been freed


def test_a_call_whose_return_a_kretprobe_catches() -> None:
    (call,) = function_calls("   cat-90      [001] .....     4.000001: vfs_read <-[unknown/kretprobe'd]\n")
    assert (call.function, call.parent) == ("vfs_read", "[unknown/kretprobe'd]")


def test_a_task_may_have_any_character_in_its_name() -> None:
    (call,) = function_calls("   a\fb\x1cc-90      [001] .....     4.000001: init_leaf <-x\n")
    assert (call.function, call.pid, call.cpu) == ("init_leaf", 90, 1)


STACKS = """\
             cat-70      [001] .....     5.1: calls_tree_leaf <-calls_tree_left
             cat-70      [001] .....     5.1: <stack trace>
 => calls_tree_leaf+0x4/0x20 [calls]
 => calls_tree_left
             cat-70      [001] .....     5.2: <stack trace>
 => vfs_read
"""


def test_stack_traces() -> None:
    assert list(stack_traces(STACKS)) == [["calls_tree_leaf", "calls_tree_left"], ["vfs_read"]]


def test_graph_trees_keep_cpus_apart() -> None:
    other, read = sorted(graph_calls(GRAPH), key=lambda call: call.function != "other")
    assert other.function == "other"
    assert read.function == "ksys_read"
    assert read.callees == ["fdget_pos", "vfs_read"]
    assert read.calls[1].callees == ["rw_verify_area"]
    assert read.calls[1].retval == "0x10"
    assert read.retval is None


MIGRATED = """\
# tracer: function_graph
#
# CPU  TASK/PID         DURATION                  FUNCTION CALLS
# |     |    |           |   |                     |   |   |   |
 0)    cat-71     |               |  calls_tail() {
 1)   <idle>-0    |               |  other() {
 ------------------------------------------
 1)   <idle>-0    =>    cat-71
 ------------------------------------------

 1)    cat-71     |   0.512 us    |    calls_tail_goal();
 1)    cat-71     |   8.512 us    |  } /* calls_tail ret=0x3 */
 0)   <idle>-0    |   0.100 us    |  leaf();
 1)   <idle>-0    |   9.512 us    |  }
"""


OF_6_12 = """\
 0)               |  calls_tree_root [calls]() {
 0)   1.100 us    |    calls_tree_leaf [calls](); /* = 0x1 */
 0)   0.900 us    |    calls_negative [calls](); /* = -22 */
 0) + 12.300 us   |  } /* calls_tree_root [calls] = 0x464 */
"""


def test_return_values_as_6_12_prints_them() -> None:
    (root,) = graph_calls(OF_6_12)
    assert (root.retval, [call.retval for call in root.calls]) == ("0x464", ["0x1", "-22"])


def test_a_tree_goes_on_where_its_task_goes() -> None:
    tail, other, leaf = graph_calls(MIGRATED)
    assert (tail.function, tail.callees, tail.retval) == ("calls_tail", ["calls_tail_goal"], "0x3")
    assert (other.function, other.callees) == ("other", [])
    assert leaf.function == "leaf"
