"""Which files upstream keeps out of tracing."""

import pytest

from harness.run.api.leftout import LEFT_OUT, left_out


@pytest.mark.parametrize(
    ("source", "version", "group"),
    [
        ("kernel/trace/ftrace.c", (5, 10), "kernel/trace"),
        ("kernel/trace/rv/rv.c", (7, 3), ""),
        ("kernel/trace/trace_selftest_dynamic.c", (7, 3), ""),
        ("lib/string.c", (6, 1), "lib"),
        ("lib/zstd/decompress/huf_decompress.c", (6, 1), ""),
        ("lib/zlib_inflate/inflate.c", (5, 0), "lib"),
        ("lib/zlib_inflate/inflate.c", (5, 10), ""),
        ("lib/livepatch/test_klp_callbacks_busy.c", (5, 4), ""),
        ("lib/zstd/decompress.c", (5, 0), "lib"),
        ("library/x.c", (5, 0), ""),
        ("arch/arm64/lib/insn.c", (7, 3), ""),
        ("arch/arm64/kernel/insn.c", (5, 10), "arch/arm64/kernel"),
        ("kernel/bpf/ringbuf.c", (6, 1), ""),
        ("kernel/events/core.c", (5, 10, 262), "kernel"),
        ("kernel/events/core.c", (6, 1), ""),
        ("kernel/bpf/ringbuf.c", (7, 3), "kernel"),
        ("mm/kasan/report_generic.c", (7, 3), "sanitizers"),
        ("", (7, 3), ""),
    ],
)
def test_files(source: str, version: tuple[int, ...], group: str) -> None:
    assert left_out(source, version=version, config={}) == group
    assert not group or group in LEFT_OUT


def test_a_kernel_that_traces_its_tracer() -> None:
    traced = {"FUNCTION_SELF_TRACING": "y"}
    assert not left_out("kernel/trace/trace_seq.c", version=(7, 3), config=traced)
    assert left_out("kernel/trace/ftrace.c", version=(7, 3), config=traced)
