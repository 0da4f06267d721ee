"""dnsmasq, where the harness itself serves what a board loads (boot.tftp_serve), or gives it its address."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InfraError
from harness.model.board import HttpServe, TftpServe
from harness.tied import tied

from . import lock
from .base import Say
from .ports import check_udp

TURN = 1800.0
"""Seconds to wait until other boards have loaded."""

_TFTP, _DHCP = 69, 67  # ports
_START_LIMIT = 10.0


def check(spec: TftpServe, *, place: str) -> None:
    """See that a server of ours could start; InfraError with what to do where it could not."""
    _check_program(place)
    instead = "let it serve boot.tftp_root and remove boot.tftp_serve"
    check_udp(spec.address, _TFTP, place=place, instead=instead)
    check_dhcp(spec, place=place)


def check_dhcp(spec: TftpServe | HttpServe, *, place: str) -> None:
    """See that boards could get their addresses from us, where that is asked for."""
    if not spec.dhcp:
        return
    place = f"{place}.dhcp"
    _check_program(place)
    if os.geteuid():  # it has to put packets on the wire by itself
        raise InfraError(f"{place}: only root may answer DHCP; run the harness as root, or let another server do it")
    check_udp("", _DHCP, place=place, instead="let it tell the boards their addresses and remove this key")


def _check_program(place: str) -> None:
    if not shutil.which("dnsmasq"):
        raise InfraError(f"{place}: expected dnsmasq on this host, found none; install Debian's package dnsmasq-base")


@contextlib.contextmanager
def served(spec: TftpServe | HttpServe, root: Path | None, *, place: str, log: Path, say: Say) -> Iterator[None]:
    """For the length of the ``with`` what `spec` asks of dnsmasq: TFTP where there is a `root`, and DHCP.

    Of this host's harnesses one at a time serves on an address: the others wait for their turn, which `say` is told."""
    turn = lock.turn(place, f"tftp {spec.address}", purpose=f"{place}: a board loads", wait=TURN, say=say)
    with turn, contextlib.closing(Dnsmasq(spec, root, place=place, log=log)):
        yield


class Dnsmasq:
    """dnsmasq, on one address for as long as it is needed; it ends with us, however that goes. Without `root` it gives
    addresses only.

    It runs as who runs the harness: a change of user would lose the signal that ends it with its parent."""

    def __init__(self, spec: TftpServe | HttpServe, root: Path | None, *, place: str, log: Path) -> None:
        if isinstance(spec, TftpServe):
            check(spec, place=place)
        else:
            check_dhcp(spec, place=place)
        self._log = log
        self._started = b"TFTP root is" if root else b"DHCP, IP range"  # its sockets are open by then
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
            raise InfraError(f"{place}: dnsmasq does not serve {root or 'addresses'}", details=tuple(self._last))

    def _read(self) -> None:
        """Keep what it says: who fetched which file, and why not."""
        assert self._process.stdout
        with self._log.open("ab") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                self._last.append(line.decode(errors="replace").strip())
                if self._started in line:
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


def _command(spec: TftpServe | HttpServe, root: Path | None, *, leases: Path) -> list[str]:
    own = os.geteuid()
    words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--port=0"]
    words += [f"--user={pwd.getpwuid(own).pw_name}", f"--group={grp.getgrgid(os.getegid()).gr_name}"]
    words += ["--bind-interfaces", f"--listen-address={spec.address}"]
    if root:
        words += ["--enable-tftp", f"--tftp-root={root}"]
    if spec.dhcp:
        words += [f"--dhcp-range={','.join(spec.dhcp)}", f"--dhcp-leasefile={leases}", "--dhcp-authoritative"]
    return words
