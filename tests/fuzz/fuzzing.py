"""How long the tests here search: a few dozen examples each, always the same ones; or, with HARNESS_FUZZ_SECONDS, new
ones for that many seconds each.

    HARNESS_FUZZ_SECONDS=3600 .venv/bin/python -m pytest -q tests/fuzz -k diff

What they find is written to .hypothesis/, from where the next run tries it first. It then becomes an `@example`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.errors import UserError

_SECONDS = float(os.environ.get("HARNESS_FUZZ_SECONDS") or 0)
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_QUICK = settings(deadline=None, derandomize=True, database=None, suppress_health_check=_SLOW)
_LONG = settings(deadline=None, max_examples=500, suppress_health_check=_SLOW)


def fuzzed(*strategies: st.SearchStrategy[Any], examples: int = 60) -> Callable[[Callable[..., None]], Any]:
    """Call the test with values of `strategies`: `examples` times, or for as long as HARNESS_FUZZ_SECONDS says."""

    def decorate(test: Callable[..., None]) -> Any:
        if not _SECONDS:
            return settings(_QUICK, max_examples=examples)(given(*strategies)(test))
        searching = settings(_LONG, phases=[*Phase])(given(*strategies)(test))

        @functools.wraps(test)
        def repeated() -> None:
            end = time.monotonic() + _SECONDS
            while time.monotonic() < end:
                searching()

        del repeated.__wrapped__  # pytest would take the arguments for fixtures
        return repeated

    return decorate


def refused(work: Callable[[], object], *, place: str = "x") -> bool:
    """Whether `work` ends in a UserError, which then has to name the input and to be one line."""
    try:
        work()
    except UserError as error:
        told = error.message
    else:
        return False
    assert place in told
    assert "\n" not in told
    return True


def pieces_of(*words: str, odd: bool = True) -> st.SearchStrategy[str]:
    """Text of `words`, in any order and number, with other characters in between if `odd`."""
    some = st.sampled_from(words)
    other = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["\r", "\t", " ", "\x1b[", "\0"])
    return st.lists(some | other if odd else some, max_size=30).map("".join)


def lines_of(*words: str) -> st.SearchStrategy[str]:
    """Lines, each made of some of `words`."""
    return st.lists(pieces_of(*words), max_size=12).map("\n".join)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
