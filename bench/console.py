#!/usr/bin/env python3
"""How fast a console is read, and how much memory that takes: MB/s in wall time and in CPU time, growth of the peak
RSS.

    .venv/bin/python bench/console.py [--megabytes 100] [--runs 5] [SHAPE …]

Another process sends over a socket pair, as QEMU does. Every run is a process of its own, so its peak memory is its
own; the shapes take turns, so that other load on the machine affects all of them alike. Needs no kernel and no QEMU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe, peak_rss, spread

BLOCK = 1 << 20
END = b"\n@@ that was all\n"


def _lines() -> bytes:
    """A kernel log: 80 characters a line."""
    text = b"".join(b"[%5d.%06d] cfg80211: line %06d of a log as kernels write it, of eighty chars\n"
                    % (n // 100, n * 10007 % 1000000, n) for n in range(BLOCK // 80 + 1))  # fmt: skip
    return text[:BLOCK]


def _trace() -> bytes:
    """What `cat trace` prints: function_graph, 60 characters a line."""
    line = b" %d)   %7.3f us    |    } /* do_sys_openat2.part.%04d+0x1c/0x30 */\n"
    return b"".join(line % (n % 2, n % 1000 / 7, n % 10000) for n in range(BLOCK // 60))[:BLOCK]


def _invalid() -> bytes:
    """What a line at the wrong speed sends: nearly no byte is UTF-8."""
    return (bytes(range(0x80, 0x100)) * 2 + b"\r\n\xc3(\xf0\x9f" * 3 + b"\n") * (BLOCK // 275)


SHAPES: dict[str, Callable[[], bytes]] = {
    "lines": _lines,
    "trace": _trace,
    "endless line": lambda: b"0123456789abcdef" * (BLOCK // 16),
    "invalid UTF-8": _invalid,
    "short lines": lambda: b"y\n" * (BLOCK // 2),
}


def _send(shape: str, megabytes: int) -> None:
    """The far end: standard output is the socket."""
    block = SHAPES[shape]()
    for _ in range(megabytes):
        _write(block)
    _write(END)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _sender(shape: str, megabytes: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, __file__, "--send", shape, "--megabytes", str(megabytes)]
    process = subprocess.Popen(argv, stdout=theirs.fileno())
    theirs.close()
    assert ours.recv(1, socket.MSG_PEEK), "the sender failed"  # when something is here, it has made its text
    return ours, process


def _console(shape: str, megabytes: int, scratch: Path, *, telnet: bool = False) -> Iterator[None]:
    """Console with a log file and the monitor, as a run has it."""
    from harness.run.monitor import Monitor
    from harness.target.line.console import Console
    from harness.target.line.transport import SocketTransport, TelnetTransport

    connection, process = _sender(shape, megabytes)
    yield
    transport = TelnetTransport(connection) if telnet else SocketTransport(connection)
    console = Console(transport, log=scratch / "console.log", name="bench")
    monitor = Monitor(console)
    assert console.wait_closed(3600)
    yield
    assert not monitor.begun, monitor.take()
    assert console.tail(1) == ["@@ that was all"], console.tail(1)
    assert (scratch / "console.log").stat().st_size > megabytes * BLOCK
    process.wait()
    console.close()


def _telnet(shape: str, megabytes: int, scratch: Path) -> Iterator[None]:
    """The same through a telnet console server."""
    return _console(shape, megabytes, scratch, telnet=True)


def _shell(shape: str, megabytes: int, scratch: Path) -> Iterator[None]:
    """A command's output: Shell, and what a test keeps of it (Transcript), with the lab's polls."""
    from harness.run.transcript import Transcript
    from harness.target.line.console import Console
    from harness.target.line.transport import SocketTransport
    from harness.target.shells.serial import Shell

    output = scratch / "output"
    with output.open("wb") as file:
        subprocess.run([sys.executable, __file__, "--send", shape, "--megabytes", str(megabytes)], stdout=file)
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sh", "-s"], stdin=theirs.fileno(), stdout=theirs.fileno())
    theirs.close()
    console = Console(SocketTransport(ours), log=None, name="bench")
    shell = Shell(console)
    assert shell.run(":").ok
    yield
    running, kept, last = shell.start(f"cat {output}"), Transcript(), ""
    while not running.done:
        line = running.next_line(0.25)
        if line is not None:
            kept.add(line)
            last = line
    yield
    assert last == "@@ that was all", last
    assert "lines are left out" in kept.text() or megabytes < 10 or shape == "endless line"
    console.close()
    process.wait()


def _pexpect(shape: str, megabytes: int, scratch: Path) -> Iterator[None]:
    """The peer: pexpect alone on the same socket, waiting for the last line, with its log file on."""
    from pexpect.fdpexpect import fdspawn

    connection, process = _sender(shape, megabytes)
    yield
    with (scratch / "pexpect.log").open("wb") as log:
        child = fdspawn(connection.fileno(), timeout=3600)
        child.logfile_read = log
        child.expect_exact(END)
    yield
    process.wait()


def _pexpect_lines(shape: str, megabytes: int, scratch: Path) -> Iterator[None]:
    """The peer again, line by line, as somebody who looks at each has to."""
    from pexpect.fdpexpect import fdspawn

    connection, process = _sender(shape, megabytes)
    yield
    with (scratch / "pexpect.log").open("wb") as log:
        child = fdspawn(connection.fileno(), timeout=3600, maxread=BLOCK // 16)
        child.logfile_read = log
        line = re.compile(rb"[^\n]*\n")
        while child.expect([line]) == 0 and child.after != END[1:]:
            pass
    yield
    process.wait()


READERS = {
    "console": _console,
    "telnet": _telnet,
    "shell": _shell,
    "pexpect": _pexpect,
    "pexpect by line": _pexpect_lines,
}


def _measure(reader: str, shape: str, megabytes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-console-") as scratch:
        steps = READERS[reader](shape, megabytes, Path(scratch))
        next(steps)
        before, begun = peak_rss(), time.monotonic()
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        next(steps)
        seconds, after = time.monotonic() - begun, peak_rss()
        end = resource.getrusage(resource.RUSAGE_SELF)
        next(steps, None)
    used = end.ru_utime + end.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": used, "grown": after - before}))


def _run(reader: str, shape: str, megabytes: int) -> dict[str, float]:
    argv = [sys.executable, __file__, "--measure", reader, shape, "--megabytes", str(megabytes)]
    found: dict[str, float] = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return found


def _compare(jobs: list[tuple[str, str]], megabytes: int, runs: int) -> None:
    print(describe(), f"{megabytes} MB, {runs} runs each", sep="\n")
    small = {job: _run(*job, max(1, megabytes // 10))["grown"] for job in jobs}
    found: dict[tuple[str, str], list[dict[str, float]]] = {job: [] for job in jobs}
    for _ in range(runs):
        for job in jobs:
            found[job].append(_run(*job, megabytes))
    print(f"| reader | text | MB/s | MB per CPU second | peak RSS + at {megabytes // 10} MB | at {megabytes} MB |")
    print("|---|---|---|---|---|---|")
    for job, figures in found.items():
        speed = spread([megabytes / figure["seconds"] for figure in figures])
        cpu = spread([megabytes / figure["cpu"] for figure in figures])
        grown = max(figure["grown"] for figure in figures)
        print(f"| {job[0]} | {job[1]} | {speed} | {cpu} | {small[job] / BLOCK:.1f} MB | {grown / BLOCK:.1f} MB |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=100)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--send", help=argparse.SUPPRESS)
    options.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--only", default="", help="readers, with commas between: " + ", ".join(READERS))
    options.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
    chosen = options.parse_args()
    if chosen.send:
        _send(chosen.send, chosen.megabytes)
    elif chosen.measure:
        _measure(chosen.measure[0], chosen.measure[1], chosen.megabytes)
    else:
        jobs = [("console", shape) for shape in chosen.shapes or SHAPES]
        jobs += [(reader, "lines") for reader in READERS if reader != "console"]
        only = chosen.only.split(",") if chosen.only else READERS
        _compare([job for job in jobs if job[0] in only], chosen.megabytes, chosen.runs)


if __name__ == "__main__":
    main()
