"""Trace buffers that change their size while CPUs go and come: each CPU has a buffer of its own."""

from __future__ import annotations

import contextlib
import re
import shlex

import pytest

from harness.run.api.cpus import RemovableCpu
from harness.run.api.guest import Guest, number
from harness.run.api.process import background
from harness.run.api.tracefs import Tracefs

_SMALL_KB, _LARGE_KB = 64, 512
_MARKS = 3000  # more than fit into the small buffer, fewer than into the large one
_ROUNDS = 3


def _size_kb(instance: Tracefs, cpu: int) -> int:
    file = f"per_cpu/cpu{cpu}/buffer_size_kb"
    return number(instance.read(file).split()[0], file)  # before it is used: "7 (expanded: 1408)"


def _is_large(size_kb: int) -> bool:
    """Whether this is the large size, or the small one: whole pages, so a bit more than what was asked for."""
    assert _SMALL_KB <= size_kb < 4 * _SMALL_KB or _LARGE_KB <= size_kb < 2 * _LARGE_KB, f"a buffer has {size_kb} KB"
    return size_kb >= _LARGE_KB


def _kept(guest: Guest, instance: Tracefs, cpu: int) -> int:
    """How many of `_MARKS` marks written on this CPU its buffer keeps; they must be the last ones, in order."""
    instance.write("trace", "")
    write = f"n=0; while [ $n -lt {_MARKS} ]; do echo mark $n; n=$((n + 1)); done > {instance.root}/trace_marker"
    guest.check(f"taskset -c {cpu} bash -c {shlex.quote(write)}", seconds=20.0)
    found = [int(mark) for mark in re.findall(r"mark (\d+)", instance.read(f"per_cpu/cpu{cpu}/trace"))]
    assert found == list(range(_MARKS - len(found), _MARKS)), f"the buffer has {len(found)} marks, not the last ones"
    return len(found)


@pytest.mark.parametrize("which", ["all", "its own"])
def test_resized_while_a_cpu_is_gone(guest: Guest, tracefs: Tracefs, removable_cpu: RemovableCpu, which: str) -> None:
    """The buffers are resized while a CPU is off line: its own, too, whose pages nobody can change on the CPU itself;
    when it is back it records as much as it then has room for (ring_buffer_resize: "Can't run something on an offline
    CPU")."""
    cpu = removable_cpu.number
    file = "buffer_size_kb" if which == "all" else f"per_cpu/cpu{cpu}/buffer_size_kb"
    with tracefs.instance("resized") as instance:
        instance.write("buffer_size_kb", str(_SMALL_KB))
        with removable_cpu.gone():
            instance.write(file, str(_LARGE_KB))
            large = [_is_large(_size_kb(instance, number)) for number in (0, cpu)]
        assert large == [which == "all", True]
        assert _kept(guest, instance, cpu) == _MARKS
        with removable_cpu.gone():
            instance.write(file, str(_SMALL_KB))
        assert not _is_large(_size_kb(instance, cpu))
        assert 100 < _kept(guest, instance, cpu) < _MARKS


def test_made_and_resized_while_a_cpu_is_gone(guest: Guest, tracefs: Tracefs, removable_cpu: RemovableCpu) -> None:
    """An instance is made while a CPU is off line; when the CPU comes it gets a buffer there, as large as the others
    (trace_rb_cpu_prepare)."""
    cpu = removable_cpu.number
    with contextlib.ExitStack() as stack:
        with removable_cpu.gone():
            instance = stack.enter_context(tracefs.instance("resized"))
            instance.write("buffer_size_kb", str(_LARGE_KB))
        assert _is_large(_size_kb(instance, cpu))
        assert _kept(guest, instance, cpu) == _MARKS


def test_resized_again_and_again(guest: Guest, tracefs: Tracefs, removable_cpu: RemovableCpu) -> None:
    """The buffers grow and shrink without a pause, all at once and each by itself, while functions are traced into them
    on every CPU and one of these goes and comes. No resize is lost or fails, none waits for a CPU that is gone, and in
    the end all buffers have the size that they were given last, and room for it."""
    cpu, each = removable_cpu.number, "per_cpu/cpu{}/buffer_size_kb"
    with tracefs.instance("resized") as instance, instance.filter("vfs_*", "schedule*"), instance.tracer("function"):
        sizes = [
            *(f"echo {size} > {instance.root}/buffer_size_kb" for size in (_LARGE_KB, _SMALL_KB)),
            *(f"echo {_LARGE_KB} > {instance.root}/{each.format(number)}" for number in (0, cpu)),
        ]
        # stops when it is told to, after a whole round
        loop = f"while [ -e /tmp/harness-resizing ]; do {' && '.join(sizes)} || exit 1; echo done; done"
        guest.check(": > /tmp/harness-resizing")
        try:
            with background(guest, f"bash -c {shlex.quote(loop)}") as resizing:
                for turn in range(_ROUNDS):
                    with removable_cpu.gone():
                        done = len(resizing.output.split())
                        guest.wait_until(
                            lambda: len(resizing.output.split()) > done,  # noqa: B023
                            f"the buffers are resized while the CPU is gone, turn {turn}",
                        )
                guest.check("rm /tmp/harness-resizing")
                assert set(resizing.wait().split()) == {"done"}
        finally:
            guest.run("rm -f /tmp/harness-resizing")
        assert all(_is_large(_size_kb(instance, number)) for number in (0, cpu))
        instance.write("current_tracer", "nop")
        assert _kept(guest, instance, cpu) == _MARKS
