"""Known outcomes hide nothing: which one holds for which test, place, day and fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import pytest

from harness.model.fault import Fault, FaultKind
from harness.model.known import Context, KnownOutcomes, expired, matches, unmatched
from harness.model.result import Expectation, Result, RunResults, Standing, Verdict
from harness.parse.expectations import parse_expectations
from tests.boards import is_a

HERE = Context(
    release="7.3.4",
    board="qemu-virt",
    today=date(2026, 12, 1),
    toolchain=frozenset({"gcc-12", "aarch64-linux-gnu-gcc-12", "gcc"}),
    compiler_version="12.2.0",
    config={"LIVEPATCH": "y", "NR_CPUS": "256", "KUNIT": "m"},
)
TITLE = "Unable to handle kernel write to read-only memory in module_emit_plt_entry"
FAULT = Fault(kind=FaultKind.OOPS, title=TITLE)
ANOTHER = Fault(kind=FaultKind.PANIC, title="panic: Unable to handle kernel paging request in wake_up_process")


def _known(*entries: str, context: Context = HERE) -> KnownOutcomes:
    """`entries`: the keys of one entry each; ``test: t`` and a reason, where they name none."""
    whole = [entry if "test:" in entry else f"test: t, {entry}" for entry in entries]
    whole = [entry if "reason:" in entry else f"reason: because, {entry}" for entry in whole]
    text = "expectations:\n" + "".join(f"  - {{{entry}}}\n" for entry in whole)
    return KnownOutcomes(parse_expectations(text, place="e"), context)


def _ran(
    known: KnownOutcomes, verdict: str = "FAIL", reason: str = "no", fault: Fault | None = None, test: str = "t"
) -> Result:
    judged = known.judge(test, Verdict(verdict), reason, fault)
    return Result(
        test=test, verdict=judged.verdict, reason=judged.reason, fault=fault, expectations=judged.expectations
    )


def _run(*results: Result) -> RunResults:
    return RunResults(results=results)


def _expected(result: Result) -> Expectation:
    return is_a(Expectation, result.expected)


def _places(expectations: Iterable[Expectation]) -> list[str]:
    return [each.place for each in expectations]


# -- what an outcome has to be --------------------------------------------------------------------------------------


def test_a_known_failure_says_why_it_is_known_and_where_that_is_discussed() -> None:
    result = _ran(_known("verdict: FAIL, issue: 'https://bugs.example.org/1'"))
    assert result.verdict is Verdict.XFAIL
    assert result.reason == "known FAIL: because, https://bugs.example.org/1 (no)"
    assert _ran(_known("verdict: FAIL")).reason == "known FAIL: because (no)"


def test_a_known_crash_is_that_crash_and_no_other() -> None:
    known = _known(f"verdict: CRASH, fault: '{TITLE}'")
    result = _ran(known, "CRASH", TITLE, FAULT)
    assert (result.verdict, _expected(result).standing) == (Verdict.XFAIL, Standing.MET)
    other = _ran(known, "CRASH", ANOTHER.title, ANOTHER)
    assert (other.verdict, _expected(other).standing) == (Verdict.CRASH, Standing.OTHER)
    assert other.reason == f"{ANOTHER.title}; expected: CRASH with the fault '{TITLE}'"


def test_a_known_crash_may_be_a_signature() -> None:
    """Which also knows a report that was cut short, as long as that says where it was."""
    known = _known(f"verdict: CRASH, fault: '{FAULT.signature}'")
    assert _ran(known, "CRASH", TITLE, FAULT).verdict is Verdict.XFAIL
    assert _ran(known, "CRASH", TITLE, replace(FAULT, is_whole=False)).verdict is Verdict.XFAIL
    assert _ran(known, "CRASH", TITLE, replace(FAULT, kind=FaultKind.BUG)).verdict is Verdict.CRASH
    nowhere = Fault(kind=FaultKind.OOPS, title="Unable to handle kernel write to read-only memory", is_whole=False)
    assert _ran(known, "CRASH", nowhere.title, nowhere).verdict is Verdict.CRASH
    assert _ran(_known("verdict: CRASH, fault: '* [oops]'"), "CRASH", TITLE, FAULT).verdict is Verdict.XFAIL
    assert _ran(_known("verdict: CRASH, fault: '* [panic]'"), "CRASH", TITLE, FAULT).verdict is Verdict.CRASH


def test_what_the_reason_says_does_not_make_a_fault_the_known_one() -> None:
    assert _ran(_known(f"verdict: CRASH, fault: '{TITLE}'"), "CRASH", TITLE, ANOTHER).verdict is Verdict.CRASH


def test_a_signature_as_results_json_has_it_is_the_crash() -> None:
    warning = Fault(kind=FaultKind.WARNING, title="WARNING in f (kernel/x.c:12)")
    known = _known(f"verdict: CRASH, fault: '{warning.signature}'")
    moved = replace(warning, title="WARNING in f (kernel/x.c:13)")  # by a patch to that file
    for fault in (warning, moved):
        assert _ran(known, "CRASH", fault.title, fault).verdict is Verdict.XFAIL
    for other in (
        replace(warning, title="WARNING in g (kernel/x.c:12)"),
        replace(warning, title="WARNING in f (kernel/y.c:12)"),
        replace(warning, kind=FaultKind.OOPS),
    ):
        assert _ran(known, "CRASH", other.title, other).verdict is Verdict.CRASH


def test_a_report_that_was_cut_short_may_be_the_known_one() -> None:
    known = _known(f"verdict: CRASH, fault: '{FAULT.signature}'")
    short = replace(FAULT, is_whole=False)
    assert _ran(known, "CRASH", TITLE, short).verdict is Verdict.XFAIL
    nowhere = replace(short, title=TITLE.partition(" in ")[0])  # it does not say where, so it may be anything
    assert _ran(known, "CRASH", nowhere.title, nowhere).verdict is Verdict.CRASH


def test_a_crash_without_a_report_is_known_by_its_reason() -> None:
    assert _ran(_known("verdict: CRASH, fault: 'lost*'"), "CRASH", "lost in thought").verdict is Verdict.XFAIL
    assert _ran(_known("verdict: CRASH, fault: 'lost*'"), "CRASH", "died").verdict is Verdict.CRASH


def test_a_fault_where_a_failure_is_known_is_a_crash() -> None:
    result = _ran(_known("verdict: [FAIL, PASS]"), "CRASH", ANOTHER.title, ANOTHER)
    assert result.verdict is Verdict.CRASH
    assert result.reason.endswith("; expected: FAIL or PASS")


def test_a_known_failure_may_be_known_by_its_message() -> None:
    known = _known("verdict: [FAIL, PASS], message: ['*exits too soon', 'x*']")
    assert _ran(known, reason="poll exits too soon").verdict is Verdict.XFAIL
    assert _ran(known, reason="x").verdict is Verdict.XFAIL
    other = _ran(known, reason="poll exits too soon, and more")
    assert other.verdict is Verdict.FAIL
    assert other.reason.endswith("; expected: FAIL or PASS with the message '*exits too soon' or 'x*'")
    assert _expected(_ran(known, "PASS", "")).standing is Standing.MET  # a pass has no message


def test_another_verdict_is_not_known() -> None:
    assert _ran(_known("verdict: FAIL"), "TIMEOUT").verdict is Verdict.TIMEOUT
    assert _ran(_known("verdict: FAIL"), "TIMEOUT").reason == "no; expected: FAIL"
    assert _ran(_known("verdict: FAIL"), "ERROR").reason == "no"  # says nothing of the kernel


def test_an_error_of_the_lab_may_be_known_too() -> None:
    assert _ran(_known("verdict: ERROR, message: 'no'"), "ERROR").verdict is Verdict.XFAIL


@pytest.mark.parametrize("verdict", ["PASS", "SKIP", "XFAIL"])
def test_what_is_no_failure_stays_what_it_is(verdict: str) -> None:
    result = _ran(_known("verdict: FAIL"), verdict)
    assert (result.verdict, result.reason) == (verdict, "no")


@pytest.mark.parametrize(("verdicts", "is_told"), [("FAIL", True), ("[FAIL, PASS]", False)])
def test_a_pass_where_the_outcome_changes_by_chance_is_nothing_to_tell(verdicts: str, is_told: bool) -> None:
    assert _ran(_known(f"verdict: {verdicts}"), "PASS").is_unexpected_pass is is_told


@pytest.mark.parametrize(
    ("pattern", "text", "does"),
    [
        ("a.tc[instance]", "a.tc[instance]", True),  # no set of characters
        ("a.tc[instance]", "a.tci", False),
        ("a?c", "abc", False),
        ("a.c", "abc", False),
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),  # no character is taken twice
        ("ab*ba", "aba", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*b*a*c", "a-b-c", False),
        ("*b", "abab", True),
        ("**b", "ab", True),
        ("a", "ab", False),
        ("*a", "ab", False),
        ("a  b", "a b", True),
        ("a b", "a\n b", True),
        ("A", "a", False),
        ("2 * 3", "2 * 3", True),
    ],
)
def test_patterns(pattern: str, text: str, does: bool) -> None:
    assert matches(pattern, text) is does


def test_a_hostile_text_takes_no_longer() -> None:
    assert not matches("*a" * 20 + "*b", "a" * 1_000_000)


# -- where it holds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "release", "holds"),
    [
        ("7.3", "7.3.4", True),
        ("7.3", "7.30.1", False),
        ("7.3", "7.2.9", False),
        ("6.1..6.12", "6.1.0-rc1", True),
        ("6.1..6.12", "6.12.63", True),
        ("6.1..6.12", "6.13.0", False),
        ("..6.6", "5.10.0", True),
        ("..6.6", "7.3.4", False),
        ("7.0..", "7.3.4+", True),
        ("7.0..", "6.12.0", False),
    ],
)
def test_kernels(kernel: str, release: str, holds: bool) -> None:
    known = _known(f"verdict: FAIL, kernel: '{kernel}'", context=replace(HERE, release=release))
    assert (_ran(known).verdict is Verdict.XFAIL) is holds


@pytest.mark.parametrize(
    ("scope", "holds"),
    [
        ("board: qemu-virt", True),
        ("board: [rpi*, qemu*]", True),
        ("board: rpi*", False),
        ("toolchain: gcc", True),
        ("toolchain: gcc-12", True),
        ("toolchain: aarch64-linux-gnu-*", True),
        ("toolchain: gcc-1", False),
        ("toolchain: clang*", False),
        ("toolchain: gcc 12", True),
        ("toolchain: gcc ..11", False),
        ("toolchain: gcc 12.3..", False),
        ("toolchain: [clang, gcc 10..12]", True),
        ("config: CONFIG_LIVEPATCH=y", True),
        ("config: CONFIG_LIVEPATCH=n", False),
        ("config: CONFIG_KASAN=n", True),
        ("config: CONFIG_KASAN is not set", True),
        ("config: CONFIG_KASAN=y", False),
        ("config: CONFIG_KUNIT=y", False),
        ("config: [CONFIG_LIVEPATCH=y, CONFIG_NR_CPUS=256, CONFIG_KASAN=n]", True),
        ("config: [CONFIG_LIVEPATCH=y, CONFIG_KASAN=y]", False),
        ("board: qemu-virt, kernel: 7.3, toolchain: clang", False),
    ],
)
def test_scopes(scope: str, holds: bool) -> None:
    result = _ran(_known(f"verdict: FAIL, {scope}"))
    assert (result.verdict, result.reason) == (("XFAIL", "known FAIL: because (no)") if holds else ("FAIL", "no"))
    assert bool(result.expectations) is holds


def test_tests() -> None:
    known = _known("test: 'selftests/*', verdict: FAIL", "test: 'x.tc[instance]', verdict: FAIL")
    assert _ran(known, test="selftests/ftrace/x.tc").verdict is Verdict.XFAIL
    assert _ran(known, test="x.tc[instance]").verdict is Verdict.XFAIL
    assert _ran(known, test="x.tc").verdict is Verdict.FAIL


# -- how long it counts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "release", "counts"),
    [
        ("2026-12-02", "7.3.4", True),
        ("2026-12-01", "7.3.4", True),  # today is the last day
        ("2026-11-30", "7.3.4", False),
        ("7.3", "7.3.4", True),
        ("7.3.3", "7.3.4", False),
        ("6.4", "6.5.0-rc1", False),
        ("6.4", "6.4.12", True),
        ("6.10", "6.9.1", True),
    ],
)
def test_until(until: str, release: str, counts: bool) -> None:
    result = _ran(_known(f"verdict: FAIL, until: {until}", context=replace(HERE, release=release)))
    assert result.verdict is (Verdict.XFAIL if counts else Verdict.FAIL)
    assert _places(expired(_run(result))) == ([] if counts else ["e: expectations.0"])
    assert unmatched(_run(result)) == []
    if not counts:
        assert result.reason == f"no; FAIL was known until {until}: because"


def test_what_expired_is_no_unexpected_pass() -> None:
    result = _ran(_known("verdict: FAIL, until: 7.2"), "PASS")
    assert not result.is_unexpected_pass
    assert len(expired(_run(result))) == 1


def test_what_expired_elsewhere_is_not_told() -> None:
    assert expired(_run(_ran(_known("verdict: FAIL, until: 7.2, board: rpi*")))) == []
    assert expired(_run(_ran(_known("test: u, verdict: FAIL, until: 7.2")))) == []


def test_what_expired_is_told_once() -> None:
    known = _known("test: '*', verdict: FAIL, until: 7.2")
    assert len(expired(_run(_ran(known, test="a"), _ran(known, test="b")))) == 1


# -- several that speak of one test ---------------------------------------------------------------------------------


def test_the_first_that_was_met_counts() -> None:
    known = _known(
        "verdict: FAIL, reason: old, kernel: ..6.12",
        "verdict: FAIL, reason: expired, until: 7.2",
        "verdict: FAIL, message: other, reason: message",
        f"verdict: CRASH, fault: '{TITLE}', reason: crash",
        "verdict: FAIL, reason: first",
        "verdict: [FAIL, CRASH], fault: '*', reason: second",
    )
    assert _ran(known).reason == "known FAIL: first (no)"
    assert _ran(known, "CRASH", TITLE, FAULT).reason == f"known CRASH: crash ({TITLE})"
    assert _ran(known, "CRASH", ANOTHER.title, ANOTHER).reason == f"known CRASH: second ({ANOTHER.title})"
    assert _expected(_ran(known)).reason == "first"
    assert _expected(_ran(known, "TIMEOUT")).reason == "message"


def test_a_pass_that_one_of_several_knows_is_not_unexpected() -> None:
    assert not _ran(_known("verdict: FAIL", "verdict: PASS"), "PASS").is_unexpected_pass


def test_all_that_was_expected_is_named_and_what_expired() -> None:
    result = _ran(
        _known(
            f"verdict: CRASH, fault: '{TITLE}'",
            "verdict: [FAIL, UNRESOLVED], message: 'm'",
            "verdict: [CRASH, FAIL], fault: [f, g]",
            "verdict: FAIL, message: a",
            "verdict: FAIL, message: b",
            "verdict: TIMEOUT, until: 7.2",
        ),
        "TIMEOUT",
    )
    assert result.reason == (
        f"no; expected: CRASH with the fault '{TITLE}' or FAIL or UNRESOLVED with the message 'm' or CRASH with the "
        "fault 'f' or 'g' or FAIL or 2 others; TIMEOUT was known until 7.2: because"
    )


# -- what no test matched ----------------------------------------------------------------------------------------------


def test_what_no_test_met_is_listed() -> None:
    known = _known("verdict: CRASH, fault: f", "verdict: FAIL")
    assert _places(unmatched(_run(_ran(known)))) == ["e: expectations.0"]


def test_what_one_of_several_tests_met_is_not_listed() -> None:
    known = _known("test: '*', verdict: FAIL")
    assert unmatched(_run(_ran(known, "TIMEOUT", test="a"), _ran(known, test="b"))) == []
    assert len(unmatched(_run(_ran(known, "TIMEOUT", test="a"), _ran(known, "CRASH", test="b")))) == 1


def test_an_unexpected_pass_is_not_listed_twice() -> None:
    result = _ran(_known("verdict: FAIL", "verdict: TIMEOUT"), "PASS")
    assert result.is_unexpected_pass
    assert _places(unmatched(_run(result))) == ["e: expectations.1"]


@pytest.mark.parametrize("verdict", ["SKIP", "ERROR", "NOTRUN"])
def test_a_test_that_gave_no_answer_met_nothing_and_missed_nothing(verdict: str) -> None:
    assert unmatched(_run(_ran(_known("verdict: FAIL"), verdict))) == []


def test_a_run_that_did_not_hold_the_test_tells_nothing() -> None:
    known = _known("test: other, verdict: FAIL")
    assert unmatched(_run(_ran(known, "PASS"))) == []
