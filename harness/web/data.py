"""What each page shows, as values: made from the history, turned into HTML by harness/web/html.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from harness.model.comparison import Comparison, Tally
from harness.model.history import Cell, Outcome, StoredRun
from harness.model.overview import BoardHealth, CountedRun, Known, Seen, SeenSignature, SeenTest
from harness.web.address import Address

WINDOW = 20  # outcomes that a share of failures is that of


@dataclass(frozen=True, kw_only=True)
class Page:
    """What all pages have: their address, and what there is to choose from. `is_whole` is False where there was more
    than a page shows."""

    address: Address
    known: Known
    is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class FailingTest:
    """A test that fails in the newest run of these cells."""

    test: str
    seen: Sequence[Seen]


@dataclass(frozen=True, kw_only=True)
class MatrixPage(Page):
    """Days and cells: `runs` of each, the newest first."""

    days: Sequence[date]
    cells: Sequence[Cell]
    runs: Mapping[tuple[Cell, date], Sequence[CountedRun]]
    failing: Sequence[FailingTest] = ()


@dataclass(frozen=True, kw_only=True)
class RunsPage(Page):
    runs: Sequence[CountedRun]


@dataclass(frozen=True, kw_only=True)
class TestsPage(Page):
    __test__ = False  # for pytest

    tests: Sequence[SeenTest]


@dataclass(frozen=True, kw_only=True)
class CellHistory:
    """A test in one cell: `seen` are its results, the oldest first. `behaves`: passes and failures since the run
    `since`, from which it has behaved as it does now; None: always. `earlier`: whether it failed, the last times before
    those that are `seen`."""

    cell: Cell
    seen: Sequence[Seen]
    behaves: Tally
    since: StoredRun | None = None
    earlier: Sequence[bool] = ()


@dataclass(frozen=True, kw_only=True)
class TestPage(Page):
    __test__ = False

    test: str
    cells: Sequence[CellHistory]


@dataclass(frozen=True, kw_only=True)
class FaultsPage(Page):
    signatures: Sequence[SeenSignature]


@dataclass(frozen=True, kw_only=True)
class Group:
    """How often a fault was seen in one test, cell or kernel, and when last."""

    name: str
    count: int
    last: StoredRun
    words: Mapping[str, str] = field(default_factory=dict)  # of the page about it


@dataclass(frozen=True, kw_only=True)
class FaultPage(Page):
    signature: str
    seen: Sequence[Seen]
    tests: Sequence[Group]
    cells: Sequence[Group]
    kernels: Sequence[Group]


@dataclass(frozen=True, kw_only=True)
class RunPage(Page):
    """`before`: the run of the same cell before it; `good`: the last one before it in which nothing failed."""

    run: CountedRun
    outcomes: Sequence[Outcome]
    before: StoredRun | None = None
    good: StoredRun | None = None


@dataclass(frozen=True, kw_only=True)
class ComparePage(Page):
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class BoardsPage(Page):
    boards: Sequence[BoardHealth]
    days: Sequence[date]
