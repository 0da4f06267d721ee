"""The options that several verbs share, and how they become requests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.boards.inventory import read_inventory
from harness.errors import HarnessError
from harness.model.kernel import DEFAULT_SOURCE
from harness.model.suite import UPSTREAM

_SUITES = (*(suite.name for suite in UPSTREAM), "testcases")

Function = TypeVar("Function", bound=Callable[..., Any])
Request = TypeVar("Request")


def taken(kind: type[Request], given: dict[str, Any]) -> Request:
    """A `kind`, which is a dataclass, made of those options that are its fields; they are taken out of `given`."""
    return kind(**{name: given.pop(name) for name in list(given) if name in kind.__dataclass_fields__})  # type: ignore[attr-defined]


def board_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a board."""
    try:
        return [name for name in read_inventory(None).entries if name.startswith(incomplete)]
    except HarnessError:
        return []


def build_options(function: Function) -> Function:
    """The options that say which kernel is meant."""
    return _build_options(function, "-j", "--jobs")


def _build_options(function: Function, *jobs: str) -> Function:
    """`jobs`: what the number of make's jobs is called."""
    path = partial(click.Path, path_type=Path)
    options = [
        click.option("--build", "build_dir", type=path(), metavar="DIR", help="Use this finished build."),
        click.option(
            "--kernel",
            default=DEFAULT_SOURCE,
            show_default=True,
            metavar="SPEC",
            help="A directory, a tarball, git:URL-or-path#ref, a version as 7.3.4, or debian:PACKAGE@SUITE.",
        ),
        click.option(
            "--patches",
            type=path(),
            multiple=True,
            metavar="PATH",
            help="A patch, a directory of them, a quilt series, an mbox or maildir. Repeatable.",
        ),
        click.option(
            "--kconfig", "kconfigs", type=path(), multiple=True, metavar="FILE", help="A fragment, merged last."
        ),
        click.option("--toolchain", metavar="NAME", help="gcc (default), gcc-11, clang-16 or a prefix ending in -."),
        click.option(
            "--allow-plain-ftrace", is_flag=True, help="Accept a compiler without -fpatchable-function-entry."
        ),
        click.option(*jobs, type=click.IntRange(1), help="make -j; default: one a CPU."),
    ]
    return _all(options, function)


def _all(options: Sequence[Callable[[Function], Function]], function: Function) -> Function:
    """`function` with `options`, which help shows in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def board_options(function: Function) -> Function:
    """The options that say which machine is meant."""
    name = click.option(
        "--board",
        "board_name",
        default="qemu-virt",
        show_default=True,
        shell_complete=board_names,
        help="Out of boards.yaml.",
    )
    file = click.option("--boards", "boards_file", type=click.Path(path_type=Path), help="Instead of boards.yaml.")
    return name(file(function))


def workers(text: str) -> int | None:
    """What -j says: a number of machines, or ``auto``, which is None."""
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise click.BadParameter(f"expected a number above 0 or auto, found {text!r}")


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """The type of an option that is a number from `least` to `most`; click's own one lets ``nan`` pass, which no limit
    ever ends."""

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
    """A verb with --wait. As its value may be left out, click takes one that begins with - for what comes next."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = itertools.takewhile(lambda word: word != "--", args)
        for word, following in itertools.pairwise([*ours, ""]):
            option, _, given = word.partition("=")
            value = given or following if option == "--wait" else ""
            if value.startswith("-") and (given or value[1:2].isdecimal()):
                raise click.BadParameter(f"expected a number from 0, found {value!r}", ctx=ctx, param_hint="'--wait'")
        return super().parse_args(ctx, args)


def wait_option(function: Function) -> Function:
    """The option of the verbs that use a machine."""
    return click.option(
        "--wait",
        is_flag=False,
        flag_value="inf",
        type=number(0),
        metavar="[SECONDS]",
        help="Wait for a board that somebody uses; without SECONDS as long as it takes.",
    )(function)


def run_options(function: Function) -> Function:
    """The options of `harness run`: which kernel and machine, which tests, and how they are run. Make's -j is --jobs
    there: -j says how many machines run."""
    options = [
        lambda verb: _build_options(verb, "--jobs"),
        board_options,
        wait_option,
        click.option(
            "--suite", "suites", multiple=True, help=f"One of {', '.join(_SUITES)} or a directory below testcases/."
        ),
        click.option("-k", "keyword", default="", metavar="EXPR", help="Only tests whose names match, as pytest's -k."),
        click.option("--list", "list_only", is_flag=True, help="Print the tests that would run; boots nothing."),
        click.option("--maxfail", default=0, metavar="N", help="Stop after N unexpected failures."),
        click.option(
            "--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiplies every test's time limit."
        ),
        click.option(
            "--hammer-seconds",
            default=5.0,
            show_default=True,
            metavar="SECONDS",
            type=number(0.1, 86400.0),
            help="For how long each test in testcases/hammer hammers.",
        ),
        click.option(
            "-j",
            "--workers",
            default="1",
            show_default=True,
            metavar="N|auto",
            type=workers,
            help="Machines side by side: QEMUs, or boards of one pool.",
        ),
        click.option(
            "--isolation",
            type=click.Choice(["test", "file", "crash"]),
            help="How often a test gets a kernel that none has used; default: test where the board has snapshots, else "
            "crash.",
        ),
        click.option(
            "--expectations",
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FILE",
            help="Known outcomes, instead of those in testcases/expectations.yaml. Repeatable.",
        ),
        click.option(
            "--out",
            "out_dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="The run's files; default out/<run>.",
        ),
    ]
    return _all(options, function)
