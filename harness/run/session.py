"""A run: one build, one board, some suites, from the first boot to the documents."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from harness.build.cache import cache_dir
from harness.build.make import load_record
from harness.errors import EXIT_INFRA, InfraError, UserError
from harness.layout import PROJECT, TESTCASES
from harness.model.board import Board
from harness.model.kernel import Build
from harness.model.known import KnownOutcome
from harness.model.progress import NoDisplay, RunDisplay
from harness.model.record import BoardRecord, RunRecord
from harness.model.result import EndKind, RunEnd, RunResults
from harness.parse.events import VERSION
from harness.run import timings
from harness.run.documents import write_documents
from harness.run.expectations import known_on
from harness.run.identity import new_run_id, this_harness
from harness.run.machine import Machine
from harness.run.plugin import Plugin
from harness.run.recorder import Recorder
from harness.run.selftests import FTRACE, LIVEPATCH
from harness.run.units import Isolation
from harness.run.workers import distribute
from harness.run.workers.distributor import Distributor
from harness.run.workers.worker import Setup
from harness.target.base import Media, Snapshotting, Target
from harness.target.methods.table import boot_method

SUITES = (FTRACE, LIVEPATCH, "testcases")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which tests run: suites, pytest's -k expression and --maxfail (0: no limit), a factor on time limits, and for how
    many seconds the tests in hammer/ hammer. And how: when a test gets a target of its own (None: as often as the board
    can), on how many machines side by side. And what their outcomes are held against: what is known, on which day."""

    suites: frozenset[str] = frozenset(SUITES)
    keyword: str = ""
    maxfail: int = 0
    timeout_factor: float = 1.0
    hammer_seconds: float = 5.0
    isolation: Isolation | None = None
    workers: int = 1
    known: tuple[KnownOutcome, ...] = ()
    today: date = field(default_factory=lambda: datetime.now(UTC).date())


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where booted targets may be kept: a directory of this run's own, and what its machines boot."""

    media: Media
    directory: Path


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Equal boards that run the tests side by side, and what they boot. `session.run`'s board is the first of them."""

    boards: tuple[Board, ...]
    media: Media


def choose_suites(names: tuple[str, ...]) -> frozenset[str]:
    """The suites that --suite names: all without any; ``selftests`` is both of them; a directory below testcases/
    is a suite too. UserError for what is none."""
    chosen: set[str] = set()
    for name in (name.strip("/") for name in names):
        if name == "selftests":
            chosen |= {FTRACE, LIVEPATCH}
        elif name in SUITES or (name.startswith("testcases/") and (PROJECT / name).exists() and ".." not in name):
            chosen.add(name)
        else:
            inner = sorted(f"testcases/{path.name}" for path in TESTCASES.iterdir() if list(path.glob("test_*.py")))
            raise UserError(f"--suite: expected one of {', '.join((*SUITES, *inner))}, found {name!r}")
    return frozenset(chosen or SUITES)


def list_tests(build: Build, selection: Selection, *, board: Board) -> list[str]:
    """The ids of the tests that a run would plan; boots nothing."""
    lister = _lister(build, selection, board=board)
    return [planned.test for planned in lister.planned.values()]


def run(
    build: Build,
    selection: Selection,
    *,
    board: Board,
    boot: Callable[[], tuple[Target, float]],
    keeping: Keeping | None = None,
    fleet: Fleet | None = None,
    run_dir: Path,
    command: str,
    display: RunDisplay,
) -> tuple[RunResults, int]:
    """Run the selected tests and write the documents. Returns the results and the exit code. Without `keeping` a target
    is booted anew after a crash, and only then. With a `fleet` its boards are booted instead, by workers.

    Whatever happens on the way, events.jsonl and the documents hold what was collected until then."""
    isolation = selection.isolation or (Isolation.TEST if keeping else Isolation.CRASH)
    workers = len(fleet.boards) if fleet else selection.workers
    selection = dataclasses.replace(selection, isolation=isolation, workers=workers)
    shutil.copyfile(build.directory / "build.json", run_dir / "build.json")
    recorder = Recorder.of(run_dir)
    boards = tuple(each.name for each in fleet.boards) if fleet else ()
    recorder.began(_record(build, board, selection, boards=boards, command=command))
    machine = Machine(
        boot,
        limits=board.limits,
        recorder=recorder,
        timeout_factor=selection.timeout_factor,
        snapshots=_snapshots(board, keeping, run_dir),
    )
    plugin = _plugin(build, selection, board=board, machine=machine, recorder=recorder, display=display)
    end = RunEnd(kind=EndKind.INTERRUPTED)
    code = 0
    try:
        job = functools.partial(_job, plugin, selection, board=board, recorder=recorder, run_dir=run_dir)
        if fleet:
            code = distribute.over_boards(job(fleet.media), fleet.boards)
        elif selection.workers > 1 and keeping:
            code = distribute.over_restored(job(keeping.media), keeping.directory, selection.workers)
        else:
            code = _pytest(plugin, selection)
        end = _end_of(code, plugin)
    except UserError:
        end = RunEnd(kind=EndKind.COMPLETE)  # of what there was: -k matched nothing
        raise
    finally:
        machine.close()
        recorder.ended(end)
        recorder.close()
        results = write_documents(run_dir)
        timings.learn(_timings(board), results.results)
    if plugin.boot_failure:
        raise plugin.boot_failure
    _judge_pytest(code, plugin, selection)
    return results, EXIT_INFRA if end.kind is EndKind.INTERRUPTED else results.exit_code


def _snapshots(board: Board, keeping: Keeping | None, logs: Path) -> Snapshotting | None:
    method = boot_method(board)
    if keeping is None or method.snapshots is None:
        return None
    return method.snapshots(board, keeping.media, keeping.directory, logs=logs)


def _job(
    plugin: Plugin, selection: Selection, media: Media, *, board: Board, recorder: Recorder, run_dir: Path
) -> distribute.Job:
    plugin.planned = _lister(plugin.build, selection, board=board).planned
    plugin.tell_planned()
    setup = Setup(
        board=board,
        media=media,
        build=plugin.build.directory,
        run_dir=run_dir.absolute(),
        suites=selection.suites,
        isolation=selection.isolation or Isolation.CRASH,
        timeout_factor=selection.timeout_factor,
        hammer_seconds=selection.hammer_seconds,
        known=selection.known,
        today=selection.today,
    )
    seconds = functools.partial(timings.expected, timings.load(_timings(board)))
    return distribute.Job(
        plugin=plugin,
        setup=setup,
        seconds=seconds,
        recorder=recorder,
        pytest=lambda registered, more: _pytest(registered, selection, more=more),
    )


def _lister(build: Build, selection: Selection, *, board: Board) -> Plugin:
    """A plugin that knows which tests there are; UserError where they can't be told."""
    nowhere = Recorder.nowhere()
    lister = _plugin(
        build,
        selection,
        board=board,
        machine=Machine(_no_boot, limits=board.limits, recorder=nowhere),
        recorder=nowhere,
        display=NoDisplay(),
        list_only=True,
    )
    _judge_pytest(_pytest(lister, selection), lister, selection)
    return lister


def _timings(board: Board) -> Path:
    return cache_dir("timings") / f"{board.name}.json"


def _no_boot() -> tuple[Target, float]:
    raise AssertionError("listing boots nothing")


def _plugin(
    build: Build,
    selection: Selection,
    *,
    board: Board,
    machine: Machine,
    recorder: Recorder,
    display: RunDisplay,
    list_only: bool = False,
) -> Plugin:
    return Plugin(
        build=build,
        machine=machine,
        suites=selection.suites,
        recorder=recorder,
        known=known_on(selection.known, build, board, today=selection.today),
        list_only=list_only,
        display=display,
        isolation=selection.isolation or Isolation.CRASH,
        hammer_seconds=selection.hammer_seconds,
    )


def _pytest(plugin: Plugin | Distributor, selection: Selection, *, more: Sequence[str] = ()) -> int:
    """Run pytest in this process, with the plugin, without its own terminal output, cache and configuration."""
    inner = sorted(suite for suite in selection.suites if suite.startswith("testcases/"))
    paths = [str(PROJECT / suite) for suite in inner] or [str(TESTCASES)]
    arguments = [*paths, f"--rootdir={PROJECT}", "-c", os.devnull, "--import-mode=importlib"]
    for unwanted in ("terminal", "cacheprovider", "junitxml", "tmpdir"):
        arguments += ["-p", f"no:{unwanted}"]
    arguments += ["-p", "harness.run.fixtures", *more]
    if selection.keyword:
        arguments += ["-k", selection.keyword]
    for variable in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # meant for somebody's own tests
        os.environ.pop(variable, None)
    # plugins of other packages that are installed here (labgrid has one) are not for our tests
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if selection.maxfail:
        arguments += [f"--maxfail={selection.maxfail}"]
    return int(pytest.main(arguments, plugins=[_Registrar(plugin)]))


def _judge_pytest(code: int, plugin: Plugin, selection: Selection) -> None:
    """Raise what an end of pytest means that is not about tests."""
    if plugin.collection_errors:
        raise UserError("the testcases can't be collected", details=plugin.collection_errors)
    if code == pytest.ExitCode.USAGE_ERROR:
        raise UserError(f"-k: expected an expression as `fgraph and not instance`, found {selection.keyword!r}")
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UserError(f"no test of {', '.join(sorted(selection.suites))} matches -k {selection.keyword!r}")
    if code == pytest.ExitCode.INTERNAL_ERROR:
        raise InfraError("pytest failed inside", details=plugin.internal_error.splitlines()[-15:])


class _Registrar:
    """Registers the plugin under the name by which the fixtures find it."""

    def __init__(self, plugin: Plugin | Distributor) -> None:
        self._plugin = plugin

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self._plugin, "harness-run")


def _end_of(code: int, plugin: Plugin) -> RunEnd:
    if plugin.boot_failure:
        return RunEnd(kind=EndKind.NOT_BOOTED, reason=plugin.boot_failure.message)
    if plugin.collection_errors:
        return RunEnd(kind=EndKind.COLLECTION_FAILED)
    if plugin.stopped_early:  # asked first: xdist ends its workers by an interrupt then
        return RunEnd(kind=EndKind.MAXFAIL)
    if code == pytest.ExitCode.INTERRUPTED:
        return RunEnd(kind=EndKind.INTERRUPTED)
    if code == pytest.ExitCode.INTERNAL_ERROR:
        return RunEnd(kind=EndKind.INTERNAL_ERROR, reason=plugin.internal_error.strip().rpartition("\n")[2])
    if plugin.lost_workers:
        return RunEnd(kind=EndKind.WORKERS_LOST, reason=plugin.lost_workers)
    return RunEnd(kind=EndKind.COMPLETE)


def key_of_testcases() -> str:
    """A hash of what the testcases are: their files, and the API they are written in."""
    digest = hashlib.sha256()
    for directory in (TESTCASES, Path(__file__).parent / "api"):
        for path in sorted(directory.rglob("*.*")):
            if path.suffix in (".py", ".c", ".h", ".yaml"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _record(build: Build, board: Board, selection: Selection, *, boards: tuple[str, ...], command: str) -> RunRecord:
    return RunRecord(
        id=new_run_id(),
        schema=VERSION,
        harness=this_harness(),
        host=f"{platform.node()} ({platform.machine()})",
        build=build.key,
        kernel=load_record(build.directory).kernel,
        board=BoardRecord(name=board.name, details=boot_method(board).properties(board)),
        boards=boards,
        suites=tuple(sorted(selection.suites)),
        keyword=selection.keyword,
        isolation=str(selection.isolation),
        workers=selection.workers,
        testcases=key_of_testcases(),
        command=command,
    )
