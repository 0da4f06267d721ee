"""Processes that sleep in a function of a test module, until the test wakes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.run.api.guest import number
from harness.run.api.modules import Module
from harness.run.api.process import Process, background


class Sleepers(Module):
    """A module with files to sleep in, and the files ``asleep`` and ``wake``."""

    @contextlib.contextmanager
    def sleeper(self, file: str = "sleep") -> Iterator[Process]:
        """A process asleep in the read of `file`; woken at the end of the ``with`` at the latest, it prints what the
        module returns."""
        before = self.asleep
        with background(self._guest, f"cat {self.files}/{file}") as process:
            self._guest.wait_until(lambda: self.asleep == before + 1 and process.asleep, f"asleep in {self.name}")
            try:
                yield process
            finally:
                self.wake()

    @property
    def asleep(self) -> int:
        """How many processes are asleep in it."""
        return number(self._guest.line(f"{self.files}/asleep"), f"{self.name}: asleep")

    def wake(self) -> None:
        """Wake all sleeping processes."""
        self.write("wake")
