"""Encodes attempts at tests as JSON and decodes them: for events.jsonl, which omits empty fields, and for results.json,
which has all of them. The only module that knows the form of faults and expectations."""

from __future__ import annotations

from typing import Any

from harness.model.fault import Fault, FaultKind
from harness.model.result import Attempt, Expectation, Standing, Verdict
from harness.parse.fields import Fields, shown

_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_FAULT_KINDS = {kind.value: kind for kind in FaultKind}
_STANDINGS = {standing.value: standing for standing in Standing}


def attempt_to_data(attempt: Attempt) -> dict[str, object]:
    """Every field of `attempt`."""
    return {
        "verdict": attempt.verdict.value,
        "reason": attempt.reason,
        "seconds": round(attempt.seconds, 3),
        "started": attempt.started,
        "log": attempt.log,
        "fault": fault_to_data(attempt.fault) if attempt.fault else None,
        "expectations": [expectation_to_data(each) for each in attempt.expectations],
        "actual": attempt.actual.value if attempt.actual else None,
        "machine": attempt.machine,
        "board": attempt.board,
    }


def attempt_fields(fields: Fields) -> dict[str, Any]:
    """What `attempt_to_data` wrote, as the fields of an Attempt. A verdict that nobody knows is an ERROR of ours."""
    told = fields.take("verdict")
    verdict, reason = verdict_of(told), fields.text("reason")
    fault, actual = fields.inner_or_none("fault"), verdict_of(fields.take("actual"))
    return {
        "verdict": verdict or Verdict.ERROR,
        "reason": reason if verdict else f"events: unknown verdict {shown(told)} {reason}".rstrip(),
        "seconds": fields.seconds("seconds"),
        "started": fields.number("started"),
        "log": fields.text("log") or None,
        "fault": _fault(fault) if fault else None,
        "expectations": _expectations(fields, actual or verdict),
        "actual": actual,
        "machine": fields.text("machine"),
        "board": fields.text("board"),
    }


def verdict_of(value: object) -> Verdict | None:
    """The verdict of that name."""
    return _VERDICTS.get(value) if isinstance(value, str) else None


def fault_to_data(fault: Fault) -> dict[str, object]:
    """The signature follows from the rest: it is for who reads the JSON, to paste into an expectations file, say."""
    return {
        "kind": fault.kind.value,
        "title": fault.title,
        "signature": str(fault.signature),
        "whole": fault.is_whole,
        "lines": list(fault.lines),
    }


def _fault(fields: Fields) -> Fault:
    return Fault(
        kind=_FAULT_KINDS.get(fields.text("kind"), FaultKind.BUG),
        title=fields.text("title"),
        lines=fields.texts("lines"),
        is_whole=fields.take("whole") is not False,  # not on record in the first format
    )


def expectation_to_data(expected: Expectation) -> dict[str, object]:
    return {
        "verdicts": [verdict.value for verdict in expected.verdicts],
        "reason": expected.reason,
        "test": expected.test,
        "faults": list(expected.faults),
        "messages": list(expected.messages),
        "issue": expected.issue,
        "until": expected.until,
        "who": expected.who,
        "since": expected.since,
        "place": expected.place,
        "standing": expected.standing.value,
    }


def _expectations(fields: Fields, actual: Verdict | None) -> tuple[Expectation, ...]:
    """What a test was held against. The first format has at most one known outcome, which is of verdicts alone."""
    before, listed = fields.inner_or_none("expected"), fields.inners("expectations")
    return tuple(_expectation(each, actual) for each in listed or filter(None, [before]) if each.left)


def _expectation(fields: Fields, actual: Verdict | None) -> Expectation:
    verdicts = tuple(verdict for verdict in map(verdict_of, fields.texts("verdicts")) if verdict is not None)
    standing = _STANDINGS.get(fields.text("standing"), Standing.MET if actual in verdicts else Standing.OTHER)
    return Expectation(
        verdicts=verdicts,
        reason=fields.text("reason"),
        test=fields.text("test"),
        faults=fields.texts("faults"),
        messages=fields.texts("messages"),
        issue=fields.text("issue"),
        until=fields.text("until"),
        who=fields.text("who"),
        since=fields.text("since"),
        place=fields.text("place"),
        standing=standing,
    )
