"""A kernel of twelve functions: sources for any compiler, and linker scripts that make a table of entries of them."""

from __future__ import annotations

from pathlib import Path

# Each function that the compilers treat differently. `quiet` is what the kernel's notrace makes.
SOURCE = """
#define noinline __attribute__((noinline))
extern int sink; int sink;
int leaf(int), quiet(int), late(int *), frame(int), weakling(int), chilly(int), top(int), elsewhere(int *);
noinline int leaf(int x) { sink = x; return x + 1; }
noinline __attribute__((patchable_function_entry(0, 0))) int quiet(int x) { sink = x; return x + 2; }
static noinline int hidden(int x) { sink = x; return leaf(x) * 3; }
static noinline int taken(int x) { sink = x; return x - 5; }
noinline int late(int *p) { if (!p) return -1; return elsewhere(p) + 7; }
noinline int frame(int x) { volatile int room[64]; room[x & 63] = x; return leaf(room[(x + 1) & 63]); }
noinline __attribute__((weak)) int weakling(int x) { sink = x; return x ^ 5; }
noinline __attribute__((cold)) int chilly(int x) { sink = x; return x * 7; }
static noinline __attribute__((section(".init.text"))) int starter(int x) { return leaf(x) + 11; }
extern int alias(int) __attribute__((alias("leaf")));
int (*volatile table[])(int) = { taken, quiet };
noinline int top(int x)
{
	return hidden(x) + starter(x) + frame(x) + weakling(x) + chilly(x) + late(&x) + table[0](x);
}
"""
OTHER_SOURCE = """
extern int sink; int top(int), weakling(int), elsewhere(int *), start(int);
__attribute__((noinline)) int weakling(int x) { sink = x; return x ^ 9; }
int elsewhere(int *p) { return *p; }
int start(int x) { return top(x); }
"""
TRACED = {"leaf", "hidden", "taken", "late", "frame", "weakling", "chilly", "starter", "top"}
OTHERS = {"weakling", "elsewhere", "start"}
STATIC_NOT_TAKEN = {"hidden", "starter"}

# A kernel's and a module's, reduced to what matters here.
RECORDS = "*(__patchable_function_entries)"
KERNEL_SCRIPT = f"""
SECTIONS {{
	. = 0xffff800080000000;
	.text : {{ . += 64; *(.text .text.*) }}
	.init.text : {{ *(.init.text) }}
	.init.data : {{
		. = ALIGN(8);
		__start_mcount_loc = .; KEEP({RECORDS}) __stop_mcount_loc = .;
		. += 64;
	}}
	.rodata : {{ *(.rodata .rodata.*) }}
	.data : {{ *(.data .data.*) }}
	.bss : {{ *(.bss .bss.* COMMON) }}
}}
"""
MODULE_SCRIPT = f"SECTIONS {{ __patchable_function_entries : {{ {RECORDS} }} }}\n"

TWO, CALL_OPS = "-fpatchable-function-entry=2", "-fpatchable-function-entry=4,2 -falign-functions=8"
PROTECTED = "-mbranch-protection=pac-ret+leaf+bti"


def write_sources(directory: Path) -> None:
    """Write a.c, b.c, kernel.lds and module.lds."""
    files = {"a.c": SOURCE, "b.c": OTHER_SOURCE, "kernel.lds": KERNEL_SCRIPT, "module.lds": MODULE_SCRIPT}
    for name, text in files.items():
        (directory / name).write_text(text)
