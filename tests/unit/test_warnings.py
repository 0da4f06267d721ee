"""The warnings of a build, and which of them the parent's build did not have."""

from __future__ import annotations

import pytest

from harness.parse.warnings import new_warnings, warnings

UNUSED = "kernel/trace/a.c:{line}:5: warning: unused variable 'x' [-Wunused-variable]"


@pytest.mark.parametrize(
    "line",
    [
        "kernel/a.c:12:5: warning: unused variable 'x' [-Wunused-variable]",
        "../src/kernel/a.c:12: warning: no column",
        "arch/arm64/a.S:7: Warning: unpredictable transfer with writeback",
        "{standard input}:1234: Warning: end of file not at end of a line",
        "aarch64-linux-gnu-ld: warning: vmlinux has a LOAD segment with RWX permissions",
        "WARNING: modpost: vmlinux: section mismatch in reference: a+0x8 (section: .text) -> b (section: .init.text)",
        "arch/arm64/boot/dts/a.dts:10.5-12.3: Warning (unit_address_vs_reg): /soc: node has no unit name",
        "kernel/trace/Kconfig:8:warning: ignoring type redefinition",
        "Makefile:12: warning: overriding recipe for target 'x'",
        "vmlinux.o: warning: objtool: f: unreachable instruction",
        "\x1b[1mkernel/a.c:1:2: \x1b[35mwarning: \x1b[mcoloured",
    ],
)
def test_what_warns(line: str) -> None:
    assert len(warnings([line])) == 1


@pytest.mark.parametrize(
    "line",
    [
        "  CC      kernel/warning.o",
        "kernel/a.c:12:5: error: warning: is an error",
        "kernel/a.c: In function 'warning':",
        "   12 | /* warning: this is code */",
        "kernel/a.c:12:5: note: warning: of a note",
    ],
)
def test_what_does_not(line: str) -> None:
    assert warnings([line]) == []


def test_a_header_warns_once_however_many_files_include_it() -> None:
    assert len(warnings(["include/linux/x.h:3:1: warning: y"] * 3)) == 1


def test_a_warning_that_only_moved_is_not_new() -> None:
    before, since = (warnings([UNUSED.format(line=line)]) for line in (10, 14))
    assert new_warnings(before, since) == []


def test_another_variable_is_new_and_so_is_one_more_of_the_same_kind() -> None:
    before = warnings([UNUSED.format(line=10)])
    other = UNUSED.format(line=20).replace("'x'", "'y'")
    assert [each.text for each in new_warnings(before, warnings([UNUSED.format(line=11), other]))] == [other]
    again = warnings([UNUSED.format(line=11), UNUSED.format(line=90)])
    assert [each.text for each in new_warnings(before, again)] == [UNUSED.format(line=90)]


def test_a_warning_in_another_file_is_new() -> None:
    before, since = warnings(["a.c:1:1: warning: x"]), warnings(["b.c:1:1: warning: x"])
    assert new_warnings(before, since) == since
