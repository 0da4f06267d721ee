"""What a kernel build prints: steps, and the errors among thousands of lines."""

import pytest

from harness.parse.make_log import errors, step

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
