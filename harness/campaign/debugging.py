"""A machine that is stopped for gdb: its socket, the command that a person starts, and the wait for her."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.build.cache import scratch_dir
from harness.campaign import gdbscript
from harness.errors import UserError
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.target.base import Target
from harness.target.methods.table import Debugging

GDB = "gdb-multiarch"
_SOCKET = "socket"
_LONGEST_SOCKET_BYTES = 107  # of sockaddr_un
_POLL_S = 0.5
_LINES = 30  # of the console that are shown


@contextlib.contextmanager
def debugged(board: BoardSpec, debugging: Debugging) -> Iterator[tuple[BoardSpec, Path]]:
    """Yield the board with a server for gdb, and the path of its socket, in a directory that nobody else may enter:
    whoever reaches the server can do with the machine, and with QEMU itself, what he likes. Raises UserError."""
    with contextlib.ExitStack() as until_done:
        directory = until_done.enter_context(scratch_dir("gdb"))
        if not _has_room(directory):
            directory = Path(until_done.enter_context(tempfile.TemporaryDirectory(prefix="harness-gdb-")))
        if not _has_room(directory):
            raise UserError(
                f"--attach: expected a path of at most {_LONGEST_SOCKET_BYTES} bytes for gdb's socket, found "
                f"{directory / _SOCKET}; set TMPDIR to a directory with a shorter name"
            )
        directory.chmod(stat.S_IRWXU)
        yield debugging.board(board, directory / _SOCKET), directory / _SOCKET


def _has_room(directory: Path) -> bool:
    return len(os.fsencode(directory / _SOCKET)) <= _LONGEST_SOCKET_BYTES


class Holding:
    """Keeps a machine for a person: prints what is needed, and waits until she has finished. `has_held`: whether there
    was something to keep."""

    def __init__(self, debugging: Debugging, made: Build, socket: Path, *, say: Callable[[str], None]) -> None:
        self._debugging = debugging
        self._made = made
        self._socket = socket
        self._say = say
        self._text = 0
        self.has_held = False

    def prepare(self, target: Target) -> None:
        """Find out where the kernel's text is: a stopped one that KASLR has moved can't be asked any more."""
        found = target.run("grep -m 1 ' _text$' /proc/kallsyms").output.partition(" ")[0]
        self._text = int(found, 16) if re.fullmatch(r"[0-9a-f]{16}", found) else 0

    def halt(self, target: Target) -> None:
        """Stop the machine where it is."""
        self._debugging.halt(target)

    def keep(self, target: Target, why: str) -> None:
        """Wait until the person interrupts, which is a KeyboardInterrupt, or the machine ends."""
        self.has_held = True
        for line in (*target.console.tail(_LINES), "", f"stopped at: {why}"):
            self._say(line)
        command = gdb_command(self._made, self._socket, text=self._text)
        self._say(f"in another terminal: {command}")
        self._say("what the kernel says from now on follows here, if gdb lets it go on; Ctrl-C ends the machine")
        stop = target.console.listen(lambda _time, line: self._say(line))
        try:
            while not target.console.wait_closed(_POLL_S):
                pass
        finally:
            stop()


def gdb_command(made: Build, socket: Path, *, text: int = 0) -> str:
    """Return the command that looks at the machine behind `socket`; its script is written beside that. `text`: where
    the kernel's text is, if that is known."""
    path = socket.with_name("attach.gdb")
    told = json.dumps(
        {
            "vmlinux": str(made.directory / "vmlinux"),
            "socket": str(socket),
            "text": text,
            "modules": {module: str(file) for module, file in module_files(made.directory).items()},
        }
    )
    # a string of JSON within a string of Python's, so that no name in it means anything to gdb
    path.write_text(f"python ATTACH = {told!r}\nsource {gdbscript.__file__}\n")
    return shlex.join([GDB, "-q", "-x", str(path)])


def module_files(directory: Path) -> dict[str, Path]:
    """Return the .ko files of a build, by the names that the kernel has for them."""
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*.ko")):
        found.setdefault(path.stem.replace("-", "_"), path)
    return found
