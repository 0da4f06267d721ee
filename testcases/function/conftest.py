"""Fixtures of the tests of the function tracer."""

import pytest

from harness.run.api.cpus import RemovableCpu
from harness.run.api.guest import Guest


@pytest.fixture
def removable_cpu(guest: Guest) -> RemovableCpu:
    """The CPU that goes and comes."""
    return RemovableCpu(guest)
