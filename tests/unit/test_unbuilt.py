"""Test modules and selftests that do not build cost their own tests, never the build, and it is said why."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.build.finished import load_record, not_built
from harness.build.selftests import Selftests
from harness.build.workspace import Workspace
from harness.errors import BuildError
from harness.model.kernel import Build
from harness.model.record import BuildRecord, KernelRecord, PatchRecord
from harness.model.result import Verdict
from harness.model.suite import FTRACE
from harness.model.unbuilt import broken_by_series
from harness.report.summary import summary_lines
from harness.run.api.guest import Guest
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.modules import Modules
from harness.run.judging import outcome_of
from harness.run.suites.selftests import why_not
from tests.fakerun import fake_build, fake_run
from tests.faults.catalogue import Blame, fault
from tests.unit.test_make import EVERYTHING, Toy, texts, toy
from tests.unit.test_testcase_api import ScriptedMachine

__all__ = ["toy"]

BROKEN = {"tools/testing/selftests/ftrace/test.c": "this is no C\n"}
NO_C = "calls.c:1:1: error: no C"
KEPT = "the build, and all tests that need nothing else"


def add_module(toy: Toy, name: str, text: str) -> None:
    (toy.directory / f"testcases/{name}.c").write_text(text)


def modules_in(build: Build) -> set[str]:
    return {path.name for path in (build.directory / "testmodules").iterdir()}


@fault("a test module does not compile for the kernel", where="kernel", blame=Blame.NOBODY, survives=KEPT)
def test_a_module_that_does_not_compile_is_left_out_with_the_error(toy: Toy) -> None:
    add_module(toy, "calls", "this is no C\n")
    add_module(toy, "good", "int good;\n")
    made = toy.build()
    assert modules_in(made) == {"good.ko"}
    assert made.unbuilt == {"calls": NO_C}
    assert made.left_out == {"calls": f"does not build for this kernel: {NO_C}"}
    assert toy.calls() == ["test modules", "test modules"]  # all of them, and then the others
    assert any(f"calls: does not build for this kernel, so the tests that need it are skipped: {NO_C}" in said
               for said in toy.progress.said)  # fmt: skip


def test_the_error_is_told_at_each_use_of_the_build(toy: Toy) -> None:
    add_module(toy, "calls", "this is no C\n")
    toy.build()
    toy.calls()
    toy.progress.said.clear()
    assert toy.build().unbuilt == {"calls": NO_C}
    assert toy.calls() == []
    assert any(NO_C in said for said in toy.progress.said)
    toy.unpublish()
    assert toy.build().unbuilt == {"calls": NO_C}  # the stage in the workspace knows it, too
    assert toy.calls() == []


@fault("no test module compiles for the kernel", where="kernel", blame=Blame.NOBODY, survives=KEPT)
def test_when_no_module_compiles_the_kernel_is_still_there(toy: Toy) -> None:
    add_module(toy, "calls", "this is no C\n")
    made = toy.build()
    assert modules_in(made) == set()
    assert made.unbuilt == {"calls": NO_C}
    assert toy.calls() == ["test modules"]


def test_a_mended_module_is_built(toy: Toy) -> None:
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    add_module(toy, "calls", "this is no C\n")
    toy.build()
    toy.calls()
    add_module(toy, "calls", "int mended;\n")
    made = toy.build()
    assert "mended" in texts(made)["testmodules/calls.ko"]
    assert made.unbuilt == {}
    assert toy.calls() == ["test modules"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            "calls nothing\n",
            'ERROR: modpost: "nothing" [calls.ko] undefined!',
            marks=fault("a test module uses a symbol that the kernel does not export", where="kernel",
                        blame=Blame.NOBODY, survives=KEPT),
        ),
        pytest.param(
            "calls something\n",
            'WARNING: "something" [calls.ko] undefined!',
            marks=fault("modpost only warns of a symbol that the kernel does not export, as up to 5.5",
                        where="kernel", blame=Blame.NOBODY, survives=KEPT),
        ),
    ],
)  # fmt: skip
def test_a_module_with_an_undefined_symbol_is_left_out(toy: Toy, text: str, error: str) -> None:
    add_module(toy, "calls", text)
    add_module(toy, "good", "int good;\n")
    made = toy.build()
    assert modules_in(made) == {"good.ko"}
    assert made.unbuilt == {"calls": error}


def test_what_compiles_only_then_fails_to_link_is_found_too(toy: Toy) -> None:
    add_module(toy, "calls", "this is no C\n")
    add_module(toy, "linked", "calls nothing\n")
    add_module(toy, "good", "int good;\n")
    made = toy.build()
    assert modules_in(made) == {"good.ko"}
    assert set(made.unbuilt) == {"calls", "linked"}


@fault("a suite of selftests does not compile", where="kernel", blame=Blame.NOBODY, survives=KEPT)
def test_a_selftest_that_does_not_compile_skips_its_suite(toy: Toy) -> None:
    toy.edits = dict(BROKEN)
    add_module(toy, "good", "int good;\n")
    made = toy.build()
    why = "ftrace/test.c:1:1: error: no C either"
    assert made.unbuilt == {"selftests/ftrace": why}
    assert why_not(FTRACE, made) == f"selftests/ftrace does not build for 7.3.4: {why}"
    assert modules_in(made) == {"calls.ko", "good.ko"}
    assert made.left_out == {}
    toy.edits.clear()
    toy.unpublish()
    mended = toy.build()
    assert mended.unbuilt == {}
    assert why_not(FTRACE, mended) == ""
    assert (mended.directory / "selftests/ftrace/test").is_file()


def test_a_path_in_a_suites_error_is_that_of_the_tree(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace", "x")
    selftests = workspace.source / "tools/testing/selftests"
    (selftests / "ftrace").mkdir(parents=True)

    def make(_what: str, _words: list[str]) -> None:
        raise BuildError("the kernel does not build", details=[f"{selftests}/ftrace/poll.c:3:1: error: no C"])

    kbuild = SimpleNamespace(
        workspace=workspace, toolchain=None, make=make, words=lambda *words, directory: list(words)
    )
    suites = Selftests(kbuild, config={}, goal=tmp_path)  # type: ignore[arg-type]
    why = "tools/testing/selftests/ftrace/poll.c:3:1: error: no C"
    assert suites.build_alone(FTRACE, tmp_path / "ftrace") == why
    assert (tmp_path / "ftrace/not-built").read_text() == f"{why}\n"


def test_both_fail_and_both_are_told(toy: Toy) -> None:
    toy.edits = {**BROKEN, "kernel/sched.c": "int sched; /* so that both are made */\n"}
    add_module(toy, "calls", "this is no C\n")
    made = toy.build()
    assert made.unbuilt == {"selftests/ftrace": "ftrace/test.c:1:1: error: no C either", "calls": NO_C}
    assert toy.calls() == sorted([*EVERYTHING, "selftests"])  # ftrace again, by itself
    assert load_record(made.directory).unbuilt == made.unbuilt


def test_one_error_in_a_header_is_told_once(tmp_path: Path) -> None:
    one, two = "klp_name.h:3:1: error: no member", "calls.c:1:2: error: no function"
    assert not_built({"klp_first": one, "calls": two, "klp_second": one}) == [
        "klp_first, klp_second: do not build for this kernel, so the tests that need them are skipped: " + one,
        "calls: does not build for this kernel, so the tests that need it are skipped: " + two,
    ]
    assert not_built({}) == []


def test_a_run_says_it_once_in_summary_and_documents(tmp_path: Path) -> None:
    build = fake_build(tmp_path / "build")
    build.unbuilt.update({"klp_first": NO_C, "klp_second": NO_C})
    (tmp_path / "run").mkdir()
    results, code = fake_run(build, tmp_path / "run")
    told = f"klp_first, klp_second: do not build for this kernel, so the tests that need them are skipped: {NO_C}"
    assert code == 0
    assert results.notes.count(told) == 1
    assert [line for line in summary_lines(results, run_dir=tmp_path) if NO_C in line] == [f"note       {told}"]
    assert told in json.loads((tmp_path / "run/results.json").read_text())["notes"]
    assert (tmp_path / "run/report.html").read_text().count(NO_C) == 1


# -- where the kernel has a series -------------------------------------------------------------------------------------

UNDEFINED = 'ERROR: modpost: "nothing" [calls.ko] undefined!'


@fault("a series breaks what a test module uses, so that it does not build", where="kernel", blame=Blame.KERNEL,
       survives="FAIL of the tests that need it: the reason has the first error")  # fmt: skip
def test_a_module_that_a_series_breaks_fails_its_tests(toy: Toy) -> None:
    toy.edits["kernel/sched.c"] = "int sched; /* without an export */\n"
    add_module(toy, "calls", "calls nothing\n")
    add_module(toy, "good", "int good;\n")
    made = toy.build()
    assert made.broken == made.unbuilt == {"calls": UNDEFINED}
    assert made.left_out == {}
    told = f"calls: does not build for this kernel with its series, so the tests that need it fail: {UNDEFINED}"
    assert told in toy.progress.said
    there = Modules(Guest(ScriptedMachine()), made)  # type: ignore[arg-type]
    for need in (there.require, there.available, KernelFiles(made).module, lambda name: there.load(name).__enter__()):
        with pytest.raises(AssertionError) as caught:
            need("calls")
        outcome = outcome_of(caught.value, in_setup=True)
        assert outcome.verdict is Verdict.FAIL
        assert outcome.reason.startswith("calls: does not build for this kernel with its series")
        assert outcome.reason.endswith(UNDEFINED)
    there.require("good")


def test_without_a_series_its_tests_are_skipped(toy: Toy) -> None:
    add_module(toy, "calls", "calls nothing\n")
    made = toy.build()
    assert made.broken == {}
    there = Modules(Guest(ScriptedMachine()), made)  # type: ignore[arg-type]
    assert not there.available("calls")
    for need in (there.require, KernelFiles(made).module):
        with pytest.raises(pytest.skip.Exception, match="calls: does not build for this kernel: ERROR: modpost"):
            need("calls")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("{made}/testmodules/calls.c:1:1: error: no C", NO_C),
        ("../made-x/testmodules/calls.c:1:1: error: no C", NO_C),
        ("{source}/include/linux/ftrace.h:7:1: error: no C", "include/linux/ftrace.h:7:1: error: no C"),
        ("../src/include/linux/ftrace.h:7:1: error: no C", "include/linux/ftrace.h:7:1: error: no C"),
        ("./include/linux/ftrace.h:7:1: error: no C", "./include/linux/ftrace.h:7:1: error: no C"),
    ],
)
def test_paths_in_an_error_are_those_outside_the_workspace(tmp_path: Path, error: str, shown: str) -> None:
    workspace = Workspace(tmp_path / "workspace", "x")
    assert workspace.outside(error.format(made=workspace.state, source=workspace.source)) == shown


IN_HEADER = "include/linux/ftrace.h:7:1: error: no C"


@pytest.mark.parametrize(
    ("release", "why", "is_broken"),
    [
        ("4.20.0", NO_C, True),
        ("7.3.4-1", NO_C, True),
        ("4.19.300", NO_C, False),
        ("7.4.0-rc1", NO_C, False),
        ("7.4.0-rc1", IN_HEADER, True),
        ("4.19.300", "./arch/arm64/include/asm/ftrace.h:7:1: error: no C", True),
        ("7.4.0-rc1", "harness_ops.h:7:1: error: no C", False),
    ],
)
def test_which_modules_a_series_is_blamed_for(release: str, why: str, *, is_broken: bool) -> None:
    kernel = KernelRecord(release=release, patches=(PatchRecord(name="p"),))
    record = BuildRecord(kernel=kernel, unbuilt={"calls": why, "selftests/ftrace": why})
    assert broken_by_series(record) == ({"calls": why} if is_broken else {})
    pristine = dataclasses.replace(record, kernel=KernelRecord(release=release))
    assert broken_by_series(pristine) == {}
