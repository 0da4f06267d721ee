"""vmlinux: the functions with NOPs at their entry and the table of entries are two records of the same thing."""

from collections import Counter

from harness.model.kernel import Build
from harness.parse.instrumentation import Instrumentation, Judgement, several
from harness.run.api.kernelfiles import KernelFiles


def test_every_entry_points_at_the_nops_of_this_flavour(vmlinux: Instrumentation) -> None:
    """Two NOPs at a function's entry, before its frame is built and behind a BTI if there is one ("Use
    -fpatchable-function-entry (gcc8) to add 2 NOPs at the beginning of each function", v6 of the series); with
    CALL_OPS two more before the entry, aligned to 8 bytes (arch/arm64/kernel/ftrace.c, ftrace_call_adjust). Which place
    that is depends on each function: of two in one file one may begin with a BTI, and the other not."""
    assert vmlinux.entries, "the table is empty"
    twice = Judgement.TWICE  # test_no_function_is_in_the_table_twice
    wrong = [record for record in vmlinux.records if record.judgement.wrong and record.judgement is not twice]
    assert not wrong, f"{len(wrong)} of {len(vmlinux.entries)} entries are wrong: {several(wrong)}"


def test_there_are_no_more_nops_than_that(vmlinux: Instrumentation) -> None:
    """The compiler was asked for exactly the flavour's NOPs (arch/arm64/Makefile, CC_FLAGS_FTRACE). A single
    function may have more, from padding or its own code; not all of them."""
    spare = [vmlinux.spare_nops(function) for function in vmlinux.functions if function.instrumented]
    assert min(before for before, _ in spare) == 0, "every function has more NOPs before its entry than the flavour's"
    assert min(behind for _, behind in spare) == 0, "every function has more NOPs behind its entry than the flavour's"


def test_every_function_with_nops_is_in_the_table(vmlinux: Instrumentation) -> None:
    """Nothing that the compiler prepared is lost on the way into the table (include/asm-generic/vmlinux.lds.h,
    MCOUNT_REC: "KEEP(*(__patchable_function_entries))", which the mail's patch added; scripts/sorttable.c)."""
    lost = vmlinux.lost
    assert not lost, f"{len(lost)} functions have the NOPs and are not in the table: {several(lost)}"


def test_no_function_is_in_the_table_twice(vmlinux: Instrumentation) -> None:
    """Each function has one record; ftrace would patch, count and list it twice."""
    twice = [record for record in vmlinux.records if record.judgement is Judgement.TWICE]
    assert not twice, several(twice)


def test_the_table_is_sorted_at_build_time(vmlinux: Instrumentation, build: Build) -> None:
    """With BUILDTIME_MCOUNT_SORT the kernel believes that the table is sorted, and searches it by halving (commit
    72b3942a173c, "scripts: ftrace - move the sort-processing in ftrace_init"). Without, it sorts it itself."""
    if build.config.get("BUILDTIME_MCOUNT_SORT") == "y":
        assert list(vmlinux.table) == sorted(vmlinux.table)
    else:
        assert 0 not in vmlinux.table


def test_only_overridden_functions_are_emptied(vmlinux: Instrumentation, kernel_files: KernelFiles) -> None:
    """A weak function that another replaces leaves its NOPs and its entry behind, without a symbol. From 6.15 on the
    build empties these entries (ef378c3b8233, "scripts/sorttable: Zero out weak functions in mcount_loc table"; 6.12's
    stable kernels have it too), and these only: there can't be more of them than code without a symbol that has the
    NOPs."""
    nameless = [record.address for record in vmlinux.records if record.address and record.function is None]
    emptied, overridden = vmlinux.table.count(0), len(vmlinux.nameless_nops())
    if emptied or kernel_files.version >= (6, 15):
        assert not nameless, several(f"{entry:#x}" for entry in nameless)
        assert emptied <= overridden, f"{emptied} entries are empty, only {overridden} functions were overridden"
    else:
        assert len(nameless) <= overridden, f"{len(nameless)} entries belong to no function, {overridden} could"


def test_whole_files_are_instrumented(kernel_files: KernelFiles) -> None:
    """What upstream does not leave out is instrumented, file by file: a file that lost CC_FLAGS_FTRACE has no entry
    at all (scripts/Makefile.lib, _c_flags). Single functions may be notrace; three global ones in plain .text that
    are, and nothing else in their file, there is not."""
    plain = [
        function
        for function in kernel_files.from_files()
        if function.source and function.source.endswith(".c") and kernel_files.may_be_instrumented(function)
    ]
    traced = {function.source for function in plain if function.instrumented}
    silent = Counter(function.source for function in plain if function.exported and function.source not in traced)
    lost = [f"{source} ({count} functions)" for source, count in silent.items() if count >= 3]
    assert not lost, f"{len(lost)} files are not instrumented: {several(lost)}"
