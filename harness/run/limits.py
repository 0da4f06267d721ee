"""How long a test may take: a budget for reference hardware, multiplied by a factor measured on the target."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.model.suite import UPSTREAM
from harness.target.base import Completed

# Budgets are seconds on hardware that starts a process in 0.4 milliseconds; under emulation it was measured to take
# about twenty times as long. The selftests have no useful limit of their own: kselftest's 45 s are for a whole suite.
_USUAL_S = 6.0
UNSCALED_S = 30.0  # seconds added to every limit: sleeps and retries take as long on fast hardware
_PROCESSES = 20
_REFERENCE_S = 0.0004  # seconds to start one process


def measure_factor(run: Callable[..., Completed]) -> float:
    """How many times slower than the reference a target starts processes, measured through `run`; at least 1."""
    started = time.monotonic()
    run(f"i=0; while [ $i -lt {_PROCESSES} ]; do /bin/true; i=$((i+1)); done", timeout=120.0)
    return max(1.0, (time.monotonic() - started) / _PROCESSES / _REFERENCE_S)


def budget(test: str) -> float:
    """The seconds that the test with this id may take on reference hardware."""
    budgets = ((suite, *budget) for suite in UPSTREAM for budget in suite.budgets)
    return next((seconds for suite, pattern, seconds in budgets if suite.has(test, (pattern,))), _USUAL_S)
