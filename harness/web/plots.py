"""A test's results in, plots as SVG out: the one door to svg.py.

All plots of a test have one column per run, the newest at the right, so they can be read above each other. Positions
are percentages, so that a plot fits any screen and its text stays as large as the page's. Colours come from the page's
style sheet. svg.py escapes nothing: every foreign text goes through `_title` or `_link`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import svg
from markupsafe import Markup, escape

from harness.model.comparison import Tally
from harness.model.history import StoredRun
from harness.model.overview import BoardNight, Seen
from harness.model.result import Verdict
from harness.report import evidence
from harness.report.compare import failed
from harness.report.text import moment, one_line
from harness.web.data import WINDOW, CellHistory

Href = Callable[[StoredRun], str | None]
_STRIP_PX, _MARK_PX, _PLOT_PX = 28.0, 6.0, 130.0
_LEFT, _RIGHT = 9.0, 100.0  # percent: room for the labels of the lines
_TOP_PX = 16.0
_SHORT = {Verdict.PASS: 0.45, Verdict.SKIP: 0.2, Verdict.XFAIL: 0.7}  # heights: what is wrong is seen without colours
_EPOCH = date(1970, 1, 1)
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)


def strip(seen: Sequence[Seen], href: Href) -> Markup:
    """Return one bar per result, in the order given, and a mark below where the kernel is another one than before."""
    bars: list[svg.Element] = []
    for column, each in enumerate(seen):
        height = _STRIP_PX * _SHORT.get(each.outcome.verdict, 1.0)
        bar = svg.Rect(
            x=_percent(_left(column, len(seen))),
            y=_STRIP_PX - height,
            width=_percent(0.86 * _width(len(seen))),
            height=height,
            class_=["bar", each.outcome.verdict.value],
            elements=[_title(_told(each))],
        )
        bars.append(_link(bar, href(each.run)))
        if column and each.run.kernel != seen[column - 1].run.kernel:
            bars.append(_new_kernel(_left(column, len(seen)), each.run.kernel.name))
    return _plot(bars, _STRIP_PX + _MARK_PX, f"Verdicts of {len(seen)} runs, oldest first")


def _new_kernel(place: float, name: str) -> svg.Element:
    return svg.Rect(
        x=_percent(place),
        y=_STRIP_PX + 2,
        width=_percent(1),
        height=_MARK_PX - 2,
        class_=["kernel"],
        elements=[_title(f"{name} from here on")],
    )


def durations(seen: Sequence[Seen], href: Href) -> Markup:
    """Return how long the test took in each run, on an axis from 0."""
    longest = max((each.outcome.seconds for each in seen), default=0.0)
    lines = _lines(longest)
    top = lines[-1]
    drawn = [line for value in lines for line in _gridline(_height(value, top), f"{value:g} s")]
    for column, each in enumerate(seen):
        if each.outcome.seconds <= 0:
            continue  # it did not run
        point = svg.Circle(
            cx=_percent(_middle(column, len(seen))),
            cy=_height(each.outcome.seconds, top),
            r=3,
            class_=["point", each.outcome.verdict.value],
            elements=[_title(f"{each.outcome.seconds:.1f} s: {_told(each)}")],
        )
        drawn.append(_link(point, href(each.run)))
    return _plot(drawn, _PLOT_PX, "Duration of each run in seconds")


def flakiness(history: CellHistory) -> Markup:
    """Return the share of failures of the last WINDOW outcomes at each run, with the range that holds 90 % of what is
    believed, and a line where the test began to behave differently."""
    seen = history.seen
    drawn = [line for value in (0.0, 0.5, 1.0) for line in _gridline(_height(value, 1.0), f"{100 * value:.0f} %")]
    ends = list(history.earlier)
    for column, each in enumerate(seen):
        ended = failed(each.outcome)
        if ended is None:
            continue
        ends.append(ended)
        drawn += _estimate(evidence.tally_of(ends[-WINDOW:]), column, len(seen), each)
        if history.since and each.run.id == history.since.id:
            place = _left(column, len(seen))
            drawn.append(_mark(place, f"behaves differently since {moment(each.run.started)}"))
    return _plot(drawn, _PLOT_PX, f"Share of failures of the last {WINDOW} outcomes, with its 90 % interval")


def errors_by_day(nights: Sequence[BoardNight], days: Sequence[date]) -> Markup:
    """Return the share of a board's results that the harness or the lab is to blame for, each day."""
    drawn = [line for value in (0.0, 0.5, 1.0) for line in _gridline(_height(value, 1.0), f"{100 * value:.0f} %")]
    columns = {(day - _EPOCH).days: column for column, day in enumerate(days)}
    for night in nights:
        if night.day not in columns or not night.results:
            continue
        share = night.errors / night.results
        top = min(_height(share, 1.0), _PLOT_PX - 3)  # a day without errors is not a day without results
        bar = svg.Rect(
            x=_percent(_left(columns[night.day], len(days))),
            y=top,
            width=_percent(0.86 * _width(len(days))),
            height=_PLOT_PX - top,
            class_=["bar", "ERROR" if night.errors else "PASS"],
            elements=[_title(f"{_EPOCH + timedelta(days=night.day)}: {night.errors} of {night.results} results")],
        )
        drawn.append(bar)
    return _plot(drawn, _PLOT_PX, "Share of lab errors each day")


def boots_by_day(nights: Sequence[BoardNight], days: Sequence[date]) -> Markup:
    """Return how long a board took to boot each day, on an axis from 0."""
    lines = _lines(max((night.boot_s or 0.0 for night in nights), default=0.0))
    top = lines[-1]
    drawn = [line for value in lines for line in _gridline(_height(value, top), f"{value:g} s")]
    columns = {(day - _EPOCH).days: column for column, day in enumerate(days)}
    for night in nights:
        if night.day not in columns or night.boot_s is None:
            continue
        told = f"{_EPOCH + timedelta(days=night.day)}: {night.boot_s:.1f} s, the median of {len(night.boots)} runs"
        place = _percent(_middle(columns[night.day], len(days)))
        drawn.append(
            svg.Circle(cx=place, cy=_height(night.boot_s, top), r=3, class_=["point", "PASS"], elements=[_title(told)])
        )
    return _plot(drawn, _PLOT_PX, "Boot time each day in seconds")


def _estimate(tally: Tally, column: int, count: int, each: Seen) -> list[svg.Element]:
    low, high = evidence.interval(tally)
    told = f"{100 * low:.0f} to {100 * high:.0f} %: failed {tally} up to {moment(each.run.started)}"
    top = _height(high, 1.0)
    place, width = _percent(_left(column, count)), _percent(_width(count) + 0.05)  # no gaps where pixels are halved
    return [
        svg.Rect(x=place, y=top, width=width, height=_height(low, 1.0) - top, class_=["band"], elements=[_title(told)]),
        svg.Rect(x=place, y=_height(evidence.rate(tally), 1.0) - 1, width=width, height=2, class_=["rate"]),
    ]


def _mark(place: float, told: str) -> svg.Element:
    line = _percent(place)
    return svg.Line(x1=line, x2=line, y1=0, y2=_PLOT_PX, class_=["mark"], elements=[_title(told)])


def _plot(elements: list[svg.Element], height: float, label: str) -> Markup:
    """A picture for those who read the page aloud, too: the table below it says the same in words."""
    plot = svg.SVG(
        width=_percent(100),
        height=height,
        class_=["plot"],
        elements=[*elements],
        extra={"role": "img", "aria-label": str(escape(label))},
    )
    return Markup(plot.as_str())


def _link(element: svg.Element, href: str | None) -> svg.Element:
    """Not a stop of the Tab key: the table has the same links, and a plot may have hundreds."""
    return svg.A(href=str(escape(href)), elements=[element], tabindex=-1) if href else element


def _title(text: str) -> svg.Element:
    return svg.Title(text=str(escape(one_line(text, 300))))


def _gridline(height: float, label: str) -> list[svg.Element]:
    y = round(height, 1)
    return [
        svg.Line(x1=_percent(0), x2=_percent(100), y1=y, y2=y, class_=["grid"]),
        svg.Text(x=0, y=y - 3, text=str(escape(label)), class_=["label"]),
    ]


def _lines(longest: float) -> list[float]:
    """Two or three round values from 0 to at least `longest`."""
    power = 1.0
    while power < longest / 10:
        power *= 10
    while power > longest / 10 and power > 0.001:
        power /= 10
    top = next((step * power * 10 for step in _STEPS if step * power * 10 >= longest), longest) or 1.0
    return [0.0, top / 2, top]


def _height(value: float, top: float) -> float:
    return round(_PLOT_PX - 1 - (_PLOT_PX - _TOP_PX - 1) * min(value / top, 1.0), 1)


def _width(count: int) -> float:
    return (_RIGHT - _LEFT) / max(count, 1)


def _left(column: int, count: int) -> float:
    return _LEFT + column * _width(count)


def _middle(column: int, count: int) -> float:
    return _left(column, count) + _width(count) / 2


def _percent(value: float) -> svg.Length:
    return svg.Length(round(value, 3), "%")


def _told(each: Seen) -> str:
    outcome = each.outcome
    said = str(outcome.signature or outcome.reason)
    return f"{outcome.verdict}, {moment(each.run.started)}, {each.run.kernel.name}{f': {said}' if said else ''}"
