"""The known outcomes of upstream tests, against what these tests print."""

from __future__ import annotations

from datetime import date

import pytest

from harness.model.known import Context, KnownOutcomes
from harness.model.result import Verdict
from harness.parse.ftracetest import why
from harness.run.expectations import load_known

_POLL = "selftests/ftrace/test.d/trigger/trigger-hist-poll.tc"
_SOON = ["+ [ -d /proc/812 ]", "+ echo poll exits too soon", "poll exits too soon", "+ kill -KILL 812"]
_GONE = ["./ftracetest-waiting: 65: kill: No such process", "+ :"]
_END = ["+ exit_fail", "+ exit 1"]
HERE = Context(
    release="7.3.4",
    board="qemu-virt",
    today=date(2026, 12, 1),
    toolchain=frozenset({"gcc"}),
    compiler_version="12.2.0",
    config={},
)


def _judged(log: list[str]) -> Verdict:
    reason = why(log, Verdict.FAIL)
    return KnownOutcomes(load_known(()), HERE).judge(_POLL, Verdict.FAIL, reason, None).verdict


@pytest.mark.parametrize("log", [[*_SOON, *_END], [*_SOON, *_GONE, *_END]])
def test_a_process_that_is_still_exiting_when_poll_has_returned(log: list[str]) -> None:
    """Whether or not it is gone by the time that the test kills it."""
    assert _judged(log) is Verdict.XFAIL


@pytest.mark.parametrize("said", ["poll exits before event happens", "./ftracetest: 40: poll: not found"])
def test_another_failure_of_poll_is_not_known(said: str) -> None:
    assert _judged([f"+ echo {said}", said, *_END]) is Verdict.FAIL
