"""The documents of a run: which ones there are, and what makes each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.model.past import Past
from harness.model.result import RunResults
from harness.report.html import report_html
from harness.report.junit import junit_xml
from harness.report.markdown import summary_markdown
from harness.report.results_json import results_json

Logs = Callable[[str], str]
"""Returns the text of the log at the path in `Result.log`; raises OSError if there is none."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """`file`: the document's name in the directory of the run; `render`: makes its text, of the results, the logs and
    what the history says, if it is asked."""

    file: str
    render: Callable[[RunResults, Logs, Past | None], str]


FORMATS = (
    Format(file="junit.xml", render=lambda results, logs, past: junit_xml(results, logs=logs, past=past)),
    Format(file="results.json", render=lambda results, _, past: results_json(results, past=past)),
    Format(file="report.html", render=lambda results, logs, past: report_html(results, logs=logs, past=past)),
    Format(file="summary.md", render=lambda results, _, past: summary_markdown(results, past=past)),
)
