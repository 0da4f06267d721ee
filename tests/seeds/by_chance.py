"""Does chance ever stop a CPU between two instructions that are patched at run time, in QEMU's emulation?

two_nops.py shows what happens then; this counts how often it happens by itself. The module chance/two_nops_chance.c
patches both instructions of a function as v6 of the series did, while another CPU calls it without a pause:

- ``together``: both instructions are in one page. QEMU translates them as one block, which nothing interrupts.
- ``apart``: a page ends between them, so they are two blocks, and a CPU may stop between these.
- ``--one-by-one``: QEMU translates each instruction on its own, so a CPU may stop between any two.

The emulated CPUs run in turns (``threads: single``). ``--in-parallel`` has them run at the same time, where QEMU may
go on executing an instruction that was changed while it translated it: a NOP that is stale, not one that was executed
in time. Such calls are counted, too.

    make -C OBJECTS ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- M=$PWD/tests/seeds/chance modules
    .venv/bin/python -m tests.seeds.by_chance BUILD tests/seeds/chance/two_nops_chance.ko --times 1000000

OBJECTS is the object tree of the same kernel: after `harness build`, obj-… in a directory of
~/.cache/arm64-ftrace-harness/workspaces.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.target.methods.qemu import QemuTarget
from tests.seeds.two_nops import booted

_ROUND = 500  # patches for each command, so that each ends in time
_COMMAND_S = 300.0
_DIRECTORY = "/sys/kernel/debug/two_nops_chance"


def counted(target: QemuTarget, place: str, *, times: int) -> tuple[int, int, int]:
    """Patch `times` times; return how often the function was called, how many of these calls took the branch, and how
    many of those without their return address."""
    calls = traced = lost = 0
    for done_before in range(0, times, _ROUND):
        patches = min(_ROUND, times - done_before)
        command = f"taskset -c 0 sh -c 'echo {patches} > {_DIRECTORY}/{place}' && cat {_DIRECTORY}/{place}"
        done = target.run(command, timeout=_COMMAND_S)
        if done.returncode:
            raise RuntimeError(f"{place}: {done.output}")
        numbers = [int(word) for word in done.output.split()[1::2]]
        calls, traced, lost = calls + numbers[0], traced + numbers[1], lost + numbers[2]
    return calls, traced, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="a finished build, as `harness build` prints it")
    parser.add_argument("module", type=Path, help="two_nops_chance.ko, built for it")
    parser.add_argument("--times", type=int, default=100_000, help="how often both instructions are patched")
    parser.add_argument("--one-by-one", action="store_true", help="QEMU translates each instruction on its own")
    parser.add_argument("--in-parallel", action="store_true", help="the emulated CPUs run at the same time")
    options = parser.parse_args()
    threads = "multi" if options.in_parallel else "single"
    with (
        tempfile.TemporaryDirectory() as directory,
        booted(options.build, logs=Path(directory), threads=threads) as (target, _),
    ):
        target.put(options.module.read_bytes(), "/tmp/module.ko")
        done = target.run(
            "mountpoint -q /sys/kernel/debug || mount -t debugfs nodev /sys/kernel/debug; insmod /tmp/module.ko"
        )
        if done.returncode:
            raise RuntimeError(f"{options.module}: {done.output}")
        if options.one_by_one:
            on: dict[str, Any] = {"command-line": "singlestep on"}
            target.monitor("human-monitor-command", **on)
        for place in ("together", "apart"):
            began = time.monotonic()
            calls, traced, lost = counted(target, place, times=options.times)
            print(
                f"{place}: patched {options.times} times in {time.monotonic() - began:.0f} s; "
                f"{calls} calls, {traced} of them traced, {lost} of these without their return address",
                flush=True,
            )


if __name__ == "__main__":
    main()
