"""How long-running work reports its progress; the command line decides what that looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.model.result import Result


class Progress(Protocol):
    """Receives the progress of long-running work. A terminal shows a bar, a CI log an occasional plain line."""

    def say(self, text: str) -> None:
        """One line worth keeping: a stage has begun or is done."""

    def advance(self, label: str, done: float, total: float | None) -> None:
        """`done` of `total` (bytes, files, objects: any one unit; None: unknown) of what `label` names.
        May be called thousands of times."""


class Silent:
    """The Progress that shows nothing: the default for functions and tests."""

    def say(self, text: str) -> None:
        """Nothing."""

    def advance(self, label: str, done: float, total: float | None) -> None:
        """Nothing."""


class RunDisplay(Protocol):
    """Receives the progress of a run of tests."""

    def planned(self, tests: Sequence[str]) -> None:
        """The ids of all tests that will run, in order."""

    def started(self, test: str) -> None:
        """A test begins."""

    def result(self, result: Result) -> None:
        """A test has its verdict."""

    def problem(self, text: str) -> None:
        """Something about the target that people should know before the first test."""


class NoDisplay:
    """The RunDisplay that shows nothing."""

    def planned(self, tests: Sequence[str]) -> None:
        """Nothing."""

    def started(self, test: str) -> None:
        """Nothing."""

    def result(self, result: Result) -> None:
        """Nothing."""

    def problem(self, text: str) -> None:
        """Nothing."""
