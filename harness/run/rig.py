"""Everything that the tests of one process run on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.model.board import BoardSpec
from harness.model.coverage import Probing
from harness.model.kernel import Build
from harness.run.coverage import Hits
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.units import Isolation


@dataclass(frozen=True, kw_only=True)
class Rig:
    """The kernel under test, the machine that runs it, and the recorder of the results.

    `suites`: those whose tests are chosen; `isolation`: when a test gets a machine of its own; `hammer_seconds`: the
    duration of a hammer test; `hits`: what the machine has executed of the changed code, if that is wanted;
    `probing`: what that code is, in the process that prepares the machine."""

    build: Build
    board: BoardSpec
    machine: Machine
    recorder: Recorder
    suites: frozenset[str]
    isolation: Isolation = Isolation.CRASH
    hammer_seconds: float = 5.0
    probing: Probing | None = None
    hits: Hits | None = None


RIG = pytest.StashKey[Rig]()  # where fixtures find the rig in pytest's config
