"""How long work tells a person where it is; the command line decides what that looks like."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where long work reports. A terminal shows a bar, a CI log a plain line now and then."""

    def say(self, text: str) -> None:
        """One line worth keeping: a stage begun or done."""

    def advance(self, label: str, done: float, total: float | None) -> None:
        """`done` of `total` (bytes, files, objects: any one unit; None: unknown) of what `label` names.
        May be called thousands of times."""


class Silent:
    """The Progress that shows nothing: the default of the functions, and of the tests."""

    def say(self, text: str) -> None:
        """Nothing."""

    def advance(self, label: str, done: float, total: float | None) -> None:
        """Nothing."""
