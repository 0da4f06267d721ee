"""Opens the transport that a board's console entry describes."""

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
    """Return the location of a serial line for messages; empty if it is unknown."""
    match console:
        case SerialConsole(device=device):
            return device
        case NetworkConsole(host=host, port=port):
            return f"{host}:{port}"
        case CommandConsole():
            return console.shown
        case _:
            return ""


def open_line(console: ConsoleSpec, *, board: str) -> Transport:
    """Open the serial line of `board`. Raises InfraError with the reason if that fails."""
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
            opened = CommandTransport(console.argv, shown=console.shown, place=place)
    return slowed(opened, console.slow_send_ms)


def _moved(console: NetworkConsole) -> Whereabouts | None:
    return whereabouts(Path(console.moves)) if console.moves else None


def open_when_there(console: ConsoleSpec, *, board: str) -> Transport:
    """Like `open_line`, but wait for a line whose location is unknown at the moment and about to be found out."""
    deadline = time.monotonic() + _AWAY_S
    while True:
        try:
            return open_line(console, board=board)
        except InfraError:
            moved = _moved(console) if isinstance(console, NetworkConsole) else None
            if not (moved and moved.is_away) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_S)
