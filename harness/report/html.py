"""results in, one self-contained HTML page out: no scripts or styles from elsewhere; readable without JavaScript.

Everything that the target printed is cleaned here and escaped by the template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from harness.model import known
from harness.model.comparison import Change
from harness.model.past import Past, Track
from harness.model.result import Expectation, Result, RunResults, Verdict
from harness.parse.records import run_record_to_data
from harness.report.attempts import attempt_line
from harness.report.compare_text import counted, described
from harness.report.confirming import told
from harness.report.page import rendered
from harness.report.past import evidence_lines, urgency
from harness.report.strip import Strip, strip
from harness.report.summary import duration, overall_line
from harness.report.text import clean, flatten, last_lines, one_line, tail

LOG_LIMIT = 64 * 1024  # characters of one log,
PAGE_LIMIT = 16 * 1024 * 1024  # and of all logs together: a browser has to open this
LAST_LINES = 15
_HEADLINES = ("kernel", "version", "patches", "series", "era_fixes", "compiler", "toolchain", "sandbox", "board",
              "target", "date")  # fmt: skip
_LAST_DATE_S = 253402300799.0
_TABLE_ORDER = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.FAIL, Verdict.UNRESOLVED, Verdict.ERROR, Verdict.NOTRUN,
                Verdict.XFAIL, Verdict.SKIP, Verdict.PASS)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Known:
    """A known outcome. `issue`: a URL that is safe to follow, or empty."""

    test: str
    outcome: str
    reason: str
    issue: str
    until: str


@dataclass(frozen=True, kw_only=True)
class Try:
    """One of several attempts at a test."""

    verdict: str
    line: str
    href: str | None


@dataclass(frozen=True, kw_only=True)
class Background:
    """What the history says about a test. `change`: empty if it is the same as ever."""

    strip: Strip
    change: str
    evidence: Sequence[str]
    usual: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What the history says about the whole run: which run it is compared with, and how many tests of each class."""

    run: str
    counts: str
    vanished: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One result on the page. `key` is its anchor, `href` the relative link to its log."""

    key: str
    test: str
    verdict: str
    reason: str
    time: str
    share: float  # of the longest test's time, percent
    log: str
    last: str
    href: str | None
    expected: Known | None
    unexpected_pass: bool
    attempts: Sequence[Try]
    choice: str
    repeated: str
    past: Background | None


@dataclass(frozen=True, kw_only=True)
class Crash:
    """All tests that met the same kernel report."""

    title: str
    lines: str
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One table."""

    name: str
    rows: Sequence[Row]
    counts: Sequence[tuple[str, int]]
    time: str


def report_html(results: RunResults, *, logs: Callable[[str], str], past: Past | None = None) -> str:
    """The page. `logs` returns the text of the log at the path in `Result.log`; OSError means that there is none.
    `past`: what the history says about these tests; None: nothing."""
    rows = _rows(results.results, logs, past)
    paired = list(zip(results.results, rows, strict=True))
    worst = sorted(paired, key=lambda pair: urgency(pair[0], past))
    headline, other = _properties(results)
    overall = overall_line(results)
    word = overall.partition(":")[0]
    return rendered(
        "report.html.j2",
        overall=overall,
        state={"OK": "ok", "FAILED": "failed"}.get(word, "broken"),
        word=word,
        started=_date(results.started) if results.started else "",
        took=duration(results.seconds),
        is_killed=results.ended is None,
        compared=_compared(past) if past else None,
        headline=headline,
        properties=other,
        counts=dict(_counts(results.results)),
        total=len(rows),
        crashes=_crashes(worst),
        failures=[row for result, row in worst if result.verdict.is_kernel_fault and result.fault is None],
        errors=[row for result, row in paired if result.verdict is Verdict.ERROR],
        notrun=_by_reason(row for result, row in paired if result.verdict is Verdict.NOTRUN),
        known=[row for result, row in paired if result.verdict is Verdict.XFAIL],
        unexpected=[row for row in rows if row.unexpected_pass],
        expired=[_known(each) for each in known.expired(results)],
        unmatched=[_known(each) for each in known.unmatched(results)],
        notes=[one_line(note) for note in results.notes],
        suites=_suites(paired),
    )  # fmt: skip


def _compared(past: Past) -> Compared:
    comparison = past.comparison
    return Compared(
        run=described(comparison.old),
        counts=counted(comparison),
        vanished=[one_line(changed.test) for changed in comparison.of(Change.VANISHED)],
    )


def _rows(results: Sequence[Result], logs: Callable[[str], str], past: Past | None) -> list[Row]:
    longest = max((result.seconds for result in results), default=0.0) or 1.0
    left = PAGE_LIMIT
    rows = []
    for number, result in enumerate(results):
        log = _log(result, logs) if left > 0 else ""
        left -= len(log)
        rows.append(_row(number, result, log, longest, past.tracks.get(result.test) if past else None))
    return rows


def _row(number: int, result: Result, log: str, longest: float, track: Track | None) -> Row:
    title = result.fault.title if result.fault else ""
    return Row(
        key=f"t{number}",
        test=one_line(result.test),
        verdict=result.verdict.value,
        reason=one_line(result.reason or title),
        time=duration(result.seconds) if result.seconds else "",
        share=round(100 * result.seconds / longest, 1),
        log=log,
        last=last_lines(log, LAST_LINES),
        href=_href(result.log),
        expected=_known(result.expected) if result.expected else None,
        unexpected_pass=result.is_unexpected_pass,
        attempts=_tries(result) if result.attempts else (),
        choice=one_line(result.choice) if result.choice else "",
        repeated=one_line(told(result)),
        past=_background(track) if track else None,
    )


def _background(track: Track) -> Background | None:
    picture = strip(track.seen)
    if picture is None:
        return None
    changed = track.changed
    return Background(
        strip=picture,
        change="" if changed.change is Change.SAME else changed.change,
        evidence=evidence_lines(changed),
        usual=duration(track.usual) if track.usual is not None else "",
    )


def _known(expectation: Expectation) -> Known:
    issue = clean(expectation.issue)
    return Known(
        test=one_line(expectation.test),
        outcome=one_line(known.described(expectation)),
        reason=one_line(expectation.reason),
        issue=issue if issue.startswith(("https://", "http://")) else "",  # never javascript:
        until=one_line(expectation.until),
    )


def _tries(result: Result) -> list[Try]:
    return [
        Try(verdict=attempt.verdict.value, line=attempt_line(number, attempt), href=_href(attempt.log))
        for number, attempt in enumerate(result.attempts, 1)
    ]


def _log(result: Result, logs: Callable[[str], str]) -> str:
    """The part of the log to show: nothing for a pass, whose log is only linked."""
    if result.log is None or result.verdict is Verdict.PASS:
        return ""
    try:
        return tail(logs(result.log), LOG_LIMIT)
    except OSError as error:
        return f"[the log is not there: {one_line(str(error))}]"


def _href(path: str | None) -> str | None:
    """A link that stays below the run directory; quoted, so that no path can be a scheme such as javascript:."""
    if path is None or path.startswith("/") or ".." in path.split("/"):
        return None
    return quote(clean(path))


def _crashes(paired: Iterable[tuple[Result, Row]]) -> list[Crash]:
    groups: dict[str, list[tuple[Result, Row]]] = {}
    for result, row in paired:
        if result.verdict.is_kernel_fault and result.fault is not None:
            groups.setdefault(one_line(result.fault.title), []).append((result, row))
    return [
        Crash(title=title, lines=_fault_lines(members[0][0]), rows=[row for _, row in members])
        for title, members in groups.items()
    ]


def _fault_lines(result: Result) -> str:
    return tail("\n".join(result.fault.lines), LOG_LIMIT) if result.fault else ""


def _by_reason(rows: Iterable[Row]) -> dict[str, list[Row]]:
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        reasons.setdefault(row.reason, []).append(row)
    return reasons


def _suites(paired: Iterable[tuple[Result, Row]]) -> list[Suite]:
    suites: dict[str, list[tuple[Result, Row]]] = {}
    for result, row in paired:
        suites.setdefault(one_line(result.suite), []).append((result, row))
    return [
        Suite(
            name=name,
            rows=[row for _, row in members],
            counts=_counts(result for result, _ in members),
            time=duration(sum(result.seconds for result, _ in members)),
        )
        for name, members in suites.items()
    ]


def _counts(results: Iterable[Result]) -> list[tuple[str, int]]:
    """How often each verdict occurs, the worst first."""
    found = [result.verdict for result in results]
    return [(verdict.value, found.count(verdict)) for verdict in _TABLE_ORDER if verdict in found]


def _properties(results: RunResults) -> tuple[list[tuple[str, list[str]]], dict[str, str]]:
    """The properties at the top (each value as lines), and all others."""
    headline: list[tuple[str, list[str]]] = []
    other: dict[str, str] = {}
    for key, value in run_record_to_data(results.record).items():
        if key in _HEADLINES:
            items = value if isinstance(value, list | tuple) else [value]
            headline.append((key, [_headline(item) for item in items]))
        else:
            other |= {clean(name): text for name, text in flatten({key: value}).items()}
    headline.sort(key=lambda item: _HEADLINES.index(item[0]))
    return headline, other


def _headline(value: object) -> str:
    """``7.3.4``; ``version: 7.3.4, suite: x``."""
    return ", ".join(f"{clean(name)}: {text}" if name else text for name, text in flatten(value).items())


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_DATE_S), tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
