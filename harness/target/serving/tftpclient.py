"""A minimal TFTP client (RFC 1350) that requests one small file."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

from harness.errors import InfraError

PORT = 69
_BLOCK_BYTES = 512
_READ, _DATA, _ACK, _ERROR = 1, 3, 4, 5
_TRIES = 3


def fetch(server: str, name: str, *, port: int = PORT, timeout: float = 1.0) -> bytes:
    """Fetch `name`, at most one block (512 bytes). The server is asked three times, with `timeout` seconds for each
    answer.

    Raises InfraError if it does not answer or answers with an error."""
    request = struct.pack("!H", _READ) + name.encode() + b"\0octet\0"
    try:
        family, kind, _, _, address = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as ours:
            ours.settimeout(timeout)
            for _ in range(_TRIES):
                ours.sendto(request, address)
                with contextlib.suppress(TimeoutError):
                    answer, sender = ours.recvfrom(4 + _BLOCK_BYTES)  # from a port of the transfer's own
                    return _content(answer, ours, sender)
    except OSError as error:
        raise InfraError(f"can't ask {server}: {error.strerror or error}") from None
    raise InfraError(f"no answer from {server}, port {port}")


def _content(answer: bytes, ours: socket.socket, sender: tuple[Any, ...]) -> bytes:
    code, number = struct.unpack("!HH", answer[:4].ljust(4, b"\0"))
    if code == _ERROR:
        raise InfraError(f"the server answers: {answer[4:].rstrip(bytes(1)).decode(errors='replace')} ({number})")
    if (code, number) != (_DATA, 1):
        raise InfraError(f"the server answers with a packet that is none of TFTP's: {answer[:16]!r}")
    ours.sendto(struct.pack("!HH", _ACK, 1), sender)
    return answer[4:]
