"""The monitor: reads the console continuously and detects kernel reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from harness.model.fault import Fault
from harness.parse.oops import FaultScanner
from harness.target.line.console import Console

_SETTLE_S = 1.0  # seconds without a further line after which an unfinished report is accepted as it is
_LONGEST_S = 10.0  # seconds after which one is accepted as it is, even if the console continues


class Monitor:
    """Looks for kernel reports in the output of `console` from now on. `on_report` is called, in the console's thread,
    as soon as the first line of one has arrived; not for what was printed while booting."""

    def __init__(self, console: Console, *, on_report: Callable[[], None] | None = None) -> None:
        self._console = console
        self._on_report = on_report
        self._lock = threading.Lock()
        self._scanner = FaultScanner()
        self._began = 0.0
        self._scan(console.last_activity, "\n".join(console.tail(1000)))  # the output while booting
        self._stop = console.listen_blocks(self._listen)

    def _listen(self, moment: float, block: str) -> None:
        if self._scan(moment, block) and self._on_report:
            self._on_report()

    def _scan(self, moment: float, block: str) -> bool:
        """Look at lines; return whether the first report began with them."""
        with self._lock:
            before = self._begun
            self._scanner.feed_lines(block)
            begins = self._begun and not before
            if begins:
                self._began = moment
            return begins

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
