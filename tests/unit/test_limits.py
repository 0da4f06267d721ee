"""Time limits: a budget per test, times what the target was measured at."""

import pytest

from harness.run.limits import budget, measure_factor
from tests.faketarget import FakeTarget


@pytest.mark.parametrize(
    ("test", "seconds"),
    [
        ("selftests/ftrace/test.d/00basic/basic1.tc", 6.0),
        ("selftests/ftrace/test.d/direct/ftrace-direct.tc", 20.0),
        ("selftests/livepatch/test-state::x", 10.0),
        ("testcases/function/test_calls.py::test_x", 6.0),
    ],
)
def test_budgets(test: str, seconds: float) -> None:
    assert budget(test) == seconds


def test_a_fast_target_has_factor_one() -> None:
    assert measure_factor(FakeTarget(lambda command: []).run) == pytest.approx(1.0, abs=0.5)
