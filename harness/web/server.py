"""Serves the pages until it is interrupted: the one door to waitress."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path

from waitress.server import create_server

from harness.errors import InfraError, UserError
from harness.web.app import LOOPBACK, App

_THREADS = 4
_CONNECTIONS = 100
_IDLE_S = 30  # until a connection that says nothing is closed
_HEADER_BYTES = 16 * 1024
_BODY_BYTES = 1024  # nobody has anything to send


def serve(history: Path, *, listen: str, ready: Callable[[str], None]) -> None:
    """Serve the history at `history` on `listen` (ADDRESS:PORT; port 0: any) until KeyboardInterrupt; `ready` is given
    the URL. Raises UserError if `listen` is no such thing, and InfraError if it can't be listened on."""
    host, port = _split(listen)
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    try:
        listening = socket.create_server((str(host), port), family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0)  # its own text says the address again
        raise InfraError(f"--listen {listen}: can't listen there: {why}; choose another port") from error
    with listening:
        server = create_server(
            App(history, hosts={*LOOPBACK, str(host)} if host.is_loopback else None),
            sockets=[listening],
            threads=_THREADS,
            connection_limit=_CONNECTIONS,
            channel_timeout=_IDLE_S,
            max_request_header_size=_HEADER_BYTES,
            max_request_body_size=_BODY_BYTES,
            ident=None,
        )
        shown = f"[{host}]" if host.version == 6 else str(host)
        ready(f"http://{shown}:{listening.getsockname()[1]}/")
        server.run()  # until SIGINT or SIGTERM; requests that have begun are answered


def _split(listen: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    name, _, port = listen.rpartition(":")
    try:
        host = ipaddress.ip_address({"localhost": "127.0.0.1"}.get(name, name.removeprefix("[").removesuffix("]")))
        number = int(port) if port.isascii() and port.isdigit() else -1
        if not 0 <= number <= 65535:
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"--listen {listen}: expected ADDRESS:PORT, as 127.0.0.1:8000, or 0.0.0.0:8000 for all networks"
        ) from error
    return host, number
