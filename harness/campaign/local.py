"""A run on this host: quick checks first, then the kernel, the boards, the tests and the documents."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.boards.inventory import read_inventory
from harness.boards.lease import acquire_pool, command_line, ensure_reachable
from harness.build.notbuilt import NotBuilt
from harness.campaign.request import RunRequest
from harness.errors import HarnessError, UserError
from harness.model.board import BoardEntry, BoardSpec
from harness.model.kernel import Build
from harness.model.progress import Progress, RunDisplay
from harness.model.result import RunResults
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import boot_method

if TYPE_CHECKING:
    from harness.model.coverage import Probing
    from harness.run.session import Fleet, Keeping, Selection


class Display(Progress, RunDisplay, Protocol):
    """Shows the progress of the build, and then of the tests."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A request that passed every quick check, with its board and the equal boards that may run tests in parallel.
    `needs_snapshots`: the option that requires snapshots; empty if none does."""

    request: RunRequest
    board: BoardSpec
    peers: tuple[BoardEntry, ...]
    needs_snapshots: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished run and its exit code."""

    results: RunResults
    run_dir: Path
    exit_code: int


def check(request: RunRequest, *, boots: bool = True) -> Checked:
    """Check `request` and look up its boards. Raises UserError if it can't be met. With `boots`, raises InfraError at
    once if the board can't be reached, or if it is in use and the request does not wait."""
    request.kernel.checked()
    inventory = read_inventory(request.boards_file)
    board = inventory.board(request.board_name)
    has_snapshots = boot_method(board).snapshots is not None
    needs_snapshots = "-j" if has_snapshots and (request.workers or 1) > 1 else ""
    if request.isolation in ("test", "file"):
        needs_snapshots = f"--isolation {request.isolation}"
        if not has_snapshots:
            wanted = f"{needs_snapshots}: expected a board that has snapshots (method qemu)"
            raise UserError(f"{wanted}, found {board.name}; leave it out")
    if request.coverage:
        needs_snapshots = "--coverage"
        _check_coverage(request, board)
    peers = inventory.peers_of(board, request.workers)
    if boots:
        ensure_reachable(board, wait=request.wait)
    return Checked(request=request, board=board, peers=tuple(peers), needs_snapshots=needs_snapshots)


def _check_coverage(request: RunRequest, board: BoardSpec) -> None:
    if boot_method(board).properties(board).get("accelerator") != "tcg":
        raise UserError(f"--coverage: expected a board that is emulated by QEMU, found {board.name}; leave it out")
    if not request.kernel.patches and not request.kernel.build_dir:
        raise UserError("--coverage: expected --patches, or --build with a kernel that has some, found neither")


def list_tests(checked: Checked, display: Display) -> list[str]:
    """Return the ids of the tests that a run would plan. Builds the kernel if it is not in the cache; boots nothing."""
    from harness.campaign.kernel import build_for
    from harness.run import session

    selection = _selection(checked)
    made = build_for(checked.request.kernel, checked.board, display, boots=False)
    return session.list_tests(made, selection, board=checked.board)


def run_here(checked: Checked, display: Display) -> Finished:
    """Build the kernel if needed, acquire the boards, run the tests, write the documents."""
    from harness.build.finished import give_up_unrecorded
    from harness.campaign import reaching
    from harness.campaign.history import earlier
    from harness.campaign.kernel import build_for
    from harness.campaign.machine import booter, with_one_cpu
    from harness.campaign.past import recalling
    from harness.campaign.stale import hint
    from harness.run import session

    request, board = checked.request, checked.board
    selection = _selection(checked)
    try:
        made = build_for(request.kernel, board, display)
        if request.coverage and not request.kernel.build_dir and give_up_unrecorded(made, display):
            made = build_for(request.kernel, board, display)
    except NotBuilt as error:
        _record_not_built(error, request, selection, board=board, display=display)
        raise
    if selection.repeating and not request.wanted:
        before = earlier(made, board, history=request.history)
        selection = dataclasses.replace(selection, repeating=dataclasses.replace(selection.repeating, before=before))
    with (
        acquire_pool(board, checked.peers, wanted=request.workers, wait=request.wait, say=display.say) as held,
        _keeping(checked, made, display) as kept,
    ):
        run_dir = _run_directory(request)
        method = boot_method(board)
        names = ", ".join(each.name for each in held)
        display.say(f"{names}: {method.announce(board)}; the run's files: {run_dir}")
        if kept and request.workers and selection.workers < request.workers:
            few = f"-j: {selection.workers} machines, not {request.workers}"
            display.say(f"{few}: this host has no free memory for more")
        one_cpu = with_one_cpu(held[0])
        if selection.repeating and one_cpu and not request.wanted:
            repeating = dataclasses.replace(selection.repeating, one_cpu=booter(one_cpu, made, run_dir, display))
            selection = dataclasses.replace(selection, repeating=repeating)
        results, code = session.run(
            made,
            selection,
            board=held[0],
            boot=booter(held[0], made, run_dir, display, verify=request.kernel.verify and not kept),
            keeping=kept,
            fleet=_fleet(held, made, display),
            run_dir=run_dir,
            command=command_line(),
            display=display,
            recall=None if request.no_history else recalling(run_dir, history=request.history, say=display.say),
        )
    if not request.no_history:
        found = reaching.hint(run_dir, history=request.history) if request.coverage else []
        for line in (*found, *hint(files=request.expectations, history=request.history)):
            display.say(line)
    return Finished(results=results, run_dir=run_dir, exit_code=code)


def _record_not_built(
    error: NotBuilt, request: RunRequest, selection: Selection, *, board: BoardSpec, display: Display
) -> None:
    """Leave the directory of a run that says why its kernel does not build. If that fails, too, it is only said: the
    kernel's fault is to be told in any case."""
    from harness.campaign.past import recalling
    from harness.run.notbuilt import record_not_built

    try:
        run_dir = _run_directory(request)
        recall = None if request.no_history else recalling(run_dir, history=request.history, say=display.say)
        record_not_built(error, selection, board=board, run_dir=run_dir, command=command_line(), recall=recall)
        display.say(f"what is known of this build: {run_dir}")
    except HarnessError as problem:
        display.say(f"no record of this build: {problem.message}")


def _selection(checked: Checked) -> Selection:
    """Describe what the session has to do. Raises UserError for an unknown suite."""
    from harness.run import session
    from harness.run.expectations import load_known
    from harness.run.repeating import Budget
    from harness.run.units import Isolation

    request = checked.request
    has_snapshots = boot_method(checked.board).snapshots is not None
    return session.Selection(
        suites=session.choose_suites(request.suites),
        keyword=request.keyword,
        maxfail=request.maxfail,
        timeout_factor=request.timeout_factor,
        hammer_seconds=request.hammer_seconds,
        isolation=Isolation(request.isolation) if request.isolation else None,
        workers=boot_method(checked.board).capacity(checked.board, request.workers),
        known=load_known(request.expectations),
        repeating=Budget(wanted=request.wanted)
        if (has_snapshots if request.confirm is None else request.confirm)
        else None,
    )


def _run_directory(request: RunRequest) -> Path:
    from harness.run.directory import new_directory, point_latest

    run_dir = new_directory(request.out_dir, "")
    if request.out_dir is None:
        point_latest(run_dir)
    return run_dir


@contextlib.contextmanager
def _keeping(checked: Checked, made: Build, display: Display) -> Iterator[Keeping | None]:
    """Return the snapshots of this run, which last until its end; None if the board or the build does not support them.
    Raises UserError if the request requires them."""
    from harness.build.cache import scratch_dir
    from harness.campaign.machine import media_for
    from harness.run.session import Keeping

    if boot_method(checked.board).snapshots is None or not made.has_thaw:
        if checked.needs_snapshots:
            why_not = "was made by an older harness, which had no snapshots; build it again"
            raise UserError(f"{checked.needs_snapshots}: {made.directory} {why_not}")
        yield None
        return
    with scratch_dir("snapshots") as directory:
        media = media_for(checked.board, made, display, verify=checked.request.kernel.verify)
        probing = _probing(checked, made, directory)
        if probing:
            media = dataclasses.replace(media, probe=probing.probe)
        yield Keeping(media=media, directory=directory, probing=probing)


def _probing(checked: Checked, made: Build, directory: Path) -> Probing | None:
    """Return what is watched while the tests run; None unless that is wanted, and there is something to watch."""
    if not checked.request.coverage:
        return None
    from harness.build.changedcode import changed_code, make_probe
    from harness.model.coverage import Probing

    code = changed_code(made)
    return Probing(code=code, probe=make_probe(code, directory))


def _fleet(boards: Sequence[HeldBoard], made: Build, display: Display) -> Fleet | None:
    """Return the boards that run the tests in parallel; None for a single one."""
    from harness.campaign.machine import media_for
    from harness.run.session import Fleet

    return Fleet(boards=tuple(boards), media=media_for(boards[0].spec, made, display)) if len(boards) > 1 else None
