"""A worker that has a board: it boots it itself, and gives up where that fails, so that others run what it had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from harness.errors import EXIT_KERNEL, EXIT_USER, BootError, HarnessError, InfraError, UserError
from harness.run import selftests
from harness.run.plugin import Plugin, id_of, needs_target
from harness.target.base import Target

_OUTPUT = "harness"  # our part of what xdist takes back from a worker that has ended


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a worker that has ended by itself tells of its board. `has_booted`: it has, or tried to, and left the board
    as it should; `failure`: why it gave up, None where it did not."""

    has_booted: bool = False
    failure: HarnessError | None = None

    def tell(self, config: pytest.Config) -> None:
        """Hand it to xdist, which takes plain data."""
        told: dict[str, object] = {"has_booted": self.has_booted}
        if self.failure:
            error = self.failure
            told |= {"exit_code": error.exit_code, "message": error.message, "details": list(error.details)}
        config.workeroutput[_OUTPUT] = told  # type: ignore[attr-defined]  # xdist's

    @staticmethod
    def of(workeroutput: Mapping[str, Any]) -> Output:
        """What `tell` told; of a worker without a board: nothing."""
        told = workeroutput.get(_OUTPUT, {})
        if "message" not in told:
            return Output(has_booted=told.get("has_booted", False))
        kind = {EXIT_KERNEL: BootError, EXIT_USER: UserError}.get(told["exit_code"], InfraError)
        return Output(has_booted=True, failure=kind(told["message"], details=told["details"]))


class Booting:
    """Boots the board, as often as it is needed, and knows whether the last time failed: `failure`."""

    def __init__(self, boot: Callable[[], Target]) -> None:
        self._boot = boot
        self.failure: HarnessError | None = None

    def __call__(self) -> tuple[Target, float]:
        try:
            target = self._boot()
        except HarnessError as error:
            self.failure = error
            raise
        self.failure = None
        return target, target.boot_seconds


class BoardPlugin(Plugin):
    """A worker's plugin. Its board is booted before the first test that needs it and after each crash; when that fails
    at first, or twice in a row then, the worker ends, and what it has not told a verdict on is not its any more."""

    def __init__(self, *, booting: Booting, board: str, **more: Any) -> None:
        super().__init__(**more)
        self._booting = booting
        self._board = board
        self._was_looked_at = False

    def tell(self, problem: str) -> None:
        """The same, of this board."""
        self._recorder.problem(f"{self._board}: {problem}")

    def _begin(self, item: pytest.Item, test: str) -> None:
        super()._begin(item, test)
        if not needs_target(item):
            return
        if not self._was_looked_at:
            self._was_looked_at = True
            self.make_ready()
            selftests.tell_batches(item.session.items)  # what the board lacks is known now
        elif not self.machine.is_up and not (isinstance(item, selftests.SelftestItem) and item.reason_to_skip):
            self._boot_again()
        if self.boot_failure:
            self._give_up(self.boot_failure)

    def _boot_again(self) -> None:
        try:
            assert self.machine.target
        except HarnessError as error:
            self.boot_failure = error

    def _may_run_again(self, error: BaseException) -> bool:
        """Where booting failed in the middle of a test: not here."""
        return self._booting.failure is not None and error is self._booting.failure

    def _run_again(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        assert self._booting.failure
        failure = self._booting.failure
        self._recorder.lost(self._attempt(id_of(item)), why=failure.message, where="on another board")
        self._give_up(failure)

    def _give_up(self, failure: HarnessError) -> NoReturn:
        """End this worker, as one that has done its work."""
        self.boot_failure = failure
        pytest.exit(failure.message, returncode=0)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        super().pytest_sessionfinish(session)
        Output(has_booted=self._was_looked_at, failure=self.boot_failure).tell(session.config)
