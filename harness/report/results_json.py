"""Results in, one JSON document out, for programs. Keys are only ever added; any other change increments VERSION.

::

    {"version": 1,
     "run": {"id": "…", "schema": 2,             id: unique, sorts by time; schema: version of events.jsonl
             "harness": {"version": "0.1.0", "commit": "…", "modified": false},
             "host": "…", "board": "…", "boards": [],
             "started": 1700000000.0, "ended": 1700000012.5},
     "started": 1700000000.0, "seconds": 12.5,   Unix time; wall-clock
     "ended": "complete" | … | null,             for people; null: the run was killed
     "end": {"kind": "complete", "reason": ""} | null,    kind: see EndKind
     "exit_code": 0 | 1 | 2 | 3,                 of the command
     "properties": {…},                          of the run: kernel, patches, compiler, board …
     "notes": ["…"],
     "compared_with": "…" | null,                id of the run that the changes are changes from; null: the history
                                                 has no earlier run of this cell, or was not asked
     "vanished": ["…"],                          tests of that run only, although both were asked for them
     "counts": {"PASS": 3, …},                   every verdict has an entry
     "results": [
       {"test": "…", "suite": "…", "verdict": "PASS", "reason": "", "seconds": 1.5, "started": 1.0 | null,
        "log": "logs/…" | null,                  below the run directory
        "fault": {"kind": "panic", "title": "…", "lines": ["…"], "whole": true,
                  "signature": "…"} | null,      equal for equal bugs
        "expected": {…} | null,                  the known outcome that it matched, or the first that has not expired:
                     {"place": "expectations.yaml: expectations.0", "test": "…", "verdicts": ["FAIL"], "reason": "…",
                      "faults": ["…"], "messages": ["…"], "issue": "https://…", "until": "…",
                      "standing": "met" | "other" | "expired"}
        "expectations": [{…}],                   all known outcomes that name this test and apply here
        "actual": "FAIL" | null,                 before expectations were applied
        "unexpected_pass": false,
        "machine": "gw0/restored-7",             which of the run's machines; empty: the test used none
        "board": "…",
        "attempts": [                            all, if there were several, in the order they began
          {"verdict": "ERROR", …, "machine": "…", "board": "…"}],    the fields of a result
        "choice": "",                            which attempt is the result, and why
        "repeats": [{"condition": "restored" | "booted" | "used" | "one CPU", "load": 1.5, …}],
                                                 repetitions of a failure, the fields of a result
        "repeated": "",                          what they show, for people
        "confirmed": {"class": "solid" | "flaky" | "not repeatable",
                      "passes": 3, "failures": 1} | null,
        "change": {"class": "new failure", …} | null}],    since `compared_with`; class: see model.comparison.Change;
                     the other keys are those of a test in `harness compare --format json`, from "before" on
     "expired_expectations": [{…}],              expired known outcomes of this run's tests
     "unmatched_expectations": [{…}]}            those that no test matched, though tests that they name ran
"""

from __future__ import annotations

import json

from harness.model import known
from harness.model.comparison import Change
from harness.model.past import Past
from harness.model.result import Attempt, Result, RunResults
from harness.parse.outcomes import attempt_to_data, expectation_to_data
from harness.parse.records import run_record_to_data
from harness.report.compare_text import evidence_data
from harness.report.confirming import confirmed, told

VERSION = 1


def results_json(results: RunResults, *, past: Past | None = None) -> str:
    """The whole document, indented, ASCII only (lone surrogates of the console stay escapes). `past`: what the history
    says about these tests; None: nothing."""
    vanished = past.comparison.of(Change.VANISHED) if past else ()
    document = {
        "version": VERSION,
        "started": results.started,
        "seconds": results.seconds,
        "run": _run(results),
        "ended": str(results.ended) if results.ended else None,
        "end": {"kind": results.ended.kind.value, "reason": results.ended.reason} if results.ended else None,
        "exit_code": results.exit_code,
        "properties": run_record_to_data(results.record),
        "notes": list(results.notes),
        "counts": {verdict.value: count for verdict, count in results.count().items()},
        "compared_with": past.comparison.old.id if past else None,
        "vanished": [changed.test for changed in vanished],
        "results": [_result(result, past) for result in results.results],
        "expired_expectations": [expectation_to_data(each) for each in known.expired(results)],
        "unmatched_expectations": [expectation_to_data(each) for each in known.unmatched(results)],
    }
    return json.dumps(document, indent=1) + "\n"


def _run(results: RunResults) -> dict[str, object]:
    record = results.record
    harness = record.harness
    return {
        "id": record.id,
        "schema": record.schema,
        "harness": {"version": harness.version, "commit": harness.commit, "modified": harness.is_dirty},
        "host": record.host,
        "board": record.board.name,
        "boards": list(record.boards),
        "started": results.started,
        "ended": results.started + results.seconds,
    }


def _result(result: Result, past: Past | None) -> dict[str, object]:
    return {
        "test": result.test,
        "suite": result.suite,
        **_attempt(result),
        "unexpected_pass": result.is_unexpected_pass,
        "attempts": [_attempt(attempt) for attempt in result.attempts] if result.attempts else [],
        "choice": result.choice,
        "repeats": [
            _attempt(repeat) | {"condition": repeat.condition.value, "load": repeat.load} for repeat in result.repeats
        ],
        "repeated": told(result),
        "confirmed": _confirmed(result),
        "change": _change(result, past),
    }


def _confirmed(result: Result) -> dict[str, object] | None:
    kind, tally = confirmed(result)
    return {"class": kind.value, "passes": tally.passes, "failures": tally.failures} if kind else None


def _change(result: Result, past: Past | None) -> dict[str, object] | None:
    track = past.tracks.get(result.test) if past else None
    return {"class": track.changed.change.value} | evidence_data(track.changed) if track else None


def _attempt(attempt: Attempt) -> dict[str, object]:
    return attempt_to_data(attempt) | {
        "expected": expectation_to_data(attempt.expected) if attempt.expected else None,
    }
