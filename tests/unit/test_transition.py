"""The livepatch core's words about tasks that it could not switch."""

from __future__ import annotations

from harness.parse.transition import Held, held_tasks

LOG = """\
[   12.000000] livepatch: 'klp_caller': starting patching transition
[   12.000100] livepatch: klp_try_switch_task: swapper/1:0 is running
[   12.000200] livepatch: klp_try_switch_task: cat:123 is sleeping on function klp_target_caller
[   12.000300] harness: something else: klp_try_switch_task: no
[   13.000000] livepatch: klp_try_switch_task: a b:c:7 has an unreliable stack\r
[   13.000000] livepatch: 'klp_caller': patching complete
"""


def test_every_task_held_is_named_with_the_reason() -> None:
    assert held_tasks(LOG) == [
        Held("swapper/1", 0, "is running"),
        Held("cat", 123, "is sleeping on function klp_target_caller"),
        Held("a b:c", 7, "has an unreliable stack"),
    ]


def test_a_kernel_of_5_0_says_it_by_another_functions_name() -> None:
    said = "[   32.648580] livepatch: klp_check_stack: cat:59 is sleeping on function klp_target_caller\n"
    assert held_tasks(said) == [Held("cat", 59, "is sleeping on function klp_target_caller")]


def test_nothing_is_held_where_nothing_is_said() -> None:
    assert held_tasks("") == []
    assert held_tasks("[    1.000000] livepatch: enabling patch 'x'") == []


def test_a_task_may_have_any_character_in_its_name() -> None:
    said = "[    1.000000] livepatch: klp_try_switch_task: a\fb\x85c:7 is running\n"
    assert held_tasks(said) == [Held("a\fb\x85c", 7, "is running")]
