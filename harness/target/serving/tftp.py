"""Runs dnsmasq if the harness itself serves what a board loads (boot.tftp_serve), or answers its DHCP requests."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import InfraError, UserError
from harness.model.boot import HttpServe, TftpServe
from harness.report.text import clean
from harness.target.base import Say
from harness.target.holding import lock
from harness.target.serving.interfaces import has_default_route, interface_of
from harness.target.serving.ports import check_udp
from harness.tied import tied

TURN_S = 1800.0
"""Seconds to wait until other boards have loaded."""

_TFTP, _DHCP = 69, 67  # ports
_START_LIMIT_S = 10.0
_LOOK_LIMIT_S = 10.0
_IGNORED = re.compile(rb"DHCPDISCOVER\(\S+\) (?:[0-9.]+ )?([0-9a-f]{2}(?::[0-9a-f]{2}){5}) .*ignored")
_MOST_IGNORED = 5
_USERS = ("dnsmasq", "nobody")  # who dnsmasq runs as where we are root; the first one that this host has


def check(spec: TftpServe | HttpServe, *, root: Path | None, place: str) -> None:
    """Check that dnsmasq could do what `spec` asks for, and serve `root`; raises InfraError with what to do if it could
    not, and UserError if it had to answer machines that are nobody's here. Another harness that serves there now is no
    obstacle: we wait for our turn."""
    if isinstance(spec, HttpServe) and not spec.dhcp:
        return
    _check_strangers(spec, place)
    if not shutil.which("dnsmasq"):
        raise InfraError(f"{place}: expected dnsmasq on this host, found none; install Debian's package dnsmasq-base")
    if spec.dhcp and os.geteuid():  # it has to send raw packets
        raise InfraError(
            f"{place}.dhcp: only root may answer DHCP; run the harness as root, or let another server do it"
        )
    if root and root.is_dir():
        _check_readable(root, place)
    if not lock.holder_of(_machine(spec)):
        _check_ports(spec, place)


def _check_strangers(spec: TftpServe | HttpServe, place: str) -> None:
    """A second DHCP server in a network that has one already takes other machines off it."""
    if spec.dhcp and not spec.mac and not spec.dhcp_any and (interface := _uplink(spec)):
        raise UserError(
            f"{place}.dhcp: expected {place}.mac, the address of the board's network card (U-Boot: printenv ethaddr), "
            f"because {spec.address} is on {interface}, over which this host reaches other networks (it has a default "
            f"route): every machine there would get an answer. Where that is meant, set {place}.dhcp_any: true"
        )


def _uplink(spec: TftpServe | HttpServe) -> str:
    """Return the interface of the server's address if this host reaches other networks over it; empty if not."""
    interface = interface_of(spec.address)
    return interface if interface and has_default_route(interface) else ""


def _check_readable(root: Path, place: str) -> None:
    user = _unprivileged()
    if not user:
        return
    for directory in (root, root / "harness"):
        words = [*_as_user(user, capabilities=()), "test", "-r", str(directory), "-a", "-x", str(directory)]
        try:
            seen = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOOK_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise InfraError(
                f"{place}: expected to see whether user {user.pw_name} may read {directory}, got no answer within "
                f"{_LOOK_LIMIT_S:.0f} s; see whether its file system answers: `ls {directory}`"
            ) from None
        if directory.is_dir() and seen.returncode:
            raise InfraError(
                f"{place}: expected a directory that user {user.pw_name} may read, because dnsmasq runs as that user, "
                f"found {directory}, which it may not; see `namei -l {directory}` for what lacks `o+rx`, or serve "
                "another directory, such as /srv/tftp"
            )


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
    _check_strangers(spec, place)
    if spec.dhcp and not spec.mac and (interface := _uplink(spec)):
        say(
            f"{place}: until the kernel has started, every machine on {interface} that asks for an address gets one "
            "from here (dhcp_any)"
        )
    turn = lock.acquired(place, _machine(spec), purpose=f"{place}: a board loads", wait=TURN_S, say=say)
    with turn, contextlib.closing(Dnsmasq(spec, root, place=place, log=log)) as server:
        try:
            yield
        except InfraError as error:
            if server.ignored and not server.has_answered:
                error.details += (
                    f"{place}.mac is {spec.mac}, and DHCP requests of these were ignored: {', '.join(server.ignored)}; "
                    "if one of them is the board, correct `mac`",
                )
            raise


class Dnsmasq:
    """dnsmasq on one address while it is needed; it ends with the harness in any case. Without `root` it answers DHCP
    only.

    Where the harness is root, dnsmasq is started as another user, with the capabilities that it needs for its ports. It
    does not change its user itself, because it would no longer get the signal that ends it with its parent.

    `ignored`: the first network cards that asked for an address and got no answer; `has_answered`: another one did."""

    def __init__(self, spec: TftpServe | HttpServe, root: Path | None, *, place: str, log: Path) -> None:
        _check_ports(spec, place)
        self._log = log
        self.ignored: list[str] = []
        self.has_answered = False
        self._started = b"TFTP root is" if root else b"DHCP, IP range"  # its sockets are open by then
        self._last: deque[str] = deque(maxlen=8)
        self._ready = threading.Event()
        words, user = tied(_command(spec, root)), _unprivileged()
        needed = ("net_bind_service", "net_admin", "net_raw") if spec.dhcp else ("net_bind_service",)
        self._process = subprocess.Popen(
            [*_as_user(user, capabilities=needed), *words] if user else words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # no passwords of boards for a program that strangers talk to
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
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
        with self._log.open("ab", buffering=0) as log:
            for line in self._process.stdout:
                text = clean(line.decode(errors="replace"))  # it has names that strangers ask for
                with contextlib.suppress(OSError):  # a full disk must not stop the reading, or dnsmasq would wait
                    log.write(text.encode())
                self._last.append(text.strip())
                if self._started in line:
                    self._ready.set()
                self._note_dhcp(line)
        self._process.wait()
        self._ready.set()

    def _note_dhcp(self, line: bytes) -> None:
        if b"DHCPOFFER(" in line:
            self.has_answered = True
        found = _IGNORED.search(line)
        if found and (card := found[1].decode()) not in self.ignored and len(self.ignored) < _MOST_IGNORED:
            self.ignored.append(card)

    def close(self) -> None:
        """Stop it. May be called twice."""
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5.0)
        if self._process.stdout:
            self._process.stdout.close()


def _unprivileged() -> pwd.struct_passwd | None:
    """Return the user that dnsmasq runs as; None if that is ours, because we are not root."""
    if os.geteuid():
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise InfraError(f"dnsmasq: expected one of the users {', '.join(_USERS)} on this host to run it as, found none")


def _as_user(user: pwd.struct_passwd, *, capabilities: Sequence[str]) -> list[str]:
    """Return the words that start a program as `user`, with these capabilities and no way to get more."""
    allowed = ",".join(["-all", *(f"+{each}" for each in capabilities)])
    words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs"]
    return [*words, f"--inh-caps={allowed}", f"--ambient-caps={allowed}", "--"]


def _command(spec: TftpServe | HttpServe, root: Path | None) -> list[str]:
    words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--port=0"]
    words += ["--bind-interfaces", f"--listen-address={spec.address}"]
    if root:
        words += ["--enable-tftp", f"--tftp-root={root}"]
    if spec.dhcp:
        # not --dhcp-authoritative: it would refuse addresses that other servers have given
        words += [f"--dhcp-range={','.join(spec.dhcp)}", "--leasefile-ro"]
    if spec.dhcp and spec.mac:
        words += [f"--dhcp-host={spec.mac},set:board", "--dhcp-ignore=tag:!known"]
    return words
