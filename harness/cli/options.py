"""The options that several verbs share, and how they become requests."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.boards.inventory import read_inventory
from harness.campaign.request import fragment_path
from harness.errors import HarnessError, UserError
from harness.model.kernel import DEFAULT_SOURCE
from harness.model.suite import UPSTREAM

_SUITES = (*(suite.name for suite in UPSTREAM), "testcases")

Function = TypeVar("Function", bound=Callable[..., Any])
Request = TypeVar("Request")


def request_from(kind: type[Request], given: dict[str, Any]) -> Request:
    """Make a dataclass `kind` from those options that are its fields, and remove them from `given`."""
    return kind(**{name: given.pop(name) for name in list(given) if name in kind.__dataclass_fields__})  # type: ignore[attr-defined]


def seconds_of(age: str) -> float:
    """Return the seconds of an age in days or weeks, as ``--older-than`` takes it. Raises UserError."""
    match = re.fullmatch(r"([0-9]{1,5})([dw])", age)
    if not match:
        raise UserError(f"--older-than: expected an age in days or weeks, as 400d or 60w, found {age!r}")
    return int(match[1]) * (86400.0 if match[2] == "d" else 7 * 86400.0)


def board_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a board."""
    try:
        return [name for name in read_inventory(None).entries if name.startswith(incomplete)]
    except HarnessError:
        return []


def _fragments(_context: click.Context, _parameter: click.Parameter, given: tuple[Path, ...]) -> tuple[Path, ...]:
    """Replace the names of our own fragments by their paths."""
    return tuple(map(fragment_path, given))


def build_options(function: Function) -> Function:
    """Add the options that select the kernel."""
    return _build_options(function, "-j", "--jobs")


def _build_options(function: Function, *jobs: str) -> Function:
    """Add them; `jobs`: the names of the option for make's number of jobs."""
    path = partial(click.Path, path_type=Path)
    options = [
        click.option(
            "--build", "build_dir", type=path(), metavar="DIR", help="Use this finished build instead of building."
        ),
        click.option(
            "--kernel",
            default=DEFAULT_SOURCE,
            show_default=True,
            metavar="SPEC",
            help="A directory, a tarball, git:URL-or-path#ref, a version such as 7.3.4, or debian:PACKAGE@SUITE; "
            "a kernel built elsewhere: debian-image:PACKAGE@SUITE, a .deb, a .rpm, or prebuilt:PATH-or-URL.",
        ),
        click.option(
            "--patches",
            type=path(),
            multiple=True,
            metavar="PATH",
            help="A patch, a directory of them, a quilt series, an mbox or maildir. Repeatable.",
        ),
        *_making(*jobs),
    ]
    return _all(options, function)


def making_options(function: Function) -> Function:
    """Add the options for how kernels are built, for a verb that says itself which kernels."""
    return _all(_making("-j", "--jobs"), function)


def _making(*jobs: str) -> list[Callable[[Function], Function]]:
    """Return them; `jobs`: the names of the option for make's number of jobs."""
    path = partial(click.Path, path_type=Path)
    return [
        click.option(
            "--kconfig",
            "kconfigs",
            type=path(),
            multiple=True,
            metavar="FILE",
            callback=_fragments,
            help="A configuration fragment, merged last: a file, or one of ours such as variants/size. Repeatable.",
        ),
        click.option("--toolchain", metavar="NAME", help="gcc (default), gcc-11, clang-16 or a prefix ending in -."),
        click.option(
            "--allow-plain-ftrace", is_flag=True, help="Accept a compiler that lacks -fpatchable-function-entry."
        ),
        click.option(
            "--no-era-fixes",
            is_flag=True,
            help="Build an old kernel as it is, without what today's compilers and tools need changed in it.",
        ),
        click.option(
            "--verify", is_flag=True, help="Read everything that is used from the cache, and compare its checksums."
        ),
        click.option(*jobs, type=click.IntRange(1), help="Number of jobs for make; default: one per CPU."),
        click.option(
            "--no-sandbox",
            is_flag=True,
            envvar="HARNESS_NO_SANDBOX",
            help="Build without a sandbox, for sources and patches that you trust like your own programs.",
        ),
    ]


def selftests_option(function: Function) -> Function:
    """Add --selftests, for the verbs that use a kernel which may have been built elsewhere."""
    return click.option(
        "--selftests",
        "selftests_dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Selftests for a kernel built elsewhere: a directory with ftrace/, as installed or in a source tree.",
    )(function)


def _all(options: Sequence[Callable[[Function], Function]], function: Function) -> Function:
    """Add `options` to `function`, shown by --help in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def mail_options(function: Function) -> Function:
    """Add the options for who sends a mail, and through which server."""
    options = [
        click.option(
            "--from",
            "sender",
            default="",
            envvar="HARNESS_MAIL_FROM",
            metavar="ADDRESS",
            help="Default: git's user.email.",
        ),
        click.option(
            "--smtp",
            default="localhost:25",
            show_default=True,
            envvar="HARNESS_SMTP",
            metavar="HOST:PORT",
            help="A mail server that takes mails from this host without a login.",
        ),
    ]
    return _all(options, function)


boards_file_option = click.option(
    "--boards",
    "boards_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read boards from FILE instead of boards.yaml.",
)


def tls_options(function: Function) -> Function:
    """Add the options for encrypted connections between the machines of a lab."""
    options = [
        ("--tls-ca", "Certificate of the authority that signed those of all machines, for connections with TLS."),
        ("--tls-cert", "Certificate of this machine."),
        ("--tls-key", "Key of that certificate."),
    ]
    path = click.Path(path_type=Path)
    return _all([click.option(name, type=path, metavar="FILE", help=told) for name, told in options], function)


def board_options(function: Function) -> Function:
    """Add the options that select the machine."""
    name = click.option(
        "--board",
        "board_name",
        default="qemu-virt",
        show_default=True,
        shell_complete=board_names,
        help="Name of a board in boards.yaml.",
    )
    return name(boards_file_option(function))


def workers(text: str) -> int | None:
    """Parse the value of -j: a number of machines; None for ``auto``."""
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise click.BadParameter(f"expected a number above 0 or auto, found {text!r}")


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return the type of an option that is a number from `least` to `most`. click's own type accepts ``nan``, a limit
    that never expires."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            wanted = f"from {least:g}" + ("" if most == math.inf else f" to {most:g}")
            raise click.BadParameter(f"expected a number {wanted}, found {str(text)!r}")
        return value

    return parsed


class Waiting(click.Command):
    """A verb with --wait. Its value is optional, so click would take a value that begins with - for the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = itertools.takewhile(lambda word: word != "--", args)
        for word, following in itertools.pairwise([*ours, ""]):
            option, _, given = word.partition("=")
            value = given or following if option == "--wait" else ""
            if value.startswith("-") and (given or value[1:2].isdecimal()):
                raise click.BadParameter(f"expected a number from 0, found {value!r}", ctx=ctx, param_hint="'--wait'")
        return super().parse_args(ctx, args)


def wait_option(function: Function) -> Function:
    """Add --wait, for the verbs that use a machine."""
    return click.option(
        "--wait",
        is_flag=False,
        flag_value="inf",
        type=number(0),
        metavar="[SECONDS]",
        help="Wait for a board that is in use, for at most SECONDS; without SECONDS, until it is free.",
    )(function)


def run_options(function: Function) -> Function:
    """Add the options of `harness run`: which kernel and machine, which tests, and how they are run. Here -j is the
    number of machines, so make's is --jobs."""
    options = [
        lambda verb: _build_options(verb, "--jobs"),
        selftests_option,
        board_options,
        wait_option,
        click.option(
            "--suite",
            "suites",
            multiple=True,
            help=f"One of {', '.join(_SUITES)} or a directory below testcases/. Repeatable.",
        ),
        click.option(
            "-k", "keyword", default="", metavar="EXPR", help="Run only tests whose names match, as with pytest's -k."
        ),
        click.option("--list", "list_only", is_flag=True, help="List the tests that would run and boot nothing."),
        click.option("--maxfail", default=0, metavar="N", help="Stop after N unexpected failures."),
        click.option(
            "--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiply every test's time limit."
        ),
        click.option(
            "--hammer-seconds",
            default=5.0,
            show_default=True,
            metavar="SECONDS",
            type=number(0.1, 86400.0),
            help="How long each test in testcases/hammer runs its load.",
        ),
        click.option(
            "-j",
            "--workers",
            default="1",
            show_default=True,
            metavar="N|auto",
            type=workers,
            help="Number of machines in parallel: QEMU machines, or boards of one pool.",
        ),
        click.option(
            "--isolation",
            type=click.Choice(["test", "file", "crash"]),
            help="When tests get a fresh kernel: for each test, for each file, or after a crash only; default: test "
            "if the board has snapshots, else crash.",
        ),
        click.option(
            "--expectations",
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FILE",
            help="Read known outcomes from FILE instead of testcases/expectations.yaml. Repeatable.",
        ),
        click.option(
            "--out",
            "out_dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Directory for the run's files; default: out/<run>.",
        ),
        click.option(
            "--confirm/--no-confirm",
            default=None,
            help="Repeat unexpected failures, to tell solid ones from flaky ones; default: where the board has "
            "snapshots.",
        ),
        click.option(
            "--history",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="The history that takes in this run; default: $HARNESS_HISTORY, else one for this user.",
        ),
        click.option("--no-history", is_flag=True, help="Leave this run out of the history."),
        click.option(
            "--coverage",
            is_flag=True,
            help="Find out which tests execute the lines that the patches have changed.",
        ),
    ]
    return _all(options, function)
