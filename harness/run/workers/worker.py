"""A worker: the part of a run with one machine. pytest-xdist starts it as a process and sends it tests."""

from __future__ import annotations

import base64
import ctypes
import os
import pickle
import signal
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from harness import clock
from harness.build.finished import load_build
from harness.model.known import KnownOutcome, KnownOutcomes
from harness.run.assembly import assemble
from harness.run.coverage import Hits
from harness.run.expectations import known_on
from harness.run.machine import Machine
from harness.run.precheck import Findings
from harness.run.recorder import Recorder
from harness.run.rig import RIG, Rig
from harness.run.supply import Supply
from harness.run.units import Isolation
from harness.run.workers.board_worker import Booting, OneBoard
from harness.target.base import Media, Target
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import boot_method

INPUT = "harness"  # our key in the data that xdist passes to a worker
UNWRITTEN = "unwritten"  # our key in what it receives from one: what the worker could not write
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a worker starts from: the directory with the snapshot in which every test starts, and what was found out
    before it was saved."""

    snapshot: Path
    findings: Findings
    factor: float
    has_waiting_ftracetest: bool


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A worker's settings. Without `kept` it boots `board` itself, and no other worker uses that board. `today`: the
    day on which the run began; `clock`: its time of day."""

    board: HeldBoard
    media: Media
    build: Path
    run_dir: Path
    suites: frozenset[str]
    isolation: Isolation
    timeout_factor: float
    hammer_seconds: float
    known: tuple[KnownOutcome, ...]
    today: date
    kept: Kept | None = None
    clock: float = field(default_factory=clock.offset)

    def packed(self) -> str:
        """As text, for `unpacked`."""
        return base64.b64encode(pickle.dumps(self)).decode()

    @staticmethod
    def unpacked(text: str) -> Setup:
        """The inverse of `packed`."""
        setup = pickle.loads(base64.b64decode(text))
        assert isinstance(setup, Setup)
        return setup


class Restored(Supply):
    """A worker's machines, which are restored from a snapshot. If none can be restored any more, the worker ends
    instead of turning all remaining tests into quick errors: other workers run them."""

    def before_verdict(self) -> None:
        if self.rig.machine.is_dead and not self.rig.recorder.failure:  # otherwise the whole run ends
            os._exit(1)


def pytest_configure(config: pytest.Config) -> None:
    """Turn this pytest process into a worker, if xdist started it as one."""
    given = getattr(config, "workerinput", None)
    if given is None:
        return
    # the kernel ends this process when the run's own process is gone, however that ended
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the run's own process, which then ends this one
    setup = Setup.unpacked(given[INPUT])
    clock.follow(setup.clock)
    for plugin in _plugins(setup, name=given["workerid"]):
        config.pluginmanager.register(plugin)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass on what is only in the memory of this worker."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[UNWRITTEN] = session.config.stash[RIG].recorder.left_over()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End a worker immediately: everything is recorded, its machine is gone, and Python's own shutdown takes seconds on
    a busy host, for which the run would wait."""
    if hasattr(config, "workerinput"):
        os._exit(0)


def _plugins(setup: Setup, *, name: str) -> list[object]:
    # a board's logs cover all its boots, whichever worker made them
    logs = setup.run_dir / f"worker-{name if setup.kept else setup.board.name}"
    logs.mkdir(exist_ok=True)
    return _with_restored(setup, setup.kept, logs, name) if setup.kept else _with_board(setup, logs, name)


def _with_restored(setup: Setup, kept: Kept, logs: Path, name: str) -> list[object]:
    spec = setup.board.spec
    method = boot_method(spec)
    assert method.snapshots
    recorder = Recorder.of(setup.run_dir, worker=name)
    machine = Machine(
        _no_boot,
        limits=spec.limits,
        recorder=recorder,
        timeout_factor=setup.timeout_factor,
        snapshots=method.snapshots(spec, setup.media, kept.snapshot, logs=logs),
    )
    machine.factor = kept.factor
    machine.has_waiting_ftracetest = kept.has_waiting_ftracetest
    machine.findings = kept.findings
    rig = _rig(setup, machine, recorder)
    if setup.media.probe:
        hits = Hits(setup.media.probe, logs=logs, run_dir=setup.run_dir, fail=recorder.fail)
        rig = replace(rig, hits=hits)
    return assemble(rig, Restored(rig), known=_known(setup, rig))


def _with_board(setup: Setup, logs: Path, name: str) -> list[object]:
    board = setup.board
    recorder = Recorder.of(setup.run_dir, worker=name, board=board.name)
    booting = Booting(partial(boot_method(board.spec).boot, board, setup.media, logs=logs, say=recorder.problem))
    machine = Machine(booting, limits=board.spec.limits, recorder=recorder, timeout_factor=setup.timeout_factor)
    rig = _rig(setup, machine, recorder)
    supply = OneBoard(rig, booting)
    return [supply, *assemble(rig, supply, known=_known(setup, rig))]


def _rig(setup: Setup, machine: Machine, recorder: Recorder) -> Rig:
    return Rig(
        build=load_build(setup.build),
        board=setup.board.spec,
        machine=machine,
        recorder=recorder,
        suites=setup.suites,
        isolation=setup.isolation,
        hammer_seconds=setup.hammer_seconds,
    )


def _known(setup: Setup, rig: Rig) -> KnownOutcomes:
    return known_on(setup.known, rig.build, rig.board, today=setup.today)


def _no_boot() -> tuple[Target, float]:
    raise AssertionError("workers restore what was kept for them")
