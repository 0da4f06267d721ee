"""From a board's console entry to an open transport: one function, one explicit table."""

from __future__ import annotations

import time
from pathlib import Path

from harness.errors import InfraError
from harness.model.board import CommandConsole, ConsoleSpec, NetworkConsole, SerialConsole
from harness.target.line.placerecord import Whereabouts, whereabouts
from harness.target.line.serialport import SerialTransport
from harness.target.line.transport import CommandTransport, SocketTransport, TelnetTransport, Transport, connect, slowed

_AWAY_S = 90.0  # for the line of a place to come back; labgrid's exporter restarts after thirty
_AGAIN_S = 0.5


def where(console: ConsoleSpec | None) -> str:
    """Where a serial line is, for messages; empty where that is not known."""
    match console:
        case SerialConsole(device=device):
            return device
        case NetworkConsole(host=host, port=port):
            return f"{host}:{port}"
        case CommandConsole(argv=argv):
            return " ".join(argv)
        case _:
            return ""


def open_line(console: ConsoleSpec, *, board: str) -> Transport:
    """The serial line of the board of that name, open. InfraError says why it can't be."""
    place = f"{board}.console"
    match console:
        case SerialConsole():
            opened: Transport = SerialTransport(console, place=place)
        case NetworkConsole():
            moved = _moved(console)
            host, port = (moved.host, moved.port) if moved and moved.host else (console.host, console.port)
            connection = connect(host, port, place=place)
            opened = TelnetTransport(connection, baud=console.baud) if console.telnet else SocketTransport(connection)
        case CommandConsole():
            opened = CommandTransport(console.argv, place=place)
    return slowed(opened, console.slow_send_ms)


def _moved(console: NetworkConsole) -> Whereabouts | None:
    return whereabouts(Path(console.moves)) if console.moves else None


def open_when_there(console: ConsoleSpec, *, board: str) -> Transport:
    """As `open_line`; a line of which nobody knows where it is, though somebody is about to find out, is waited for."""
    deadline = time.monotonic() + _AWAY_S
    while True:
        try:
            return open_line(console, board=board)
        except InfraError:
            moved = _moved(console) if isinstance(console, NetworkConsole) else None
            if not (moved and moved.is_away) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_S)
