#!/usr/bin/env python
"""How long until a kernel answers: from exec to the first command answered, for the next test, after a panic.

    .venv/bin/python bench/boot.py --build DIR [--runs 5] [--parts boot,pristine,panic] [--peers labgrid,…]

All ways use the same QEMU, kernel image, root file system and payload disk, and take turns, so that other load on the
machine affects them alike. A ratio is computed in each turn; the output is the median with minimum and maximum. Wall
time says little on a loaded machine, so the CPU time of the process and of everything that it started, including QEMU,
is printed beside it. Peers are installed by pip, each in a virtual environment of its own in the harness's cache."""

from __future__ import annotations

import argparse
import contextlib
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import peers
from bench.machine import describe, spread
from harness.boards.inventory import read_inventory
from harness.build.finished import load_build
from harness.build.rootfs import root_image
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.model.progress import Silent
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.target.base import Media
from harness.target.holding.held import HeldBoard
from harness.target.methods.qemu import QemuTarget, boot_qemu, command_line, own_storage, pick_accel, qemu_boot
from harness.target.methods.snapshot import Snapshots

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 300.0
RAW, OURS, VERB = "raw QEMU", "harness", "harness boot -- echo"


@dataclass(frozen=True)
class Took:
    """Seconds until the answer, and CPU seconds of everything, including the machine's end."""

    wall: float
    cpu: float


def measured(work: Callable[[], float]) -> Took:
    """`work` returns the seconds until its answer; its CPU time is that of this process and of those it ended."""
    before = _cpu()
    wall = work()
    return Took(wall, _cpu() - before)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# -- exec to first command answered ---------------------------------------------------------------------------------


def raw(board: BoardSpec, media: Media) -> float:
    """The same QEMU arguments and two sockets, nothing else: one is drained, on the other a command is answered."""
    pairs = {channel: socket.socketpair() for channel in ("kernel", "cmd", "aux", "tty", "qmp")}
    fds = {channel: theirs.fileno() for channel, (_, theirs) in pairs.items()}
    args = command_line(board, media, own_storage(media), fds=fds, accel=pick_accel(qemu_boot(board).accel)[0])
    begun = time.monotonic()
    process = subprocess.Popen(args, pass_fds=tuple(fds.values()), stdin=subprocess.DEVNULL)
    try:
        command, kernel = pairs["cmd"][0], pairs["kernel"][0]
        command.sendall(b"(true) </dev/null; echo ended $?\n")
        with selectors.DefaultSelector() as both:
            both.register(command, selectors.EVENT_READ)
            both.register(kernel, selectors.EVENT_READ)
            said = b""
            while b"ended 0\n" not in said:
                ready = both.select(max(0.0, begun + LIMIT_S - time.monotonic()))
                if not ready:
                    raise TimeoutError(f"raw QEMU: no answer within {LIMIT_S:.0f} s")
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        raise EOFError("raw QEMU ended")
                    said += data if key.fileobj is command else b""
        return time.monotonic() - begun
    finally:
        process.kill()
        process.wait()
        for pair in pairs.values():
            for end in pair:
                end.close()


def ours(board: BoardSpec, media: Media, logs: Path) -> float:
    """`boot_qemu`, from the call to the first command's answer."""
    begun = time.monotonic()
    target = boot_qemu(HeldBoard(spec=board, access=board.access), media, logs=logs)
    try:
        target.run("true")
        return time.monotonic() - begun
    finally:
        target.close()


def verb(build: Path, directory: Path) -> float:
    """The command as a user types it, from exec to the answer on its standard output."""
    words: list[str | Path] = [ROOT / "bin/harness", "boot", "--build", build, "--", "echo answered"]
    begun = time.monotonic()
    with (
        (directory / "verb.log").open("w") as log,
        subprocess.Popen(words, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout
        ended = threading.Timer(LIMIT_S, process.kill)
        ended.start()
        try:
            if process.stdout.readline() != b"answered\n":
                raise EOFError(f"harness boot: no answer; see {log.name}")
            return time.monotonic() - begun
        finally:
            process.wait()
            ended.cancel()


def boots(build: Build, board: BoardSpec, media: Media, *, runs: int, chosen: Sequence[str], directory: Path) -> None:
    """Take turns, `runs` of each way."""
    ways: dict[str, Callable[[], float]] = {
        RAW: lambda: raw(board, media),
        OURS: lambda: ours(board, media, directory),
        VERB: lambda: verb(build.directory.absolute(), directory),
    }
    for name in chosen:
        print(f"preparing {name} …", flush=True)
        try:
            peer = peers.PEERS[name](board, media, directory)
            print(f"  {peer.version}; first try {peer.once():.2f} s")
            ways[name] = peer.once
        except peers.Unusable as why:
            print(f"  {name} can't be measured: {why}")
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for turn in range(runs):
        for name in ways if turn % 2 == 0 else reversed(ways):
            with contextlib.suppress(peers.Unusable):  # one figure is missing then, which is printed
                took[name].append(measured(ways[name]))
    print("\nexec to first command answered")
    for name, figures in took.items():
        _tell(name, figures)
    for name in ways:
        if name != RAW and took[name]:
            _ratio(f"{name} / {RAW}", took[name], took[RAW])
    for name in chosen:
        if took.get(name):
            # labgrid is a library, timed from its call as ours is; the others are commands
            mine = OURS if name == "labgrid" else VERB
            _ratio(f"{mine} / {name}", took[mine], took[name])


def _tell(name: str, figures: Sequence[Took]) -> None:
    if figures:
        wall, cpu = spread([one.wall for one in figures], digits=2), spread([one.cpu for one in figures], digits=2)
        print(f"  {name:<32} {wall:>22} s   CPU {cpu:>20} s   n={len(figures)}", flush=True)


def _ratio(name: str, above: Sequence[Took], below: Sequence[Took]) -> None:
    wall = spread([one.wall / other.wall for one, other in zip(above, below, strict=False)], digits=2)
    cpu = spread([one.cpu / other.cpu for one, other in zip(above, below, strict=False)], digits=2)
    print(f"  {name:<32} {wall:>22}     CPU {cpu:>20}", flush=True)


# -- a pristine kernel for the next test ----------------------------------------------------------------------------


def pristine(board: BoardSpec, media: Media, *, runs: int, directory: Path) -> None:
    """Restore a snapshot, and boot afresh, in turns; each until a command is answered."""
    snapshots = Snapshots(board, media, directory, logs=directory)
    target = snapshots.boot()
    begun = time.monotonic()
    snapshots.save(target)
    print(f"\na pristine kernel for the next test (saving the first one took {time.monotonic() - begun:.2f} s)")
    memory: list[float] = []

    def restored() -> float:
        begun = time.monotonic()
        machine = snapshots.restore("bench")
        try:
            machine.run("true")
            seconds = time.monotonic() - begun
            memory.append(_pss(machine))
            return seconds
        finally:
            machine.close()

    both: tuple[list[Took], list[Took]] = ([], [])
    for turn in range(runs):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            both[which].append(measured(restored if which == 0 else lambda: ours(board, media, directory)))
    _tell("restored", both[0])
    _tell("booted", both[1])
    _ratio("restored / booted", *both)
    print(f"  memory of a restored machine     {spread(memory):>22} MB (Pss)")


def _pss(target: QemuTarget) -> float:
    """Megabytes of memory that are this machine's, what it shares counted in part."""
    rollup = Path(f"/proc/{target.process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


# -- after a panic --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """Seconds from a panic's last line until it is known, and until the next test's first command is answered."""

    known: float
    answered: float


def panics(board: BoardSpec, media: Media, *, runs: int, directory: Path) -> None:
    """Panic, again and again, on a machine with a snapshot, as a run does it between two tests."""
    print("\nfrom a panic's last line to the next test's start", flush=True)
    for what, more in (("the machine ends itself", ""), ("it stays (panic=0)", "panic=0")):
        here = directory / (more or "ends")
        here.mkdir()
        _panics(replace(board, cmdline=f"{board.cmdline} {more}".strip()), media, what, runs=runs, directory=here)


def _panics(board: BoardSpec, media: Media, what: str, *, runs: int, directory: Path) -> None:
    snapshots = Snapshots(board, media, directory, logs=directory)
    machine = Machine(
        lambda: (snapshots.boot(), 0.0), limits=board.limits, recorder=Recorder.nowhere(), snapshots=snapshots
    )
    try:
        assert machine.target
        why_not = machine.keep()
        if why_not:
            sys.exit(f"no snapshot: {why_not}")
        took: list[Parts] = []
        cpus = [measured(lambda: _panic(machine, took)) for _ in range(runs)]
    finally:
        machine.close()
    print(f"  {what}: crash known after        {spread([one.known for one in took], digits=2):>22} s")
    print(f"  next command answered after      {spread([one.answered for one in took], digits=2):>22} s")
    print(f"  CPU of both machines             {spread([one.cpu for one in cpus], digits=2):>22} s", flush=True)


def _panic(machine: Machine, took: list[Parts]) -> float:
    machine.begin("the test that panics", fresh=True)
    machine.run("true")
    console = machine.target.console
    try:
        machine.run("echo c > /proc/sysrq-trigger", timeout=LIMIT_S)
        sys.exit("the kernel did not panic")
    except Stopped as stopped:
        known = time.monotonic()
        if not (stopped.outcome.fault and stopped.outcome.fault.is_fatal):
            sys.exit(f"expected a panic, found: {stopped.outcome.reason}")
    ended = console.last_activity  # a kernel that panicked prints nothing more
    machine.discard("CRASH")
    machine.begin("the next test", fresh=True)
    machine.run("true")
    took.append(Parts(known - ended, time.monotonic() - ended))
    return took[-1].answered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="what `harness build` printed")
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--parts", default="boot,pristine,panic")
    parser.add_argument("--peers", default=",".join(peers.PEERS), help="which ones, by commas; may be empty")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    build, board = load_build(options.build), read_inventory(None).board(options.board)
    root = root_image(progress=Silent())
    media = Media(image=build.image.absolute(), root=root.path, payload=build.payload.absolute())
    print(f"{describe()}; kernel {build.release}, {options.runs} runs of each, median (min–max)", flush=True)
    parts, chosen = options.parts.split(","), [name for name in options.peers.split(",") if name]
    with contextlib.ExitStack() as until_end:
        for part in parts:
            directory = Path(until_end.enter_context(tempfile.TemporaryDirectory(prefix="bench-boot-")))
            if part == "boot":
                boots(build, board, media, runs=options.runs, chosen=chosen, directory=directory)
            elif part == "pristine":
                pristine(board, media, runs=options.runs, directory=directory)
            elif part == "panic":
                panics(board, media, runs=options.runs, directory=directory)
    print(f"\nat the end: {describe()}")


if __name__ == "__main__":
    main()
