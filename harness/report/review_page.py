"""A review in, one self-contained HTML page out: no scripts, no addresses. The template escapes everything."""

from __future__ import annotations

from harness.model.review import Review
from harness.report.page import rendered
from harness.report.review_text import (
    counts_text,
    faults,
    headline,
    marks,
    pair_text,
    sizes_text,
    tests_of,
)
from harness.report.summary import duration
from harness.report.text import moment, one_line

_LONGEST = 300


def review_html(review: Review) -> str:
    """Return the page."""
    ground = review.ground
    return rendered(
        "review.html.j2",
        title=one_line(str(review.series)),
        word="OK" if review.is_well else "FAULTS" if review.exit_code in (1, 2) else "INCOMPLETE",
        style="ok" if review.is_well else "failed" if review.exit_code in (1, 2) else "broken",
        headline=one_line(headline(review)),
        about=[
            tuple(one_line(text, _LONGEST) for text in row)
            for row in (
                ("series", str(review.series), review.series.origin),
                *([("against", str(review.older), review.older.origin)] if review.older else []),
                ("base", f"{ground.base}, that is {ground.version}", ground.why),
                ("on", f"{ground.board}, {ground.compiler}", "+".join(ground.fragments)),
                ("when", f"{moment(review.started)} UTC, in {duration(review.seconds)}", f"harness {ground.harness}"),
            )
        ],
        steps=[
            {
                "number": step.number,
                "title": one_line(step.title, _LONGEST),
                "was": pair_text(review, step.number),
                "marks": marks(step),
                "tests": tests_of(step),
                "style": "ok" if step.is_well else "failed",
                "notes": [one_line(text, _LONGEST) for text in (step.untested, step.pending) if text],
                "sets": [
                    one_line(f"{tests} (for {', '.join(tests.why) or 'all patches'})", _LONGEST) for tests in step.sets
                ],
            }
            for step in review.steps
        ],
        has_older=bool(review.pairs),
        how_paired=one_line(review.how_paired),
        faults=list(faults(review)),
        counts=[(name, counts_text(counts)) for name, counts in review.counts.items()],
        whole=one_line(str(review.whole), _LONGEST),
        failing_before=[one_line(test) for test in review.failing_before],
        sizes=sizes_text(review.sizes) if review.sizes else "",
        notes=[one_line(text, _LONGEST) for text in (*review.problems, *review.notes)],
    )
