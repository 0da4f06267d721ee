"""Runs dnsmasq if the harness itself serves what a board loads (boot.tftp_serve), or answers its DHCP requests."""

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
from harness.model.boot import HttpServe, TftpServe
from harness.report.text import clean
from harness.target.base import Say
from harness.target.holding import lock
from harness.target.serving.ports import check_udp
from harness.tied import tied

TURN_S = 1800.0
"""Seconds to wait until other boards have loaded."""

_TFTP, _DHCP = 69, 67  # ports
_START_LIMIT_S = 10.0


def check(spec: TftpServe | HttpServe, *, place: str) -> None:
    """Check that dnsmasq could do what `spec` asks for; raises InfraError with what to do if it could not. Another
    harness that serves there now is no obstacle: we wait for our turn."""
    if isinstance(spec, HttpServe) and not spec.dhcp:
        return
    if not shutil.which("dnsmasq"):
        raise InfraError(f"{place}: expected dnsmasq on this host, found none; install Debian's package dnsmasq-base")
    if spec.dhcp and os.geteuid():  # it has to send raw packets
        raise InfraError(
            f"{place}.dhcp: only root may answer DHCP; run the harness as root, or let another server do it"
        )
    if not lock.holder_of(_machine(spec)):
        _check_ports(spec, place)


def _check_ports(spec: TftpServe | HttpServe, place: str) -> None:
    if isinstance(spec, TftpServe):
        instead = "let it serve boot.tftp_root and remove boot.tftp_serve"
        check_udp(spec.address, _TFTP, place=place, instead=instead)
    if spec.dhcp:
        instead = "let it tell the boards their addresses and remove this key"
        check_udp("", _DHCP, place=f"{place}.dhcp", instead=instead)


def _machine(spec: TftpServe | HttpServe) -> str:
    """Return the name under which the address is locked."""
    return f"tftp {spec.address}"


@contextlib.contextmanager
def served(spec: TftpServe | HttpServe, root: Path | None, *, place: str, log: Path, say: Say) -> Iterator[None]:
    """Run dnsmasq as `spec` asks, for the length of the ``with``: TFTP if there is a `root`, and DHCP if configured.

    Only one harness on this host at a time serves on an address; the others wait for their turn and report that to
    `say`."""
    turn = lock.acquired(place, _machine(spec), purpose=f"{place}: a board loads", wait=TURN_S, say=say)
    with turn, contextlib.closing(Dnsmasq(spec, root, place=place, log=log)):
        yield


class Dnsmasq:
    """dnsmasq on one address while it is needed; it ends with the harness in any case. Without `root` it answers DHCP
    only.

    It runs as the harness's user: after a change of user it would not get the signal that ends it with its parent."""

    def __init__(self, spec: TftpServe | HttpServe, root: Path | None, *, place: str, log: Path) -> None:
        _check_ports(spec, place)
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
        self._ready.wait(_START_LIMIT_S)
        if self._process.poll() is not None or not self._ready.is_set():
            self.close()
            raise InfraError(f"{place}: dnsmasq does not serve {root or 'addresses'}", details=tuple(self._last))

    def _read(self) -> None:
        """Keep its log: who fetched which file, and which requests failed."""
        assert self._process.stdout
        with self._log.open("ab") as log:
            for line in self._process.stdout:
                text = clean(line.decode(errors="replace"))  # it has names that strangers ask for
                log.write(text.encode())
                log.flush()
                self._last.append(text.strip())
                if self._started in line:
                    self._ready.set()
        self._process.wait()
        self._ready.set()

    def close(self) -> None:
        """Stop it. May be called twice."""
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
