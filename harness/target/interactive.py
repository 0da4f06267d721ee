"""A person at a target's console: raw bytes between our terminal and the target's, until Ctrl-]."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty

from .qemu import QemuTarget

LEAVE = b"\x1d"  # Ctrl-]


def interact(target: QemuTarget) -> None:
    """Join standard input and output with the target's terminal; ends with Ctrl-] or when the target goes away.

    Kernel messages are shown between, as on a serial line, from the moment they come."""
    size = os.get_terminal_size(sys.stdin.fileno())  # not shutil's, which believes stale COLUMNS first
    # told on the command channel: what is typed before the shell has the terminal may get lost
    shell = 'i=0; until [ -n "$(ps -t hvc0 -o pid=)" ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done'
    target.run(f"{shell}; stty -F /dev/hvc0 rows {size.lines} cols {size.columns}", timeout=60.0)
    sys.stdout.write("Ctrl-] leaves the console.\r\n")
    sys.stdout.flush()
    stops = [target.tty.listen_raw(_show), target.console.listen(lambda _time, line: _show(f"{line}\r\n".encode()))]
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        target.tty.send(b"\n")  # its first prompt came before we listened
        while not target.tty.closed:
            ready, _, _ = select.select([sys.stdin], [], [], 0.2)
            if not ready:
                continue
            data = os.read(sys.stdin.fileno(), 4096)
            if not data or LEAVE in data:
                break
            target.tty.send(data)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for stop in stops:
            stop()
    sys.stdout.write("\r\n")


def _show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
