"""Checks before the build that a server of ours could listen."""

from __future__ import annotations

import errno
import socket

from harness.errors import InfraError


def check_udp(address: str, port: int, *, place: str, instead: str) -> None:
    """Check that `port` of `address` (empty: all addresses of this host) may be opened and is free; raises InfraError
    with what to do if not. `instead`: the alternative if another process uses it."""
    _check(socket.SOCK_DGRAM, address, port, place=place, instead=instead)


def check_tcp(address: str, port: int, *, place: str, instead: str) -> None:
    """The same for TCP."""
    _check(socket.SOCK_STREAM, address, port, place=place, instead=instead)


def _check(kind: socket.SocketKind, address: str, port: int, *, place: str, instead: str) -> None:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # connections that ended a moment ago do not block the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InfraError(f"{place}: {_unbound(error, address, port, instead)}") from None


def _unbound(error: OSError, address: str, port: int, instead: str) -> str:
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return (
                f"may not open port {port} of this host; run the harness as root, or allow it with "
                f"`sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            )
        case errno.EADDRINUSE:
            return f"port {port} of {address or 'this host'} is taken; end the server that has it, or {instead}"
        case errno.EADDRNOTAVAIL:
            return (
                f"expected an address of this host, found {address}, which none of its interfaces has; see `ip address`"
            )
    return f"can't open port {port} of {address}: {error.strerror}"
