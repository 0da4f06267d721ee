"""A page's values in, HTML out: a door to jinja2, whose templates are beside it. What a target printed is cleaned here
and escaped by the templates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.model.comparison import Change, Comparison
from harness.model.history import StoredRun
from harness.model.overview import CountedRun, Known
from harness.model.result import EndKind, Verdict
from harness.report import evidence
from harness.report.compare import BOOT
from harness.report.compare_text import figures
from harness.report.summary import duration
from harness.report.text import moment, one_line
from harness.web import plots
from harness.web.address import MOST_DAYS, Address, Filter
from harness.web.data import WINDOW, BoardsPage, CellHistory, ComparePage, MatrixPage, Page, RunPage
from harness.web.links import STYLE, Links, Served

# No scripts, nothing from elsewhere, nothing inline.
POLICY = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'"
_GRAVITY = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.FAIL, Verdict.UNRESOLVED, Verdict.ERROR, Verdict.NOTRUN,
            Verdict.XFAIL, Verdict.SKIP, Verdict.PASS)  # fmt: skip
_MOST_LISTED = 200


@dataclass(frozen=True, kw_only=True)
class Square:
    """One night of one cell. `text` is a figure or a sign, `told` the same in words."""

    state: str
    text: str
    told: str
    href: str | None


def page_html(page: Page, links: Links) -> str:
    """Return the page as a document of its own."""
    href = _Links(links, page.address)
    return _render(
        page.address.page,
        page.address,
        href,
        page.known,
        page=page,
        last_day=page.address.filter.last_day(page.known.newest),
        choices=_choices(page.known),
        most_days=MOST_DAYS,
        **_more(page, href),
    )


def error_html(title: str, told: str) -> str:
    """Return a page that says what is wrong; `title` as ``404 Not Found``."""
    address = Address(page="error", filter=Filter(), words={})
    return _render("error", address, _Links(Served(), address), None, title=title, told=told)


def style() -> str:
    """Return the style sheet that all pages refer to as STYLE."""
    return (files("harness.web") / "templates" / STYLE).read_text(encoding="utf-8")


class _Links:
    """Links from one page: they keep its filter."""

    def __init__(self, links: Links, address: Address) -> None:
        self.links = links
        kept = address.filter.parameters()
        kept.pop("refresh", None)
        self.kept = kept

    def __call__(self, page: str, words: Mapping[str, str], filtered: Mapping[str, str] | None = None) -> str | None:
        if page == "test" and words.get("name") == BOOT:
            return None  # compared like a test, but it has no results of its own
        is_filtered = page not in ("run", "compare")
        kept = (self.kept if filtered is None else filtered) if is_filtered else {}
        return self.links.to(page, words, kept)

    def run(self, run: StoredRun) -> str | None:
        return self("run", {"id": run.id})


def _render(template: str, address: Address, href: _Links, known: Known | None, **values: Any) -> str:
    return (
        _templates()
        .get_template(f"{template}.html.j2")
        .render(
            address=address,
            go=href,
            is_live=href.links.is_live,
            known=known,
            policy=POLICY,
            style=STYLE,
            **values,
        )
    )


def _more(page: Page, href: _Links) -> dict[str, Any]:
    """What only one kind of page needs."""
    if isinstance(page, MatrixPage):
        return {"squares": _squares(page, href)}
    if isinstance(page, RunPage):
        wanted = page.address.words["verdict"]
        outcomes = [outcome for outcome in page.outcomes if not wanted or outcome.verdict == wanted]
        return {"outcomes": sorted(outcomes, key=lambda each: _GRAVITY.index(each.verdict))}
    if isinstance(page, ComparePage):
        return {"classes": _classes(page.comparison)}
    if isinstance(page, BoardsPage):
        return {
            "health": lambda board: plots.errors_by_day(board.nights, page.days),
            "boots": lambda board: plots.boots_by_day(board.nights, page.days),
        }
    return {
        "strip": lambda history: plots.strip(history.seen, href.run),
        "durations": lambda history: plots.durations(history.seen, href.run),
        "flakiness": lambda history: plots.flakiness(history),
        "window": WINDOW,
        "most_listed": _MOST_LISTED,
    }


def _choices(known: Known) -> dict[str, Sequence[str]]:
    names = ("board", "config", "toolchain")
    return {name: sorted({getattr(cell, name) for cell in known.cells} - {""}) for name in names}


def _squares(page: MatrixPage, href: _Links) -> dict[tuple[object, date], Square | None]:
    """A night of several runs shows the worst and leads to all of them. A kernel that does not boot is the worst."""
    squares: dict[tuple[object, date], Square | None] = {(cell, day): None for cell in page.cells for day in page.days}
    for (cell, day), runs in page.runs.items():
        worst = max(runs, key=_badness)
        of_night = {**page.address.filter.of(cell), "days": "1", "until": str(day)}
        link = href("run", {"id": worst.run.id}) if len(runs) == 1 else href("runs", {}, of_night)
        if not href.links.is_live:
            link = href("run", {"id": worst.run.id})
        state, text = _state(worst)
        told = ", ".join(f"{worst.counts[verdict]} {verdict}" for verdict in _GRAVITY if verdict in worst.counts)
        several = f" (the worst of {len(runs)} runs)" if len(runs) > 1 else ""
        ended = "" if _is_complete(worst) else f", {worst.run.end or 'killed'}"
        squares[cell, day] = Square(
            state=state, text=text, told=one_line(f"{cell}, {day}: {told or 'no results'}{ended}{several}"), href=link
        )
    return squares


def _badness(counted: CountedRun) -> tuple[bool, int, int, bool]:
    return counted.run.blames_kernel, counted.failures, counted.errors, not _is_complete(counted)


def _state(counted: CountedRun) -> tuple[str, str]:
    if counted.failures:
        return "failed", str(counted.failures)
    if counted.run.blames_kernel:
        return "failed", "✗"
    if counted.errors or not _is_complete(counted):
        return "broken", "!"
    return "ok", "✓"


def _is_complete(counted: CountedRun) -> bool:
    return counted.run.end == EndKind.COMPLETE


def _classes(comparison: Comparison) -> list[tuple[Change, int]]:
    return [(change, count) for change in Change if (count := len(comparison.of(change)))]


@functools.cache
def _templates() -> Environment:
    """Not made anew for each page: compiling the templates takes longer than filling them in."""
    templates = Environment(
        loader=PackageLoader("harness.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(_FILTERS)
    return templates


def _by_gravity(counts: Mapping[Verdict, int]) -> list[tuple[Verdict, int]]:
    return [(verdict, counts[verdict]) for verdict in _GRAVITY if verdict in counts]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else ""


def _behaviour(history: CellHistory) -> str:
    """What the results say, in a sentence."""
    tally = history.behaves
    since = f" since it began to behave differently, {moment(history.since.started)}" if history.since else ""
    if not tally.runs:
        return "It neither passed nor failed."
    low, high = evidence.interval(tally)
    share = f" It fails {100 * low:.0f} to {100 * high:.0f} % of the time." if tally.failures and tally.passes else ""
    return f"Failed {tally}{since}.{share}"


_FILTERS: Mapping[str, Callable[..., object]] = {
    "line": one_line,
    "when": moment,
    "day": lambda day: f"{day:%d} {day:%b}",
    "weekday": lambda day: f"{day:%a}",
    "seconds": _seconds,
    "duration": duration,
    "kernel": lambda run: run.kernel.name,
    "by_gravity": _by_gravity,
    "behaviour": _behaviour,
    "figures": figures,
    "percent": lambda share: f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %",
}
