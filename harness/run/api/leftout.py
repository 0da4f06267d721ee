"""Which source files and sections upstream keeps out of function tracing, and since which version.

Collected from the Makefiles of 5.10, 6.1, 6.12 and 7.3: CFLAGS_REMOVE_x.o, ccflags-remove-y and filters of
KBUILD_CFLAGS that name CC_FLAGS_FTRACE. The list is maintained here rather than read from the tree under test, so that
a line missing from a Makefile is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from harness.model.regions import REGIONS, Region

__all__ = ["LEFT_OUT", "REGIONS", "Region", "left_out"]


@dataclass(frozen=True)
class _Files:
    """`patterns` of file names directly in `directory`; `but`: those that are instrumented nevertheless; `group`: the
    group in results, by default the directory; `since`, `until`: the first version that keeps them out, and the first
    known one that no longer does."""

    directory: str
    patterns: str = "*.c"
    group: str = ""
    since: tuple[int, ...] = ()
    but: str = ""
    until: tuple[int, ...] = ()


_FILES = (
    # the code that patches, and what it calls meanwhile; from 5.14 on insn.c is in arch/arm64/lib, and traced
    _Files("arch/arm64/kernel", "ftrace.c insn.c return_address.c"),
    # position independent, before the kernel is mapped; at EL2
    _Files("arch/arm64/kernel/pi"),
    _Files("drivers/firmware/efi/libstub"),
    _Files("arch/arm64/kvm/hyp/nvhe"),
    # the tracer itself; its self tests have functions that are meant to be traced
    _Files("kernel/trace", but="trace_selftest_dynamic.c trace_kprobe_selftest.c"),
    # called from everywhere, including the tracer; the directories below have Makefiles of their own
    _Files("lib", but="test_fprobe.c"),
    _Files("kernel", "irq_work.c"),
    _Files("kernel/sched", "clock.c", "kernel", until=(6, 1)),
    _Files("kernel/events", "core.c", "kernel", until=(6, 1)),
    _Files("kernel/locking", "lockdep.c lockdep_proc.c mutex-debug.c rtmutex-debug.c", "kernel"),
    _Files("kernel/bpf", "percpu_freelist.c bpf_lru_list.c queue_stack_maps.c lpm_trie.c ringbuf.c", "kernel", (6, 14)),
    _Files("kernel/bpf", "rqspinlock.c", "kernel", (6, 15)),
    # run-time parts of sanitizers, called by instrumented code
    _Files("kernel/kcsan", "core.c debugfs.c report.c", "sanitizers"),
    _Files("mm/kasan", "common.c generic.c init.c quarantine.c report*.c shadow.c hw_tags.c sw_tags.c", "sanitizers"),
    # a firmware call must not take more than a few instructions
    _Files("drivers/pmdomain/mediatek", "airoha-cpu-pmdomain.c", "drivers"),
    _Files("drivers/firmware/arm_scmi", "smc.c", "drivers", (5, 19)),
    _Files("drivers/firmware/arm_scmi/transports", "smc.c", "drivers"),
)
# Before this version lib/Makefile changed KBUILD_CFLAGS, which the directories below inherited; one took it back.
_LIB_ALONE = (5, 9)
_INSTRUMENTED_BELOW_LIB = "lib/livepatch"
LEFT_OUT = tuple(dict.fromkeys(files.group or files.directory for files in _FILES))
# With FUNCTION_SELF_TRACING these files of kernel/trace are instrumented (7.x).
_SELF_TRACING = (
    "trace_output.c trace_seq.c trace_stat.c tracing_map.c synth_event_gen_test.c trace_events.c trace_syscalls.c "
    "trace_events_filter.c trace_events_trigger.c trace_events_synth.c trace_events_hist.c trace_events_user.c "
    "trace_dynevent.c"
)


def left_out(source: str, *, version: tuple[int, ...], config: Mapping[str, str]) -> str:
    """The group in LEFT_OUT of `source` if upstream keeps this file out of tracing in this version, otherwise empty."""
    path = PurePosixPath(source)
    directory, name = str(path.parent), path.name
    if directory.startswith("lib/") and directory != _INSTRUMENTED_BELOW_LIB and version < _LIB_ALONE:
        return "lib"
    if directory == "kernel/trace" and name in _SELF_TRACING.split() and config.get("FUNCTION_SELF_TRACING") == "y":
        return ""
    for files in _FILES:
        named = any(fnmatchcase(name, pattern) for pattern in files.patterns.split())
        applies = version >= files.since and not (files.until and version >= files.until)
        if files.directory == directory and named and applies and name not in files.but.split():
            return files.group or directory
    return ""
