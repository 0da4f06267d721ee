"""A result in, the entry of a file of known issues out; and that file with the entry added."""

from __future__ import annotations

import re

from harness.errors import UserError
from harness.model.known import version_of
from harness.model.record import RunRecord
from harness.model.result import Result, Verdict
from harness.parse import document
from harness.parse.expectations import parse_expectations

_EMPTY = re.compile(r"^expectations:[ \t]*\[\][ \t]*$", re.MULTILINE)
_KINDS = (Verdict.FAIL, Verdict.UNRESOLVED, Verdict.CRASH, Verdict.TIMEOUT)


def known_entry(
    result: Result, record: RunRecord, *, reason: str, issue: str, who: str, since: str, until: str
) -> dict[str, object]:
    """Return the entry by which this result is known: this test, with this fault or message, on this board, from this
    kernel version on. A test that sometimes passes, as its repetitions show, may pass.

    Raises UserError if the result is no failure."""
    verdict = result.actual or result.verdict
    if verdict not in _KINDS:
        raise UserError(f"{result.test}: expected a failure of the kernel to be known, found {verdict}")
    passes = any(each.verdict is Verdict.PASS and each.condition.is_usual for each in result.repeats)
    numbers = version_of(record.kernel.release)[:2]
    entry = {
        "test": result.test,
        "verdict": [verdict.value, *([Verdict.PASS.value] if passes else [])],
        "fault": str(result.fault.signature) if result.fault else "",
        "message": "" if result.fault else result.reason.partition("; expected:")[0],
        "kernel": f"{'.'.join(map(str, numbers))}.." if numbers else "",
        "board": record.board.name,
        "reason": reason,
        "issue": issue,
        "who": who,
        "since": since,
        "until": until,
    }
    return {key: value for key, value in entry.items() if value}


def with_entry(text: str, entry: dict[str, object], *, place: str) -> str:
    """Return the file `text` with `entry` at its end; comments and other entries stay as they are. Raises UserError if
    the file is malformed, or would be with the entry."""
    parse_expectations(text, place=place)
    text = _EMPTY.sub("expectations:", text)
    if "expectations:" not in text:
        text = f"{text.rstrip()}\nexpectations:\n"
    added = (
        f"{text.rstrip()}\n\n{document.entry(entry)}"
        if not text.rstrip().endswith("expectations:")
        else (f"{text.rstrip()}\n{document.entry(entry)}")
    )
    parse_expectations(added, place=place)
    return added
