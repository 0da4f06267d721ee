"""A header that this host lacks costs the suite that needs it, until it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.build import hostheaders
from harness.model.kernel import Toolchain
from harness.model.suite import USER_EVENTS
from harness.parse import make_log
from harness.run.suites.selftests import why_not
from tests.faults.catalogue import Blame, fault
from tests.unit.test_make import EVENTS, TREE, Toy, toy

__all__ = ["toy"]

GCC_SAYS = (
    "abi_test.c:5:10: fatal error: sys/capability.h: No such file or directory",
    "    5 | #include <sys/capability.h>",
    "      |          ^~~~~~~~~~~~~~~~~~",
    "compilation terminated.",
)
CLANG_SAYS = ("abi_test.c:5:10: fatal error: 'sys/capability.h' file not found", "#include <sys/capability.h>")
# fails for want of the file ``header`` beside it, where it compiles abi_test.c or is asked for a header
COMPILER = """\
#!/bin/sh
case " $* " in *" abi_test.c "*|*" -fsyntax-only "*) ;; *) exit 0;; esac
[ -e "${0%/*}/header" ] && exit 0
echo "abi_test.c:5:10: fatal error: sys/capability.h: No such file or directory" >&2
echo "    5 | #include <sys/capability.h>" >&2
exit 1
"""


@pytest.mark.parametrize("said", [GCC_SAYS, CLANG_SAYS])
def test_the_missing_header_is_found(said: tuple[str, ...]) -> None:
    assert make_log.missing_header(said) == "sys/capability.h"


@pytest.mark.parametrize(
    "said",
    [
        ("a.c:5:10: fatal error: kselftest.h: No such file or directory", '    5 | #include "kselftest.h"'),
        ("a.c:5:10: fatal error: linux/new.h: No such file or directory", "    5 | #include <linux/new.h>"),
        ("a.c:5:10: error: unknown type name 'x'", "    5 | #include <sys/capability.h>"),
        ("make: *** No rule to make target",),
    ],
)
def test_what_is_no_header_of_the_hosts(said: tuple[str, ...]) -> None:
    """The kernel's own are the kernel's matter."""
    assert make_log.missing_header(said) == ""


def test_the_compiler_is_asked_for_a_header(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("not installed: gcc (Debian: gcc)")
    gcc = Toolchain(name="gcc", command="gcc", version="12", make_args=(), patchable=True)
    assert hostheaders.has(gcc, "stdio.h")
    assert not hostheaders.has(gcc, "no/such.h")
    (tmp_path / "a.c").write_text("#include <no/such.h>\n")
    done = subprocess.run(["gcc", "-c", "a.c"], cwd=tmp_path, capture_output=True, text=True, check=False)
    told = hostheaders.explained(make_log.errors(done.stderr.splitlines()), gcc)
    assert told.startswith(
        "a.c:1:10: fatal error: no/such.h: No such file or directory; this host has no <no/such.h>: "
    )
    assert "`apt-file search include/no/such.h`" in told
    assert hostheaders.came({"selftests/x": told}, gcc) == []
    assert hostheaders.came({"selftests/x": told.replace("no/such.h", "stdio.h")}, gcc) == ["stdio.h"]


@fault(
    "this host lacks a header that an upstream suite needs",
    where="host",
    blame=Blame.NOBODY,
    survives="the build; the note names header and package; the suite is built once the header is there",
)
def test_a_suite_is_built_once_the_header_is_there(toy: Toy) -> None:
    compiler = toy.directory / "tools/toy-gcc"
    compiler.write_text(COMPILER)
    (toy.directory / "our.config").write_text("CONFIG_ONE=y\nCONFIG_USER_EVENTS=y\n")
    makefile, rule = "tools/testing/selftests/Makefile", "\t@mkdir -p $(INSTALL_PATH)/user_events\n"
    text = (TREE / makefile).read_text()
    assert rule in text
    toy.edits[makefile] = text.replace(rule, f"\t@toy-gcc abi_test.c\n{rule}")
    made = toy.build()
    why = made.unbuilt["selftests/user_events"]
    assert why.startswith(f"{GCC_SAYS[0]}; this host has no <sys/capability.h>: install Debian's libcap-dev")
    note = next(said for said in toy.progress.said if said.startswith("selftests/user_events: "))
    assert note == f"selftests/user_events: does not build on this host, so the tests that need it are skipped: {why}"
    assert why_not(USER_EVENTS, made) == f"selftests/user_events does not build on this host: {why}"
    toy.calls()
    assert toy.build().unbuilt  # as long as the header is missing, nothing is tried again
    assert toy.calls() == []
    (compiler.parent / "header").touch()
    again = toy.build()
    assert again is not made
    assert toy.build().unbuilt  # somebody uses the build that lacks it
    del made, again
    found = toy.build()
    assert found.unbuilt == {}
    assert (found.directory / EVENTS / "abi_test").is_file()
    assert toy.calls() == ["headers_install", "selftests user_events"]
