"""The `harness` command: its verbs and its error handling.

A verb's file is imported only when that verb is called, and imports slow modules only when it needs them: an
unreachable board is reported in less time than it takes to load pytest, rich and Jinja."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import NoReturn, cast

import click

from harness import __version__, interruption, shortage
from harness.build.command import SYSTEM_PATH
from harness.cli.output import abandon_unwritable, tell
from harness.errors import HarnessError, InfraError

VERBS = (
    *("bisect", "boards", "boot", "build", "cache", "compare", "completion", "doctor"),
    *("fetch", "history", "init", "inspect", "known", "mail", "mutants", "nightly", "publish", "report", "repro"),
    *("review", "run", "web", "worker"),
)


class _Verbs(Mapping[str, click.Command]):
    """The verbs by name, each imported on lookup."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in VERBS:
            raise KeyError(name)
        return cast(click.Command, getattr(importlib.import_module(f"harness.cli.{name}"), name))

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


@click.group(
    commands=cast(MutableMapping[str, click.Command], _Verbs()),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Build, boot and test arm64 kernels: ftrace, function_graph, livepatch.

    \b
    harness run                            build the newest kernel, boot it in QEMU, test it
    harness run --patches series.mbox      the same with a mailed series applied
    harness boot -- uname -a               one command on the booted kernel
    """


def main() -> NoReturn:
    """The `harness` command. Expected errors end with their own exit code and without a traceback."""
    interruption.watch()
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), SYSTEM_PATH))
    try:
        code = cli(standalone_mode=False, prog_name="harness")
        sys.stdout.flush()
    except HarnessError as error:
        code = _complain(error)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        tell("harness: interrupted", err=True)
        code = 130
    except Exception as error:
        code = _complain(shortage.of(error, where=_unwritable_output()) or _forbidden(error) or _bug(error))
    abandon_unwritable()
    sys.exit(code or 0)


def _forbidden(error: Exception) -> InfraError | None:
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        return shortage.forbidden(Path(error.filename))
    return None


def _unwritable_output() -> Path | None:
    """Return the file that standard output goes to if it can't be written: errors do not name it."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            return Path(f"/proc/self/fd/{sys.stdout.fileno()}").readlink()
    return None


def _bug(error: Exception) -> InfraError:
    """One line about a bug of ours for the user; the traceback goes to a file, for whoever fixes it."""
    from harness.build.cache import cache_dir

    told = f"internal error: {type(error).__name__}: {error}; please report"
    text = f"{shlex.join(sys.argv)}\n{traceback.format_exc()}"
    try:
        path = cache_dir("logs") / time.strftime("internal-error-%Y%m%d-%H%M%S.log")
        path.write_text(text)
    except OSError:
        return InfraError(f"{told} this", details=text.splitlines())
    return InfraError(f"{told} {path}")


def _complain(error: HarnessError) -> int:
    with contextlib.suppress(OSError):  # the exit code says the most important thing
        for line in (f"harness: {error.message}", *(f"  {line}" for line in error.details)):
            tell(line.replace("\r", "\n").replace("\n", "\n  "), err=True)  # no line of it passes for one of ours
    return error.exit_code
