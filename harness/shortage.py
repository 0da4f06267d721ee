"""What this host lacks: room on a file system, one that can be written and read, memory, file descriptors, processes,
programs that are there and do not crash.

The one place that knows such errors, whether the operating system reports them to us or to a program that we started.
They say nothing about the kernel under test: each becomes a Shortage, which names the file system and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness.errors import InfraError

_MIB = 1 << 20
_NEARLY_FULL_MIB = 64  # a file system with less free than this is named as a likely culprit
_ROOM = "free some space, and repeat the command"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: f"ask for a larger quota, or {_ROOM}",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), or use another file system",
    errno.EROFS: "make the file system writable, or name another directory (XDG_CACHE_HOME, TMPDIR, --out)",
    errno.EIO: "look for errors of its device in this host's kernel log",
    errno.ENOMEM: "end other programs, or use fewer jobs (--jobs, -j)",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "end other programs, or raise fs.file-max",
}
_OF_FILES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# How the C library words them in a program's message, which ends with them.
_SAID = re.compile(
    r"(?:^|: |\(|\[Errno \d+\] )'?(?P<error>No space left on device|Disk quota exceeded|File too large"
    r"|Read-only file system|Input/output error|Cannot allocate memory"
    r"|Too many open files(?: in system)?)'?\)?[.)]?\s*$"
)
# apt looks before it downloads.
_APT = re.compile(r"^E: You don't have enough free space in (?P<place>\S+?)\.?$")
# What make, gcc, clang and the linker say when the host's out-of-memory killer, or somebody else, ended a part of them,
_KILLED = re.compile(
    r"Killed signal terminated program|terminated with signal 9 \[|internal compiler error: Killed\b"
    r"|^make(?:\[\d+\])?: \*\*\* \[.*\] (?:Killed|Error 137)$"
)
# when it got no memory, or no process,
_NO_MEMORY = re.compile(
    r"^LLVM ERROR: out of memory|: out of memory allocating \d+ bytes|(?:^|\s)memory exhausted\b|'std::bad_alloc'"
    r"|: Cannot fork$|\b(?:v?fork|posix_spawnp?|pthread_create)\b.*: Resource temporarily unavailable$"
)
# and when it crashed. A signal is the compiler's fault or the machine's, but never that of what it compiles.
_CRASHED = re.compile(
    r"\w signal terminated program |terminated with signal \d+ \[|: error: unable to execute command: "
    r"|: error: \S+ frontend command failed (?:due to signal|with exit code 1[2-9]\d)"
    r"|^(?:[^\s:]+(?::\d+){0,2}: )?internal compiler error: (?:Segmentation fault|Bus error|Illegal instruction|Aborted"
    r"|Terminated|Floating point exception)\b"
)
_CRASH_ADVICE = "repeat the command, and if that does not help, use another compiler (--toolchain)"
# A program that is not there, of a recipe, and of a compiler.
_NOT_THERE = re.compile(
    r"^(?:\S*sh: (?:line )?(?:\d+: )?|make(?:\[\d+\])?: )(?P<program>[\w./+-]+): "
    r"(?:(?:command )?not found|No such file or directory)$"
)
_PART_NOT_THERE = re.compile(
    r"^ccache: error: Could not find compiler|error trying to exec .*: No such file or directory$"
    r"|^[^\s:]+: fatal error: cannot (?:execute|find) \S+?(?:: .*: No such file or directory)?$"
)
# Text of a source file in a compiler's message, which may contain any words.
_QUOTED = re.compile(r"^\s*\d*\s*\||:\d+(?::\d+)?: (?:error|warning|note): |\*\*\* .*Stop\.$")
_ERRNO = {os.strerror(number): number for number in _ADVICE}


class Shortage(InfraError):
    """This host lacks room, memory or the like."""


def forbidden(path: Path) -> InfraError:
    """Return what to say where `path` is another user's, as after a `sudo harness` with this user's home directory.
    It is no Shortage: there may be room enough."""
    return InfraError(
        f"{path}: expected a file or directory that you may use, it belongs to {owner_of(path)}; change its "
        "owner (chown), or name another directory (XDG_CACHE_HOME, TMPDIR, --out)"
    )


def owner_of(path: Path) -> str:
    """Return the name of the user whom `path` belongs to, or what is nearest above it."""
    for there in (path, *path.parents):
        with contextlib.suppress(OSError):  # not there, or below a directory that we may not look into
            number = there.stat().st_uid
            with contextlib.suppress(KeyError):  # in some containers a user has no name
                return pwd.getpwuid(number).pw_name
            return f"user id {number}"
    return "another user"


def of(error: BaseException, *, where: Path | None = None, needed: str = "", kept: str = "") -> Shortage | None:
    """Return the Shortage that `error` means; None if it means something else.

    `where`: a path on the file system in question, if the error does not name one. `needed`, `kept`: how much room the
    work needs, and what it leaves behind, as parts of a sentence."""
    if isinstance(error, Shortage):
        return error
    if isinstance(error, MemoryError):
        return Shortage(f"this host has no memory left; {_ADVICE[errno.ENOMEM]}")
    if not isinstance(error, OSError):
        return None
    if isinstance(error, shutil.Error):
        error = _first_of_a_copy(error)
    number = error.errno
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        number = errno.ENOSPC  # how Python's tempfile reports it; other reasons are as good for this message
    if number not in _ADVICE:
        return None
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) and error.filename else where
    return _shortage(number, named, needed=needed, kept=kept)


@contextlib.contextmanager
def reported(where: Path, *, needed: str = "", kept: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a Shortage if it means one; the arguments are those of `of`."""
    try:
        yield
    except OSError as error:
        short = of(error, where=where, needed=needed, kept=kept)
        if short is None:
            raise
        raise short from error


def said(lines: Iterable[str], *, what: str, where: Path | None = None, needed: str = "") -> Shortage | None:
    """Return the Shortage that a failed program reports in its output; None if it reports none. `what`: the program."""
    for line in lines:
        if apt := _APT.search(line):
            return Shortage(f"{what}: {_shortage(errno.ENOSPC, Path(apt['place'])).message}", details=[line])
        if "atal error: " not in line and _QUOTED.search(line):
            continue
        if ended := _ended(line):
            return Shortage(f"{what}: {ended}", details=[line.strip()])
        if match := _SAID.search(line):
            number = _ERRNO[match["error"]]
            found = _shortage(number, where, needed=needed)
            return Shortage(f"{what}: {found.message}", details=[line.strip()])
    return None


def lost_program(lines: Iterable[str], programs: Callable[[str], bool], *, what: str) -> InfraError | None:
    """Return the error that a failed program reports because this host lacks another one that it starts; None if it
    reports none. `programs`: whether a name is that of one which the host has to have, and not only what it builds."""
    for line in lines:
        match = _NOT_THERE.search(line)
        if (match and programs(match["program"])) or _PART_NOT_THERE.search(line):
            missing = f"{what}: a program that it needs is not on this host any more"
            return InfraError(f"{missing}; install it, or use another compiler (--toolchain)", details=[line.strip()])
    return None


def _ended(line: str) -> str:
    """What `line` says of a part of a program that ended before its time, with advice; empty: nothing."""
    if _KILLED.search(line):
        return f"a part of it was killed, as by this host's out-of-memory killer; {_ADVICE[errno.ENOMEM]}"
    if _NO_MEMORY.search(line):
        return f"a part of it got no memory or process from this host; {_ADVICE[errno.ENOMEM]}"
    return f"a part of it crashed; {_CRASH_ADVICE}" if _CRASHED.search(line) else ""


def _first_of_a_copy(error: shutil.Error) -> OSError:
    """The first error of shutil.copytree, which goes on with the other files, and keeps of each error its words."""
    with contextlib.suppress(LookupError, TypeError, ValueError):
        for _, goal, words in error.args[0]:
            if found := re.match(r"\[Errno (\d+)\]", words):
                return OSError(int(found[1]), words, goal)
    return error


def is_read_only(path: Path) -> bool:
    """Whether the file system of `path` is mounted read-only, as the kernel does by itself when its device fails."""
    with contextlib.suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _shortage(number: int, where: Path | None, *, needed: str = "", kept: str = "") -> Shortage:
    found = os.strerror(number)
    place = f"{where}: " if where else ""
    room = ""
    if number in _OF_FILES:
        full = [] if where else _nearly_full()
        told = [told for path in ([where] if where else full) if (told := _file_system(path, number))]
        room = f" ({'; '.join(told)})" if told else ""
    needs = f"; needed: {needed}" if needed else ""
    keeps = f"; kept: {kept}" if kept else ""
    return Shortage(f"{place}{found[0].lower()}{found[1:]}{room}{needs}; {_ADVICE[number]}{keeps}")


def _nearly_full() -> list[Path]:
    """The file systems that are probably meant, where an error names none."""
    temporary = os.environ.get("TMPDIR", "/tmp")
    full: dict[Path, None] = {}
    for path in map(Path, (".", temporary, "/var/tmp")):
        with contextlib.suppress(OSError):
            status = os.statvfs(path)
            if status.f_bavail * status.f_frsize < _NEARLY_FULL_MIB * _MIB or (status.f_files and not status.f_favail):
                full[_mount_point(path)] = None
    return list(full)


def _file_system(path: Path, number: int) -> str:
    """Describe the file system that `path` is on, or would be; empty if that can't be found out."""
    with contextlib.suppress(OSError):
        mount = _mount_point(path)
        status = os.statvfs(mount)
        free, size = (told_size(count * status.f_frsize) for count in (status.f_bavail, status.f_blocks))
        inodes = ", all inodes in use" if status.f_files and not status.f_favail and number == errno.ENOSPC else ""
        return f"file system {mount}: {free} free of {size}{inodes}"
    return ""


def told_size(size: int) -> str:
    """`size`, in bytes, for people."""
    return f"{size / _MIB:.0f} MiB" if size >= 10 * _MIB or not size else f"{size / 1024:.0f} KiB"


def _mount_point(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    path = path.resolve()
    while not path.is_mount():
        path = path.parent
    return path
