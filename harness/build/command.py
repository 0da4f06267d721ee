"""How the build side starts other programs: arguments as a list, a time limit, the C locale."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness import shortage
from harness.build.confinement import Confinement, refused
from harness.errors import InfraError
from harness.tied import tied

# A user's PATH lacks the directories of depmod and mke2fs on Debian.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
TICK_S = 0.25
GRACE_S = 3.0
# Set while git runs a hook: a harness started from a hook would otherwise use that repository.
GIT_HOOK_VARIABLES = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
)


class TimedOut(InfraError):
    """A program did not end in time and was stopped."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished program. A non-zero `status` is data, not an exception; a negative one is the signal that killed
    it."""

    status: int
    stdout: str
    stderr: str

    def last_lines(self, count: int = 8) -> tuple[str, ...]:
        """Return the end of its stderr, or of its stdout if stderr is empty, for the details of an error."""
        return tuple((self.stderr.strip() or self.stdout.strip()).splitlines()[-count:])


def shown(name: str) -> str:
    """Return the name of a file for people: bytes that are not UTF-8 are written as ``\\xff``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def command_env(extra: Mapping[str, str] | None = None, *, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for programs whose output is parsed: with the C locale, so that messages are in
    English. `base`: what else is in it (default: our own environment)."""
    ours = os.environ if base is None else base
    inherited = {name: value for name, value in ours.items() if name not in GIT_HOOK_VARIABLES}
    return {**inherited, "LC_ALL": "C", "LANGUAGE": "C", **(extra or {})}


def run(
    args: Sequence[str | Path],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    tick: Callable[[], None] | None = None,
    finishes: bool = False,
    names: bool = False,
    confinement: Confinement | None = None,
) -> Finished:
    """Run `args` to its end.

    `env`: set on top of ours, or of the confinement's. `stdin`: a file to read from (default: empty). `output`: a file
    that takes both output streams (then `stdout` and `stderr` are empty). `tick`: called about four times a second
    meanwhile. `names`: whether `stdout` has names of files, which are then as Python's functions for files take them,
    whatever bytes they have (for people, they have to go through `shown`).
    `finishes`, `confinement`: see `started`.
    Raises InfraError when the program does not exist, TimedOut when it exceeds `timeout` seconds; then all of its
    children die with it. Raises Shortage when it fails and says that the host lacks room or memory; BuildError
    when it fails because it wrote where its confinement does not let it.
    """
    words = [os.fspath(arg) for arg in args]
    pipe = subprocess.PIPE if output is None else output
    with started(
        words, cwd=cwd, env=env, stdin=stdin, stdout=pipe, stderr=pipe, finishes=finishes, confinement=confinement
    ) as process:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"{shlex.join(words)}: did not end within {timeout:.0f} s and was stopped")
            try:
                stdout, stderr = process.communicate(timeout=min(TICK_S, left) if tick else left)
                break
            except subprocess.TimeoutExpired:
                if tick:
                    tick()
    done = Finished(
        status=process.returncode,
        stdout=(stdout or b"").decode(errors="surrogateescape" if names else "replace"),
        stderr=(stderr or b"").decode(errors="replace"),
    )
    if done.status:
        lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
        if confinement and not shortage.is_read_only(confinement.root) and (error := refused(lines)):
            raise error
        short = shortage.said(lines, what=words[0], where=cwd)
        if short:
            raise short
    return done


@contextlib.contextmanager
def started(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | int = subprocess.PIPE,
    stderr: IO[bytes] | int = subprocess.PIPE,
    finishes: bool = False,
    confinement: Confinement | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running program. It and its children are ended if the block is left before the program ends, and when the
    harness dies.

    `finishes`: if the harness is interrupted or killed, the program still runs to its end (dpkg must not be stopped
    half-way). `confinement`: what the program is run in; then everything it starts has ended when the block is left,
    and BuildError is raised if it left files that the harness must not meet."""
    if cwd is not None and not cwd.is_dir():
        raise InfraError(f"{cwd}: the directory vanished")
    if shutil.which(words[0]) is None:
        raise InfraError(f"{words[0]}: no such command on this host; `harness doctor` shows what to install")
    if confinement is not None:
        confinement.prepare()
        words = [*confinement.prefix, *words]
    with confinement.lifeline() if confinement else contextlib.nullcontext(()) as inherited:
        try:
            process = subprocess.Popen(
                tied(words) if shutil.which("setpriv") and not finishes else words,
                cwd=cwd,
                env=command_env(env, base=confinement.environment if confinement else None),
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=inherited,
                # Its own process group: git and apt use helpers, which have to end with them.
                start_new_session=True,
            )
        except OSError as error:
            raise InfraError(f"{words[0]}: cannot be started: {error.strerror}") from error
        with process:
            leave = False
            try:
                yield process
            except KeyboardInterrupt:
                leave = finishes
                raise
            finally:
                if process.poll() is None and not leave:
                    _end_group(process)
    if confinement is not None:
        confinement.verify()


@contextlib.contextmanager
def killed(process: subprocess.Popen[bytes], *, after: float) -> Iterator[None]:
    """Kill a program that still runs `after` seconds from now, so that nobody waits for its output for ever."""
    timer = threading.Timer(after, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process group by SIGTERM, then SIGKILL, including helpers that outlived their leader."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
