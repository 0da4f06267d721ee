"""The cells that wait: for builds, for boards, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from harness.campaign.nightly.waiting import Waiting
from harness.model.night import Cell, PlannedTests, Slot


def cell(number: int, build: str = "x", boards: Sequence[str] = ("a",)) -> Cell:
    slot = Slot(kernel=f"k{number:05}", toolchain="gcc", configuration="c", board=boards[0], suites="s")
    return Cell(slot=slot, identity="", build=build, tests=PlannedTests(name="s"), candidates=tuple(boards))


def anything(_: Cell) -> bool:
    return True


def numbers(waiting: Waiting, board: str = "a") -> list[int]:
    """The cells that a board takes, to the last one."""
    taken = []
    while one := waiting.take(board, anything):
        taken.append(int(one.slot.kernel[1:]))
    return taken


def test_cells_wait_for_their_build_then_for_a_board_in_their_order() -> None:
    waiting = Waiting([cell(1, "x"), cell(2, "y"), cell(3, "x"), cell(4, "y")])
    assert waiting.take("a", anything) is None
    assert [one.slot.kernel for one in waiting.built("y")] == ["k00002", "k00004"]
    first = waiting.take("a", anything)
    assert first
    assert first.slot.kernel == "k00002"
    waiting.built("x")
    assert numbers(waiting) == [1, 3, 4]


def test_builds_come_in_the_order_of_their_first_cells_and_can_be_postponed() -> None:
    waiting = Waiting([cell(1, "x"), cell(2, "y"), cell(3, "x")])
    builds = []
    waiting.postpone("x")
    while one := waiting.next_unbuilt():
        builds.append(one.build)
        assert waiting.of_build(one.build)
        waiting.built(one.build)
    assert builds == ["y", "x"]


def test_what_is_given_back_keeps_its_place() -> None:
    waiting = Waiting([cell(1), cell(2)])
    waiting.built("x")
    first = waiting.take("a", anything)
    assert first
    waiting.give_back(first)
    assert numbers(waiting) == [1, 2]


def test_what_a_board_may_not_run_stays_for_the_others() -> None:
    waiting = Waiting([cell(1, boards=("a", "b")), cell(2, boards=("a", "b"))])
    waiting.built("x")
    second = waiting.take("a", lambda one: one.slot.kernel == "k00002")
    assert second
    assert second.slot.kernel == "k00002"
    assert waiting.take("a", lambda _: False) is None
    assert numbers(waiting, "b") == [1]


def test_a_board_of_several_groups_takes_what_comes_first_in_any() -> None:
    waiting = Waiting([cell(1, boards=("a", "b")), cell(2, boards=("a",)), cell(3, boards=("a", "b"))])
    waiting.built("x")
    assert waiting.boards == ("a", "b")
    assert numbers(waiting) == [1, 2, 3]


def test_what_is_dropped_is_not_taken_and_not_built() -> None:
    cells = [cell(1, "x"), cell(2, "y"), cell(3, "y")]
    waiting = Waiting(cells)
    waiting.built("y")
    assert [waiting.drop(cells[0]), waiting.drop(cells[1]), waiting.drop(cells[1])] == [True, True, False]
    assert waiting.next_unbuilt() is None
    assert waiting.all() == [cells[2]]
    assert numbers(waiting) == [3]


def test_a_board_is_wanted_until_its_cells_are_over() -> None:
    cells = [cell(1, boards=("a", "b")), cell(2, boards=("b",))]
    waiting = Waiting(cells)
    waiting.built("x")
    taken = waiting.take("a", anything)
    assert taken
    assert waiting.is_wanted("a")  # it may come back
    waiting.over(taken)
    assert [waiting.is_wanted(board) for board in "ab"] == [False, True]
    waiting.drop(cells[1])
    assert not waiting.is_wanted("b")


def test_taking_a_cell_looks_at_one_cell_however_many_wait() -> None:
    looked = []
    waiting = Waiting([cell(number) for number in range(2000)])
    waiting.built("x")
    while one := waiting.take("a", lambda one: not looked.append(one)):  # type: ignore[func-returns-value]
        waiting.over(one)
    assert len(looked) == 2000
