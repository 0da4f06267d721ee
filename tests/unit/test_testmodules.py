"""The testcases' modules: what can be built is copied, and only when it changed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.build.keys import contents_of_fragments
from harness.build.source import parse_source_spec
from harness.build.testmodules import fingerprint, needs, prepare, sources
from harness.errors import UserError
from harness.layout import TESTCASES
from harness.model.kernel import KernelSpec, Source, Toolchain
from tests.faults.catalogue import Blame, fault


@pytest.fixture
def testcases(tmp_path: Path) -> Path:
    directory = tmp_path / "testcases"
    (directory / "a").mkdir(parents=True)
    (directory / "a/plain.c").write_text("int plain;\n")
    (directory / "a/shared.h").write_text("#define X\n")
    (directory / "a/patching.c").write_text("// SPDX\n// harness: needs CONFIG_LIVEPATCH\nint patching;\n")
    return directory


@fault("a test module's source, or a fragment, is a pipe", where="hostile input", blame=Blame.USER,
       survives="what it is")  # fmt: skip
def test_pipes_are_refused(testcases: Path, tmp_path: Path) -> None:
    os.mkfifo(testcases / "a/pipe.c")
    with pytest.raises(UserError, match=r"pipe\.c: expected a test module's source, .*it is a pipe"):
        fingerprint(testcases)
    os.mkfifo(tmp_path / "x.config")
    source = Source(spec=parse_source_spec(str(tmp_path)), version="7.3.4", identity="x", path=tmp_path, checksum="")
    toolchain = Toolchain(name="gcc", command="gcc", version="12", make_args=(), patchable=True)
    spec = KernelSpec(source=source, fragments=(tmp_path / "x.config",), toolchain=toolchain)
    with pytest.raises(UserError, match=r"x\.config: expected a kconfig fragment, .*it is a pipe") as caught:
        contents_of_fragments(spec)
    assert caught.value.exit_code == 2


def test_what_a_kernel_lacks_is_left_out_with_the_reason(testcases: Path, tmp_path: Path) -> None:
    prepared = prepare(testcases, tmp_path / "m", config={}, without={"LIVEPATCH": "no such symbol"}, release="7.3.4")
    assert prepared.names == ("plain",)
    assert prepared.left_out == {"patching": "this kernel has no CONFIG_LIVEPATCH (no such symbol)"}
    assert (tmp_path / "m/Kbuild").read_text() == "obj-m += plain.o\n"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["Kbuild", "plain.c", "shared.h"]


def test_what_it_has_is_built(testcases: Path, tmp_path: Path) -> None:
    assert prepare(testcases, tmp_path / "m", config={"LIVEPATCH": "y"}, without={}, release="7.3.4").names == (
        "patching",
        "plain",
    )


@pytest.mark.parametrize(
    ("release", "is_built"), [("5.4.301", False), ("5.5.0-rc1", True), ("7.3.4", True), ("x", True)]
)
def test_a_module_for_later_kernels_is_left_out(testcases: Path, tmp_path: Path, release: str, is_built: bool) -> None:
    (testcases / "a/state.c").write_text("// SPDX\n// harness: since 5.5 (system state of livepatches)\nint state;\n")
    prepared = prepare(testcases, tmp_path / "m", config={"LIVEPATCH": "y"}, without={}, release=release)
    assert ("state" in prepared.names) == is_built
    told = f"this kernel is {release}, older than 5.5 (system state of livepatches)"
    assert prepared.left_out == ({} if is_built else {"state": told})


def test_an_unchanged_source_keeps_its_time(testcases: Path, tmp_path: Path) -> None:
    prepare(testcases, tmp_path / "m", config={}, without={}, release="7.3.4")
    before = (tmp_path / "m/plain.c").stat().st_mtime_ns
    (testcases / "a/shared.h").write_text("#define Y\n")
    prepare(testcases, tmp_path / "m", config={}, without={}, release="7.3.4")
    assert (tmp_path / "m/plain.c").stat().st_mtime_ns == before
    assert (tmp_path / "m/shared.h").read_text() == "#define Y\n"


def test_a_module_that_is_gone_leaves_nothing(testcases: Path, tmp_path: Path) -> None:
    prepare(testcases, tmp_path / "m", config={"LIVEPATCH": "y"}, without={}, release="7.3.4")
    (tmp_path / "m/patching.ko").write_text("made")
    (testcases / "a/patching.c").unlink()
    prepare(testcases, tmp_path / "m", config={"LIVEPATCH": "y"}, without={}, release="7.3.4")
    assert not list((tmp_path / "m").glob("patching*"))


def test_two_modules_of_one_name_are_refused(testcases: Path) -> None:
    (testcases / "plain.c").write_text("")
    with pytest.raises(UserError, match=r"plain\.c.*exists already"):
        fingerprint(testcases)


@pytest.mark.parametrize("name", ["$(shell touch x).c", "a b.c", "-x.c"])
def test_a_name_that_make_would_read_otherwise_is_refused(testcases: Path, name: str) -> None:
    (testcases / name).touch()
    with pytest.raises(UserError, match=r"expected a file name of .*, before \.c; rename it"):
        sources(testcases)


def test_the_fingerprint_tells_changes(testcases: Path) -> None:
    before = fingerprint(testcases)
    (testcases / "a/shared.h").write_text("#define Z\n")
    assert fingerprint(testcases) != before


def test_every_module_of_ours_is_gpl_and_says_so() -> None:
    for path in TESTCASES.rglob("*.c"):
        assert path.read_text().startswith("// SPDX-License-Identifier: GPL-2.0-only\n"), path
        assert 'MODULE_LICENSE("GPL");' in with_headers(path), path


def with_headers(path: Path) -> str:
    """The text of a C file and of our headers that it includes."""
    text = path.read_text()
    headers = re.findall(r'^#include "(.+)"', text, re.MULTILINE)
    return text + "".join(with_headers(next(TESTCASES.rglob(name))) for name in headers)


def test_needs_reads_every_symbol() -> None:
    assert needs("/* harness: needs CONFIG_A CONFIG_B */") == ["A", "B"]
