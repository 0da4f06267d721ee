"""From a board's console entry to an open transport: one function, one explicit table."""

from __future__ import annotations

import time
from pathlib import Path

from harness.errors import InfraError
from harness.model.board import Board, CommandConsole, NetworkConsole, SerialConsole
from harness.target.line.placerecord import Whereabouts, whereabouts
from harness.target.line.serialport import SerialTransport
from harness.target.line.transport import CommandTransport, SocketTransport, TelnetTransport, Transport, connect, slowed

_AWAY = 90.0  # seconds that a place's line may be away; labgrid's exporter is started again after thirty
_AGAIN = 0.5


def where(board: Board) -> str:
    """Where the board's serial line is, for messages."""
    match board.console:
        case SerialConsole(device=device):
            return device
        case NetworkConsole(host=host, port=port):
            return f"{host}:{port}"
        case CommandConsole(argv=argv):
            return " ".join(argv)
        case _:
            return ""


def open_line(board: Board) -> Transport:
    """The board's serial line, open. InfraError says why it can't be."""
    place = f"{board.name}.console"
    spec = board.console
    match spec:
        case SerialConsole():
            opened: Transport = SerialTransport(spec, place=place)
        case NetworkConsole():
            moved = _moved(spec)
            host, port = (moved.host, moved.port) if moved and moved.host else (spec.host, spec.port)
            connection = connect(host, port, place=place)
            opened = TelnetTransport(connection, baud=spec.baud) if spec.telnet else SocketTransport(connection)
        case CommandConsole():
            opened = CommandTransport(spec.argv, place=place)
        case None:
            raise AssertionError("parse/boards.py asks for a console where one is needed")
    return slowed(opened, spec.slow_send_ms)


def _moved(spec: NetworkConsole) -> Whereabouts | None:
    return whereabouts(Path(spec.moves)) if spec.moves else None


def open_when_there(board: Board) -> Transport:
    """As `open_line`; a line of which nobody knows where it is, though somebody is about to find out, is waited for."""
    spec, deadline = board.console, time.monotonic() + _AWAY
    while True:
        try:
            return open_line(board)
        except InfraError:
            moved = _moved(spec) if isinstance(spec, NetworkConsole) else None
            if not (moved and moved.is_away) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN)
