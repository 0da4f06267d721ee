"""The monitor: reads the console continuously and detects kernel reports."""

from __future__ import annotations

import threading
import time

from harness.model.fault import Fault
from harness.parse.oops import FaultScanner
from harness.target.line.console import Console

_SETTLE_S = 1.0  # seconds without a further line after which an unfinished report is accepted as it is
_LONGEST_S = 10.0  # seconds after which one is accepted as it is, even if the console continues


class Monitor:
    """Looks for kernel reports in the output of `console` from now on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._scanner = FaultScanner()
        self._began = 0.0
        self._scan(console.last_activity, "\n".join(console.tail(1000)))  # the output while booting
        self._stop = console.listen_blocks(self._scan)

    def _scan(self, moment: float, block: str) -> None:
        with self._lock:
            before = self._begun
            self._scanner.feed_lines(block)
            if not before and self._begun:
                self._began = moment

    @property
    def _begun(self) -> bool:
        return self._scanner.begun or bool(self._scanner.faults)

    def began_by(self, moment: float) -> bool:
        """Whether a report had begun by `moment` (monotonic)."""
        return self.begun and self._began <= moment

    def take(self) -> list[Fault]:
        """Return every report so far, unfinished ones as they are, and forget them."""
        with self._lock:
            self._scanner.finish()
            return [*self._scanner.take()]

    def fault(self, *, at_once: bool = False) -> Fault | None:
        """The gravest complete report so far. An unfinished report counts once the console has been silent for a moment
        or has closed, or with `at_once`."""
        with self._lock:
            quiet = time.monotonic() - self._console.last_activity
            if self._scanner.begun and (at_once or quiet > _SETTLE_S or self._console.closed):
                self._scanner.finish()
            return max(self._scanner.faults, key=lambda fault: fault.is_fatal, default=None)

    @property
    def begun(self) -> bool:
        """Whether a report has begun, complete or not."""
        with self._lock:
            return self._begun

    def settle(self) -> Fault | None:
        """Wait until a report that has begun is complete, and return it; None immediately if none has begun."""
        deadline = time.monotonic() + _LONGEST_S
        while self.begun:
            fault = self.fault(at_once=time.monotonic() > deadline)
            if fault:
                return fault
            time.sleep(0.02)  # the console's thread completes the report, at the latest after _SETTLE_S
        return None

    def close(self) -> None:
        self._stop()
