"""The outcome of one attempt at a test, before it is compared with the known outcomes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from harness.model.fault import Fault
from harness.model.result import Verdict


@dataclass(frozen=True)
class Outcome:
    """A verdict and its reason.

    `fault`: the kernel report, if there is one. `log`: what the test printed, or pytest's account of its failure.
    `started`: seconds since the epoch, None if only the beginning of the whole attempt is known; `seconds`: the
    duration from there. `ended`: when the verdict arrived (time.monotonic), if the next test may have begun since.
    `is_lost`: the machine went away, not through a fault of its kernel, so nothing is known about the test."""

    verdict: Verdict = Verdict.PASS
    reason: str = ""
    _: KW_ONLY
    fault: Fault | None = None
    log: str = ""
    started: float | None = None
    seconds: float = 0.0
    ended: float | None = None
    is_lost: bool = False
