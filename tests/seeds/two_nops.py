"""What happens to a CPU that has executed the first instruction of a function, but not the second, when another CPU
switches ftrace on?

The review of v6 warns of it: where both instructions are NOPs that are patched at run time, that CPU goes on with
``bl ftrace_caller`` without having executed ``mov x9, x30``, and x9 holds anything but the function's return address.
Chance hardly ever stops a CPU there (docs/seeds.md), so QEMU's gdb stub does: one emulated CPU is parked between the
two instructions, the other one writes to set_ftrace_filter, then the first one goes on.

    .venv/bin/python -m tests.seeds.two_nops BUILD          a finished build's directory, as `harness build` prints it

Exit code 0: the CPU returned to where it should. 1: it did not, and what the kernel said follows.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.boards.inventory import read_inventory
from harness.boards.lease import acquire
from harness.build.finished import load_build
from harness.campaign.machine import media_for
from harness.model.progress import Silent
from harness.parse.code import BTI, NOP
from harness.parse.elf import Elf
from harness.parse.oops.scanner import scan
from harness.target.base import CommandTimeout, TargetLost
from harness.target.methods.qemu import QemuTarget, boot_qemu, qemu_boot
from tests.seeds.gdbstub import GdbStub, Registers

FUNCTION = "version_proc_show"  # called for whoever reads /proc/version, and by nobody else
MOV_X9_X30 = 0xAA1E03E9
_OTHER = "cmdline_proc_show"  # is traced before, so that the buffers and the tracer are ready
_STEERING, _PARKED = 0, 1  # the CPU with the shell and the disk's interrupts, and the one that is parked
_BL = 0x25  # the six highest bits
_ANSWER_S = 60.0
_TRACEFS = "/sys/kernel/tracing"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """`first`: the first instruction when the CPU had executed it, `now`: both, once ftrace was on; `parked`: the CPU's
    registers between them. `output`: what the read of /proc/version returned; `faults`: what the kernel reported."""

    first: int
    parked: Registers
    now: tuple[int, int]
    output: str
    faults: tuple[str, ...]

    @property
    def has_return_address(self) -> bool:
        return self.parked.x[9] == self.parked.x[30]

    @property
    def is_safe(self) -> bool:
        return not self.faults and self.output.startswith("Linux version")


def entry_of(vmlinux: Path, function: str = FUNCTION) -> int:
    """The address of a function's first instruction behind its BTI."""
    with vmlinux.open("rb") as stream:
        elf = Elf(stream, name=vmlinux.name)
        (address,) = elf.addresses_of(function)
        first = int.from_bytes(elf.read(address, 4), "little")
    return address + 4 if first in BTI else address


def park_and_trace(target: QemuTarget, entry: int, *, executed_nop: bool = False) -> Seen:
    """Do the experiment with the function that begins at `entry`, on a machine that `booted` yields. `executed_nop`:
    the CPU arrives at the second instruction as if the first one had been a NOP, whatever it was."""
    second = entry + 4
    _prepare(target)
    with _gdb_stub(target) as stub:
        stop = entry if executed_nop else second
        stub.stop_at(stop)
        stub.resume((_STEERING, _PARKED))
        target.run(f"taskset -c {_PARKED} cat /proc/version > /tmp/seen 2>&1 &")
        if (cpu := stub.wait_for_stop()) != _PARKED:
            raise RuntimeError(f"expected CPU {_PARKED} in {FUNCTION}, found CPU {cpu}")
        if executed_nop:
            stub.set_pc(_PARKED, second)
        first, parked = stub.instruction(_PARKED, entry), stub.registers(_PARKED)
        stub.resume((_STEERING,))
        target.run(f"echo {FUNCTION} >> {_TRACEFS}/set_ftrace_filter", timeout=_ANSWER_S)
        stub.interrupt()
        now = (stub.instruction(_PARKED, entry), stub.instruction(_PARKED, second))
        stub.no_longer_stop_at(stop)
        stub.resume((_STEERING, _PARKED))
        output = _outcome(target)
    faults = tuple(fault.title for fault in scan(target.console.tail(10_000)))
    if now[1] >> 26 != _BL:
        raise RuntimeError(f"expected that ftrace is on in {FUNCTION}, found {now[1]:08x} as its second instruction")
    return Seen(first=first, parked=parked, now=now, output=output, faults=faults)


@contextlib.contextmanager
def _gdb_stub(target: QemuTarget) -> Iterator[GdbStub]:
    """Open the gdb stub of a running QEMU and connect to it, which stops the machine."""
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory) / "gdb"
        open_it: dict[str, Any] = {"command-line": f"gdbserver unix:{socket},server=on,wait=off"}
        target.monitor("human-monitor-command", **open_it)
        with contextlib.closing(GdbStub(socket, timeout=_ANSWER_S)) as stub:
            yield stub


def _prepare(target: QemuTarget) -> None:
    """The function was traced before, in case only that takes its instructions back to NOPs. The function tracer is on
    for another function, and everything that the steering shell does runs on its CPU."""
    setup = (
        f"mount -t tracefs nodev {_TRACEFS} 2>/dev/null; cd {_TRACEFS} && taskset -cp {_STEERING} $$ && "
        f"echo {FUNCTION} > set_ftrace_filter && echo function > current_tracer && echo nop > current_tracer && "
        f"echo {_OTHER} > set_ftrace_filter && echo function > current_tracer && "
        f"cat /proc/cmdline && taskset -c {_PARKED} cat /proc/uptime"
    )
    done = target.run(setup)
    if done.returncode:
        raise RuntimeError(f"can't prepare the guest: {done.output}")


def _outcome(target: QemuTarget) -> str:
    """What the reader of /proc/version got; empty if it never ended, or died."""
    with contextlib.suppress(CommandTimeout, TargetLost):
        target.run("wait", timeout=_ANSWER_S)
        return target.run("cat /tmp/seen").output
    return ""


@contextlib.contextmanager
def booted(build: Path, *, logs: Path, threads: str = "multi") -> Iterator[tuple[QemuTarget, Path]]:
    """Boot a finished build with two CPUs at the addresses of its vmlinux; yields the target and its vmlinux.
    `threads`: as in boards.yaml."""
    made = load_build(build)
    spec = read_inventory(None).board("qemu-virt")
    boot = dataclasses.replace(qemu_boot(spec), accel="tcg", cpus=2, threads=threads)
    spec = dataclasses.replace(spec, boot=boot, cmdline=f"{spec.cmdline} nokaslr".strip())
    with acquire(spec, wait=None, say=Silent().say) as board:
        target = boot_qemu(board, media_for(spec, made, Silent()), logs=logs)
        try:
            yield target, build / "vmlinux"
        finally:
            target.close()


def instruction(word: int) -> str:
    """The instruction as docs and messages write it."""
    names = {NOP: "nop", MOV_X9_X30: "mov x9, x30"}
    return names.get(word) or ("bl …" if word >> 26 == _BL else f".inst {word:#010x}")


def told(seen: Seen) -> str:
    """What was seen, for people."""
    x9, x30 = seen.parked.x[9], seen.parked.x[30]
    lines = [
        f"CPU {_PARKED} has executed the first instruction of {FUNCTION}: {instruction(seen.first)}",
        f"  x30 = {x30:#018x}, the return address; x9 = {x9:#018x}{'' if x9 != x30 else ', the same'}",
        f"CPU {_STEERING} has switched ftrace on there: {'; '.join(map(instruction, seen.now))}",
        f"CPU {_PARKED} went on: /proc/version gave {seen.output!r}",
        *(f"  kernel: {fault}" for fault in seen.faults),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="a finished build, as `harness build` prints it")
    parser.add_argument(
        "--executed-nop", action="store_true", help="as if the first instruction had been a NOP, whatever it is"
    )
    parser.add_argument("--repeat", type=int, default=1, help="how often, each time in a machine of its own")
    options = parser.parse_args()
    safe = True
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as directory, booted(options.build, logs=Path(directory)) as (target, elf):
            began = time.monotonic()
            seen = park_and_trace(target, entry_of(elf), executed_nop=options.executed_nop)
            print(told(seen), f"({time.monotonic() - began:.1f} s)", sep="\n", flush=True)
            safe = safe and seen.is_safe
    return 0 if safe else 1


if __name__ == "__main__":
    sys.exit(main())
