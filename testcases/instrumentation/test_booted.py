"""The booted kernel has taken over what its files say: every entry, and nothing else."""

import re
from itertools import zip_longest

from harness.parse.instrumentation import Instrumentation, several
from harness.run.api.guest import Guest
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs

TRAMPOLINES, INIT_TRAMPOLINES = ".text.ftrace_trampoline", ".init.text.ftrace_trampoline"
PLT_ENTRY_BYTES = 12  # adrp, add, br
HEADER, SIZE = 64, 32  # bytes: an Elf64_Shdr, and where its sh_size is


def listed(tracefs: Tracefs, module: str = "") -> list[str]:
    """The functions that available_filter_functions lists for `module`, or for the kernel proper."""
    lines = [line.split() for line in tracefs.read("available_filter_functions").splitlines()]
    return [name for name, *owner in lines if owner == ([f"[{module}]"] if module else [])]


def test_the_kernel_counts_what_the_table_holds(guest: Guest, vmlinux: Instrumentation) -> None:
    """ "ftrace: allocating N entries" at boot: N is the number of entries that are not empty (kernel/trace/ftrace.c,
    ftrace_init; since 6.15 told after those that are skipped have been counted off)."""
    told = re.search(r"ftrace: allocating (\d+) entries", guest.check("dmesg"))
    assert told, "the boot log does not say how many entries there are"
    assert int(told[1]) == len(vmlinux.entries), f"the kernel counts {told[1]}, the table has {len(vmlinux.entries)}"


def test_every_function_can_be_traced(tracefs: Tracefs, kernel_files: KernelFiles) -> None:
    """available_filter_functions lists exactly the functions of the table, in its order, without those in init text,
    which is freed (ftrace.rst, "available_filter_functions"; ftrace_free_init_mem). An overridden function that an
    older kernel still has an entry for goes by the name of the symbol before it."""
    expected = kernel_files.traced_after_boot()
    found = listed(tracefs)
    assert len(found) == len(expected), f"{len(found)} can be traced, the table has {len(expected)}"
    wrong = [f"{name} for {names[0]}" for name, names in zip_longest(found, expected) if name not in names]
    assert not wrong, several(wrong)


def test_functions_of_a_loaded_module(tracefs: Tracefs, modules: Modules, kernel_files: KernelFiles) -> None:
    """A module's functions can be traced while it is loaded, all that its table holds but those in init text, and no
    longer than that (kernel/trace/ftrace.c, ftrace_module_init and ftrace_release_mod)."""
    code = kernel_files.module("shapes").code
    functions = [function for function in code.functions if function.listed and function.section != ".init.text"]
    with modules.load("shapes"):
        assert sorted(listed(tracefs, "shapes")) == sorted(function.name for function in functions)
    assert not listed(tracefs, "shapes")


def test_room_for_the_trampolines(tracefs: Tracefs, modules: Modules, kernel_files: KernelFiles) -> None:
    """The loader makes a module's trampoline sections as large as its PLT entries for ftrace, three instructions
    each: two entries where there are ftrace_caller and ftrace_regs_caller, else one ("double the size of this special
    section", v6 of the series; NR_FTRACE_PLTS). Seen in the section headers when they are relocated."""
    module, wanted = kernel_files.module("shapes"), kernel_files.trampolines() * PLT_ENTRY_BYTES
    sections = [module.section(name) for name in (TRAMPOLINES, INIT_TRAMPOLINES)]
    sizes = " ".join(f"+{section.number * HEADER + SIZE}(%x0):u64" for section in sections if section)
    probe = f"p:relocate apply_relocate_add {sizes}"
    with tracefs.probe(probe), tracefs.recording() as trace, modules.load("shapes"):
        seen = {int(size) for size in re.findall(r"arg\d+=(\d+)", trace.text)}
    assert seen == {wanted}, f"trampoline sections of {seen} bytes, expected {wanted}"
