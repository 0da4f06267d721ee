"""A target's console for a person: passes raw bytes between our terminal and the target's, until Ctrl-]."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty

from harness.target.base import Target

LEAVE = b"\x1d"  # Ctrl-]


def interact(target: Target) -> None:
    """Connect standard input and output to the target's terminal, until Ctrl-] is pressed or the target is gone.

    Kernel messages appear in between as they arrive, as on a serial line."""
    size = os.get_terminal_size(sys.stdin.fileno())  # not shutil's, which believes stale COLUMNS first
    terminal = target.terminal(rows=size.lines, columns=size.columns)
    stream = terminal.stream
    sys.stdout.write("Ctrl-] leaves the console.\r\n")
    sys.stdout.flush()
    stops = [stream.listen_raw(_show)]
    if not terminal.has_kernel_log:
        stops.append(target.console.listen(lambda _time, line: _show(f"{line}\r\n".encode())))
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        stream.send(b"\n")  # the first prompt was printed before we listened
        while not stream.closed:
            ready, _, _ = select.select([sys.stdin], [], [], 0.2)
            if not ready:
                continue
            data = os.read(sys.stdin.fileno(), 4096)
            if not data or LEAVE in data:
                break
            stream.send(data)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for stop in stops:
            stop()
    sys.stdout.write("\r\n")


def _show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
