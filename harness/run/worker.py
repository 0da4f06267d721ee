"""A worker: the part of a run that has one machine. pytest-xdist starts it as a process and hands it tests."""

from __future__ import annotations

import base64
import ctypes
import os
import pickle
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build.make import load_build
from harness.layout import EXPECTATIONS
from harness.model.board import Board
from harness.model.progress import NoDisplay
from harness.parse.expectations import parse_expectations
from harness.target.base import Media, Target
from harness.target.boot import boot_method

from .documents import EVENTS
from .eventlog import EventLog
from .lab import Lab
from .plugin import Plugin
from .precheck import Findings
from .units import Isolation

INPUT = "harness"  # our part of what xdist hands a worker
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker has to know. `snapshot`: the directory with the state that every test starts in; `findings` and
    `factor`: what was found out before it was kept."""

    board: Board
    media: Media
    build: Path
    run_dir: Path
    snapshot: Path
    suites: frozenset[str]
    isolation: Isolation
    findings: Findings
    factor: float
    is_crowded: bool  # whether machines share this host's CPUs
    has_waiting_ftracetest: bool
    timeout_factor: float
    hammer_seconds: float

    def packed(self) -> str:
        """As text, for `unpacked`."""
        return base64.b64encode(pickle.dumps(self)).decode()

    @staticmethod
    def unpacked(text: str) -> Setup:
        """What `packed` made."""
        setup = pickle.loads(base64.b64decode(text))
        assert isinstance(setup, Setup)
        return setup


def pytest_configure(config: pytest.Config) -> None:
    """Make this pytest process a worker, where it is one."""
    given = getattr(config, "workerinput", None)
    if given is None:
        return
    # the kernel ends us when the run's own process is gone, however it went
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the run's own process, which then ends us
    plugin = _plugin(Setup.unpacked(given[INPUT]), name=given["workerid"])
    config.pluginmanager.register(plugin, "harness-run")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End a worker at once: everything is written, its machine is gone, and Python's own end takes seconds on a busy
    host, for which the run would wait."""
    if hasattr(config, "workerinput"):
        os._exit(0)


def _plugin(setup: Setup, *, name: str) -> Plugin:
    build = load_build(setup.build)
    logs = setup.run_dir / f"worker-{name}"
    logs.mkdir(exist_ok=True)
    events = EventLog(setup.run_dir / EVENTS)
    method = boot_method(setup.board)
    assert method.snapshots
    lab = Lab(
        _no_boot,
        limits=setup.board.limits,
        events=events,
        timeout_factor=setup.timeout_factor,
        snapshots=method.snapshots(setup.board, setup.media, setup.snapshot, logs=logs),
    )
    lab.factor = setup.factor
    lab.has_waiting_ftracetest = setup.has_waiting_ftracetest
    lab.findings = setup.findings
    expectations = parse_expectations(
        EXPECTATIONS.read_text(), place=str(EXPECTATIONS.name), release=build.release, board=setup.board.name
    )
    return Plugin(
        build=build,
        lab=lab,
        suites=setup.suites,
        run_dir=setup.run_dir,
        events=events,
        expectations=expectations,
        display=NoDisplay(),
        isolation=setup.isolation,
        is_worker=True,
        is_crowded=setup.is_crowded,
        hammer_seconds=setup.hammer_seconds,
    )


def _no_boot() -> tuple[Target, float]:
    raise AssertionError("workers restore what was kept for them")
