"""What all tests share: a cache of their own, and a shell on this host that stands in for a target's."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.shells.serial import Shell

DATA = Path(__file__).parent / "data"


@pytest.fixture
def local_shell() -> Iterator[Shell]:
    """A Shell whose far end is this host's sh, reached over a socket pair as QEMU's channels are."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sh", "-s"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    theirs.close()
    console = Console(SocketTransport(ours), log=None, name="local")
    yield Shell(console)
    process.kill()
    process.wait()
    console.close()
