"""`harness repro`: a failure as an archive, repeated here, or stopped for a debugger."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.boards.inventory import read_inventory
from harness.boards.lease import acquire, command_line, ensure_reachable
from harness.build import host
from harness.build.cache import scratch_dir
from harness.build.finished import RECORD, check_unsealed
from harness.campaign.archive import packed, write_whole
from harness.campaign.debugging import Holding, debugged
from harness.campaign.local import Display
from harness.campaign.machine import booter, media_for
from harness.campaign.naming import directory_of
from harness.campaign.recipe import Failure, find_failure, gathered, other_files
from harness.campaign.tracing import Tracing
from harness.errors import EXIT_OK, HarnessError, UserError
from harness.model.board import Access, BoardSpec
from harness.model.event import Event, Finished, Planned, RunBegun, RunEnded
from harness.model.kernel import Build
from harness.model.names import as_name
from harness.model.repro import RECIPE, Recipe, Repeated
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.parse.events import event_to_json
from harness.parse.graphtime import functions_in
from harness.parse.records import build_record_to_json
from harness.report.repro import count, readme, recipe_json, script
from harness.report.text import one_line
from harness.run import session
from harness.run.directory import new_directory
from harness.run.documents import read_log
from harness.run.eventlog import EVENTS
from harness.run.replaying import Hold, Replay
from harness.run.session import Keeping, Selection
from harness.run.units import Isolation
from harness.target.methods.table import boot_method

_SCRIPT = "repro.sh"


@dataclass(frozen=True, kw_only=True)
class ReproRequest:
    """The failure of `test` in `run` (a directory, or another name of a run). `build_dir`: the build to repeat it on
    (None: the one it was seen on, in the cache). `times`: how often; None: only write an archive. `attach`: stop at the
    first failure, for a debugger; `trace`: trace the functions of its report until the first failure. `out`: the
    archive, or the directory of the repetitions."""

    run: Path
    test: str
    build_dir: Path | None = None
    times: int | None = None
    attach: bool = False
    trace: bool = False
    out: Path | None = None
    timeout_factor: float = 1.0
    hammer_seconds: float = 5.0
    boards_file: Path | None = None
    history: Path | None = None
    wait: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of the repetitions: their `run_dir`, and the exit code of a run that ended early, else 0. `was_held`: a
    person has seen the failure, on a machine that was stopped before its report was whole."""

    repeated: Repeated
    run_dir: Path
    code: int
    was_held: bool = False


def failure_named(request: ReproRequest) -> Failure:
    """Find the failure that a request is about. Raises UserError."""
    directory = directory_of(request.run, history=request.history)
    return find_failure(directory, request.test, build_dir=request.build_dir)


# -- the archive --------------------------------------------------------------------------------------------------


def write_archive(failure: Failure, request: ReproRequest) -> tuple[Path, Recipe]:
    """Write the archive of a failure; returns its path and what it says. Raises UserError."""
    board = _entry(failure, request.boards_file)
    recipe, files = gathered(failure, board)
    top = f"repro-{as_name(failure.result.test, longest=80)}"
    files |= _as_run(failure, recipe)
    files |= {
        "README": readme(recipe).encode("utf-8", "replace"),
        RECIPE: recipe_json(recipe).encode(),
        _SCRIPT: script(recipe).encode("utf-8", "surrogateescape"),
    }
    if board and board.access.secrets:
        files = {name: _without_secrets(name, content, board.access) for name, content in files.items()}
    path = request.out or Path("out") / f"{top}.tar.gz"
    write_whole(path, packed(files, top=top, executable=frozenset({_SCRIPT})))
    return path, recipe


def _entry(failure: Failure, boards_file: Path | None) -> BoardSpec | None:
    """The board's entry in boards.yaml; None if there is none, or it can't be read: an archive can do without."""
    try:
        return read_inventory(boards_file).entry(failure.results.record.board.name).board
    except HarnessError:
        return None


def _without_secrets(name: str, content: bytes, access: Access) -> bytes:
    """Return a file without what says how to reach the board, which a log may quote. What a kernel is built from was
    not made here, and has to stay as it is."""
    if name.startswith(("patches/", "kconfigs/")) or name == "kernel.config":
        return content
    text = content.decode("utf-8", "surrogateescape")
    if name.endswith((".json", ".jsonl")):  # a document remains one
        lines = text.splitlines() if name.endswith(".jsonl") else [text]
        indent = None if name.endswith(".jsonl") else 1
        redone = (json.dumps(_redacted(json.loads(line), access), indent=indent) for line in lines)
        return "".join(f"{line}\n" for line in redone).encode()
    return access.redacted(text).encode("utf-8", "surrogateescape")


def _redacted(value: object, access: Access) -> object:
    match value:
        case str():
            return access.redacted(value)
        case list():
            return [_redacted(each, access) for each in value]
        case dict():
            return {key: _redacted(each, access) for key, each in value.items()}
    return value


def _as_run(failure: Failure, recipe: Recipe) -> dict[str, bytes]:
    """The files of a run in which nothing happened but this failure, and before it what ran on the same machine. It has
    no id, so that a history does not take it for the run that it is a part of."""
    result, files = recipe.result, {}
    if result.log:
        log = f"logs/{as_name(result.test)}.log"
        files[log] = read_log(failure.directory.resolve(), result.log).encode("utf-8", "replace")
        result = dataclasses.replace(result, log=log)
    record = dataclasses.replace(recipe.run, id="")
    results = [*(_on(failure, test) for test in recipe.before), dataclasses.replace(result, attempts=(), repeats=())]
    began = failure.results.started
    events: list[Event] = [RunBegun(time=began, record=record)]
    events += [Planned(time=began, tests=tuple(each.test for each in results))]
    events += [Finished(time=each.started or began, result=each) for each in results]
    events += [RunEnded(time=began + failure.results.seconds, end=RunEnd(kind=EndKind.COMPLETE))]
    build = dataclasses.replace(recipe.build, reproduce=shlex.join(recipe.building))
    files[EVENTS] = "".join(f"{event_to_json(event)}\n" for event in events).encode()
    files[RECORD] = build_record_to_json(build).encode()
    return files


def _on(failure: Failure, test: str) -> Result:
    """The attempt at a test on the failure's machine, as a result by itself."""
    result = next(each for each in failure.results.results if each.test == test)
    here = next(each for each in (*result.attempts, result) if each.machine == failure.result.machine)
    fields = {each.name: getattr(here, each.name) for each in dataclasses.fields(here) if hasattr(result, each.name)}
    return Result(**(fields | {"test": test, "log": None, "attempts": (), "repeats": (), "choice": ""}))


# -- repeating ----------------------------------------------------------------------------------------------------


def repeat(failure: Failure, request: ReproRequest, display: Display) -> Outcome:
    """Repeat a failure, and count how it ends. Raises UserError if the kernel or the board are not there, or the board
    has nothing for a debugger."""
    board = read_inventory(request.boards_file).board(failure.results.record.board.name)
    debugging = boot_method(board).debugging
    functions = _check(failure, request, board)
    ensure_reachable(board, wait=request.wait)
    made = _build(failure, display)
    needs = {*boot_method(board).needs, *(("gdb",) if request.attach else ())}
    host.ensure_host(progress=display, needed_for=needs)
    with contextlib.ExitStack() as until_done:
        holding, hold = None, None
        if request.attach and debugging:
            board, socket = until_done.enter_context(debugged(board, debugging))
            holding = Holding(debugging, made, socket, say=display.say)
            hold = Hold(prepare=holding.prepare, halt=holding.halt, keep=holding.keep)
        held = until_done.enter_context(acquire(board, wait=request.wait, say=display.say))
        run_dir = new_directory(request.out, "repro-")
        display.say(f"{board.name}: {boot_method(board).announce(board)}; the repetitions' files: {run_dir}")
        if functions:
            tracing = Tracing(functions, run_dir, say=display.say)
            hold = Hold(keep=tracing.keep, prepare=tracing.begin)
        results, code = session.run(
            made,
            _selection(failure, request, hold),
            board=held,
            boot=booter(held, made, run_dir, display),
            keeping=until_done.enter_context(_keeping(board, made, display)),
            run_dir=run_dir,
            command=command_line(),
            display=display,
        )
    result = next(each for each in results.results if each.test == failure.result.test)
    repeated = count(failure.result, [each for each in (result, *result.repeats) if each.verdict is not Verdict.NOTRUN])
    was_held = holding is not None and holding.has_held
    code = EXIT_OK if results.is_complete or was_held else code  # a person ends what she was shown
    return Outcome(repeated=repeated, run_dir=run_dir, code=code, was_held=was_held)


def _check(failure: Failure, request: ReproRequest, board: BoardSpec) -> list[str]:
    """Check what was asked for; returns the functions to trace. Raises UserError."""
    if request.attach and request.trace:
        raise UserError("--attach and --trace: expected one of them: a machine that is stopped traces nothing more")
    if request.attach and not boot_method(board).debugging:
        raise UserError(
            f"--attach: expected a machine that QEMU emulates, found the board {board.name}; there, the kernel's own "
            "debugger (CONFIG_KGDB, kgdboc= in `cmdline`) or a JTAG probe can stop a kernel"
        )
    if not request.trace:
        return []
    if boot_method(board).snapshots is None:  # a serial line has no terminal besides the commands
        raise UserError(
            f"--trace: expected a machine that QEMU emulates, found the board {board.name}; there, "
            "ftrace_dump_on_oops in `cmdline` makes a kernel print its trace at an oops"
        )
    functions = functions_in(failure.result.fault.lines) if failure.result.fault else []
    if not functions:
        raise UserError("--trace: expected a failure with a kernel report that has a call trace, found none")
    return functions


def _build(failure: Failure, display: Display) -> Build:
    if failure.build is None:
        how = failure.record.reproduce or "build.json there says how"
        raise UserError(
            f"{failure.directory}: expected the kernel of this run in the cache, found none; build it "
            f"({one_line(how)}) and name its directory with --build"
        )
    check_unsealed(failure.build, display)
    for difference in other_files(failure, failure.build):
        display.say(f"not the kernel of the run: {difference}")
    return failure.build


def _selection(failure: Failure, request: ReproRequest, hold: Hold | None) -> Selection:
    """What the session has to do. No outcome is known: a failure counts as one, also where it is expected."""
    before = failure.before
    replay = Replay(test=failure.result.test, before=before, times=request.times or 1, hold=hold)
    return Selection(
        suites=frozenset(each.suite for each in failure.results.results if each.test in (*before, replay.test)),
        timeout_factor=request.timeout_factor,
        hammer_seconds=request.hammer_seconds,
        isolation=Isolation.CRASH if before else None,
        replay=replay,
    )


@contextlib.contextmanager
def _keeping(board: BoardSpec, made: Build, display: Display) -> Iterator[Keeping | None]:
    """Where a booted machine can be kept, if it can: what is repeated then takes fractions of a second to begin."""
    if boot_method(board).snapshots is None or not made.has_thaw:
        yield None
        return
    with scratch_dir("snapshots") as directory:
        yield Keeping(media=media_for(board, made, display), directory=directory)
