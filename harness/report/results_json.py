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
        "expected": {…} | null,                  the known outcome that it met, else the first that has not expired:
                     {"place": "expectations.yaml: expectations.0", "test": "…", "verdicts": ["FAIL"], "reason": "…",
                      "faults": ["…"], "messages": ["…"], "issue": "https://…", "until": "…",
                      "standing": "met" | "other" | "expired"}
        "actual": "FAIL" | null,                 before expectations were applied
        "unexpected_pass": false}],
     "expired_expectations": [{…}],              known outcomes that count no more, of tests of this run
     "unmatched_expectations": [{…}]}            those that no test met, though tests of theirs gave an answer
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.model import known
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
        "expired_expectations": [asdict(each) for each in known.expired(results)],
        "unmatched_expectations": [asdict(each) for each in known.unmatched(results)],
    }
    return json.dumps(document, indent=1, default=str) + "\n"


def _result(result: Result) -> dict[str, Any]:
    fault = result.fault
    return {
        "test": result.test,
        "suite": result.suite,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "started": result.started,
        "log": result.log,
        "fault": {"kind": fault.kind.value, "title": fault.title, "lines": list(fault.lines)} if fault else None,
        "expected": asdict(result.expected) if result.expected else None,
        "actual": result.actual.value if result.actual else None,
        "unexpected_pass": result.is_unexpected_pass,
    }
