"""Attempts at tests as JSON, both ways: for events.jsonl, which leaves out what is empty, and for results.json, which
has every name. The one place that knows how faults and expectations are written."""

from __future__ import annotations

from typing import Any

from harness.model.result import Attempt, Expectation, Fault, FaultKind, Verdict
from harness.parse.fields import Fields

_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_FAULT_KINDS = {kind.value: kind for kind in FaultKind}


def attempt_to_data(attempt: Attempt) -> dict[str, object]:
    """Every field of `attempt`."""
    return {
        "verdict": attempt.verdict.value,
        "reason": attempt.reason,
        "seconds": round(attempt.seconds, 3),
        "started": attempt.started,
        "log": attempt.log,
        "fault": fault_to_data(attempt.fault) if attempt.fault else None,
        "expected": expectation_to_data(attempt.expected) if attempt.expected else None,
        "actual": attempt.actual.value if attempt.actual else None,
        "machine": attempt.machine,
        "board": attempt.board,
    }


def attempt_fields(fields: Fields) -> dict[str, Any]:
    """What `attempt_to_data` wrote, as the fields of an Attempt. A verdict that nobody knows is an ERROR of ours."""
    told = fields.take("verdict")
    verdict, reason = verdict_of(told), fields.text("reason")
    fault, expected = fields.take("fault"), fields.take("expected")
    return {
        "verdict": verdict or Verdict.ERROR,
        "reason": reason if verdict else f"events: unknown verdict {told!r} {reason}".rstrip(),
        "seconds": fields.seconds("seconds"),
        "started": fields.number("started"),
        "log": fields.text("log") or None,
        "fault": _fault(Fields(fault)) if isinstance(fault, dict) else None,
        "expected": _expectation(Fields(expected)) if isinstance(expected, dict) else None,
        "actual": verdict_of(fields.take("actual")),
        "machine": fields.text("machine"),
        "board": fields.text("board"),
    }


def verdict_of(value: object) -> Verdict | None:
    """The verdict of that name."""
    return _VERDICTS.get(value) if isinstance(value, str) else None


def fault_to_data(fault: Fault) -> dict[str, object]:
    return {"kind": fault.kind.value, "title": fault.title, "lines": list(fault.lines)}


def _fault(fields: Fields) -> Fault:
    return Fault(
        kind=_FAULT_KINDS.get(fields.text("kind"), FaultKind.BUG),
        title=fields.text("title"),
        lines=fields.texts("lines"),
    )


def expectation_to_data(expected: Expectation) -> dict[str, object]:
    return {"verdicts": [verdict.value for verdict in expected.verdicts], "reason": expected.reason}


def _expectation(fields: Fields) -> Expectation:
    verdicts = map(verdict_of, fields.texts("verdicts"))
    return Expectation(
        verdicts=tuple(verdict for verdict in verdicts if verdict is not None), reason=fields.text("reason")
    )
