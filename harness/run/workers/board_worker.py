"""A worker with a board. It boots the board itself and gives up if that fails, so that other workers run its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from harness.errors import EXIT_KERNEL, EXIT_USER, BootError, HarnessError, InfraError, UserError
from harness.model.result import Result
from harness.run.preparing import Preparation
from harness.run.rig import Rig
from harness.run.suites import selftests
from harness.run.supply import Supply
from harness.target.base import Target

_OUTPUT = "harness"  # our key in the data that xdist receives from a worker that has ended


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a worker that ended by itself reports about its board. `has_booted`: it booted the board, or tried to, and
    left it in a proper state; `failure`: why it gave up, None if it did not."""

    has_booted: bool = False
    failure: HarnessError | None = None

    def tell(self, config: pytest.Config) -> None:
        """Pass this to xdist, which transports plain data."""
        data: dict[str, object] = {"has_booted": self.has_booted}
        if self.failure:
            error = self.failure
            data |= {"exit_code": error.exit_code, "message": error.message, "details": list(error.details)}
        config.workeroutput[_OUTPUT] = data  # type: ignore[attr-defined]  # xdist's

    @staticmethod
    def of(workeroutput: Mapping[str, Any]) -> Output:
        """The output that `tell` passed; the default for a worker without a board."""
        data = workeroutput.get(_OUTPUT, {})
        if "message" not in data:
            return Output(has_booted=data.get("has_booted", False))
        kind = {EXIT_KERNEL: BootError, EXIT_USER: UserError}.get(data["exit_code"], InfraError)
        return Output(has_booted=True, failure=kind(data["message"], details=data["details"]))


class Booting:
    """Boots the board, as often as necessary; `failure` is the error of the last boot, if it failed."""

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


class OneBoard(Supply):
    """A worker's board, and a pytest plugin. The board is booted before the first test that needs it and after each
    crash. If the first boot fails, or a later one twice in a row, the worker ends, and its tests without a verdict go
    to other workers."""

    def __init__(self, rig: Rig, booting: Booting) -> None:
        super().__init__(rig)
        self._booting = booting
        self._preparation = Preparation(rig, say=lambda problem: rig.recorder.problem(f"{rig.board.name}: {problem}"))
        self._failure: HarnessError | None = None

    def begin(self, item: pytest.Item) -> None:
        if not self._preparation.is_done:
            self._preparation.prepare()
            selftests.choose_in_batches(item.session.items)  # only now is it known what the board lacks
            failure = self._preparation.failure
        elif self.rig.machine.is_up or (isinstance(item, selftests.SelftestItem) and item.reason_to_skip):
            failure = None
        else:
            failure = self._boot_again()
        if failure:
            self._give_up(failure)

    def _boot_again(self) -> HarnessError | None:
        try:
            assert self.rig.machine.target
        except HarnessError as error:
            return error
        return None

    def is_to_run_again(self, error: BaseException) -> bool:
        """Whether booting failed in the middle of the test, which then runs again elsewhere."""
        return self._booting.failure is not None and error is self._booting.failure

    def give_up_attempt(self, attempt: Result, log: str) -> None:
        failure = self._booting.failure
        assert failure
        self.rig.recorder.lost(attempt, log, why=failure.message, where="on another board")
        self._give_up(failure)

    def _give_up(self, failure: HarnessError) -> NoReturn:
        """End this worker as if it had finished its work."""
        self._failure = failure
        pytest.exit(failure.message, returncode=0)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        Output(has_booted=self._preparation.is_done, failure=self._failure).tell(session.config)
