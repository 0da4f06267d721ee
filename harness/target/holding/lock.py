"""Locks on this host: one process at a time uses a board, and its lock file says who, for what and since when.

The lock is a flock, which the kernel releases when the last descriptor of the open file is closed: when the process
that acquired it has ended, however it died, and the guard (`target/holding/guard.py`), too. The guard inherits the
descriptor because a board that is being switched off is not free yet. No other child has it: by default Python opens
files as non-inheritable.

A file can be removed, by its user or by whatever cleans up a directory for temporary files, and another one made in its
place. Therefore a process that gets the lock looks whether the file is still there under its name, and it makes a claim
besides (`claim.py`) that nobody can remove: somebody who has the lock of a removed file still has the board.

Each waiting process has a ticket file beside the lock, also locked, so that the tickets of dead processes don't count;
the oldest ticket is served first."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import shortage
from harness.errors import InfraError
from harness.lockfile import is_at, try_lock
from harness.parse.fields import json_object
from harness.report.text import one_line
from harness.target.base import Say, silent
from harness.target.holding import claim

_PLACE = "arm64-ftrace-harness"
_LARGEST_BYTES = 4096  # read no more of a lock file
_INTERVAL_S = 0.2
_GRACE_S = 0.5  # a lock held for less does not count as held: `harness boards check` and others hold it only to look


class InUse(InfraError):
    """Somebody else uses the board."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The user of a board according to its lock file. `since`: seconds since the epoch."""

    user: str = "somebody"
    host: str = ""
    process: int = 0
    purpose: str = ""
    since: float = 0.0
    lost_its_file: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether its process has ended, so that only the guard still holds the lock."""
        if self.process <= 0 or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            return False  # it runs and belongs to another user
        return False

    def __str__(self) -> str:
        if not self.process:
            return "somebody whom the lock file does not name"
        if self.lost_its_file:
            over = ", which has ended: the board is being switched off" if self.is_gone else ""
            return f"{self.user}@{self.host}, process {self.process}{over} (the lock file was removed)"
        day = "%H:%M:%S" if time.time() - self.since < 43200 else "%Y-%m-%d %H:%M"
        who = f"{self.user}@{self.host} since {time.strftime(day, time.localtime(self.since))}"
        if self.is_gone:
            return f"{who}, whose process {self.process} has ended: the board is being switched off"
        return f"{who}, process {self.process}: {self.purpose}"


def holder_of(machine: str) -> Holder | None:
    """Return who holds the lock of `machine` now; None if nobody does."""
    if not machine:
        return None
    path = _path(machine)
    return _holder_of_file(path) or _holder_without_file(path)


@contextlib.contextmanager
def acquired(
    name: str, machine: str, *, purpose: str, wait: float | None = None, say: Say = silent
) -> Iterator[tuple[int, ...]]:
    """Hold the lock of `machine`, which messages call `name`, for the length of the ``with``. Yields the descriptors
    that hold it, for a child that has to hold it, too.

    `wait`: how many seconds to wait for it; `say` gets its user. Raises InUse, at once if `wait` is None."""
    path = _path(machine)
    mine = Holder(
        user=_user(os.getuid()), host=socket.gethostname(), process=os.getpid(), purpose=purpose, since=time.time()
    )
    with _ticket(path, mine) as ticket:
        descriptors = _lock_file(path, ticket, name, wait=wait, say=say)
    try:
        with shortage.reported(path):
            _write(descriptors[0], mine)
        yield descriptors
    finally:
        os.ftruncate(descriptors[0], 0)
        for descriptor in reversed(descriptors):  # a claim without a lock means that the lock's file was removed
            os.close(descriptor)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):  # in some containers the user has no name
        return str(number)


def _lock_file(path: Path, ticket: Path, name: str, *, wait: float | None, say: Say) -> tuple[int, ...]:
    """Lock the file `path` and claim it; return the descriptors that hold both, the file's first."""
    deadline = time.monotonic() + (_GRACE_S if wait is None else wait)
    lock, told, was_claimed = _opened(path), "", False
    try:
        while True:
            before = _first_in_line(path, ticket)
            if not before and try_lock(lock):
                if not is_at(lock, path):  # it was removed, and another one may be there
                    os.close(lock)
                    lock = _opened(path)
                    continue
                with contextlib.suppress(claim.Claimed):
                    return (lock, *claim.claimed(path))
                fcntl.flock(lock, fcntl.LOCK_UN)
                if not was_claimed:  # a process that ends may be about to give it up, too
                    was_claimed = True
                    time.sleep(_INTERVAL_S)
                    continue
                before = _holder_without_file(path)
            who = str(before or _read(lock))
            if time.monotonic() >= deadline:
                waited = "" if wait is None else f"; waited {wait:.0f} s"
                raise InUse(
                    f"{name}: in use by {who}{waited}; `--wait` waits until it is free, `--wait SECONDS` at most "
                    "so many seconds"
                )
            if wait is not None and who != told:
                say(f"{name}: waiting for {who}")
                told = who
            time.sleep(_INTERVAL_S)  # the release of a flock can't be awaited with a limit
    except BaseException:
        os.close(lock)
        raise


@contextlib.contextmanager
def _ticket(path: Path, mine: Holder) -> Iterator[Path]:
    """Queue for the lock `path`: yield a ticket file that exists for the length of the ``with``."""
    since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # nobody can set it, so nobody overtakes who waits longer
    ticket = path.with_name(f"{path.stem}.{since:020d}-{secrets.token_hex(4)}.ticket")
    file = _opened(ticket)
    try:
        while not (try_lock(file) and is_at(file, ticket)):  # somebody took it for a dead process's and removed it
            os.close(file)
            file = _opened(ticket)
        with shortage.reported(ticket):
            _write(file, mine)
        yield ticket
    finally:
        ticket.unlink(missing_ok=True)
        os.close(file)


def _first_in_line(path: Path, ticket: Path) -> Holder | None:
    """Return who has waited longer than `ticket`; None if nobody has."""
    for other in sorted(path.parent.glob(f"{path.stem}.*.ticket")):
        if other.name >= ticket.name:
            return None
        holder = _holder_of_file(other)
        if holder:
            return holder
        with contextlib.suppress(OSError):  # another user's, who has to remove it; it does not count
            other.unlink()
    return None


def _path(machine: str) -> Path:
    """Return the path of the lock file of `machine`: a name that a person may recognise, and a unique hash. The
    arguments of a console command do not appear in it."""
    kind, _, where = machine.partition(" ")
    told = "" if kind == "command" else re.sub(r"[^\w.-]+", "-", Path(where).name)[:40]
    return _directory() / f"{told or kind}-{hashlib.sha256(machine.encode()).hexdigest()[:12]}.lock"


def domain() -> str:
    """Return what processes have in common that share these locks: this boot of the host, and the directory."""
    status = _directory().stat()
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{status.st_dev}:{status.st_ino}"


def _directory() -> Path:
    """Return the directory with the locks of all users; created if missing, writable for all of them.

    It depends only on what is the same for all users; otherwise two users would use different locks."""
    named = os.environ.get("HARNESS_LOCKS")
    shared = Path("/run/lock") if _is_everybodys(Path("/run/lock")) else Path("/tmp")
    path = Path(named) if named else shared / _PLACE
    try:
        if not path.is_dir():
            _make_directory(path)
        if path.is_symlink() and not named:
            raise OSError(0, "it is a link")
        if not os.access(path, os.W_OK | os.X_OK):
            raise OSError(0, f"mode {path.stat().st_mode & 0o7777:o}, owner {path.owner()}")
    except (OSError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its owner has no name"
        raise InfraError(
            f"{path}: expected a directory for locks that all users may write to: {reason}; make it with mode 1777, or "
            "name another with HARNESS_LOCKS"
        ) from None
    return path


def _is_everybodys(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o1777 == 0o1777
    return False


def _make_directory(path: Path) -> None:
    """Create it in one step, so that nobody sees it before everybody may write there."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # process ids may be equal in two containers
    fresh.mkdir(parents=True)
    fresh.chmod(0o1777)
    try:
        fresh.rename(path)
    except OSError:  # somebody else created it first
        fresh.rmdir()


def _opened(path: Path) -> int:
    """Open the file `path` for reading and writing; created if missing, writable for all users whatever the umask.

    Not with O_CREAT alone: in a directory like this one the kernel refuses that for other users' files
    (fs.protected_regular)."""
    for _ in range(10):
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                os.fchmod(file, 0o666)
                return file
        except PermissionError:
            time.sleep(0.05)  # its creator is about to make it writable for all
        except OSError as error:
            raise InfraError(f"{path}: expected a lock file, can't open it: {error.strerror}") from None
        else:
            if stat.S_ISREG(os.fstat(file).st_mode) and os.fstat(file).st_nlink < 2:
                return file
            os.close(file)
            break
    raise InfraError(f"{path}: expected a lock file that all users may write, found something else; remove it")


def _holder_of_file(path: Path) -> Holder | None:
    """Return who holds the lock file `path`; None if nobody does."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(file)
    finally:
        os.close(file)
    return None


def _holder_without_file(path: Path) -> Holder | None:
    """Return who claims the lock `path` although its file is not locked; None if nobody does."""
    found = claim.claimant(path)
    if not found:
        return None
    process, user = found
    return Holder(user=_user(user), host=socket.gethostname(), process=process, lost_its_file=True)


def _read(file: int) -> Holder:
    """Read the file; any user may have written anything to it."""
    try:
        told = json_object(os.pread(file, _LARGEST_BYTES, 0))
        return Holder(
            user=one_line(str(told["user"]), 60),
            host=one_line(str(told["host"]), 60),
            process=int(told["process"]),
            purpose=one_line(str(told["purpose"]), 200),
            since=min(max(0.0, float(told["since"])), time.time()),
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return Holder()


def _write(file: int, holder: Holder) -> None:
    os.ftruncate(file, 0)
    told = {**asdict(holder), "purpose": holder.purpose[:200]}
    os.pwrite(file, json.dumps(told).encode() + b"\n", 0)
