#!/usr/bin/env python3
"""How long `harness inspect` takes, beside `readelf -sW` of the same file, which only lists its symbols.

    .venv/bin/python bench/inspection.py [--runs 3] [--functions 60000] [FILE …]

Without FILE a vmlinux of so many functions is made, three of four with a record. Both commands run in turns, each in a
process of its own; figures are CPU seconds (user and system), which other load changes less than the clock. Needs
readelf, but no kernel and no QEMU.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe, spread
from tests.unit.tinyelf import NOP, NOTYPE, RET, STP, TinyElf

_BASE, _TABLE = 0xFFFF800080000000, 0xFFFF800090000000
_WORDS = 64  # of a function: 256 bytes, as in a real kernel


def vmlinux(functions: int) -> bytes:
    """A kernel with NOPs before the entries (CALL_OPS)."""
    traced = struct.pack(f"<{_WORDS}I", NOP, NOP, NOP, NOP, STP, *[RET] * (_WORDS - 5))
    plain = struct.pack(f"<{_WORDS}I", RET, RET, STP, *[RET] * (_WORDS - 3))
    elf = TinyElf()
    content = b"".join(plain if number % 4 == 3 else traced for number in range(functions))
    text = elf.section(".text", content, flags=6, address=_BASE)
    records = [_BASE + 4 * _WORDS * number for number in range(functions) if number % 4 != 3]
    table = elf.section(".init.data", struct.pack(f"<{len(records)}Q", *records), address=_TABLE)
    for number in range(functions):
        elf.symbol(f"subsystem_function_{number}", _BASE + 4 * _WORDS * number + 8, size=4 * _WORDS - 8, section=text)
    elf.symbol("__start_mcount_loc", _TABLE, section=table, kind=NOTYPE)
    elf.symbol("__stop_mcount_loc", _TABLE + 8 * len(records), section=table, kind=NOTYPE)
    return elf.bytes()


def cpu_seconds(words: Sequence[str]) -> float:
    """Run a command; return the CPU time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stderr.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(path: Path, runs: int) -> None:
    inspect = [sys.executable, "-m", "harness", "inspect", str(path)]
    readelf = ["readelf", "-sW", str(path)]
    ours, theirs = [], []
    is_elf = path.is_file() and path.open("rb").read(4) == b"\x7fELF"
    for _ in range(runs):
        ours.append(cpu_seconds(inspect))
        if is_elf:
            theirs.append(cpu_seconds(readelf))
    print(f"{path.name}: harness inspect {spread(ours)} s", end="")
    if theirs:
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        print(f", readelf -sW {spread(theirs, digits=2)} s, ratio {ratio:.1f}", end="")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--functions", type=int, default=60_000)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    os.chdir(Path(__file__).resolve().parents[1])
    print(describe())
    with tempfile.TemporaryDirectory() as directory:
        files = options.files or [Path(directory) / f"vmlinux-of-{options.functions}"]
        if not options.files:
            files[0].write_bytes(vmlinux(options.functions))
        for path in files:
            measure(path, options.runs)


if __name__ == "__main__":
    main()
