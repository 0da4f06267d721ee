"""From a board's console entry to an open transport: one function, one explicit table."""

from __future__ import annotations

from harness.model.board import Board, CommandConsole, NetworkConsole, SerialConsole

from .serialport import SerialTransport
from .transport import CommandTransport, SocketTransport, TelnetTransport, Transport, connect, slowed


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
            connection = connect(spec.host, spec.port, place=place)
            opened = TelnetTransport(connection, baud=spec.baud) if spec.telnet else SocketTransport(connection)
        case CommandConsole():
            opened = CommandTransport(spec.argv, place=place)
        case None:
            raise AssertionError("parse/boards.py asks for a console where one is needed")
    return slowed(opened, spec.slow_send_ms)
