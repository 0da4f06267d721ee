"""What an address asks for: a page, and which part of the history it shows. Addresses are kept, mailed and pinned to
walls, so they are checked strictly and their meaning stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from harness.errors import UserError
from harness.model.history import Cell
from harness.model.overview import Scope
from harness.model.result import Verdict
from harness.report.text import one_line

DAYS = 14  # that are shown unless the address says something else
MOST_DAYS = 3660
_LONGEST = 2000  # characters of a value; the history has no longer names
_REFRESH = (30, 86400)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which part of the history a page shows: what `Scope` has, over `days` days up to and including `until` (a day,
    UTC; empty: that of the newest run). `refresh`: after how many seconds a browser is to load the page again; 0: not
    at all."""

    board: str = ""
    config: str = ""
    toolchain: str = ""
    kernel: str = ""
    days: int = DAYS
    until: str = ""
    refresh: int = 0

    def scope(self, newest: float | None) -> Scope:
        """Return the part of a history whose newest run began at `newest`."""
        end = self.last_day(newest) + timedelta(days=1)
        since = max(end - timedelta(days=self.days), date(1970, 1, 1))
        return Scope(
            since=_seconds(since),
            until=_seconds(end),
            board=self.board,
            config=self.config,
            toolchain=self.toolchain,
            kernel=self.kernel,
        )

    def last_day(self, newest: float | None) -> date:
        """Return the last day that is shown."""
        return date.fromisoformat(self.until) if self.until else day_of(newest or 0.0)

    def parameters(self) -> dict[str, str]:
        """Return what an address has to say: only what is not usual."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) for name, value in values.items() if value != _USUAL[name]}

    def of(self, cell: Cell) -> dict[str, str]:
        """Return the parameters for the same time and kernels in one cell."""
        chosen = {"board": cell.board, "config": cell.config, "toolchain": cell.toolchain}
        kept = {name: value for name, value in self.parameters().items() if name in ("kernel", "days", "until")}
        return kept | {name: value for name, value in chosen.items() if value}


_USUAL = {field.name: field.default for field in fields(Filter)}
# What each page can be asked besides. `run`: the id of a run, and so on.
PAGES: Mapping[str, tuple[str, ...]] = {
    "index": (),
    "runs": (),
    "tests": ("q",),
    "faults": (),
    "boards": (),
    "test": ("name",),
    "fault": ("signature",),
    "run": ("id", "verdict"),
    "compare": ("old", "new"),
}
_NEEDED = {"test": ("name",), "fault": ("signature",), "run": ("id",), "compare": ("old", "new")}
_TYPED = ("q", "kernel", "days", "until", "refresh")  # by people; the others come from links
_UNFILTERED = ("run", "compare")  # their runs say everything


@dataclass(frozen=True, kw_only=True)
class Address:
    """A page and what it was asked. `words`: the parameters of this page alone; those that were not given are empty."""

    page: str
    filter: Filter
    words: Mapping[str, str]

    def query(self, **changed: str) -> str:
        """Return the part of the address behind the question mark, with some parameters changed."""
        given = {name: value for name, value in self.words.items() if value} | self.filter.parameters() | changed
        return urlencode({name: value for name, value in given.items() if value})


def parse(page: str, given: Sequence[tuple[str, str]]) -> Address:
    """Return what the parameters of an address of `page` (one of PAGES) ask for; UserError in one line if something is
    wrong with them."""
    usual = () if page in _UNFILTERED else tuple(_USUAL)
    known = (*PAGES[page], *usual)
    values: dict[str, str] = {}
    for name, value in given:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise UserError(f"{_shown(name)}: expected {expected} as a parameter of {page}")
        if name in values:
            raise UserError(f"{name}: expected once, found twice")
        if len(value) > _LONGEST:
            raise UserError(f"{name}: expected at most {_LONGEST} characters, found {len(value)}")
        values[name] = value.strip() if name in _TYPED else value
    for name in _NEEDED.get(page, ()):
        if not values.get(name):
            raise UserError(f"{name}: expected a value, found none; {page} needs it")
    words = {name: values.get(name, "") for name in PAGES[page]}
    if page == "compare" and words["old"] == words["new"]:
        raise UserError(f"new: expected another run than old, found the same one, {_shown(words['new'])}")
    if words.get("verdict") and words["verdict"] not in tuple(Verdict):
        raise UserError(f"verdict: expected one of {', '.join(Verdict)}, found {_shown(words['verdict'])}")
    return Address(page=page, filter=_filter(values), words=words)


def _filter(values: Mapping[str, str]) -> Filter:
    return Filter(
        board=values.get("board", ""),
        config=values.get("config", ""),
        toolchain=values.get("toolchain", ""),
        kernel=values.get("kernel", ""),
        days=_number("days", values.get("days", ""), 1, MOST_DAYS) or DAYS,
        until=_until(values.get("until", "")),
        refresh=_number("refresh", values.get("refresh", ""), *_REFRESH),
    )


def _number(name: str, value: str, least: int, most: int) -> int:
    if not value:
        return 0
    if not _NUMBER.fullmatch(value) or not least <= int(value) <= most:
        raise UserError(f"{name}: expected a number from {least} to {most}, found {_shown(value)}")
    return int(value)


def _until(value: str) -> str:
    try:
        if not value or (_DAY.fullmatch(value) and date(1970, 1, 1) <= date.fromisoformat(value) < date(9999, 1, 1)):
            return value
    except ValueError:
        pass
    raise UserError(f"until: expected a day from 1970 on, as 2026-11-28, found {_shown(value)}")


def _shown(text: str) -> str:
    return repr(one_line(text, 60))


def day_of(seconds: float) -> date:
    """Return the day, UTC, of a time in seconds since the epoch."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), 253402214399.0), tz=UTC).date()


def _seconds(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
