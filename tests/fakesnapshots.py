"""Snapshots for logic tests: targets that are scripted, saving and restoring that fail as told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.target.base import Cpus, Target
from tests.faketarget import FakeTarget


def idle() -> FakeTarget:
    """A target that answers nothing."""
    return FakeTarget(lambda _command: [])


class FakeSnapshots:
    """`restored_as` makes the target of each restore; the `restore_errors` come first."""

    def __init__(
        self,
        *,
        booted_as: Callable[[], FakeTarget] = idle,
        restored_as: Callable[[], FakeTarget] = idle,
        save_error: HarnessError | None = None,
        restore_errors: Sequence[HarnessError] = (),
    ) -> None:
        self.is_saved = False
        self.booted: list[FakeTarget] = []
        self.seconds = 0.5  # for booting or restoring
        self.restored: list[FakeTarget] = []
        self.whys: list[str] = []
        self.cpus: list[Cpus] = []  # of each restore
        self._booted_as = booted_as
        self._restored_as = restored_as
        self._save_error = save_error
        self._restore_errors = list(restore_errors)

    def boot(self) -> FakeTarget:
        self.booted.append(self._started(self._booted_as))
        return self.booted[-1]

    def save(self, target: Target) -> None:
        target.close()
        if self._save_error:
            raise self._save_error
        self.is_saved = True

    def restore(self, why: str, *, cpus: Cpus = Cpus.SIDE_BY_SIDE) -> FakeTarget:
        assert self.is_saved
        if self._restore_errors:
            raise self._restore_errors.pop(0)
        self.whys.append(why)
        self.cpus.append(cpus)
        self.restored.append(self._started(self._restored_as))
        return self.restored[-1]

    def _started(self, make: Callable[[], FakeTarget]) -> FakeTarget:
        target = make()
        target.boot_seconds = self.seconds
        return target
