"""From the output of a build of several modules: which of them were not made, and why."""

from __future__ import annotations

import pytest

from harness.parse.module_log import faults, is_cut_short

NAMES = ("calls", "good", "klp_first", "near-filler")
COMPILED = """\
  CC [M]  /w/testmodules/calls.o
/w/testmodules/calls.c: In function 'calls_inner':
/w/testmodules/calls.c:181:30: error: implicit declaration of function 'stack_save'
  181 |         unsigned int found = stack_save(entries, size, 0);
      |                              ^~~~~~~~~~
cc1: some warnings being treated as errors
make[2]: *** [/w/source/scripts/Makefile.build:283: /w/testmodules/calls.o] Error 1
  CC [M]  /w/testmodules/good.o
/w/testmodules/good.c:3:1: warning: unused
In file included from /w/testmodules/klp_first.c:5:
/w/testmodules/klp_name.h:31:14: error: 'struct klp_patch' has no member named 'replace'
make[2]: *** [/w/source/scripts/Makefile.build:283: /w/testmodules/klp_first.o] Error 1
make[2]: Target '__build' not remade because of errors.
make[1]: *** [/w/source/Makefile:1553: _module_/w/testmodules] Error 2
make: *** [Makefile:152: sub-make] Error 2
"""


def test_each_has_its_first_error() -> None:
    assert faults(COMPILED.splitlines(), NAMES, failed=True) == {
        "calls": "/w/testmodules/calls.c:181:30: error: implicit declaration of function 'stack_save'",
        "klp_first": "/w/testmodules/klp_name.h:31:14: error: 'struct klp_patch' has no member named 'replace'",
    }


def test_what_stops_without_an_error_that_is_known_has_makes_words() -> None:
    line = "make[3]: *** [/w/source/scripts/Makefile.modfinal:61: /w/testmodules/good.ko] Error 137"
    assert faults([line], NAMES, failed=True) == {"good": line}
    assert faults(["make[3]: *** [scripts/Makefile.build:289: good.o] Error 1"], NAMES, failed=True).keys() == {"good"}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('ERROR: modpost: "nothing" [/w/testmodules/calls.ko] undefined!', "calls"),
        ('ERROR: modpost: "nothing" [near-filler.ko] undefined!', "near-filler"),
        ('ERROR: "nothing" [/w/testmodules/calls.ko] undefined!', "calls"),
        ("ERROR: modpost: calls.ko: symbol 'nothing' undefined!", "calls"),
        ("WARNING: modpost: calls.ko: symbol 'nothing' undefined!", "calls"),
        ('WARNING: "nothing" [/w/testmodules/calls.ko] undefined!', "calls"),
        ("ERROR: modpost: GPL-incompatible module calls.ko uses GPL-only symbol 'x'", "calls"),
        ("ERROR: modpost: module calls uses symbol x from namespace Y, but does not import it.", "calls"),
        ("ERROR: modpost: missing MODULE_LICENSE() in /w/testmodules/calls.o", "calls"),
        ("FATAL: modpost: parse error in symbol dump file of calls.o", "calls"),
    ],
)
def test_modpost_names_the_module(line: str, name: str) -> None:
    assert faults([line, "make: *** [Makefile:1: modules] Error 1"], NAMES, failed=True) == {name: line}


def test_a_section_mismatch_is_a_fault_only_where_it_stops_the_build() -> None:
    lines = [
        "WARNING: modpost: /w/testmodules/calls.o(.text+0x8): Section mismatch in reference from the function a()",
        "FATAL: modpost: Section mismatches detected.",
    ]
    assert faults(lines, NAMES, failed=True) == {"calls": lines[0]}
    assert faults(lines[:1], NAMES, failed=False) == {}
    newer = "WARNING: modpost: calls: section mismatch in reference: a+0x8 (section: .text) -> b (section: .init.text)"
    assert faults([newer], NAMES, failed=True) == {"calls": newer}


def test_others_are_not_blamed() -> None:
    lines = ['ERROR: modpost: "x" [drivers/other.ko] undefined!', "make[2]: *** [Makefile:1: other.o] Error 1"]
    assert faults(lines, NAMES, failed=True) == {}
    assert faults(["WARNING: modpost: missing MODULE_DESCRIPTION() in calls.o"], NAMES, failed=False) == {}


@pytest.mark.parametrize(
    ("end", "is_cut"),
    [
        ("Error 1", False), ("Error 2", False), ("Error 128", False), ("Error 255", False),
        ("Error 1 (ignored)", False), ("Error 126", True), ("Error 127", True), ("Error 139", True),
        ("Segmentation fault (core dumped)", True), ("Terminated", True),
    ],
)  # fmt: skip
def test_a_program_that_is_missing_or_crashes_says_nothing_about_a_module(end: str, *, is_cut: bool) -> None:
    line = f"make[3]: *** [/w/source/scripts/Makefile.modfinal:61: /w/testmodules/good.ko] {end}"
    assert is_cut_short(["  LD [M]  /w/testmodules/good.ko", line]) is is_cut
    assert is_cut_short([f"  CC [M]  x.o{line}"]) is False
