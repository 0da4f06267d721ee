"""testcases/expectations.yaml: which known outcome holds for which test, kernel and board."""

import pytest

from harness.errors import UserError
from harness.layout import EXPECTATIONS
from harness.model.result import Result, Verdict
from harness.parse.expectations import parse_expectations


def _known(text, test="t", release="7.3.4", board="qemu-virt"):
    return parse_expectations(text, place="e", release=release, board=board).of(test)


def _entry(kernel="", test="t", board="*"):
    return f"expectations: [{{test: '{test}', verdict: [FAIL], reason: because, kernel: '{kernel}', board: '{board}'}}]"


def test_the_projects_own_file():
    parse_expectations(EXPECTATIONS.read_text(), place="e", release="7.3.4", board="qemu-virt")


def test_verdict_and_reason():
    known = _known(_entry())
    assert known is not None
    assert (known.verdicts, known.reason) == ((Verdict.FAIL,), "because")


@pytest.mark.parametrize(
    ("kernel", "release", "holds"),
    [
        ("", "5.10.1", True),
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
def test_kernel_ranges(kernel, release, holds):
    assert (_known(_entry(kernel), release=release) is not None) is holds


def test_patterns_brackets_and_boards():
    assert _known(_entry(test="selftests/*"), test="selftests/ftrace/x.tc")
    assert _known(_entry(test="x.tc[instance]"), test="x.tc[instance]")  # an id is taken to the letter first
    assert not _known(_entry(board="rpi*"))
    assert _known(_entry(board="rpi*"), board="rpi4")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "expectations: [{test: t, verdict: [BROKEN], reason: r}]",
            r"expectations\.0\.verdict: expected some of .*'BROKEN'",
        ),
        ("expectations: [{test: t, verdict: [FAIL], reason: r, kernel: new}]", r"kernel: expected a version .*'new'"),
        ("expectations: [{test: t, verdict: [FAIL]}]", r"reason: expected this key"),
    ],
)
def test_malformed_entries(text, told):
    with pytest.raises(UserError, match=told):
        _known(text)


@pytest.mark.parametrize(("verdicts", "is_told"), [("FAIL", True), ("FAIL, PASS", False)])
def test_a_pass_where_the_outcome_changes_by_chance_is_nothing_to_tell(verdicts, is_told):
    known = _known(f"expectations: [{{test: t, verdict: [{verdicts}], reason: because}}]")
    assert Result(test="t", verdict=Verdict.PASS, expected=known).is_unexpected_pass is is_told
