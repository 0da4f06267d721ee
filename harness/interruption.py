"""The request to stop: Ctrl-C, SIGTERM or SIGHUP.

The main thread gets it as a KeyboardInterrupt, wherever it is, and every ``finally`` runs. Some of these use the
target, to undo what a test has changed there. A target that hangs would keep each of them for as long as a limit
allows, so who waits for one asks here first (`check`): once the end was asked for, the target is only switched off."""

from __future__ import annotations

import signal
import time
from types import FrameType

_SAME_S = 2.0  # seconds within which another SIGTERM is the same request
_asked = False
_terminated = -_SAME_S  # when the last SIGTERM came


def watch() -> None:
    """Treat SIGTERM and SIGHUP like Ctrl-C from now on."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)


def asked() -> bool:
    """Whether the end was asked for."""
    return _asked


def check() -> None:
    """Raise KeyboardInterrupt if the end was asked for."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, _frame: FrameType | None) -> None:
    global _asked, _terminated
    _asked, now = True, time.monotonic()
    # A process that is tied to a killed one gets it for each thread of that: the kernel hands it from one to the next.
    is_the_same = number == signal.SIGTERM and now - _terminated < _SAME_S
    if number == signal.SIGTERM:
        _terminated = now
    if not is_the_same:
        raise KeyboardInterrupt
