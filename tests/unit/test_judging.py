"""From exceptions, kernel reports and known outcomes to verdicts and results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date

import pytest

from harness.errors import BootError, CrashError, InfraError, UserError
from harness.model.fault import Fault, FaultKind
from harness.model.known import Context, KnownOutcome, KnownOutcomes
from harness.model.outcome import Outcome
from harness.model.result import Expectation, Verdict
from harness.run.judging import (
    Phases,
    attempt_of,
    first_of,
    is_failure,
    outcome_of,
    result_of,
    was_interrupted,
    with_fault,
)
from harness.run.stopped import Refused, Stopped
from harness.target.base import CommandTimeout, TargetLost

OOPS = Fault(kind=FaultKind.OOPS, title="oops in x", lines=("line",))
SILENCE = Fault(kind=FaultKind.SILENCE, title="hang")


def _fails(first: BaseException, then: BaseException) -> BaseException:
    """What is seen of a test that raises `first`, and `then` while it puts things back."""

    @contextlib.contextmanager
    def changed() -> Iterator[None]:
        try:
            yield
        finally:
            raise then

    try:
        with changed():
            raise first
    except BaseException as error:
        return error


def test_a_command_over_its_limit_outranks_the_shell_that_is_still_busy_with_it() -> None:
    error = _fails(Stopped(Outcome(Verdict.TIMEOUT, "too long")), TargetLost("the shell is still busy"))
    assert outcome_of(error).verdict is Verdict.ERROR
    assert outcome_of(first_of(error)).verdict is Verdict.TIMEOUT


def test_what_was_found_first_is_the_reason() -> None:
    error = _fails(AssertionError("the value is wrong"), AssertionError("could not be put back"))
    assert outcome_of(first_of(error)).reason == "the value is wrong"


def test_a_handled_error_is_no_finding() -> None:
    error = _fails(KeyError("x"), AssertionError("no x"))
    assert outcome_of(first_of(error)).reason == "no x"


def test_alone_it_counts() -> None:
    error = AssertionError("alone")
    assert first_of(error) is error


def test_an_interrupt_is_found_wherever_it_came() -> None:
    interrupt = KeyboardInterrupt()
    assert was_interrupted(_fails(interrupt, RuntimeError("busy")))
    assert was_interrupted(_fails(_fails(AssertionError("wrong"), interrupt), RuntimeError("busy")))
    assert was_interrupted(BaseExceptionGroup("teardown", [AssertionError("one"), _fails(interrupt, OSError())]))
    assert not was_interrupted(_fails(AssertionError("wrong"), RuntimeError("busy")))


def test_of_several_that_could_not_be_put_back_the_first_counts() -> None:
    error = ExceptionGroup("teardown", [AssertionError("one"), AssertionError("two")])
    assert outcome_of(first_of(error)).reason == "one"


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (KeyboardInterrupt(), Verdict.ERROR, "interrupted while this test was running"),
        (pytest.skip.Exception("not here"), Verdict.SKIP, "not here"),
        (CrashError("panic"), Verdict.CRASH, "panic"),
        (CommandTimeout("too long"), Verdict.TIMEOUT, "too long"),
        (TargetLost("gone"), Verdict.ERROR, "gone"),
        (InfraError("no disk"), Verdict.ERROR, "no disk"),
        (BootError("does not come up"), Verdict.NOTRUN, "does not come up"),
        (UserError("wrong"), Verdict.ERROR, "wrong"),
        (AssertionError("a is b\nassert a"), Verdict.FAIL, "a is b"),
        (AssertionError(), Verdict.FAIL, "assertion failed"),
        (pytest.fail.Exception("left behind"), Verdict.FAIL, "left behind"),
        (ValueError("met in our own code"), Verdict.ERROR, "ValueError: met in our own code"),
        (RuntimeError("odd"), Verdict.ERROR, "RuntimeError: odd"),
    ],
)
def test_what_an_exception_means(error: BaseException, verdict: Verdict, reason: str) -> None:
    assert outcome_of(error) == Outcome(verdict, reason)


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (AssertionError("`cat x` ended with exit code 1"), Verdict.ERROR,
         "preparing the test failed: `cat x` ended with exit code 1"),
        (pytest.fail.Exception("no x"), Verdict.ERROR, "preparing the test failed: no x"),
        (Refused("the kernel refuses the module x"), Verdict.FAIL, "the kernel refuses the module x"),
        (pytest.skip.Exception("not here"), Verdict.SKIP, "not here"),
        (CrashError("panic"), Verdict.CRASH, "panic"),
    ],
)  # fmt: skip
def test_what_fails_before_the_test_begins_is_not_what_it_tests(
    error: BaseException, verdict: Verdict, reason: str
) -> None:
    assert outcome_of(error, in_setup=True) == Outcome(verdict, reason)


def test_what_a_testcase_can_not_read_is_the_kernels() -> None:
    with pytest.raises(ValueError, match="unpack") as raised:
        [_] = list[str]()  # in a file whose name begins with test_, as a testcase's does
    outcome = outcome_of(raised.value)
    assert outcome.verdict is Verdict.FAIL
    assert outcome.reason.startswith("the kernel's output is not as expected: ValueError: ")


def test_a_stopped_test_has_the_outcome_that_stopped_it() -> None:
    outcome = Outcome(Verdict.CRASH, "hang", fault=SILENCE, log="printed", started=5.0, seconds=2.0)
    assert outcome_of(Stopped(outcome)) is outcome


@pytest.mark.parametrize(("verdict", "kind"), [(Verdict.CRASH, CrashError), (Verdict.ERROR, InfraError)])
def test_outside_of_a_test_what_stops_is_an_error(verdict: Verdict, kind: type[Exception]) -> None:
    fault = Fault(kind=FaultKind.OOPS, title="oops", lines=tuple(map(str, range(50))))
    error = Stopped(Outcome(verdict, "oops", fault=fault)).as_error(when="before")
    assert type(error) is kind
    assert (error.message, error.details) == ("before: oops", tuple(map(str, range(10, 50))))
    assert Stopped(Outcome(verdict, "lost")).as_error().message == "lost"


# -- the phases of an attempt ------------------------------------------------------------------------------------------


def test_an_attempt_in_which_nothing_was_found_passes() -> None:
    assert Phases().outcome == Outcome(Verdict.PASS)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.CRASH, Verdict.TIMEOUT])
def test_the_first_finding_counts(verdict: Verdict) -> None:
    phases = Phases()
    phases.fail(Outcome(verdict, "first"))
    assert not phases.is_open
    phases.fail(Outcome(Verdict.ERROR, "second"))
    assert phases.outcome == Outcome(verdict, "first")


def test_what_fails_behind_a_skip_is_found() -> None:
    phases = Phases()
    phases.fail(Outcome(Verdict.SKIP, "not here"))
    assert phases.is_open
    phases.fail(Outcome(Verdict.ERROR, "could not be put back"))
    assert phases.outcome.verdict is Verdict.ERROR


def test_a_mark_says_what_a_failure_is() -> None:
    phases = Phases()
    phases.fail(Outcome(Verdict.FAIL, "as ever"))
    phases.end_as_marked("a known bug", failed=True)
    assert phases.outcome == Outcome(Verdict.XFAIL, "a known bug")
    phases.end_as_marked("a known bug", failed=False)
    assert phases.outcome == Outcome(Verdict.PASS, "a known bug")


def test_a_crash_of_a_test_that_succeeded_decides_and_keeps_its_times() -> None:
    phases = Phases()
    phases.succeed(Outcome(Verdict.PASS, log="printed", started=5.0, seconds=2.0, ended=7.0))
    phases.crash()
    phases.fail(Outcome(Verdict.ERROR, "could not be put back"))
    assert phases.outcome == Outcome(Verdict.CRASH, log="printed", started=5.0, seconds=2.0, ended=7.0)
    assert with_fault(phases.outcome, OOPS).reason == "oops in x"


# -- kernel reports ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL, Verdict.SKIP, Verdict.XFAIL, Verdict.TIMEOUT])
def test_a_kernel_report_makes_any_outcome_a_crash(verdict: Verdict) -> None:
    crashed = with_fault(Outcome(verdict, "some reason", log="printed", seconds=2.0), OOPS)
    assert crashed == Outcome(Verdict.CRASH, "oops in x", fault=OOPS, log="printed", seconds=2.0)


def test_a_fault_that_is_booked_stays() -> None:
    hang = Outcome(Verdict.CRASH, "hang", fault=SILENCE)
    assert with_fault(hang, OOPS) is hang
    assert with_fault(hang, None) is hang


# -- known outcomes ----------------------------------------------------------------------------------------------------


def _known(*verdicts: Verdict) -> KnownOutcomes:
    expectation = Expectation(test="t", verdicts=verdicts, reason="upstream knows")
    context = Context(release="7.3.4", board="b", today=date(2026, 1, 1))
    return KnownOutcomes([KnownOutcome(expectation=expectation)] if verdicts else [], context)


NOTHING = _known()


def test_an_outcome_becomes_a_result() -> None:
    outcome = Outcome(Verdict.CRASH, "oops\n in \x1b[31mx", fault=OOPS, log="printed", started=5.0, seconds=2.00049)
    result = result_of("t", outcome, NOTHING)
    assert result == attempt_of("t", outcome)
    assert (result.test, result.verdict, result.actual, result.fault) == ("t", Verdict.CRASH, Verdict.CRASH, OOPS)
    assert "\x1b" not in result.reason
    assert "\n" not in result.reason
    assert (result.started, result.seconds, result.expected) == (5.0, 2.0, None)


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if is_failure(verdict)])
def test_a_failure_that_is_known_is_expected(verdict: Verdict) -> None:
    result = result_of("t", Outcome(verdict, "as ever"), _known(verdict))
    assert (result.verdict, result.actual) == (Verdict.XFAIL, verdict)
    assert result.reason == f"known {verdict}: upstream knows (as ever)"
    assert result.expected is not None


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.SKIP])
def test_what_is_no_failure_stays_what_it_is_though_it_is_known(verdict: Verdict) -> None:
    result = result_of("t", Outcome(verdict), _known(verdict))
    assert (result.verdict, result.actual) == (verdict, verdict)


def test_another_outcome_than_the_known_one_is_told_with_that() -> None:
    crash = result_of("t", Outcome(Verdict.CRASH, "oops"), _known(Verdict.FAIL))
    assert (crash.verdict, crash.reason) == (Verdict.CRASH, "oops; expected: FAIL")
    assert crash.expected is not None
    assert result_of("t", Outcome(), _known(Verdict.FAIL)).is_unexpected_pass


def test_a_lost_attempt_is_held_against_nothing() -> None:
    assert attempt_of("t", Outcome(Verdict.ERROR, "QEMU ended")).verdict is Verdict.ERROR
