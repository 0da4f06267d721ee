"""Which verdict an exception means, and which of several counts."""

from __future__ import annotations

import contextlib

from harness.model.result import Verdict
from harness.run.machine import Stopped
from harness.run.meaning import first_of, meaning_of
from harness.target.base import TargetLost


def _fails(first: BaseException, then: BaseException) -> BaseException:
    """What is seen of a test that raises `first`, and `then` while it puts things back."""

    @contextlib.contextmanager
    def changed():
        try:
            yield
        finally:
            raise then

    try:
        with changed():
            raise first
    except BaseException as error:
        return error


def test_a_command_over_its_limit_outranks_the_shell_that_is_still_busy_with_it():
    error = _fails(Stopped(Verdict.TIMEOUT, "too long"), TargetLost("the shell is still busy"))
    assert meaning_of(error).verdict is Verdict.ERROR
    assert meaning_of(first_of(error)).verdict is Verdict.TIMEOUT


def test_what_was_found_first_is_the_reason():
    error = _fails(AssertionError("the value is wrong"), AssertionError("could not be put back"))
    assert meaning_of(first_of(error)).reason == "the value is wrong"


def test_a_handled_error_is_no_finding():
    error = _fails(KeyError("x"), AssertionError("no x"))
    assert meaning_of(first_of(error)).reason == "no x"


def test_alone_it_counts():
    error = AssertionError("alone")
    assert first_of(error) is error
