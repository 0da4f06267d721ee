"""The command line: one short function per verb.

What only some verbs need they import themselves, and after what fails at once: a board that is not there is told in
less time than it takes to load pytest, rich and Jinja."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from harness import __version__
from harness.boards.inspection import inspect
from harness.boards.inventory import boards_schema, read_inventory
from harness.boards.lease import acquire, acquire_pool, command_line, ensure_reachable, user_of
from harness.build.command import SYSTEM_PATH
from harness.errors import HarnessError, InfraError, UserError
from harness.options import Waiting, board_names, board_options, build_options, number, run_options, wait_option
from harness.report.text import clean
from harness.target.methods.checks import Outcome
from harness.target.methods.table import boot_method


def main() -> NoReturn:
    """The `harness` command. Errors that are expected end in their own exit code, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), SYSTEM_PATH))
    try:
        code = cli(standalone_mode=False, prog_name="harness")
    except HarnessError as error:
        code = _complain(error)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("harness: interrupted", err=True)
        code = 130
    except Exception as error:  # a mistake of ours: no riddle for the user, everything for who mends it
        path = _keep_traceback()
        code = _complain(InfraError(f"internal error: {type(error).__name__}: {error}; please report {path}"))
    sys.exit(code or 0)


def _keep_traceback() -> Path:
    from harness.build.cache import cache_dir

    path = cache_dir("logs") / time.strftime("internal-error-%Y%m%d-%H%M%S.log")
    path.write_text(f"{shlex.join(sys.argv)}\n{traceback.format_exc()}")
    return path


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """A polite kill is an interrupt: every ``finally`` runs, the results that are there get reported."""
    raise KeyboardInterrupt


def _complain(error: HarnessError) -> int:
    for line in (f"harness: {error.message}", *(f"  {line}" for line in error.details)):
        click.echo(clean(line), err=True)  # a console's last lines may hold escape sequences
    return error.exit_code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Build, boot and test arm64 kernels: ftrace, function_graph, livepatch.

    \b
    harness run                            build the newest kernel, boot it in QEMU, test it
    harness run --patches series.mbox      the same with a mailed series applied
    harness boot -- uname -a               one command on the booted kernel
    """


@cli.command(epilog="Example: harness doctor")
def doctor() -> None:
    """Show which host tools are there, which version, and what each is needed for."""
    from harness.build import host
    from harness.target.methods.qemu import pick_accel

    rows = host.doctor_rows()
    width = max(len(row.name) for row in rows)
    found = max(len(row.found) for row in rows)
    for row in rows:
        mark = "ok     " if row.ok else "MISSING"
        click.echo(f"{mark} {row.name:<{width}}  {row.found:<{found}}  {row.needed_for}  {row.remedy}".rstrip())
    accel, why = pick_accel()
    click.echo(f"ok      {'QEMU accelerator':<{width}}  {accel} ({why})")
    if not all(row.ok for row in rows):
        raise InfraError("some things are missing; `harness run` installs them where it may")


@cli.command(epilog="Example: harness fetch --kernel debian:linux-source-6.1@bookworm-security")
@build_options
def fetch(**given: Any) -> None:
    """Download and verify a kernel source, and say exactly which one it is."""
    from harness.build import host
    from harness.build.source import parse_source_spec, resolve_source
    from harness.display import Display
    from harness.request import BuildOptions

    options = BuildOptions(**given)
    spec = parse_source_spec(options.kernel)
    with Display() as display:
        host.ensure_host(progress=display, needed_for={"fetch", "git"})
        source = resolve_source(spec, progress=display, refresh=True)
    click.echo(f"{source.version} {source.checksum}\n{source.path}")


@cli.command(epilog="Example: harness build --kernel ~/linux --patches v6-0001-arm64-ftrace.patch")
@build_options
@board_options
def build(board_name: str, boards_file: Path | None, **given: Any) -> None:
    """Build the kernel, its modules, the selftests and the test modules; print the directory they are in."""
    from harness.display import Display
    from harness.request import BuildOptions, build_for

    board = read_inventory(boards_file).board(board_name)
    with Display() as display:
        made = build_for(BuildOptions(**given), board, display)
    click.echo(str(made.directory))


@cli.command(
    cls=Waiting,
    context_settings={"ignore_unknown_options": True},
    epilog="Examples: harness boot   ·   harness boot -- uname -a   ·   Ctrl-] leaves the console",
)
@build_options
@board_options
@wait_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def boot(board_name: str, boards_file: Path | None, wait: float | None, command: tuple[str, ...], **given: Any) -> int:
    """Boot the kernel and open its console, or run one COMMAND and end with its exit code."""
    board = read_inventory(boards_file).board(board_name)
    ensure_reachable(board, wait=wait)
    if not command and not sys.stdin.isatty():
        raise UserError(
            "boot: a console needs a terminal, standard input is none; give a command: harness boot -- COMMAND"
        )
    from harness.display import Display
    from harness.request import BuildOptions, booter, build_for, new_directory
    from harness.run.watched import run_watched
    from harness.target.shells.interactive import interact

    with contextlib.ExitStack() as until_closed:
        with Display() as display:
            made = build_for(BuildOptions(**given), board, display)
            held = until_closed.enter_context(acquire(board, wait=wait, say=display.say))
            logs = new_directory(None, "boot-")
            display.say(f"{board.name}: {boot_method(board).announce(board)}")
            target, seconds = booter(held, made, logs, display)()
            display.say(
                f"{board.name}: kernel {made.release} answers after {seconds:.1f} s; its log: {logs / 'console.log'}"
            )
        if command:
            # argv as given: a single word may be a whole command line, several are one command and its arguments
            line = command[0] if len(command) == 1 else shlex.join(command)
            return run_watched(target, line, limits=board.limits, on_line=click.echo)
        try:
            interact(target)
        finally:
            target.close()
    return 0


@cli.command(cls=Waiting, epilog="Example: harness run --suite selftests/ftrace -k fgraph --patches ./series.mbox")
@run_options
def run(
    board_name: str,
    boards_file: Path | None,
    wait: float | None,
    suites: tuple[str, ...],
    keyword: str,
    list_only: bool,
    maxfail: int,
    timeout_factor: float,
    hammer_seconds: float,
    workers: int | None,
    isolation: str | None,
    expectations: tuple[Path, ...],
    out_dir: Path | None,
    **given: Any,
) -> int:
    """Build if needed, boot, run the tests, write junit.xml, results.json and report.html."""
    inventory = read_inventory(boards_file)
    board = inventory.board(board_name)
    method = boot_method(board)
    required = f"--isolation {isolation}" if isolation in ("test", "file") else ""
    if required:
        from harness.request import need_snapshots

        need_snapshots(board, required)
    peers = inventory.peers_of(board, workers)
    if method.snapshots and (workers or 1) > 1:
        required = required or "-j"
    if not list_only:
        ensure_reachable(board, wait=wait)
    from harness.display import Display
    from harness.report.summary import summary_lines
    from harness.request import BuildOptions, booter, build_for, fleet_of, keeping, new_directory, point_latest
    from harness.run import session
    from harness.run.expectations import load_known
    from harness.run.units import Isolation

    selection = session.Selection(
        suites=session.choose_suites(suites),
        keyword=keyword,
        maxfail=maxfail,
        timeout_factor=timeout_factor,
        hammer_seconds=hammer_seconds,
        isolation=Isolation(isolation) if isolation else None,
        workers=method.capacity(board, workers),
        known=load_known(expectations),
    )
    with Display() as display:
        made = build_for(BuildOptions(**given), board, display)
        if list_only:
            click.echo("\n".join(session.list_tests(made, selection, board=board)))
            return 0
        with (
            acquire_pool(board, peers, wanted=workers, wait=wait, say=display.say) as held,
            keeping(board, made, display, required=required) as kept,
        ):
            run_dir = new_directory(out_dir, "")
            if out_dir is None:
                point_latest(run_dir)
            names = ", ".join(each.name for each in held)
            display.say(f"{names}: {method.announce(board)}; the run's files: {run_dir}")
            if kept and workers and selection.workers < workers:
                display.say(f"-j: {selection.workers} machines, not {workers}: this host has no free memory for more")
            results, code = session.run(
                made,
                selection,
                board=held[0],
                boot=booter(held[0], made, run_dir, display),
                keeping=kept,
                fleet=fleet_of(held, made, display),
                run_dir=run_dir,
                command=command_line(),
                display=display,
            )
    click.echo("\n".join(summary_lines(results, run_dir=run_dir)))
    return code


@cli.command(epilog="Example: harness mutants --only x8-not-restored --named")
@build_options
@board_options
@click.option("--only", multiple=True, metavar="NAME", help="Only this mutant of tests/mutants/. Repeatable.")
@click.option("--list", "list_only", is_flag=True, help="Print the mutants; builds nothing.")
@click.option("--named", is_flag=True, help="Of our tests, run only those that must catch the mutant.")
@click.option("--selftests", is_flag=True, help="Run the in-tree selftests too, up to the first one that catches.")
@click.option("-k", "keyword", default="", metavar="EXPR", help="With --selftests: only those whose names match.")
@click.option("--baselines", default=1, type=click.IntRange(1), help="Runs on the unpatched kernel, against chance.")
@click.option("--parallel", default=1, type=click.IntRange(1, 8), metavar="N", help="Guests side by side.")
@click.option(
    "--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiplies every test's time limit."
)
@click.option("--out", type=click.Path(path_type=Path), default="out/mutants", show_default=True, metavar="DIR",
              help="Every run's files; what is finished there is not done again.")  # fmt: skip
def mutants(
    board_name: str,
    boards_file: Path | None,
    only: tuple[str, ...],
    list_only: bool,
    timeout_factor: float,
    build_dir: Path | None,
    **given: Any,
) -> int:
    """Can the tests fail? Test kernels with a bug put in on purpose; print which tests saw it."""
    from harness.display import Display
    from harness.mutants import Hunt, Hunter, all_mutants, choose
    from harness.report import kill_table
    from harness.request import BuildOptions
    from harness.run.side_run import SideRuns

    board = read_inventory(boards_file).board(board_name)
    chosen = choose(only, all_mutants())
    if list_only:
        click.echo("\n".join(f"{mutant.name}: {mutant.title}" for mutant in chosen))
        return 0
    if build_dir:
        raise UserError("--build: a mutant has to be built; give its kernel with --kernel")
    hunt = Hunt(**{field: given.pop(field) for field in Hunt.__dataclass_fields__})
    shared = ["--wait=inf", "--timeout-factor", timeout_factor, *(["--boards", boards_file] if boards_file else [])]
    with Display() as display, SideRuns(shared) as side_runs:
        options = BuildOptions(build_dir=None, **given)
        table = Hunter(hunt, options, board=board, side_runs=side_runs, display=display).table(chosen)
    click.echo("\n".join(kill_table.text(table)))
    return table.exit_code


@cli.command(epilog="Example: harness report out/latest")
@click.argument("run_dir", type=click.Path(path_type=Path))
def report(run_dir: Path) -> None:
    """Make junit.xml, results.json and report.html again from a run's events; needs no kernel and no board."""
    from harness.report.summary import summary_lines
    from harness.run import documents

    results = documents.write_documents(run_dir)
    click.echo("\n".join(summary_lines(results, run_dir=run_dir)))


@cli.group(invoke_without_command=True, epilog="Examples: harness boards   ·   harness boards check rpi4")
@click.option("--boards", "boards_file", type=click.Path(path_type=Path), help="Instead of boards.yaml.")
@click.option("--schema", "print_schema", is_flag=True, help="Print the JSON schema of boards.yaml, for editors.")
@click.pass_context
def boards(context: click.Context, boards_file: Path | None, print_schema: bool) -> None:
    """List the boards and who uses them, and check their descriptions."""
    context.obj = boards_file
    if context.invoked_subcommand:
        return
    if print_schema:
        click.echo(boards_schema())
        return
    for name, entry in read_inventory(boards_file).entries.items():
        board = entry.board
        click.echo(f"{name:<16} {boot_method(board).describe(board)}")
        if board.description:
            click.echo(f"{'':<16} {board.description}")
        if board.pool:
            click.echo(f"{'':<16} pool {board.pool}")
        if user := user_of(entry):
            click.echo(f"{'':<16} in use by {user}")


@boards.command(epilog="Example: harness boards check rpi4")
@click.option("--boards", "boards_file", type=click.Path(path_type=Path), help="Instead of boards.yaml.")
@click.argument("name", shell_complete=board_names)
@click.pass_obj
def check(upper_file: Path | None, boards_file: Path | None, name: str) -> None:
    """Look at everything board NAME needs, in seconds: nothing is booted, no power switched."""
    failed = 0
    for finding in inspect(read_inventory(boards_file or upper_file).entry(name)):
        click.echo(f"{finding.outcome.value:<7} {finding.name:<11} {finding.told}")
        failed += finding.outcome is Outcome.FAILED
    if failed:
        raise InfraError(f"{name}: {failed} of these checks failed; nothing was booted")


@cli.command(epilog='Example: eval "$(harness completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the code that makes SHELL complete harness's verbs, options and boards."""
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(cli, {}, "harness", "_HARNESS_COMPLETE").source())


if __name__ == "__main__":
    main()
