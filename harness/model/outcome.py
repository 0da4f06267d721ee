"""What came of one attempt at a test, before it is held against the outcomes that are known."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from harness.model.fault import Fault
from harness.model.result import Verdict


@dataclass(frozen=True)
class Outcome:
    """A verdict, and why.

    `fault`: the kernel report where there is one. `log`: what the test printed, or how pytest shows its failure.
    `started`: seconds since the epoch, None where only the whole attempt's beginning is known; `seconds`: how long it
    took from there. `ended`: when the verdict came (time.monotonic), where the next test may have begun since.
    `is_lost`: the machine went away, by no doing of its kernel, so nothing was found out about the test."""

    verdict: Verdict = Verdict.PASS
    reason: str = ""
    _: KW_ONLY
    fault: Fault | None = None
    log: str = ""
    started: float | None = None
    seconds: float = 0.0
    ended: float | None = None
    is_lost: bool = False
