"""Which tests matter for a file of the kernel: the choice for a patch that is tested by itself.

A path that matches a line's patterns adds that line's tests. Patterns are globs in which ``*`` also matches ``/``. What
no line knows is still compiled in: the tests of OTHERS show whether the kernel traces as before."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model.review import TestSet


@dataclass(frozen=True, kw_only=True)
class Matter:
    """Tests for the files that match `patterns`. `suites`: as for --suite; `selected`: (suite, expression for -k) for
    large suites of which only some tests matter."""

    what: str
    patterns: tuple[str, ...]
    suites: tuple[str, ...] = ()
    selected: tuple[tuple[str, str], ...] = ()


_FTRACE = "selftests/ftrace"
_ENTRY = ("testcases/instrumentation", "testcases/function", "testcases/regs", "testcases/module_trampolines")
_GRAPH = "testcases/function_graph"

MATTERS = (
    Matter(
        what="arm64's ftrace",
        patterns=(
            *("arch/arm64/kernel/ftrace*", "arch/arm64/kernel/entry-ftrace*", "arch/arm64/include/asm/ftrace*"),
            *("arch/arm64/lib/insn.c", "arch/arm64/kernel/patching.c", "arch/arm64/kernel/insn*"),
        ),
        suites=(*_ENTRY, _GRAPH),
    ),
    Matter(
        what="the function tracer",
        patterns=("kernel/trace/ftrace*", "kernel/trace/trace_functions.c", "include/linux/ftrace*"),
        suites=("testcases/function", "testcases/regs", "testcases/module_trampolines", _GRAPH),
        selected=((_FTRACE, "test.d/ftrace/"),),
    ),
    Matter(
        what="function_graph",
        patterns=("kernel/trace/fgraph*", "kernel/trace/trace_functions_graph*", "arch/arm64/kernel/return*"),
        suites=(_GRAPH,),
        selected=((_FTRACE, "fgraph"),),
    ),
    Matter(
        what="how functions are built",
        patterns=(
            *("arch/arm64/Makefile", "arch/arm64/Kconfig", "Makefile", "scripts/*", "kernel/trace/Kconfig"),
            *("kernel/trace/Makefile", "include/linux/compiler*", "include/asm-generic/vmlinux.lds.h"),
            *("arch/arm64/kernel/vmlinux.lds.S", "arch/arm64/kernel/Makefile", "kernel/Makefile", "lib/Makefile"),
        ),
        suites=("testcases/instrumentation", "testcases/function"),
    ),
    Matter(
        what="livepatch",
        patterns=("kernel/livepatch/*", "include/linux/livepatch*", "samples/livepatch/*"),
        suites=("testcases/livepatch", "selftests/livepatch"),
    ),
    Matter(
        what="stack traces and what livepatch asks of them",
        patterns=(
            *("arch/arm64/kernel/stacktrace*", "arch/arm64/include/asm/stacktrace*", "kernel/stacktrace.c"),
            *("arch/arm64/kernel/entry*", "arch/arm64/kernel/process.c", "arch/arm64/kernel/signal.c"),
            "arch/arm64/include/asm/thread_info.h",
        ),
        suites=("testcases/livepatch", _GRAPH, "testcases/probes"),
    ),
    Matter(
        what="modules and their trampolines",
        patterns=("arch/arm64/kernel/module*", "arch/arm64/include/asm/module*", "kernel/module*"),
        suites=("testcases/module_trampolines", "testcases/instrumentation", "testcases/livepatch"),
    ),
    Matter(
        what="kprobes, fprobes and rethook",
        patterns=(
            *("kernel/kprobes.c", "kernel/trace/trace_kprobe*", "kernel/trace/trace_probe*", "kernel/trace/fprobe*"),
            *("kernel/trace/rethook*", "kernel/trace/trace_fprobe*", "arch/arm64/kernel/probes/*"),
            *("include/linux/kprobes*", "include/linux/fprobe*", "arch/arm64/kernel/rethook*"),
        ),
        suites=("testcases/probes", "testcases/regs"),
        selected=((_FTRACE, "kprobe or fprobe"),),
    ),
    Matter(
        what="BPF trampolines",
        patterns=("kernel/bpf/*", "kernel/trace/bpf_trace*", "arch/arm64/net/*"),
        suites=("testcases/bpf", "testcases/regs"),
    ),
    Matter(
        what="trace events",
        patterns=("kernel/trace/trace_event*", "kernel/trace/trace_dynevent*", "include/trace/*"),
        selected=((_FTRACE, "event or trigger or dynevent"),),
    ),
    Matter(
        what="user events",
        patterns=("kernel/trace/trace_events_user.c", "include/*linux/user_events*", "tools/testing/selftests/user*"),
        suites=("selftests/user_events",),
    ),
    Matter(
        what="the trace buffer and its files",
        patterns=("kernel/trace/trace.[ch]", "kernel/trace/ring_buffer*", "kernel/trace/trace_output*"),
        suites=("testcases/function", _GRAPH),
        selected=((_FTRACE, "00basic or instances or snapshot"),),
    ),
    Matter(
        what="direct calls and samples",
        patterns=("samples/ftrace/*",),
        suites=("testcases/regs",),
        selected=((_FTRACE, "direct"),),
    ),
    Matter(what="the ftrace selftests", patterns=("tools/testing/selftests/ftrace/*",), suites=(_FTRACE,)),
    Matter(
        what="the livepatch selftests",
        patterns=("tools/testing/selftests/livepatch/*",),
        suites=("selftests/livepatch",),
    ),
)
OTHERS = Matter(what="other code", patterns=(), suites=("testcases/instrumentation", "testcases/function"))

_DOCUMENTS = (
    *("Documentation/*.rst", "Documentation/*.txt", "Documentation/*.svg", "Documentation/*.dot", "*.rst", "*.md"),
    *("Documentation/ABI/*", "MAINTAINERS", "CREDITS", ".mailmap", "README", "*/README", "LICENSES/*", "COPYING"),
)


def is_documentation(paths: Sequence[str]) -> bool:
    """Whether only files are changed that no kernel is made from."""
    return bool(paths) and all(any(fnmatch.fnmatchcase(path, each) for each in _DOCUMENTS) for path in paths)


def sets_for(paths: Iterable[str]) -> tuple[TestSet, ...]:
    """Return the sets of tests that matter for files, each for one run, and why; none for documentation alone."""
    code = [path for path in paths if not is_documentation([path])]
    chosen: dict[str, Matter] = {}
    unknown = False
    for path in code:
        found = [each for each in MATTERS if any(fnmatch.fnmatchcase(path, glob) for glob in each.patterns)]
        unknown = unknown or not found
        chosen |= {each.what: each for each in found}
    if unknown:
        chosen[OTHERS.what] = OTHERS
    return _sets(list(chosen.values()))


def _sets(matters: Sequence[Matter]) -> tuple[TestSet, ...]:
    whole = dict.fromkeys(suite for each in matters for suite in each.suites)
    sets = []
    if whole:
        why = tuple(each.what for each in matters if each.suites)
        sets.append(TestSet(suites=tuple(whole), why=why))
    some: dict[str, dict[str, None]] = {}
    for each in matters:
        for suite, keyword in each.selected:
            if suite not in whole:
                some.setdefault(suite, {})[keyword] = None
    for suite, keywords in some.items():
        why = tuple(each.what for each in matters if any(name == suite for name, _ in each.selected))
        sets.append(TestSet(suites=(suite,), keyword=" or ".join(keywords), why=why))
    return tuple(sets)
