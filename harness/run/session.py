"""A run: one build, one board, some suites, from the first boot to the documents."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from harness import clock, shortage
from harness.build.cache import cache_dir
from harness.build.finished import load_record, not_built
from harness.build.keptpatches import copy_patches
from harness.errors import EXIT_INFRA, HarnessError, UserError
from harness.layout import PROJECT, TESTCASES
from harness.model.board import BoardSpec
from harness.model.coverage import Probing
from harness.model.kernel import Build
from harness.model.known import KnownOutcome
from harness.model.names import nearest_first
from harness.model.progress import RunDisplay
from harness.model.record import BoardRecord, BuildRecord, RunRecord
from harness.model.result import EndKind, RunEnd, RunResults
from harness.model.suite import UPSTREAM
from harness.parse.events import VERSION
from harness.run import timings
from harness.run.collecting import Collection, Planned
from harness.run.conclusion import conclude, failure
from harness.run.coverage import Hits, write_coverage
from harness.run.documents import Recall, read_results
from harness.run.expectations import known_on
from harness.run.identity import new_run_id, running_harness
from harness.run.inprocess import Ended, run_pytest
from harness.run.local import LocalRun
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.repeating import Budget, repeat, worth_repeating
from harness.run.replaying import Replay, replay
from harness.run.rig import Rig
from harness.run.units import Isolation
from harness.run.workers import distribute
from harness.run.workers.worker import Setup
from harness.target.base import Media, Snapshotting, Target
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import boot_method

SUITES = (*(suite.name for suite in UPSTREAM), "testcases")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which tests run: suites, pytest's -k expression and --maxfail (0: no limit), a factor for time limits, and the
    duration of the tests in hammer/ in seconds. How they run: when a test gets a target of its own (None: as often as
    the board supports), and on how many machines in parallel. What their outcomes are compared with: the known
    outcomes, and today's date. `repeating`: how much repeating unexpected failures may cost (None: they are not).
    `replay`: a test to run several times; it has to be in `suites`."""

    suites: frozenset[str] = frozenset(SUITES)
    keyword: str = ""
    maxfail: int = 0
    timeout_factor: float = 1.0
    hammer_seconds: float = 5.0
    isolation: Isolation | None = None
    workers: int = 1
    known: tuple[KnownOutcome, ...] = ()
    repeating: Budget | None = None
    replay: Replay | None = None
    today: date = field(default_factory=lambda: datetime.now(UTC).date())


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where booted targets may be saved: a directory of this run's own, and what its machines boot. `probing`: the
    changed code that is watched while they run; `media` has the probe."""

    media: Media
    directory: Path
    probing: Probing | None = None


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Equal boards that run the tests in parallel, and what they boot. `session.run`'s board is the first of them."""

    boards: tuple[HeldBoard, ...]
    media: Media


def choose_suites(names: tuple[str, ...]) -> frozenset[str]:
    """The suites that --suite names: without names, all of them; ``selftests`` means all upstream ones; a directory
    below testcases/ is a suite too. UserError for any other name."""
    chosen: set[str] = set()
    for name in (name.strip("/") for name in names):
        if name == "selftests":
            chosen |= {suite.name for suite in UPSTREAM}
        elif name in SUITES or (name.startswith("testcases/") and (PROJECT / name).exists() and ".." not in name):
            chosen.add(name)
        else:
            inner = sorted(f"testcases/{path.name}" for path in TESTCASES.iterdir() if list(path.glob("test_*.py")))
            near = nearest_first(name, (*SUITES, *inner))
            raise UserError(f"--suite: expected one of {', '.join(near)}, found {name!r}")
    return frozenset(chosen or SUITES)


def list_tests(build: Build, selection: Selection, *, board: BoardSpec) -> list[str]:
    """The ids of the tests that a run would plan; boots nothing."""
    return [planned.test for planned in _planned(build, selection, board=board).values()]


def run(
    build: Build,
    selection: Selection,
    *,
    board: HeldBoard,
    boot: Callable[[], tuple[Target, float]],
    keeping: Keeping | None = None,
    fleet: Fleet | None = None,
    run_dir: Path,
    command: str,
    display: RunDisplay,
    recall: Recall | None = None,
) -> tuple[RunResults, int]:
    """Run the selected tests and write the documents. Returns the results and the exit code. Without `keeping`, a
    target is booted again only after a crash. With a `fleet`, workers boot its boards instead. `recall` takes the run
    into the history, and says what that knows of its tests, before the documents are written.

    Whatever happens on the way, events.jsonl and the documents contain everything collected until then."""
    isolation = selection.isolation or (Isolation.TEST if keeping else Isolation.CRASH)
    workers = len(fleet.boards) if fleet else selection.workers
    selection = dataclasses.replace(selection, isolation=isolation, workers=workers)
    recorder = _begun(build, run_dir)
    boards = tuple(each.name for each in fleet.boards) if fleet else ()
    record = load_record(build.directory)
    recorder.began(run_record(record, board.spec, selection, boards=boards, command=command))
    for told in not_built(build.unbuilt, build.broken):
        recorder.note(told)
    machine = Machine(
        boot,
        limits=board.spec.limits,
        recorder=recorder,
        timeout_factor=selection.timeout_factor,
        snapshots=_snapshots(board.spec, keeping, run_dir),
        on_report=selection.replay.hold.halt if selection.replay and selection.replay.hold else None,
    )
    rig = _rig(build, selection, board=board.spec, machine=machine, recorder=recorder)
    if keeping and keeping.probing:
        hits = Hits(keeping.probing.probe, logs=run_dir, run_dir=run_dir, fail=recorder.fail)
        rig = dataclasses.replace(rig, probing=keeping.probing, hits=hits)
    local = LocalRun(
        rig,
        known=known_on(selection.known, build, board.spec, today=selection.today),
        pytest=functools.partial(_pytest, selection),
        display=display,
    )
    end = RunEnd(kind=EndKind.INTERRUPTED)
    try:
        ended = _run_tests(local, selection, board=board, keeping=keeping, fleet=fleet, run_dir=run_dir)
        if selection.repeating and machine.restores and ended.code != pytest.ExitCode.INTERRUPTED:
            try:
                _repeat(local, selection, board=board.spec, boot=boot, run_dir=run_dir)
            except KeyboardInterrupt:
                ended = dataclasses.replace(ended, code=pytest.ExitCode.INTERRUPTED)
        end = ended.end
    except UserError:
        end = RunEnd(kind=EndKind.COMPLETE)  # of an empty selection: -k matched nothing
        raise
    except HarnessError as error:  # for instance, no worker started
        end = RunEnd(kind=EndKind.INTERNAL_ERROR, reason=error.message)
        raise
    finally:
        machine.close()
        if keeping and keeping.probing:
            write_coverage(keeping.probing.code, run_dir, recorder)
        results = conclude(recorder, run_dir, end, recall=recall)
        timings.learn(_timings(board.spec), results.results)
    if recorder.failure:
        raise failure(recorder, run_dir, results)
    if ended.boot_failure:
        raise ended.boot_failure
    ended.check(suites=selection.suites, keyword=selection.keyword)
    return results, EXIT_INFRA if end.kind is EndKind.INTERRUPTED else results.exit_code


def _repeat(
    local: LocalRun, selection: Selection, *, board: BoardSpec, boot: Callable[[], tuple[Target, float]], run_dir: Path
) -> None:
    """Repeat what failed unexpectedly."""
    assert selection.repeating
    rig = local.rig
    failures = worth_repeating(read_results(run_dir).results, selection.repeating.wanted)
    if not failures:
        return
    names = {planned.test: node_id for node_id, planned in _planned(rig.build, selection, board=board).items()}

    def machine(boot: Callable[[], tuple[Target, float]]) -> Machine:
        nowhere = Recorder.nowhere()
        return Machine(boot, limits=board.limits, recorder=nowhere, timeout_factor=selection.timeout_factor)

    one_cpu = selection.repeating.one_cpu
    repeat(
        [failure for failure in failures if failure.test in names],
        rig=rig,
        prepared=local.preparation,
        booting=machine(boot),
        with_one_cpu=machine(one_cpu) if one_cpu else None,
        node_ids=names,
        known=known_on(selection.known, rig.build, board, today=selection.today),
        run=lambda plugins: _pytest(dataclasses.replace(selection, maxfail=0), plugins, ()),
        run_dir=run_dir,
        budget=selection.repeating,
        say=local.display.problem,
    )


def _begun(build: Build, run_dir: Path) -> Recorder:
    """Put the record and the patches of the build into the directory of the run, and begin to record the run."""
    clock.start()
    with shortage.reported(run_dir, needed="some MiB for a run's logs and documents"):
        shutil.copyfile(build.directory / "build.json", run_dir / "build.json")
        copy_patches(build.directory, run_dir)
        return Recorder.of(run_dir)


def _rig(build: Build, selection: Selection, *, board: BoardSpec, machine: Machine, recorder: Recorder) -> Rig:
    return Rig(
        build=build,
        board=board,
        machine=machine,
        recorder=recorder,
        suites=selection.suites,
        isolation=selection.isolation or Isolation.CRASH,
        hammer_seconds=selection.hammer_seconds,
    )


def _run_tests(
    local: LocalRun,
    selection: Selection,
    *,
    board: HeldBoard,
    keeping: Keeping | None,
    fleet: Fleet | None,
    run_dir: Path,
) -> Ended:
    """Run the selection on the machine here, on several restored from a snapshot, or on a fleet."""
    if selection.replay:
        planned = _planned(local.rig.build, selection, board=board.spec)
        return replay(local, selection.replay, planned=planned, run_dir=run_dir)
    if fleet:
        job = _job(local, selection, fleet.media, board=board, run_dir=run_dir)
        return distribute.over_boards(job, fleet.boards)
    if keeping and selection.workers > 1:
        job = _job(local, selection, keeping.media, board=board, run_dir=run_dir)
        return distribute.over_restored(job, keeping.directory, selection.workers)
    return local.run()


def _snapshots(board: BoardSpec, keeping: Keeping | None, logs: Path) -> Snapshotting | None:
    method = boot_method(board)
    if keeping is None or method.snapshots is None:
        return None
    return method.snapshots(board, keeping.media, keeping.directory, logs=logs)


def _job(local: LocalRun, selection: Selection, media: Media, *, board: HeldBoard, run_dir: Path) -> distribute.Job:
    """The job for workers; UserError if the tests can't be collected."""
    rig = local.rig
    planned = _planned(rig.build, selection, board=rig.board)
    local.announce([each.test for each in planned.values()])
    setup = Setup(
        board=board,
        media=media.without_holds(),
        build=rig.build.directory,
        run_dir=run_dir.absolute(),
        suites=rig.suites,
        isolation=rig.isolation,
        timeout_factor=selection.timeout_factor,
        hammer_seconds=rig.hammer_seconds,
        known=selection.known,
        today=selection.today,
    )
    seconds = functools.partial(timings.expected, timings.load(_timings(rig.board)))
    return distribute.Job(local=local, planned=planned, setup=setup, seconds=seconds)


def _planned(build: Build, selection: Selection, *, board: BoardSpec) -> dict[str, Planned]:
    """The tests that a run would plan, by their pytest node ids; UserError if they can't be collected."""
    nowhere = Recorder.nowhere()
    machine = Machine(_no_boot, limits=board.limits, recorder=nowhere)
    rig = _rig(build, selection, board=board, machine=machine, recorder=nowhere)
    collection = Collection(rig)
    ended = _pytest(selection, [collection], ("--collect-only",))
    ended.check(suites=selection.suites, keyword=selection.keyword)
    if ended.code == pytest.ExitCode.INTERRUPTED:  # these are not all
        raise KeyboardInterrupt
    return collection.planned


def _timings(board: BoardSpec) -> Path:
    return cache_dir("timings") / f"{board.name}.json"


def _no_boot() -> tuple[Target, float]:
    raise AssertionError("listing boots nothing")


def _pytest(selection: Selection, plugins: Sequence[object], more: Sequence[str]) -> Ended:
    """Run pytest here on the selection."""
    return run_pytest(plugins, suites=selection.suites, keyword=selection.keyword, maxfail=selection.maxfail, more=more)


def key_of_testcases() -> str:
    """A hash of the testcases: their files, and the API they are written in."""
    digest = hashlib.sha256()
    for directory in (TESTCASES, Path(__file__).parent / "api"):
        for path in sorted(directory.rglob("*.*")):
            if path.suffix in (".py", ".c", ".h", ".yaml"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def run_record(
    build: BuildRecord, board: BoardSpec, selection: Selection, *, boards: tuple[str, ...] = (), command: str
) -> RunRecord:
    """The record of a run that begins now."""
    return RunRecord(
        id=new_run_id(),
        schema=VERSION,
        harness=running_harness(),
        host=f"{platform.node()} ({platform.machine()})",
        build=build.key,
        kernel=build.kernel,
        board=BoardRecord(name=board.name, details=boot_method(board).properties(board)),
        boards=boards,
        suites=tuple(sorted(selection.suites)),
        keyword=selection.keyword,
        isolation=str(selection.isolation or ""),
        workers=selection.workers,
        testcases=key_of_testcases(),
        command=command,
    )
