"""What a kernel build prints: steps, and the errors among thousands of lines."""

from pathlib import Path

import pytest

from harness.parse.make_log import errors, step

DATA = Path(__file__).parents[1] / "data/make"
GCC = """\
  CC      kernel/fork.o
../kernel/fork.c: In function 'copy_process':
../kernel/fork.c:12:9: error: expected ';' before 'int'
   12 |         this is no C;
      |         ^~~~
      |         ;
../kernel/fork.c:20:1: warning: unused variable 'x' [-Wunused-variable]
   20 | int x;
make[3]: *** [../scripts/Makefile.build:244: kernel/fork.o] Error 1
make[3]: *** Waiting for unfinished jobs....
make: *** [Makefile:256: __sub-make] Error 2
"""


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("  CC      kernel/fork.o", "kernel/fork.o"),
        ("  CC [M]  samples/a.o", "samples/a.o"),
        ("  LD      vmlinux", "vmlinux"),
        ("make[1]: Entering directory", None),
        ("kernel/fork.c:12:9: error: x", None),
    ],
)
def test_steps(line: str, made: str | None) -> None:
    assert step(line) == made


def test_a_compiler_error_with_its_lines_and_nothing_else() -> None:
    assert errors(GCC.splitlines()) == GCC.splitlines()[2:6]


@pytest.mark.parametrize(
    "line",
    [
        "fs/x.c:3:10: fatal error: nowhere.h: No such file or directory",
        "arch/arm64/kernel/entry.S:12: Error: unknown mnemonic `mvo'",
        "aarch64-linux-gnu-ld: kernel/fork.o: in function `f': undefined reference to `g'",
        'ERROR: modpost: "g" [drivers/x.ko] undefined!',
    ],
)
def test_other_errors(line: str) -> None:
    assert errors(["  CC      a.o", line, "make: *** [x] Error 1"]) == [line]


def test_makes_own_words_where_there_are_no_better() -> None:
    assert errors(["  CC      a.o", "make[1]: *** No rule to make target 'x'.  Stop."]) == [
        "make[1]: *** No rule to make target 'x'.  Stop."
    ]


def test_a_flood_of_errors_is_cut() -> None:
    assert len(errors([f"a.c:{n}:1: error: x" for n in range(1000)])) == 40


@pytest.mark.parametrize("log", sorted(DATA.glob("*.log")), ids=lambda path: path.stem)
def test_recorded_failures(log: Path) -> None:
    """What make printed, and what of it says why."""
    assert errors(log.read_text().splitlines()) == log.with_suffix(".expected").read_text().splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "aarch64-linux-gnu-ld: warning: vmlinux has a LOAD segment with RWX permissions",
        "aarch64-linux-gnu-ld: kernel/x.o: warning: relocation in read-only section",
        "ld.lld-16: warning: vmlinux.o: unknown section",
        "init/Kconfig:12:warning: defaults for choice values not supported",
        "make[1]: *** Waiting for unfinished jobs....",
        "collect2: error: ld returned 1 exit status",
    ],
)
def test_what_is_no_reason(line: str) -> None:
    assert errors([line, "a.c:1:1: error: x", "make: *** [a.o] Error 1"]) == ["a.c:1:1: error: x"]


@pytest.mark.parametrize(
    "line",
    [
        "{standard input}:21: Error: selected processor does not support `bti c'",
        "kernel/fork.c:(.text.unlikely+0x1c): undefined reference to `g'",
        "aarch64-linux-gnu-gcc: error: unrecognized command-line option '-fx'",
        "cc1: error: unknown value 'z' for '-mabi'",
        "/bin/sh: 1: bc: not found",
        "FAILED unresolved symbol vfs_truncate",
        "Makefile:12: *** this tree needs LLVM.  Stop.",
        "FATAL ERROR: Unable to parse input tree",
        "Error: arch/arm64/boot/dts/x.dts:12.3-5 syntax error",
    ],
)
def test_reasons_of_other_programs(line: str) -> None:
    assert errors(["  CC      a.o", "make: *** [x] Error 1", line, "make: *** [y] Error 2"]) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "x.c:(.text+0x4): relocation truncated to fit: R_AARCH64_CALL26 against symbol `far'",
        "/src/kernel/x.c:4:(.text+0x4): relocation truncated to fit: R_AARCH64_CALL26 against symbol `far'",
        "x.c:(.init.text+0x8): dangerous relocation: unsupported relocation",
        "x.c:4:(.text+0x4): undefined reference to `far'",
        "kernel/fork.c:3:1: internal compiler error: in expand_call, at calls.cc:12",
        "arch/arm64/boot/dts/x.dts:3.4-5.6: ERROR (phandle_references): /soc: no such node",
        "/home/me/my tree/kernel/fork.c:1:1: error: expected ';'",
    ],
)
@pytest.mark.parametrize(
    "beside",
    [
        "aarch64-linux-gnu-ld: kernel/x.o: in function `near':",
        "aarch64-linux-gnu-ld: final link failed: bad value",
        "kernel/y.c:1:1: error: expected ')'",
    ],
)
def test_one_error_does_not_hide_another(line: str, beside: str) -> None:
    assert errors([beside, line, "make: *** [vmlinux] Error 1"]) == [beside, line]


def test_colours_hide_no_error() -> None:
    lines = ["\x1b[01m\x1b[Kkernel/y.c:1:1:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kno", "a.c:1:1: error: x"]
    assert errors([*lines, "make: *** [x] Error 1"]) == ["kernel/y.c:1:1: error: no", "a.c:1:1: error: x"]


def test_mismatches_are_shown_where_modpost_stops_at_them() -> None:
    lines = [f"WARNING: vmlinux.o(.text+0x{n}): Section mismatch in reference from f() to g()" for n in range(9)]
    fatal = ["FATAL: modpost: Section mismatches detected.", "Set CONFIG_SECTION_MISMATCH_WARN_ONLY=y to allow them."]
    assert errors([*lines, *fatal]) == [*lines[:5], "… and 4 more section mismatches", *fatal]
    assert errors([*lines, "a.c:1:1: error: x"]) == ["a.c:1:1: error: x"]


def test_a_failure_of_no_known_form_is_what_was_printed_before_make_gave_up() -> None:
    lines = ["  GEN     a.h", *(f"line {n}" for n in range(20)), "  CC      b.o"]
    stop = ["make[1]: *** [Makefile:3: a.h] Error 1", "make: *** [Makefile:256: sub-make] Error 2"]
    assert errors([*lines, *stop]) == [*(f"line {n}" for n in range(12, 20)), *stop]
