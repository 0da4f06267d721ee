"""Claims on locks: sockets in Linux's abstract name space, where a name is taken as long as somebody has its socket
open, and nobody can remove it. They hold within one network namespace: containers that share a directory of locks but
no network have its files alone."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from pathlib import Path

_ASKERS = 64  # that may have asked who has the claim, as long as it is held
_CREDENTIALS = struct.Struct("iII")  # ucred: process, user, group


class Claimed(Exception):
    """Somebody else has the claim."""


def claimed(path: Path) -> tuple[int, ...]:
    """Claim the lock `path`: return a descriptor that holds the claim, or none where this host has no such sockets.
    Raises Claimed."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ours.bind(_name(path))
        ours.listen(_ASKERS)
    except OSError as error:
        ours.close()
        if error.errno == errno.EADDRINUSE:
            raise Claimed from None
        return ()
    return (ours.detach(),)


def claimant(path: Path) -> tuple[int, int] | None:
    """Return the process (0 if it can't be seen from here) and the user who made the claim on the lock `path`; None if
    nobody has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.setblocking(False)
        try:
            asker.connect(_name(path))
        except BlockingIOError:  # too many have asked
            return 0, os.getuid()
        except OSError:
            return None
        process, user, _ = _CREDENTIALS.unpack(
            asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
    return process, user


def _name(path: Path) -> bytes:
    place = path.parent.resolve() / path.name
    return b"\0arm64-ftrace-harness/" + hashlib.sha256(os.fsencode(place)).hexdigest().encode()
