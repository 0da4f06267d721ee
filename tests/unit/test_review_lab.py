"""What a review has done to kernels, with the toy kernel and real make: warnings, digests, series in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.build.keys import kernel_key
from harness.build.make import build
from harness.build.sameness import hash_of_binaries
from harness.build.source import parse_source_spec, resolve_source
from harness.campaign.request import BuildOptions
from harness.campaign.review import lab as lab_module
from harness.campaign.review.lab import HostLab, log_of
from harness.errors import InfraError, UserError
from harness.model.kernel import Build, KernelSpec, Patch
from harness.model.result import Result, Verdict
from harness.model.review import TestSet
from harness.run.side_run import Ended, SideRuns
from tests.faults.catalogue import Blame, fault
from tests.unit.test_make import GCC, Toy, toy  # noqa: F401
from tests.unit.test_side_run import recorded

SCHED = "kernel/sched.c"
HEADER = "include/linux/sched.h"
NEVER = f"--- a/{SCHED}\n+++ b/{SCHED}\n@@ -1,2 +1,2 @@\n-int never;\n+int there;\n int so;\n"
WRONG = Patch(name="wrong.patch", text=NEVER, sha256="0")


@pytest.fixture
def lab(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> HostLab:  # noqa: F811
    options = BuildOptions(
        build_dir=None,
        kernel=str(toy.tree),
        patches=(),
        kconfigs=(),
        toolchain=None,
        allow_plain_ftrace=False,
        jobs=2,
        no_sandbox=not toy.is_sandboxed,
    )

    def build_toy(spec: KernelSpec, _options: object, _progress: object) -> Build:
        return build(
            spec,
            testcases=toy.directory / "testcases",
            reproduce="",
            progress=toy.progress,
            jobs=2,
            is_sandboxed=toy.is_sandboxed,
        )

    monkeypatch.setattr(lab_module, "build_kernel", build_toy)
    source = resolve_source(parse_source_spec(str(toy.tree)))
    base = KernelSpec(source=source, fragments=(toy.directory / "our.config",), toolchain=GCC)
    return HostLab(base=base, options=options, board="b", side_runs=SideRuns([]), display=toy.progress,
                   logs=toy.directory / "logs")  # fmt: skip


def text_of(toy: Toy, path: str) -> str:  # noqa: F811
    return (toy.tree / path).read_text()


def patch(toy: Toy, path: str, more: str, *, before: str = "") -> Patch:  # noqa: F811
    """A patch that adds lines to a file that has `before` behind what the tree has."""
    own = Toy(toy.directory)
    old = text_of(toy, path)
    made = own._patch(path, old + before + more)
    if not before:
        return made
    (toy.tree / path).write_text(old + before)
    try:
        return own._patch(path, old + before + more)
    finally:
        (toy.tree / path).write_text(old)


def test_only_warnings_that_the_parent_lacks_are_new(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    one = patch(toy, SCHED, "/* warns */\n")
    two = patch(toy, SCHED, "/* warns */\n/* no more */\n", before="/* warns */\n")
    assert len(lab.compiled((), (one,)).warnings) == 1
    found = lab.compiled((one,), (one, two))
    assert [text.partition(": ")[2] for text in found.warnings] == ["warning: it warns"]


def test_a_warning_that_was_there_before_is_not_new_though_its_file_is_compiled_again(
    lab: HostLab,
    toy: Toy,  # noqa: F811
) -> None:
    one, two = patch(toy, SCHED, "/* warns */\n"), patch(toy, HEADER, "/* harmless */\n")
    lab.compiled((), (one,))
    assert lab.compiled((one,), (one, two)).warnings == ()


def test_it_does_not_matter_what_was_built_before(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    """The finished kernels are there already, and the workspace holds another one."""
    one = patch(toy, SCHED, "/* warns */\n")
    lab.build((one,))
    lab.build((patch(toy, HEADER, "int other;\n"),))
    assert len(lab.compiled((), (one,)).warnings) == 1


def test_a_kernel_that_does_not_build_is_an_answer(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    found = lab.compiled((), (patch(toy, SCHED, "is no C\n"),))
    assert found.digest == ""
    assert found.is_configured
    assert "error: no C at all" in found.details[0]
    (log,) = lab.logs.iterdir()
    assert "error: no C at all" in log.read_text()


def test_what_make_printed_is_kept(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    one = patch(toy, SCHED, "/* warns */\n")
    lab.compiled((), (one,))
    assert "warning: it warns" in (lab.logs / f"{lab.key((one,))}.log").read_text()


def test_the_same_binaries_have_the_same_digest(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    changes = ((), (patch(toy, "scripts/helper.c", "int more;\n"),), (patch(toy, SCHED, "int more;\n"),))
    base, same, other = (lab.compiled((), patches).digest for patches in changes)
    assert base == same
    assert base != other


def test_what_the_build_says_of_itself_is_no_part_of_the_digest(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    first = toy.build()
    toy.unpublish()
    again = toy.build()
    files = {path.name for path in first.directory.rglob("*")}
    assert {"build.json", "build.log"} <= files
    assert hash_of_binaries(first) == hash_of_binaries(again) != ""


def test_a_series_is_tried_without_touching_the_tree(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    one, two = patch(toy, SCHED, "int one;\n"), patch(toy, SCHED, "int two;\n", before="int one;\n")
    lab.compiled((), (one,))
    source = toy.workspace / "src" / SCHED
    stamp = source.stat().st_mtime_ns, source.read_text()
    tried = lab.try_series((one, two, WRONG))
    assert [bool(each.error) for each in tried] == [False, False, True]
    assert tried[1].paths == (SCHED,)
    after = tried[1].after[SCHED]
    assert after is not None
    assert after.content.decode() == text_of(toy, SCHED) + "int one;\nint two;\n"
    assert (source.stat().st_mtime_ns, source.read_text()) == stamp


@fault(
    "a patch of the series does not apply", where="hostile input", blame=Blame.USER,
    survives="those before it, and what is compiled",
)  # fmt: skip
def test_the_first_patch_that_does_not_apply_ends_it(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    one = patch(toy, SCHED, "int one;\n")
    tried = lab.try_series((one, WRONG, patch(toy, HEADER, "int x;\n")))
    assert [bool(each.error) for each in tried] == [False, True]
    assert SCHED in tried[1].error


def test_kernels_are_named_by_all_their_patches(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    one, two = patch(toy, SCHED, "int one;\n"), patch(toy, HEADER, "int two;\n")
    assert lab.key(()) == kernel_key(lab.base)
    assert len({lab.key(patches) for patches in ((), (one,), (one, two), (two, one))}) == 4


@pytest.mark.parametrize(("log", "found"), [("t.log", "said"), ("../secret", ""), ("gone.log", ""), (None, "")])
def test_a_log_is_read_from_its_run_only(tmp_path: Path, log: str | None, found: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "t.log").write_text("said")
    (tmp_path / "secret").write_text("not ours")
    assert log_of(Result(test="t", verdict=Verdict.FAIL, log=log), run) == found


@fault(
    "the kernel before the patch compiles no more, though it did", where="host", blame=Blame.INFRA,
    survives="the patch is not blamed",
)  # fmt: skip
def test_a_parent_that_stops_compiling_is_not_the_patchs_fault(lab: HostLab, toy: Toy) -> None:  # noqa: F811
    bad, one = patch(toy, SCHED, "is no C\n"), patch(toy, HEADER, "int one;\n")
    with pytest.raises(InfraError, match="was built, and does not compile now"):
        lab.compiled((bad,), (bad, one))


@dataclasses.dataclass
class Told(SideRuns):
    """Runs that are only told; `code`: how they end."""

    code: int = 0
    told: list[tuple[list[str], Path]] = dataclasses.field(default_factory=list)

    def run_words(self, options: Sequence[object], run_dir: Path) -> Ended:
        self.told.append((list(map(str, options)), run_dir))
        return Ended(code=self.code, results=None, last_line="harness: no test matches")


def test_runs_are_of_the_finished_build(lab: HostLab, toy: Toy, tmp_path: Path) -> None:  # noqa: F811
    runs = Told()
    there = dataclasses.replace(lab, side_runs=runs)
    directory = str(toy.build().directory)
    tests = TestSet(suites=("testcases/function", "selftests"), keyword="a or b")
    there.run((), tests, tmp_path / "x", confirm=False)
    there.run((), TestSet(), tmp_path / "y", confirm=True)
    chosen = ["--suite", "testcases/function", "--suite", "selftests", "-k", "a or b"]
    assert runs.told == [
        (["--build", directory, "--board", "b", *chosen, "--no-confirm"], tmp_path / "x"),
        (["--build", directory, "--board", "b"], tmp_path / "y"),
    ]


@pytest.mark.parametrize("code", [0, 2])
def test_tests_are_listed_before_work_begins(lab: HostLab, tmp_path: Path, code: int) -> None:
    runs = Told(code=code)
    there = dataclasses.replace(lab, side_runs=runs)
    with pytest.raises(UserError, match=r"^no test matches") if code else contextlib.nullcontext():
        there.check(TestSet(keyword="x"), tmp_path)
    assert runs.told[0][0][-3:] == ["-k", "x", "--list"]


@pytest.mark.parametrize(
    ("different", "counts"),
    [
        ({}, True),
        ({"kernel_key": "other"}, False),
        ({"board": "other"}, False),
        ({"keyword": "other"}, False),
        ({"suites": ["testcases"]}, False),
        ({"testcases": "other"}, False),
        ({"ended": None}, False),
        ({"ended": "interrupted"}, False),
        ({"ended": "maxfail"}, False),
    ],
)
def test_a_finished_run_of_the_same_is_not_done_again(
    lab: HostLab, tmp_path: Path, different: dict[str, Any], counts: bool
) -> None:
    tests = TestSet(suites=("testcases/function",), keyword="few")
    same = {"kernel_key": lab.key(()), "board": "b", "suites": ["testcases/function"], "keyword": "few"}
    recorded(tmp_path / "run", **{**same, **different})
    assert (lab.finished((), tests, tmp_path / "run") is not None) is counts
    assert lab.finished((), tests, tmp_path / "none") is None
