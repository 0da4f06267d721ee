"""JUnit XML: valid for Jenkins, every verdict in its place, safe with whatever the target printed.

Also of the texts and the JSON that the documents share.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from harness.model.fault import Fault, FaultKind
from harness.model.record import HarnessRecord, KernelRecord, PatchRecord, RunRecord
from harness.model.result import Attempt, EndKind, Expectation, Result, RunEnd, RunResults, Standing, Verdict
from harness.report.junit import LOGS_LIMIT, case_name, junit_xml
from harness.report.results_json import results_json
from harness.report.text import LOG_TAIL, clean, flatten, last_lines, one_line, tail
from tests.faults.catalogue import Blame, fault

SCHEMA = Path(__file__).parents[3] / "shared" / "schemas" / "junit-10.xsd"
HOSTILE = (
    "</script><b>&amp; ]]> \x00\x1b[31mred\x1b[0m\x1b]0;title\x07 \ud800 \udfff \ufffe\uffff \U0001ffff\x08\x85\r\n"
    "end é\U0001f427"
)
PANIC = Fault(kind=FaultKind.PANIC, title="panic: boom in f", lines=("Unable to handle kernel boom", "pc : f+0x1/0x2"))


def run(*results: Result, **changes: object) -> RunResults:
    fields: dict[str, object] = {"started": 1_700_000_000.0, "ended": RunEnd(kind=EndKind.COMPLETE)} | changes
    return RunResults(results=results, **fields)  # type: ignore[arg-type]


def one(test: str = "testcases/a.py::t", verdict: Verdict = Verdict.PASS, **more: object) -> Result:
    return Result(test=test, verdict=verdict, **more)  # type: ignore[arg-type]


def no_logs(path: str) -> str:
    raise FileNotFoundError(path)


def parse(results: RunResults, logs: Callable[[str], str] = no_logs) -> etree._Element:
    """Every document of these tests is held against the schema where that is at hand."""
    root = etree.fromstring(junit_xml(results, logs=logs).encode())
    if SCHEMA.exists():
        etree.XMLSchema(etree.parse(SCHEMA)).assertValid(root)
    return root


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    if not SCHEMA.exists():
        pytest.skip(f"no schema at {SCHEMA.name}: shared/schemas lies beside the checkout only where it is developed")
    return etree.XMLSchema(etree.parse(SCHEMA))


def test_the_schema_bites(schema: etree.XMLSchema) -> None:
    """Or the other tests' validation proves nothing."""
    assert not schema.validate(etree.fromstring('<testsuites disabled="0"/>'))
    assert not schema.validate(etree.fromstring('<testsuites time="1e-05"/>'))
    schema.assertValid(parse(run(*(one(f"testcases/a.py::{verdict}", verdict) for verdict in Verdict))))


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 0.00001, 12.345, 999.9996, 1234.5, 123456.0, 1e9])
def test_times(seconds: float) -> None:
    root = parse(run(one(seconds=seconds), one("testcases/b.py::t", seconds=seconds)))
    case = root.find(".//testcase")
    assert case is not None
    assert case.get("time") == f"{seconds:.3f}"
    assert root.get("time") == f"{2 * seconds:.3f}"


@pytest.mark.parametrize(
    ("verdict", "element"),
    [
        (Verdict.PASS, None),
        (Verdict.SKIP, "skipped"),
        (Verdict.XFAIL, "skipped"),
        (Verdict.FAIL, "failure"),
        (Verdict.UNRESOLVED, "failure"),
        (Verdict.CRASH, "error"),
        (Verdict.TIMEOUT, "error"),
        (Verdict.ERROR, "error"),
        (Verdict.NOTRUN, "error"),
    ],
)
@pytest.mark.parametrize("reason", ["why it is so", ""])
def test_verdicts(verdict: Verdict, element: str | None, reason: str) -> None:
    root = parse(run(one(verdict=verdict, reason=reason)))
    (case,) = root.findall(".//testcase")
    assert [child.tag for child in case] == ([element] if element else [])
    if element:
        assert case[0].get("type") == verdict
        assert case[0].get("message") == (reason or verdict)
    (suite,) = root
    counts = {"skipped": suite.get("skipped"), "failure": suite.get("failures"), "error": suite.get("errors")}
    assert counts == {name: "1" if name == element else "0" for name in counts}
    assert root.get("failures") == counts["failure"]
    assert root.get("errors") == counts["error"]


def test_fault_and_log() -> None:
    root = parse(run(one(verdict=Verdict.CRASH, fault=PANIC, log="logs/1")), lambda path: f"log of {path}")
    (error,) = root.iter("error")
    assert error.get("message") == "panic: boom in f"
    assert error.text == "Unable to handle kernel boom\npc : f+0x1/0x2"
    assert root.findtext(".//system-out") == "log of logs/1"


def test_known_failure_says_why_it_is_known() -> None:
    expected = Expectation(verdicts=(Verdict.FAIL,), reason="fixed in 7.4")
    (skipped,) = parse(run(one(verdict=Verdict.XFAIL, expectations=(expected,)))).iter("skipped")
    assert skipped.get("message") == "known: fixed in 7.4"


@pytest.mark.parametrize("reason", ["", "known FAIL: fixed in 7.4 (no)", "x" * 600])
def test_a_known_failure_names_its_issue(reason: str) -> None:
    issue = "https://bugs.example.org/1"
    expected = Expectation(verdicts=(Verdict.FAIL,), reason="fixed in 7.4", issue=issue)
    (skipped,) = parse(run(one(verdict=Verdict.XFAIL, reason=reason, expectations=(expected,)))).iter("skipped")
    assert (skipped.get("message") or "").endswith(f", {issue}")


def test_a_pass_has_no_log_and_a_missing_log_is_told() -> None:
    def boom(path: str) -> str:
        raise AssertionError(path)

    assert parse(run(one(log="logs/1")), boom).findtext(".//system-out") is None
    text = parse(run(one(verdict=Verdict.FAIL, log="logs/1"))).findtext(".//system-out")
    assert text == "[the log is not there: logs/1]"


def test_suites_properties_and_timestamps() -> None:
    results = run(
        one("testcases/a.py::t", started=1_700_000_100.0),
        one("selftests/ftrace/test.d/a.tc", seconds=1.5),
        one("testcases/b.py::t", started=1_700_000_050.0),
        record=RunRecord(
            harness=HarnessRecord(version="1", commit="abc", is_dirty=True),
            kernel=KernelRecord(release="7.3.4", patches=(PatchRecord(name="1.patch", sha256="a"),)),
            suites=("testcases", "selftests/ftrace"),
        ),
    )
    root = parse(results)
    assert [suite.get("name") for suite in root] == ["testcases", "selftests/ftrace"]
    assert [suite.get("tests") for suite in root] == ["2", "1"]
    assert [suite.get("timestamp") for suite in root] == ["2023-11-14T22:14:10", "2023-11-14T22:13:20"]
    assert [suite.get("time") for suite in root] == ["0.000", "1.500"]
    for suite in root:
        told = {item.get("name"): item.get("value") for item in suite.iter("property")}
        assert told.items() >= {
            "kernel": "7.3.4", "patches.0.name": "1.patch", "harness_modified": "yes", "board": "", "workers": "1",
            "suites": "testcases, selftests/ftrace",
        }.items()  # fmt: skip


def test_absurd_times() -> None:
    parse(run(one(started=1e300), started=-5.0))
    parse(run(one(), started=-5.0))


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("selftests/ftrace/test.d/00basic/basic1.tc", ("selftests.ftrace.test.d.00basic", "basic1.tc")),
        ("selftests/ftrace/test.d/a/b.tc [instance]", ("selftests.ftrace.test.d.a", "b.tc [instance]")),
        ("selftests/ftrace/test.d/a/b.tc[instance]", ("selftests.ftrace.test.d.a", "b.tc[instance]")),
        ("selftests/ftrace/a.tc [x/y]", ("selftests.ftrace", "a.tc [x/y]")),
        ("selftests/livepatch/test-state.sh::system state", ("selftests.livepatch.test-state", "system state")),
        ("testcases/function/test_calls.py::test_x", ("testcases.function.test_calls", "test_x")),
        ("testcases/function/test_calls.py::test_x[a/b::c]", ("testcases.function.test_calls", "test_x[a/b::c]")),
        ("testcases/t.py::C::test_x", ("testcases.t", "C::test_x")),
        ("lonely", ("harness", "lonely")),
        ("", ("harness", "unnamed")),
    ],
)  # fmt: skip
def test_names(test: str, name: tuple[str, str]) -> None:
    assert case_name(test) == name


def test_names_are_unique_across_the_document() -> None:
    tests = ["testcases/a.py::t", "testcases/a.py::t\x00", "testcases/a.sh::t", "selftests/a.b/c", "selftests/a/b/c",
             "selftests/a/b/c [instance]", "testcases/a.py::t (2)"]  # fmt: skip
    cases = parse(run(*(one(test) for test in tests))).findall(".//testcase")
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(names)) == len(names) == len(tests)


@fault(
    "control characters and markup in everything that the target says",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="documents that parsers accept",
)
def test_hostile_text_everywhere() -> None:
    fault = Fault(kind=FaultKind.PANIC, title=HOSTILE, lines=(HOSTILE, HOSTILE))
    hostile = one(f"testcases/{HOSTILE}.py::{HOSTILE}", Verdict.CRASH, reason=HOSTILE, fault=fault, log=HOSTILE)
    root = parse(
        run(hostile, record=RunRecord(kernel=KernelRecord(release=HOSTILE, without={HOSTILE: HOSTILE}))),
        lambda path: path * 3,
    )
    text = root.findtext(".//system-out")
    assert text is not None
    assert text.startswith("</script><b>&amp; ]]> red")
    assert "end é\U0001f427" in text
    everything = "".join(map(str, root.itertext())) + "".join(
        str(value) for item in root.iter() for value in item.attrib.values()
    )
    assert not set(everything) & set("\x00\x1b\x08\x85\x07\r\ufffe\uffff\ud800\udfff\U0001ffff")


def test_a_huge_log_is_bounded() -> None:
    log = "".join(f"line {number}\n" for number in range(500_000))
    assert len(log) > 5_000_000
    text = parse(run(one(verdict=Verdict.FAIL, log="x")), lambda _path: log).findtext(".//system-out")
    assert text is not None
    assert len(text) < LOG_TAIL + 200
    first, second, *_, last, _empty = text.split("\n")
    assert first == f"[... the first {len(log) - len(text) + len(first) + 1} of {len(log)} characters left out ...]"
    assert second.startswith("line ")
    assert last == "line 499999"


def test_all_logs_together_are_bounded() -> None:
    tests = [one(f"testcases/a.py::t{n}", Verdict.FAIL, log=f"logs/{n}.log") for n in range(600)]
    texts = [
        case.findtext("system-out") or "" for case in parse(run(*tests), lambda _path: "x" * LOG_TAIL).iter("testcase")
    ]
    assert sum(map(len, texts)) < LOGS_LIMIT + LOG_TAIL + 600 * 200
    assert texts[0] == "x" * LOG_TAIL
    assert "logs/599.log" in texts[-1]


def test_ten_thousand_results() -> None:
    verdicts = list(Verdict)
    tests = [
        one(f"selftests/s{n % 7}/d{n % 50}/t{n}.tc", verdicts[n % 9], log="x", seconds=n / 7) for n in range(10_000)
    ]
    assert len(parse(run(*tests), lambda _path: "some log\n" * 20).findall(".//testcase")) == 10_000


def test_an_empty_run() -> None:
    assert len(parse(run())) == 0


# The texts that all documents share.


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x1b(B\x1b=\x1bcz\x1b", "red link z"),
        ("\x1b[31", ""),
        ("\x1b]0;a title that never ends\n\x1bPx", "0;a title that never ends\nx"),
        ("a\x00\x7f\x9b\ufffe\ud800b", "ab"),
        ("é \u2028 \U0001f427", "é \u2028 \U0001f427"),
        ("PASS\u202eLIAF\u202c\u2066x\u2069", "PASSLIAFx"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_one_line_tail_and_last_lines() -> None:
    assert one_line("  a\n b\x00 ") == "a b"
    assert one_line("x" * 600) == "x" * 499 + "…"
    assert tail("abc\ndef\n", 5) == "[... the first 4 of 8 characters left out ...]\ndef\n"
    assert tail("x" * 10, 4) == "[... the first 6 of 10 characters left out ...]\nxxxx"
    assert tail("abc", 3) == "abc"
    assert last_lines("a\nb\nc\n\n", 2) == "b\nc"
    assert last_lines("", 2) == ""


def test_flatten() -> None:
    assert flatten({"a": [], "b": True, "c": 1.5, "d": {"e": [[1, 2], 3]}}) == {
        "a": "", "b": "yes", "c": "1.5", "d.e.0": "1, 2", "d.e.1": "3",
    }  # fmt: skip
    assert flatten({}) == {}


def test_results_json() -> None:
    expected = Expectation(verdicts=(Verdict.FAIL,), reason=HOSTILE, standing=Standing.OTHER, place="e: 1")
    old = Expectation(verdicts=(Verdict.CRASH,), reason="r", faults=("f",), standing=Standing.EXPIRED, until="6.4")
    crash = one("testcases/a.py::t", Verdict.CRASH, fault=PANIC, log="logs/1", seconds=1.23456)
    passed = one("b", expectations=(expected, old), actual=Verdict.PASS)
    text = results_json(run(crash, passed))
    assert text.isascii()
    document = json.loads(text)
    assert document["version"] == 1
    assert (document["exit_code"], document["ended"], document["properties"]) == (1, "complete", {})
    assert document["counts"] == {verdict.value: int(verdict in ("CRASH", "PASS")) for verdict in Verdict}
    first, second = document["results"]
    assert first == {
        "test": "testcases/a.py::t", "suite": "testcases", "verdict": "CRASH", "reason": "", "seconds": 1.235,
        "started": None, "log": "logs/1", "expected": None, "actual": None, "unexpected_pass": False,
        "fault": {"kind": "panic", "title": PANIC.title, "lines": list(PANIC.lines), "whole": True,
                  "signature": f"{PANIC.title} [panic]"},
        "machine": "", "board": "", "attempts": [], "choice": "", "expectations": [], "repeats": [], "repeated": "",
        "confirmed": None, "change": None,
    }  # fmt: skip
    assert second["unexpected_pass"] is True
    assert second["expected"] == {
        "verdicts": ["FAIL"], "reason": HOSTILE, "test": "", "faults": [], "messages": [], "issue": "", "until": "",
        "who": "", "since": "", "place": "e: 1", "standing": "other",
    }  # fmt: skip
    assert [(each["verdicts"], each["until"]) for each in document["expired_expectations"]] == [(["CRASH"], "6.4")]
    assert document["unmatched_expectations"] == []  # that it passed is told already


TWICE = one(
    "testcases/a.py::t",
    Verdict.FAIL,
    reason="no",
    log="logs/1",
    attempts=(
        Attempt(verdict=Verdict.ERROR, reason=HOSTILE, seconds=1.5, machine="gw0/boot-1", board="b1", log="logs/0"),
        Attempt(verdict=Verdict.FAIL, reason="no", board="b2", fault=PANIC, log="logs/1"),
    ),
    choice="attempt 2 of 2 counts: no other says anything about the kernel",
)


def test_attempts_stand_before_the_log() -> None:
    (out,) = parse(run(TWICE), lambda path: f"text of {path}").findall(".//system-out")
    assert out.text is not None
    first, *_, choice, log = out.text.splitlines()
    assert first.startswith("attempt 1: ERROR on gw0/boot-1 of board b1 after 1.5 s: </script><b>&amp;")
    assert (choice, log) == (TWICE.choice, "text of logs/1")


def test_attempts_at_a_test_that_passed() -> None:
    passed = one(attempts=TWICE.attempts, choice="attempt 2 of 2 counts")
    assert parse(run(passed)).findtext(".//system-out", "").endswith("attempt 2 of 2 counts")


def test_attempts_in_results_json() -> None:
    (told,) = json.loads(results_json(run(TWICE)))["results"]
    assert told["choice"] == TWICE.choice
    assert [(each["verdict"], each["board"], each["log"]) for each in told["attempts"]] == [
        ("ERROR", "b1", "logs/0"),
        ("FAIL", "b2", "logs/1"),
    ]
    assert told["attempts"][1]["fault"]["title"] == PANIC.title


def test_results_json_says_which_run_it_was_and_how_it_ended() -> None:
    harness = HarnessRecord(version="1", commit="c0ffee", is_dirty=True)
    record = RunRecord(id="x", schema=2, harness=harness, host="labhost", boards=("b1", "b2"))
    ended = RunEnd(kind=EndKind.NOT_BOOTED, reason="it panicked")
    document = json.loads(results_json(run(record=record, ended=ended, seconds=2.5)))
    assert document["run"] == {
        "id": "x", "schema": 2, "harness": {"version": "1", "commit": "c0ffee", "modified": True}, "host": "labhost",
        "board": "", "boards": ["b1", "b2"], "started": 1_700_000_000.0, "ended": 1_700_000_002.5,
    }  # fmt: skip
    assert document["end"] == {"kind": "not booted", "reason": "it panicked"}
    assert document["ended"] == "the target could not be booted: it panicked"
    assert json.loads(results_json(run(ended=None)))["end"] is None
