"""results in, one JSON document out, for programs. Keys are only ever added; anything else raises VERSION.

::

    {"version": 1,
     "started": 1700000000.0, "seconds": 12.5,   Unix time; wall-clock
     "ended": "complete" | … | null,             null: the run was killed
     "exit_code": 0 | 1 | 3,
     "properties": {…},                          as the run wrote them
     "notes": ["…"],
     "counts": {"PASS": 3, …},                   every verdict has an entry
     "results": [
       {"test": "…", "suite": "…", "verdict": "PASS", "reason": "", "seconds": 1.5, "started": 1.0 | null,
        "log": "logs/…" | null,                  below the run directory
        "fault": {"kind": "panic", "title": "…", "lines": ["…"]} | null,
        "expected": {"verdicts": ["FAIL"], "reason": "…"} | null,
        "actual": "FAIL" | null,                 before expectations were applied
        "unexpected_pass": false}]}
"""

from __future__ import annotations

import json
from typing import Any

from harness.model.result import Result, RunResults

VERSION = 1


def results_json(results: RunResults) -> str:
    """The whole document, indented, ASCII only (lone surrogates of the console stay escapes)."""
    document = {
        "version": VERSION,
        "started": results.started,
        "seconds": results.seconds,
        "ended": results.ended,
        "exit_code": results.exit_code,
        "properties": dict(results.properties),
        "notes": list(results.notes),
        "counts": {verdict.value: count for verdict, count in results.count().items()},
        "results": [_result(result) for result in results.results],
    }
    return json.dumps(document, indent=1, default=str) + "\n"


def _result(result: Result) -> dict[str, Any]:
    fault, expected = result.fault, result.expected
    return {
        "test": result.test,
        "suite": result.suite,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "started": result.started,
        "log": result.log,
        "fault": {"kind": fault.kind.value, "title": fault.title, "lines": list(fault.lines)} if fault else None,
        "expected": {"verdicts": [verdict.value for verdict in expected.verdicts], "reason": expected.reason}
        if expected
        else None,
        "actual": result.actual.value if result.actual else None,
        "unexpected_pass": result.is_unexpected_pass,
    }
