"""What ftrace writes to a function's first instructions, and that it restores them."""

from collections.abc import Callable

import pytest

from harness.run.api.guest import Guest
from harness.run.api.modules import Modules
from harness.run.api.text import MOV_X9_X30, NOP, Text
from harness.run.api.tracefs import Tracefs

FUNCTIONS = ("vfs_read", "schedule", "calls:calls_args", "calls:calls_tree_leaf")


def _plain(function: str) -> str:
    return function.partition(":")[2] or function


@pytest.mark.parametrize("function", FUNCTIONS)
def test_enabled_and_taken_back(tracefs: Tracefs, modules: Modules, text: Text, function: str) -> None:
    """Enabled, the second instruction branches to ftrace's entry; disabled, the function is what it was before,
    instruction by instruction (arch/arm64/kernel/ftrace.c: Compiled, Disabled, Enabled)."""
    with modules.load("calls"):
        before = text.site(function)
        assert before.words[1] == NOP
        with tracefs.filter(_plain(function)), tracefs.tracer("function"):
            enabled = text.site(function)
            entry, _ = text.entry_called(function)
        after = text.site(function)
    assert entry == "ftrace_caller"
    assert enabled.words[2:] == before.words[2:]
    assert after == before


@pytest.mark.parametrize("function", FUNCTIONS)
def test_only_one_instruction_changes(tracefs: Tracefs, modules: Modules, text: Text, function: str) -> None:
    """The link register is saved by an instruction that stays there, traced or not: a CPU that has executed the
    first NOP as a NOP must never reach the call with a stale x9 ("patching two NOPs at runtime isn't safe … I
    wonder if we could … add the MOV X9, X30 in place of the first NOP", Mark Rutland on v6)."""
    with modules.load("calls"):
        firsts = [text.site(function).words[0]]
        with tracefs.filter(_plain(function)), tracefs.tracer("function"):
            firsts.append(text.site(function).words[0])
        firsts.append(text.site(function).words[0])
    assert firsts == [MOV_X9_X30] * 3


def test_untraced_functions_stay_untouched(tracefs: Tracefs, modules: Modules, text: Text) -> None:
    """Tracing one function leaves its neighbours alone."""
    with modules.load("calls"), tracefs.filter("calls_tree_left", "vfs_open"), tracefs.tracer("function"):
        called = [text.site(name).is_called for name in ("calls:calls_tree_left", "vfs_open")]
        neighbours = [text.site(name).words[1] for name in ("calls:calls_tree_leaf", "calls:calls_tree_right")]
    assert called == [True, True]
    assert neighbours == [NOP, NOP]


def test_graph_and_function_share_a_site(tracefs: Tracefs, modules: Modules, text: Text) -> None:
    """A site with two tracers stays enabled until the last of them is gone."""
    function = "calls:calls_tree_leaf"
    with modules.load("calls"), tracefs.instance("other") as other:
        with tracefs.filter("calls_tree_leaf"), tracefs.tracer("function_graph"):
            with other.filter("calls_tree_leaf"), other.tracer("function"):
                both = text.site(function).is_called
            one = text.site(function).is_called
        none = text.site(function).is_called
    assert [both, one, none] == [True, True, False]


@pytest.mark.parametrize("function", ["calls:calls_tree_leaf", "version_proc_show"])
def test_call_ops_literal(
    tracefs: Tracefs, modules: Modules, text: Text, needs: Callable[..., None], function: str
) -> None:
    """Under CALL_OPS the eight bytes before a function, in a module or in the kernel proper, name its ops: one of
    its own while it has one only, the list of them while it has more, ftrace_nop_ops while it has none (commit
    baaf553d3bc3, "arm64: Implement HAVE_DYNAMIC_FTRACE_WITH_CALL_OPS")."""
    needs("DYNAMIC_FTRACE_WITH_CALL_OPS")
    nop_ops, list_ops = text.address("ftrace_nop_ops"), text.address("ftrace_list_ops")
    with modules.load("calls"), tracefs.instance("other") as other:
        before = text.site(function).literal
        with tracefs.filter(_plain(function)), tracefs.tracer("function"):
            one = text.site(function).literal
            with other.filter(_plain(function)), other.tracer("function"):
                two = text.site(function).literal
            again = text.site(function).literal
        after = text.site(function).literal
    assert [before, two, after] == [nop_ops, list_ops, nop_ops]
    assert one == again
    assert one not in (nop_ops, list_ops)


def test_nothing_is_enabled_afterwards(guest: Guest, tracefs: Tracefs) -> None:
    """With the nop tracer, no function is enabled any more (ftrace.rst, "enabled_functions")."""
    with tracefs.filter("vfs_*"), tracefs.tracer("function") as trace:
        guest.check("cat /proc/version")
        assert trace.calls_of("vfs_read")
        assert "vfs_read" in tracefs.read("enabled_functions")
    assert tracefs.read("enabled_functions").strip() == ""
