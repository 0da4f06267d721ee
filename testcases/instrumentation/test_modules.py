"""Modules: their own table, their trampolines, and what the attributes of a function mean in them."""

from harness.parse.instrumentation import several
from harness.run.api.kernelfiles import KernelFiles, ModuleFile

PLACEHOLDER = 1  # byte: an empty section would be dropped, so the linker script puts one in
EXECUTABLE = 0x4  # SHF_EXECINSTR

# shapes.c: what is traced of it, and what is not
TRACED = {"shapes_global", "shapes_static", "shapes_weak", "shapes_variadic", "shapes_frame", "shapes_leaf"}
TRACED_WHILE_LOADING = {"shapes_init"}
NOT_TRACED = {"shapes_notrace", "shapes_static_notrace", "shapes_inline", "shapes_noinstr", "shapes_exit", "shapes_asm"}


def test_table_and_functions_agree(kernel_files: KernelFiles) -> None:
    """Every entry of a module's table points at the flavour's NOPs at a function's entry, and every function that has
    them is in it, once; a module without them needs no table. All entries are in the one section that the loader looks
    up (kernel/module/main.c, find_module_sections)."""
    wrong = {module: _disagreement(module) for module in kernel_files.modules}
    assert not any(wrong.values()), several(f"{module}: {told}" for module, told in wrong.items() if told)


def _disagreement(module: ModuleFile) -> str:
    code = module.code
    wrong = [str(record) for record in code.records if record.judgement.wrong]
    lost = [f"{function} is not in the table" for function in code.lost]
    empty = ["an entry is empty"] if 0 in code.table else []
    return several([*wrong, *lost, *empty], limit=3)


def test_modules_are_instrumented(kernel_files: KernelFiles) -> None:
    """A module has a table unless it comes from a directory that is left out (kernel/trace, lib): modules get the
    same flags as the kernel. Of ours some consist of notrace functions; shapes.c stands for them."""
    bare = [module for module in kernel_files.modules if not module.code.entries and not module.is_ours]
    instrumented = [module for module in kernel_files.modules if module.code.entries]
    assert kernel_files.module("shapes").code.entries
    lost = [module for module in bare if not kernel_files.left_out_module(module)]
    assert not lost, f"not instrumented: {several(lost)}"
    wrong = [module for module in instrumented if kernel_files.left_out_module(module)]
    assert not wrong, f"instrumented, though upstream leaves them out: {several(wrong)}"


def test_attributes_mean_what_they_say(kernel_files: KernelFiles) -> None:
    """Of our module's functions exactly those are instrumented that should: static, weak, variadic ones and those in
    .init.text are; notrace, inline (which includes notrace, include/linux/compiler_types.h), noinstr, __exit and
    assembly are not. "#define notrace __attribute__((patchable_function_entry(0)))", the mail's patch."""
    code = kernel_files.module("shapes").code
    instrumented = {function.name.partition(".")[0] for function in code.functions if function.instrumented}
    others = {function.name.partition(".")[0] for function in code.functions} - instrumented
    assert instrumented == TRACED | TRACED_WHILE_LOADING
    assert others == NOT_TRACED


def test_trampolines(kernel_files: KernelFiles) -> None:
    """Where modules call through PLTs, each has the section that is grown to hold ftrace's PLT entries when it is
    loaded (arch/arm64/kernel/module-plts.c; "Introduce and handle an ftrace_regs_trampoline for module PLTs", v6):
    executable, with a placeholder; from 6.18 on another one for init text. There, both must be."""
    wanted = [".text.ftrace_trampoline"] if kernel_files.module_plts else []
    if kernel_files.version >= (6, 18):
        wanted.append(".init.text.ftrace_trampoline")
    for module in kernel_files.modules:
        for name in wanted:
            section = module.section(name)
            assert section is not None, f"{module} has no {name}"
            assert section.size == PLACEHOLDER, f"{module}: {name} has {section.size} bytes"
            assert section.kind == "SHT_PROGBITS", f"{module}: {name} is {section.kind}: the loader can't see its flags"
    if wanted:
        text = [module.section(wanted[0]) for module in kernel_files.modules]
        assert all(section and section.flags & EXECUTABLE for section in text)
