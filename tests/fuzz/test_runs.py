"""The events of a run and what is made from them: written and read back equal; whatever is read, documents can be made
from it, and what a target printed can't become markup or an escape sequence."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

from hypothesis import example
from hypothesis import strategies as st
from lxml import etree
from markdown_it import MarkdownIt

from harness.model.event import (
    AttemptEnded,
    Booted,
    Event,
    Finished,
    Note,
    Planned,
    RunBegun,
    RunChanged,
    RunEnded,
    Started,
)
from harness.model.fault import Fault, FaultKind
from harness.model.history import Outcome, StoredKernel, StoredRun
from harness.model.past import Past
from harness.model.record import (
    BoardRecord,
    BuildHost,
    BuildRecord,
    HarnessRecord,
    KernelRecord,
    PatchRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.result import Attempt, EndKind, Expectation, Result, RunEnd, RunResults, Standing, Verdict
from harness.parse.events import VERSION, event_from_json, event_to_json, parse_events
from harness.parse.manifest import manifest_from_json
from harness.parse.records import build_record_from_json, build_record_to_json
from harness.report.compare import Side, by_test
from harness.report.fold import fold
from harness.report.formats import FORMATS
from harness.report.markdown import MOST_LINES
from harness.report.past import past_of
from harness.report.summary import summary_lines
from harness.report.text import clean, one_line, tail
from tests.fuzz.fuzzing import fuzzed, json_values, pieces_of

_text = st.text(max_size=8) | st.sampled_from(["<x-y>", "&amp;", "]]>", "\x1b[31m", "\0", "\ud800", "a\nb", "\ufffe"])
_named = _text.filter(bool)
_seconds = st.integers(0, 10**6).map(lambda number: number / 8)
_texts = st.lists(_text, max_size=3).map(tuple)
_fault = st.builds(Fault, kind=st.sampled_from(FaultKind), title=_text, lines=_texts, is_whole=st.booleans())
_expectation = st.builds(
    Expectation, verdicts=st.lists(st.sampled_from(Verdict), max_size=2).map(tuple), reason=_text, test=_text,
    faults=_texts, messages=_texts, issue=_text, until=_text, place=_text, standing=st.sampled_from(Standing),
)  # fmt: skip
_attempt = {
    "verdict": st.sampled_from(Verdict),
    "reason": _text,
    "seconds": _seconds,
    "started": st.none() | _seconds,
    "log": st.none() | _named,
    "machine": _text,
    "fault": st.none() | _fault,
    "expectations": st.lists(_expectation, max_size=2).map(tuple),
    "actual": st.none() | st.sampled_from(Verdict),
}
_common = {"time": _seconds, "worker": _text}
_source = st.builds(SourceRecord, spec=_text, version=_text, checksum=_text, identity=_text)
_patches = st.lists(st.builds(PatchRecord, name=_text, sha256=_text), max_size=2).map(tuple)
_reasons = st.dictionaries(_text, _text, max_size=2)
_kernel = {
    "release": _text, "key": _text, "made": _text, "source": _source, "patches": _patches, "fragments": _texts,
    "without": _reasons,
}  # fmt: skip
_build = st.builds(
    BuildRecord, key=_text,
    kernel=st.builds(KernelRecord, toolchain=st.builds(ToolchainRecord, name=_text, command=_text, version=_text,
                                                       patchable=st.none() | st.booleans()), **_kernel),
    left_out=_reasons, unbuilt=_reasons,
    host=st.builds(BuildHost, machine=_text, system=_text, cpus=st.integers(0, 999)),
    times=st.dictionaries(_text, _seconds, max_size=2), reproduce=_text,
)  # fmt: skip
_version = st.sampled_from(["", "12.2.0"])
_compiler = st.builds(ToolchainRecord, name=_text, command=st.just("gcc"), version=_version)
_details = st.dictionaries(st.sampled_from(["accelerator", "threads"]), _text)
_run = st.builds(
    RunRecord, id=_text, schema=st.just(VERSION),
    harness=st.builds(HarnessRecord, version=_text, commit=_text, is_dirty=st.booleans()), host=_text, build=_text,
    kernel=st.builds(KernelRecord, toolchain=_compiler, **_kernel),
    board=st.builds(BoardRecord, name=_text, details=_details),
    boards=_texts, suites=_texts, keyword=_text, isolation=_text, workers=st.integers(0, 99), testcases=_text,
    command=_text,
)  # fmt: skip
_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, test=_named, machine=_text, board=_text, **_common),
    st.builds(Finished, result=st.builds(Result, test=_named, **_attempt), **_common),
    st.builds(AttemptEnded, test=_named, attempt=st.builds(Attempt, **_attempt), **_common),
    st.builds(Note, test=_text, text=_text, is_problem=st.booleans(), **_common),
    st.builds(Booted, seconds=_seconds, factor=_seconds.map(lambda number: number + 1), restored=st.booleans(),
              machine=_text, **_common),
    st.builds(RunChanged, isolation=st.none() | _named, workers=st.none() | st.integers(1, 99), **_common),
    st.builds(Planned, tests=_texts, **_common),
    st.builds(RunEnded, end=st.builds(RunEnd, kind=st.sampled_from([*set(EndKind) - {EndKind.OTHER}]), reason=_text),
              **_common),
    st.builds(RunBegun, record=_run, time=_seconds),
)  # fmt: skip


@fuzzed(_event, examples=200)
@example(RunBegun(record=RunRecord(schema=VERSION, kernel=KernelRecord(toolchain=ToolchainRecord(command="gcc")))))
def test_events_are_read_as_they_were_written(event: Event) -> None:
    line = event_to_json(event)
    assert line.isascii()
    assert "\n" not in line
    unknown: Counter[str] = Counter()
    assert event_from_json(line, unknown=unknown) == event
    assert not unknown


@fuzzed(_build)
def test_builds_are_read_as_they_were_written(record: BuildRecord) -> None:
    assert build_record_from_json(build_record_to_json(record)) == record


KINDS = ("run", "changed", "planned", "started", "attempt", "finished", "booted", "note", "ended", "new", "")
FIELDS = (
    "verdict", "reason", "seconds", "started", "log", "fault", "expectations", "actual", "machine", "board", "worker",
    "text", "problem", "factor", "restored", "tests", "why", "isolation", "workers", "kernel", "patches", "source",
    "id", "harness", "toolchain", "compiler", "suites", "without", "schema", "kind", "title", "lines", "whole",
    "expected",
)  # fmt: skip
_foreign = st.fixed_dictionaries(
    {"kind": st.sampled_from(KINDS), "time": st.just(1.0) | st.integers() | st.floats()},
    optional={
        "v": st.sampled_from([1, 2, 3]) | json_values,
        "test": _text | json_values,
        "data": st.dictionaries(
            st.sampled_from(FIELDS) | _text, json_values | st.sampled_from(["PASS", "CRASH", 1, "complete"]), max_size=6
        )
        | json_values,
    },
)


@fuzzed(st.lists((_foreign | json_values).map(json.dumps) | _text, max_size=8), examples=120)
@example(["[" * 5000, '{"v": 2, "kind": "note", "time": ' + "1" * 5000 + "}"])
@example(['{"kind": "finished", "time": 1, "test": "a", "data": {"fault": {"title": "\\u0000"}}}', "1"])
def test_whatever_is_read_documents_can_be_made_from_it(lines: list[str]) -> None:
    damaged: list[int] = []
    lines = [line.replace("\n", " ") for line in lines]
    events = [*parse_events(lines, on_damage=lambda number, why: damaged.append(number))]
    assert set(damaged) <= set(range(1, len(lines) + 1))
    assert len([event for event in events if not _is_ours(event)]) + len(damaged) <= len(lines)
    for event in events:
        assert math.isfinite(event.time)
        again = event_from_json(event_to_json(event))
        assert again is not None
        assert _without_schema(again) == _without_schema(event)
    results = fold(events)
    for document in FORMATS:
        for past in (None, _past(results)):
            _check_document(document.file, document.render(results, lambda name: "<x-z>\x1b[1m\0" + name, past))
    for line in summary_lines(results, run_dir=Path("out")):
        assert line == clean(line)


def _past(results: RunResults) -> Past:
    """The same results as the history of themselves, of which the first is gone; every second one failed before."""
    outcomes = [
        Outcome(
            test=each.test,
            verdict=each.verdict,
            actual=each.actual or each.verdict,
            seconds=each.seconds,
            reason=each.reason,
            signature=each.fault.signature if each.fault else None,
        )
        for each in results.results
    ]
    before = [
        dataclasses.replace(each, actual=Verdict.FAIL) if number % 2 else each for number, each in enumerate(outcomes)
    ]
    old, new = (StoredRun(id=f"{name}<x-y>\x1b[31m\0", kernel=StoredKernel(key=name)) for name in ("old", "new"))
    runs = [(old, by_test(before)), (new, by_test(outcomes[1:]))]
    return past_of(Side(run=old, runs=runs[:1]), Side(run=new, runs=runs[1:]), runs)


def _is_ours(event: Event) -> bool:
    return isinstance(event, Note) and event.text.startswith("events.jsonl: ")


def _without_schema(event: Event) -> Event:
    """A record of an older version is written in the present one."""
    if isinstance(event, RunBegun):
        return dataclasses.replace(event, record=dataclasses.replace(event.record, schema=0))
    return event


def _check_document(name: str, text: str) -> None:
    assert "\x1b" not in text.replace("\\u001b", "")
    assert "\0" not in text
    if name.endswith(".xml"):
        root = etree.fromstring(text.encode())
        assert {element.tag for element in root.iter()} <= {
            "testsuites", "testsuite", "testcase", "failure", "error", "skipped", "system-out", "system-err",
            "properties", "property",
        }  # fmt: skip
    elif name.endswith(".json"):
        json.loads(text)
    elif name.endswith(".md"):
        assert len(text.splitlines()) <= MOST_LINES
        assert "<x-" not in MarkdownIt("gfm-like", {"linkify": False}).render(text)
    else:
        assert "<x-" not in text


OUTPUT = ("\x1b[", "\x1b]", "\x07", "\x1b\\", "31m", "\r\n", "\r", "\x9b", "\ufffe", "\x85", "a", "\n")


@fuzzed(pieces_of(*OUTPUT), examples=200)
def test_text_of_a_target_is_made_safe(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert all(char in "\t\n" or char >= " " for char in cleaned)
    assert not {"\x1b", "\x7f", "\x85", "\x9b", "\ufffe", "\0"} & {*cleaned}
    assert "\n" not in one_line(text, 20)
    assert len(one_line(text, 20)) <= 20
    assert cleaned.endswith(tail(cleaned, 10).partition("left out ...]\n")[2])


RECORD_FIELDS = (
    "key", "release", "without", "test_modules_left_out", "toolchain", "host", "times", "patches", "source", "files",
    "links", "version", "size", "sha256", "a/b", "../x", "cpus", "patchable_function_entry",
)  # fmt: skip
_record = st.dictionaries(st.sampled_from(RECORD_FIELDS), json_values | st.dictionaries(_text, json_values), max_size=9)


@fuzzed((_record | json_values).map(json.dumps) | _text, examples=120)
@example("[" * 100_000)
@example('{"key": "", "release": "", "without": {}, "test_modules_left_out": {}, "times": {"a": 1e999}}')
def test_records_of_the_cache_are_read_or_damaged(text: str) -> None:
    for read in (build_record_from_json, manifest_from_json):
        try:
            read(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 (it may be raised or not)
