"""Which module finds and runs the tests of which upstream suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from harness.model.kernel import Build
from harness.model.suite import FTRACE, LIVEPATCH, USER_EVENTS, Suite
from harness.run.suites import ftrace, livepatch, programs
from harness.run.suites.batch import Found
from harness.run.units import Isolation

Finder = Callable[[Build, Isolation], Iterator[Found]]

FINDERS: Mapping[Suite, Finder] = {
    FTRACE: ftrace.batches,
    LIVEPATCH: livepatch.batches,
    USER_EVENTS: partial(programs.batches, USER_EVENTS),
}
