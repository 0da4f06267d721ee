"""CPUs that a test takes off line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.run.api.guest import Guest


class RemovableCpu:
    """The last CPU of the target, which can go off line. Skips the test if it is the only one, or has to stay."""

    def __init__(self, guest: Guest) -> None:
        guest.need_cpus(2)
        self.number = guest.cpus - 1
        self._guest = guest
        self._online = f"/sys/devices/system/cpu/cpu{self.number}/online"
        if not guest.exists(self._online):
            pytest.skip(f"CPU {self.number} of this target can't go off line: it has no {self._online}")

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Keep it off line for the length of the ``with``."""
        try:
            self._guest.write(self._online, "0")
            yield
        finally:
            self._guest.write(self._online, "1")
