"""Where schedulers and workers are reached, and which addresses are used with TLS only."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

PORT = 8786


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Files in PEM format: the certificate of the authority that signed all others, our own, and its key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a scheduler or a worker is reached."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_address(text: str, *, option: str, tls: Credentials | None) -> Address:
    """Parse HOST, HOST:PORT or [ADDRESS]:PORT, also with ``tcp://`` or ``tls://`` before it. Raises UserError, and for
    an address that other hosts reach if there is no `tls`."""
    protocol, _, rest = text.rpartition("://")
    host, colon, port = rest.rpartition(":") if not rest.endswith("]") and rest.count(":") else (rest, "", "")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isdecimal() and len(port) < 6 and int(port) < 65536
    if not host or (colon and not is_number) or protocol not in ("", "tcp", "tls") or (":" in host and "[" not in rest):
        raise UserError(f"{option}: expected HOST:PORT such as 127.0.0.1:{PORT}, found {text!r}")
    if protocol and (protocol == "tls") != bool(tls):
        wanted = "--tls-ca, --tls-cert and --tls-key" if protocol == "tls" else "no --tls options"
        raise UserError(f"{option} {text}: expected {wanted} with {protocol}://")
    if not tls and not _is_loopback(host):
        raise UserError(
            f"{option} {text}: expected an address of this host's loopback interface, or --tls-ca, --tls-cert and "
            "--tls-key: without TLS, whoever reaches the port can run any program. docs/nightly.md, Many machines, "
            "shows both TLS and an SSH tunnel"
        )
    return Address(host=host, port=int(port) if colon else PORT)


def _is_loopback(host: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
        return all(ipaddress.ip_address(str(each).partition("%")[0]).is_loopback for each in found)
    except (OSError, UnicodeError, ValueError):
        return False
