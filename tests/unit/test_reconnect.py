"""A line that drops comes back, and is given up in time."""

from __future__ import annotations

import socket
import threading

from harness.errors import InfraError
from harness.target.line.console import Console
from harness.target.line.reconnect import ReconnectingTransport
from harness.target.line.transport import SocketTransport
from tests.faults.catalogue import Blame, fault


class Cable:
    """Opens connections whose far ends the test has; `pulled`: none can be opened."""

    def __init__(self) -> None:
        self.far: list[socket.socket] = []
        self.pulled = False
        self.opened = threading.Semaphore(0)

    def open(self) -> SocketTransport:
        if self.pulled:
            raise InfraError("no such device")
        ours, theirs = socket.socketpair()
        self.far.append(theirs)
        self.opened.release()
        return SocketTransport(ours)

    def close(self) -> None:
        for end in self.far:
            end.close()


@fault(
    "the console server drops the connection",
    where="console",
    blame=Blame.NOBODY,
    survives="what came before and after, in order",
)
def test_a_line_that_drops_comes_back() -> None:
    cable = Cable()
    transport = ReconnectingTransport(cable.open)
    gaps: list[str] = []
    transport.on_gap = lambda: gaps.append("gap")
    console = Console(transport, log=None, name="line")
    cable.far[0].sendall(b"before\n")
    cable.far[0].shutdown(socket.SHUT_RDWR)
    assert cable.opened.acquire(timeout=5.0)
    assert cable.opened.acquire(timeout=5.0)
    cable.far[1].sendall(b"after\n")
    assert console.expect("before\nafter\n", timeout=5.0)
    assert gaps == ["gap"]
    console.send(b"x")
    assert cable.far[1].recv(10) == b"x"
    console.close()
    assert console.closed
    assert len(cable.far) == 2
    cable.close()


def test_a_line_that_stays_away_is_given_up() -> None:
    cable = Cable()
    console = Console(ReconnectingTransport(cable.open, patience=0.5), log=None, name="line")
    cable.pulled = True
    cable.far[0].shutdown(socket.SHUT_RDWR)
    assert console.wait_closed(5.0)
    console.close()
    cable.close()


def test_closing_does_not_wait_for_a_line_that_is_away() -> None:
    cable = Cable()
    console = Console(ReconnectingTransport(cable.open), log=None, name="line")
    cable.pulled = True
    cable.far[0].shutdown(socket.SHUT_RDWR)
    closer = threading.Thread(target=console.close)
    closer.start()
    closer.join(timeout=3.0)
    assert not closer.is_alive()
    cable.close()
