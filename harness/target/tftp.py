"""What a board loads over TFTP: files laid down below the server's directory, and a server of our own where
boot.tftp_serve asks for one."""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InfraError
from harness.model.board import TftpServe
from harness.tied import tied

from . import lock
from .base import Say

KEEP_SECONDS = 14 * 86400.0
"""What no board has loaded for so long is removed."""

_TFTP, _DHCP = 69, 67  # ports
_START_LIMIT = 10.0
_TURN = 1800.0  # seconds to wait until other boards have loaded
_OURS = re.compile(r"[0-9a-f]{12}-.+|\.[0-9a-f]{12}-.+\.\d+\.partial")


def publish(path: Path, directory: Path) -> str:
    """Copy `path` into `directory` under a name that says which file it is, unless it is there; the name."""
    status = path.stat()
    told = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    name = f"{hashlib.sha256(told.encode()).hexdigest()[:12]}-{path.name}"
    if (directory / name).exists():
        with contextlib.suppress(OSError):  # somebody else's; he sees to it
            os.utime(directory / name)  # `clear_old` sees that this one is used
        return name
    partial = directory / f".{name}.{os.getpid()}.partial"
    try:
        shutil.copyfile(path, partial)
        partial.chmod(0o644)
        partial.rename(directory / name)
    except OSError as error:
        raise InfraError(f"{directory}: can't write {name}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return name


def clear_old(directory: Path) -> None:
    """Remove what `publish` left in `directory` and nobody has used for KEEP_SECONDS; nothing else, whatever it is."""
    oldest = time.time() - KEEP_SECONDS
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            status = path.lstat()
            if _OURS.fullmatch(path.name) and stat.S_ISREG(status.st_mode) and status.st_mtime < oldest:
                path.unlink()


def check(spec: TftpServe, *, place: str) -> None:
    """See that a server of ours could start; InfraError with what to do where it could not."""
    if not shutil.which("dnsmasq"):
        raise InfraError(f"{place}: expected dnsmasq on this host, found none; install Debian's package dnsmasq-base")
    _check_port(spec.address, _TFTP, place=place)
    if spec.dhcp:
        if os.geteuid():  # it has to put packets on the wire by itself
            raise InfraError(
                f"{place}.dhcp: only root may answer DHCP; run the harness as root, or let another server do it"
            )
        _check_port("", _DHCP, place=f"{place}.dhcp")


def _check_port(address: str, port: int, *, place: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InfraError(f"{place}: {_unbound(error, address, port)}") from None


def _unbound(error: OSError, address: str, port: int) -> str:
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return (
                f"may not open port {port} of this host; run the harness as root, or allow it with "
                f"`sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            )
        case errno.EADDRINUSE:
            return (
                f"port {port} of {address or 'this host'} is taken; end the server that has it, or let it serve "
                "boot.tftp_root and remove boot.tftp_serve"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"expected an address of this host, found {address}, which none of its interfaces has; see `ip address`"
            )
    return f"can't open port {port} of {address}: {error.strerror}"


@contextlib.contextmanager
def served(spec: TftpServe, root: Path, *, place: str, log: Path, say: Say) -> Iterator[None]:
    """A TFTP server for the length of the ``with``. Of this host's harnesses one at a time serves on an address: the
    others wait for their turn, which `say` is told."""
    turn = lock.turn(place, f"tftp {spec.address}", purpose=f"{place}: a board loads", wait=_TURN, say=say)
    with turn, contextlib.closing(TftpServer(spec, root, place=place, log=log)):
        yield


class TftpServer:
    """dnsmasq, serving one directory on one address for as long as it is needed; it ends with us, however that goes.

    It runs as who runs the harness: a change of user would lose the signal that ends it with its parent."""

    def __init__(self, spec: TftpServe, root: Path, *, place: str, log: Path) -> None:
        check(spec, place=place)
        self._log = log
        self._last: deque[str] = deque(maxlen=8)
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            tied(_command(spec, root, leases=log.with_suffix(".leases"))),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.wait(_START_LIMIT)
        if self._process.poll() is not None or not self._ready.is_set():
            self.close()
            raise InfraError(f"{place}: dnsmasq does not serve {root}", details=tuple(self._last))

    def _read(self) -> None:
        """Keep what it says: who fetched which file, and why not."""
        assert self._process.stdout
        with self._log.open("ab") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                self._last.append(line.decode(errors="replace").strip())
                if b"TFTP root is" in line:  # its sockets are open by then
                    self._ready.set()
        self._process.wait()
        self._ready.set()

    def close(self) -> None:
        """End it. May be called twice."""
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5.0)
        if self._process.stdout:
            self._process.stdout.close()


def _command(spec: TftpServe, root: Path, *, leases: Path) -> list[str]:
    own = os.geteuid()
    words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--port=0"]
    words += [f"--user={pwd.getpwuid(own).pw_name}", f"--group={grp.getgrgid(os.getegid()).gr_name}"]
    words += ["--bind-interfaces", f"--listen-address={spec.address}", "--enable-tftp", f"--tftp-root={root}"]
    if spec.dhcp:
        words += [f"--dhcp-range={','.join(spec.dhcp)}", f"--dhcp-leasefile={leases}", "--dhcp-authoritative"]
    return words
