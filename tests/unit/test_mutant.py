"""The headers of mutants, and the mutants that the project has."""

from __future__ import annotations

import pytest

from harness.build.load_patches import load_patches
from harness.campaign.mutants import all_mutants
from harness.errors import UserError
from harness.layout import MUTANTS, PROJECT
from harness.model.mutant import Mutant, covers
from harness.parse.mutant import parse_mutant

PATCH = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n"
LICENCE = "SPDX-License-Identifier: GPL-2.0-only\n"
CAUGHT = "Caught by: testcases/regs/test_args.py::test_eight\n"


def parse(text: str) -> Mutant:
    return parse_mutant(text, name="m", place="m.patch")


def test_everything_a_header_can_say() -> None:
    mutant = parse(
        "Tracing loses x7\n\nNobody restores it.\n"
        f"{CAUGHT}Caught by: testcases/regs/test_struct.py::test_both[far]\n"
        f"Kernel: debian:linux-source-6.1@bookworm-security\nKconfig: modules-far.config\n{LICENCE}\n{PATCH}"
    )
    assert (mutant.name, mutant.title) == ("m", "Tracing loses x7")
    assert mutant.caught_by == (
        "testcases/regs/test_args.py::test_eight",
        "testcases/regs/test_struct.py::test_both[far]",
    )
    assert mutant.kernel == "debian:linux-source-6.1@bookworm-security"
    assert mutant.kconfigs == ("modules-far.config",)


@pytest.mark.parametrize("fragment", ["../../etc/passwd", "/etc/passwd", "a b"])
def test_a_fragment_is_one_of_ours(fragment: str) -> None:
    with pytest.raises(UserError, match=r"m\.patch: Kconfig: expected a file below kconfigs/"):
        parse(f"Title\n\n{CAUGHT}Kconfig: {fragment}\n{LICENCE}\n{PATCH}")


def test_a_mutants_name_becomes_a_part_of_paths() -> None:
    with pytest.raises(UserError, match=r"m\.patch: expected a file name of"):
        parse_mutant(f"Title\n\n{CAUGHT}{LICENCE}\n{PATCH}", name="-rf", place="m.patch")


def test_what_stands_in_the_patch_is_no_header() -> None:
    mutant = parse(f"Title\n\n{CAUGHT}{LICENCE}\n{PATCH}+Kernel: 5.10\n+Caught by: testcases/other.py\n")
    assert mutant.kernel == ""
    assert len(mutant.caught_by) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"Title\n\n{LICENCE}\n{PATCH}", "expected a line 'Caught by: TEST'"),
        (f"Title\n\nCaught by: to be named\n{LICENCE}\n{PATCH}", "found 'to be named'"),
        (f"Title\n\nCaught by: testcases/regs\n{LICENCE}\n{PATCH}", "found 'testcases/regs'"),
        (f"Title\n\n{CAUGHT}\n{PATCH}", "SPDX-License-Identifier"),
        (f"{CAUGHT}{LICENCE}\n{PATCH}", "expected the bug in one line at the top"),
        (f"\n{CAUGHT}{LICENCE}\n{PATCH}", "expected the bug in one line at the top"),
        (f"Title\n{CAUGHT}Kernel: 6.1\nKernel: 7.3\n{LICENCE}{PATCH}", "one line 'Kernel:', found 2"),
        (f"Title\n{CAUGHT}{LICENCE}", "expected a patch"),
        ("", "expected a patch"),
    ],
)
def test_a_header_that_lacks_something_is_wrong_input(text: str, told: str) -> None:
    with pytest.raises(UserError, match=r"^m\.patch: ") as wrong:
        parse(text)
    assert told in wrong.value.message


@pytest.mark.parametrize(
    ("named", "test", "answer"),
    [
        ("testcases/a/test_b.py::test_c", "testcases/a/test_b.py::test_c", True),
        ("testcases/a/test_b.py::test_c", "testcases/a/test_b.py::test_c[far]", True),
        ("testcases/a/test_b.py::test_c[near]", "testcases/a/test_b.py::test_c[far]", False),
        ("testcases/a/test_b.py::test_c", "testcases/a/test_b.py::test_cd", False),
        ("testcases/a/test_b.py", "testcases/a/test_b.py::test_c", True),
    ],
)
def test_which_tests_a_name_means(named: str, test: str, answer: bool) -> None:
    assert covers(named, test) is answer


def test_every_mutant_of_ours_has_a_proper_header_and_one_patch() -> None:
    mutants = all_mutants()
    assert len(mutants) > 30
    for name in mutants:
        assert len(load_patches([MUTANTS / f"{name}.patch"])) == 1


def test_the_tests_that_our_mutants_name_exist() -> None:
    for name, mutant in all_mutants().items():
        for test in mutant.caught_by:
            path, _, function = test.partition("::")
            assert (PROJECT / path).is_file(), f"{name} names {test}: no such file"
            if function:
                assert f"def {function.partition('[')[0]}(" in (PROJECT / path).read_text(), f"{name} names {test}"
