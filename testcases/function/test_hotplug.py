"""CPUs go off line and come back while they are traced."""

import pytest

from harness.run.api.cpus import RemovableCpu
from harness.run.api.guest import Guest
from harness.run.api.tracefs import Tracefs


@pytest.mark.parametrize("tracer", ["function", "function_graph"])
def test_a_cpu_goes_and_comes(guest: Guest, tracefs: Tracefs, removable_cpu: RemovableCpu, tracer: str) -> None:
    """A CPU goes off line and comes back while every function is traced, those of its way down and up included
    (arch/arm64/kernel/smp.c: secondary_start_kernel; kernel/trace/fgraph.c: idle tasks get their return stack anew),
    and what it calls then is traced as before (kernel/trace/ring_buffer.c: trace_rb_cpu_prepare)."""
    cpu = removable_cpu.number
    with tracefs.tracer(tracer):
        with removable_cpu.gone():
            assert guest.cpus == cpu
        with tracefs.filter("vfs_read"):
            tracefs.write("trace", "")
            guest.check(f"taskset -c {cpu} cat /proc/version")
            tracefs.write("tracing_on", "0")  # reading a trace would go on for ever, being traced itself
            seen = tracefs.read(f"per_cpu/cpu{cpu}/trace")
    assert "vfs_read" in seen
