"""The end of a night: every cell against its last good night, the pages, the mail."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path

from harness.campaign import history
from harness.campaign.mailing import usual_sender
from harness.campaign.nightly.place import RUN, NightPlace
from harness.campaign.request import NightMail
from harness.errors import HarnessError
from harness.model.comparison import Comparison
from harness.model.night import Ended, Morning, Night, Row, Seen, Slot, State
from harness.publish.message import message
from harness.publish.smtp import Server, send
from harness.report.compare import compare
from harness.report.compare_html import comparison_html
from harness.report.compare_text import counted
from harness.report.night import morning_html, morning_json, morning_subject, morning_text
from harness.report.summary import counted as counted_results
from harness.run.documents import read_results
from harness.store import queries
from harness.store.database import Connection, history_file, opened

TEXT, PAGE, DATA = "summary.txt", "summary.html", "summary.json"
_REPORT = "report.html"


def morning(
    night: Night,
    place: NightPlace,
    *,
    seen: Mapping[Slot, Seen],
    boards: Sequence[str],
    history_path: Path | None,
) -> Morning:
    """Compare all cells of a night that is over, and write its pages. A history that can't be used costs only what it
    would have said."""
    notes: list[str] = []
    tested = [ended for ended in night.ended.values() if ended.state is State.TESTED]
    comparisons: dict[Slot, Comparison | None] = {}
    if tested:
        with _noting(notes, "not all runs are in the history"):
            history.add(history_file(history_path), [place.cell(ended.slot) / RUN for ended in tested])
        with _noting(notes, "not all is compared"), opened(history_file(history_path)) as connection:
            for ended in tested:
                with _noting(notes, f"{ended.slot} is not compared"):  # the others are
                    good = seen.get(ended.slot, Seen()).good
                    comparisons[ended.slot] = _comparison(connection, good, ended)
    every = tuple(_row(ended, place, comparisons.get(ended.slot)) for ended in night.ended.values())
    made = Morning(night=night, rows=every, boards=tuple(boards), notes=tuple(notes))
    place.document(DATA, morning_json(made))
    place.document(PAGE, morning_html(made))
    place.document(TEXT, morning_text(made) + "\n")
    return made


@contextlib.contextmanager
def _noting(notes: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except HarnessError as error:
        notes.append(f"{what}: {error.message}")


def _comparison(connection: Connection, good: str, ended: Ended) -> Comparison | None:
    old, new = (queries.run_named(connection, name) for name in (good, ended.run))
    if not good or old is None or new is None or old.id == new.id:
        return None
    sides = history.sides_of(connection, old, new)
    return compare(*sides) if all(side.outcomes for side in sides) else None


def _row(ended: Ended, place: NightPlace, comparison: Comparison | None) -> Row:
    directory = place.cell(ended.slot)
    counts = ""
    if ended.state is State.TESTED:
        with contextlib.suppress(HarnessError):
            counts = counted_results(read_results(directory / RUN).results)
    page = ""
    if comparison:
        page = f"compare/{ended.slot.directory}.html"
        place.document(page, comparison_html(comparison))
    report = directory / RUN / _REPORT
    return Row(
        ended=ended,
        comparison=comparison,
        counts=counts,
        changes=counted(comparison) if comparison else "",
        page=page,
        report=str(report.relative_to(place.directory)) if report.is_file() else "",
    )


def check_mail(wish: NightMail) -> None:
    """Raise UserError for what is no address or server, before a night that ends with a mail."""
    Server.parse(wish.smtp)
    _message(wish, subject="", text="", about=())


def mail(made: Morning, wish: NightMail) -> str:
    """Mail the summary; return what to say. Raises InfraError if no mail can be sent."""
    about = (made.night.plan, made.night.id)
    sent = _message(wish, subject=morning_subject(made), text=morning_text(made), about=about)
    send(sent, Server.parse(wish.smtp))
    return f"sent {sent['Message-ID']} to {sent['To']}"


def _message(wish: NightMail, *, subject: str, text: str, about: Sequence[str]) -> EmailMessage:
    return message(
        subject=subject,
        text=text,
        sender=wish.sender or usual_sender(),
        to=wish.to,
        in_reply_to=(),
        about=about,
        date=time.time(),
    )
