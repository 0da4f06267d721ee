"""How long each test took recently, so that the next run can start with the longest."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness import jsonfile
from harness.model.result import Result, Verdict
from harness.run import limits

_TELLING = (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.SKIP, Verdict.UNRESOLVED)


def load(path: Path) -> dict[str, float]:
    """Seconds by test id; empty if there is no readable record."""
    try:
        content = jsonfile.read_object(path)
        return {str(test): float(seconds) for test, seconds in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def expected(known: Mapping[str, float], test: str) -> float:
    """The expected duration in seconds of the test with this id."""
    return known.get(test, limits.budget(test))


def learn(path: Path, results: Iterable[Result]) -> None:
    """Add the times of a run: half of a recorded value is the newest time, half the earlier value. If the file can't be
    written, the next run starts in another order, which is no reason to end this one."""
    known = load(path)
    for result in results:
        if (result.actual or result.verdict) in _TELLING:
            before = known.get(result.test, result.seconds)
            known[result.test] = round((before + result.seconds) / 2, 3)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        fresh.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        fresh.replace(path)
