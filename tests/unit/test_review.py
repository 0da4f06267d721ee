"""A review with scripted kernels: what is built and run, in which order, what is blamed, what is done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.build.sourcetree import Tried
from harness.campaign.request import BuildOptions, ReviewRequest
from harness.campaign.review.journal import Compiled, Journal
from harness.campaign.review.pinning import Pinned, pin
from harness.campaign.review.reading import Series
from harness.campaign.review.reviewing import Reviewer, Subject
from harness.errors import BuildError, InfraError, UserError
from harness.model.fault import Fault, FaultKind
from harness.model.kernel import DEFAULT_SOURCE, Mailed, Patch
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.model.review import Ground, Kind, Pair, Relation, Review, SeriesName, Size, Stage, TestSet
from harness.report.failing import BOOT
from harness.report.pairing import paired
from harness.run.side_run import Ended
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import Recorder

A, B, C = (f"testcases/function/test_{name}.py::test_{name}" for name in "abc")
CODE = ("kernel/trace/ftrace.c",)
OPTIONS = BuildOptions(
    build_dir=None, kernel=DEFAULT_SOURCE, patches=(), kconfigs=(), toolchain=None, allow_plain_ftrace=False, jobs=None
)
LINES = ("Unable to handle kernel paging request", "pc : f+0x8/0x10")


def patch(name: str) -> Patch:
    return Patch(name=name, text=f"+{name}\n", sha256=name, mailed=Mailed(subject=name.partition("@")[0]))


def series(*names: str, version: str = "") -> Series:
    patches = tuple(map(patch, names))
    return Series(
        name=SeriesName(title="a series", version=version, patches=len(names), origin="x.mbox"), patches=patches
    )


@dataclass
class FakeLab:
    """Patches do what their names say here. `breaks`: tests that fail from a patch on, with a crash's title where it is
    one; `mends`: those that pass again. `flaky`: how a test ends with the base, run by run."""

    breaks: dict[str, dict[str, str]] = field(default_factory=dict)
    mends: dict[str, set[str]] = field(default_factory=dict)
    mends_build: str = ""
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unbuildable: dict[str, bool] = field(default_factory=dict)
    same: set[str] = field(default_factory=set)
    warns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    flaky: dict[str, list[Verdict]] = field(default_factory=dict)
    broken_lab: set[str] = field(default_factory=set)
    tests: tuple[str, ...] = (A, B, C)
    git_fails: bool = False
    killed_at: int = 10**6
    compiled_kernels: list[tuple[str, ...]] = field(default_factory=list)
    ran: list[tuple[str, str]] = field(default_factory=list)
    disk: dict[Path, tuple[str, TestSet, RunResults]] = field(default_factory=dict)

    def key(self, patches: Sequence[Patch]) -> str:
        return "+".join(each.name.replace("/", " of ") for each in patches) or "base"

    def try_series(self, patches: Sequence[Patch]) -> tuple[Tried, ...]:
        tried: list[Tried] = []
        for each in patches:
            error = self.refused.get(each.name, "")
            tried.append(Tried(patch=each, paths=self.paths.get(each.name, CODE), error=error))
            if error:
                break
        return tuple(tried)

    def pairs(self, older: Sequence[Tried], newer: Sequence[Tried]) -> tuple[Pair, ...]:
        if self.git_fails:
            raise InfraError("git range-diff: can't compare two series")
        return paired([each.patch for each in older], [each.patch for each in newer])

    def compiled(self, parent: Sequence[Patch], patches: Sequence[Patch]) -> Compiled:
        self.compiled_kernels.append(tuple(each.name for each in patches))
        names = [each.name for each in patches]
        last = names[-1] if names else ""
        if bad := self._bad(names):
            told = ("kernel/a.c:1:2: error: no", "    1 | no")
            return Compiled(error="the kernel does not build", details=told, is_configured=self.unbuildable[bad])
        return Compiled(
            warnings=self.warns.get(last, ()), digest="+".join(name for name in names if name not in self.same) or "-"
        )

    def _bad(self, names: Sequence[str]) -> str:
        """The patch with which a kernel does not build; empty: it does."""
        return "" if self.mends_build in names else next((name for name in names if name in self.unbuildable), "")

    def build(self, patches: Sequence[Patch]) -> None:
        if self._bad([each.name for each in patches]):
            raise BuildError("the kernel does not build")

    def sizes(self, patches: Sequence[Patch]) -> Size:
        return Size(text=1000 + len(patches), loaded=2000, records=10, functions=20)

    def check(self, tests: TestSet, place: Path) -> None:
        if tests.keyword == "nothing":
            raise UserError("no test matches -k 'nothing'")

    def finished(self, patches: Sequence[Patch], tests: TestSet, place: Path) -> RunResults | None:
        key, chosen, results = self.disk.get(place, ("", TestSet(), None))
        is_over = results is not None and results.ended is not None and results.ended.kind is not EndKind.INTERRUPTED
        return results if (key, str(chosen)) == (self.key(patches), str(tests)) and is_over else None

    def run(self, patches: Sequence[Patch], tests: TestSet, place: Path, *, confirm: bool) -> Ended:
        self.build(patches)
        if len(self.ran) >= self.killed_at:
            raise KeyboardInterrupt
        key = self.key(patches)
        self.ran.append((key, str(tests)))
        if key in self.broken_lab:
            return Ended(code=3, results=None, last_line="harness: the host is tired")
        self.disk[place] = (key, tests, self._results(patches, tests))
        return Ended(code=0, results=self.disk[place][2], last_line="")

    def _results(self, patches: Sequence[Patch], tests: TestSet) -> RunResults:
        names = [each.name for each in patches]
        if any(BOOT in self.breaks.get(name, {}) for name in names):
            end = RunEnd(kind=EndKind.NOT_BOOTED, reason="panic: no init", blames_kernel=True)
            return RunResults(results=(), ended=end)
        chosen = [test for test in self.tests if _is_chosen(test, tests)]
        return RunResults(
            results=tuple(self._result(test, names) for test in chosen), ended=RunEnd(kind=EndKind.COMPLETE)
        )

    def _result(self, test: str, names: Sequence[str]) -> Result:
        if not names and self.flaky.get(test):
            return Result(test=test, verdict=self.flaky[test].pop(0), reason="now and then")
        broken = ""
        for name in names:
            broken = self.breaks.get(name, {}).get(test, broken)
            broken = "" if test in self.mends.get(name, ()) else broken
        if not broken:
            return Result(test=test, verdict=Verdict.PASS)
        if broken == "skipped":
            return Result(test=test, verdict=Verdict.SKIP, reason="no livepatch")
        if broken == "fails":
            return Result(test=test, verdict=Verdict.FAIL, reason="it fails")
        report = Fault(kind=FaultKind.OOPS, title=broken, lines=LINES)
        return Result(test=test, verdict=Verdict.CRASH, reason=broken, fault=report)


def _is_chosen(test: str, tests: TestSet) -> bool:
    """Whether a test is in a set whose expression is made of the words in tests' names."""
    if tests.keyword in ("", "few"):
        return True
    return test.rpartition("::")[2] in tests.keyword


def request(out: Path, **wish: Any) -> ReviewRequest:
    return ReviewRequest(series="x.mbox", kernel=OPTIONS, board_name="b", out_dir=out, **{"rounds": 1, **wish})


def review(lab: FakeLab, out: Path, newer: Series, older: Series | None = None, **wish: Any) -> Review:
    ground = Ground(base="7.3.4", version="7.3.4", board="b")
    subject = Subject(newer=newer, older=older, ground=ground)
    return Reviewer(lab, request(out, **wish), Recorder()).review(subject)


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()


# --- one series ---------------------------------------------------------------------------------------------------


def test_all_is_well(lab: FakeLab, tmp_path: Path) -> None:
    made = review(lab, tmp_path, series("one", "two"))
    assert made.is_well
    assert [(step.reached, step.failed) for step in made.steps] == [(Stage.PASSES, None)] * 2
    assert made.counts["newer"] == {Verdict.PASS: 3}
    assert made.sizes == (lab.sizes(()), lab.sizes([patch("one"), patch("two")]))
    assert made.differences == ()


def test_documentation_is_not_built_and_the_same_binaries_are_not_tested(lab: FakeLab, tmp_path: Path) -> None:
    lab.paths["docs"] = ("Documentation/trace/ftrace.rst",)
    lab.same |= {"docs", "comment"}
    made = review(lab, tmp_path, series("docs", "comment", "code"))
    assert [step.untested for step in made.steps] == [
        "documentation only, so not built",
        "the same binaries as the base, so not tested again",
        "",
    ]
    assert lab.compiled_kernels == [(), ("docs", "comment"), ("docs", "comment", "code")]
    assert {key for key, _ in lab.ran} == {"base", "docs+comment+code"}
    assert made.is_well


def test_a_series_that_changes_no_binary_is_not_run(lab: FakeLab, tmp_path: Path) -> None:
    lab.paths["docs"] = ("MAINTAINERS",)
    made = review(lab, tmp_path, series("docs"))
    assert lab.ran == []
    assert made.is_well
    assert "nothing to run" in made.notes[0]


def test_a_failure_is_blamed_on_the_patch_that_brings_it(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks["two"] = {B: "Oops in f"}
    made = review(lab, tmp_path, series("one", "two", "three"))
    assert [[failure.test for failure in step.failures] for step in made.steps] == [[], [B], []]
    failure = made.steps[1].failures[0]
    assert (failure.title, failure.evidence) == ("Oops in f", LINES)
    (difference,) = made.differences
    assert (difference.kind, difference.patch, difference.failure.test) == (Kind.NEW, 2, B)
    assert (difference.tallies["base"].failures, difference.tallies["newer"].passes) == (0, 0)
    assert made.exit_code == 1


def test_a_failure_that_a_later_patch_mends_is_the_patchs_own(lab: FakeLab, tmp_path: Path) -> None:
    """The series as a whole passes, but it can't be bisected."""
    lab.breaks["two"] = {B: "fails"}
    lab.mends["three"] = {B}
    made = review(lab, tmp_path, series("one", "two", "three"))
    assert made.steps[1].failed is Stage.PASSES
    assert made.differences == ()
    assert made.exit_code == 1


def test_another_crash_of_a_failing_test_is_new(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks["one"] = {B: "Oops in f"}
    lab.breaks["two"] = {B: "Oops in g"}
    made = review(lab, tmp_path, series("one", "two"))
    assert [step.failures[0].title for step in made.steps] == ["Oops in f", "Oops in g"]


def test_what_the_base_fails_now_and_then_is_not_blamed_on_a_patch(lab: FakeLab, tmp_path: Path) -> None:
    lab.flaky[B] = [Verdict.PASS, Verdict.FAIL, Verdict.FAIL, Verdict.FAIL, Verdict.FAIL]
    lab.breaks["one"] = {B: "fails"}
    made = review(lab, tmp_path, series("one"), rounds=2)
    assert made.steps[0].failures == ()
    assert made.differences == ()
    assert made.failing_before == (B,)


def test_a_patch_that_does_not_build_does_not_hide_the_others(lab: FakeLab, tmp_path: Path) -> None:
    lab.unbuildable["one"] = True
    lab.mends_build = "two"
    lab.breaks["three"] = {C: "fails"}
    made = review(lab, tmp_path, series("one", "two", "three"))
    assert (made.steps[0].failed, made.steps[0].reached) == (Stage.BUILDS, Stage.CONFIGURES)
    assert made.steps[0].problem == "kernel/a.c:1:2: error: no"
    assert made.steps[1].reached is Stage.PASSES
    assert [failure.test for failure in made.steps[2].failures] == [C]


def test_what_can_not_be_configured_is_told_apart(lab: FakeLab, tmp_path: Path) -> None:
    lab.unbuildable["one"] = False
    made = review(lab, tmp_path, series("one"))
    assert (made.steps[0].failed, made.steps[0].reached) == (Stage.CONFIGURES, Stage.APPLIES)
    assert made.exit_code == 1


def test_a_kernel_that_does_not_boot(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks["two"] = {BOOT: "panics"}
    made = review(lab, tmp_path, series("one", "two"))
    assert (made.steps[1].failed, made.steps[1].reached) == (Stage.BOOTS, Stage.BUILDS)
    assert made.steps[1].problem == "panic: no init"
    assert [(each.patch, each.failure.test) for each in made.of(Kind.NEW)] == [(2, BOOT)]


def test_tests_that_are_skipped_with_the_series_are_told(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks["two"] = {B: "skipped"}
    made = review(lab, tmp_path, series("one", "two"))
    assert made.lost == (f"{B}: no livepatch",)
    assert (made.exit_code, made.is_well) == (0, False)


def test_the_whole_is_tested_where_a_later_patch_mends_the_build(lab: FakeLab, tmp_path: Path) -> None:
    lab.unbuildable["one"] = True
    lab.mends_build = "two"
    assert review(lab, tmp_path, series("one", "two")).counts["newer"]
    lab.mends_build = ""
    made = review(lab, tmp_path, series("zero", "one"))
    assert made.counts == {}
    assert "can't be built" in made.notes[0]


def test_new_warnings_are_a_fault(lab: FakeLab, tmp_path: Path) -> None:
    lab.warns["two"] = ("kernel/a.c:1:1: warning: x",)
    made = review(lab, tmp_path, series("one", "two"))
    assert made.steps[1].warnings == lab.warns["two"]
    assert made.exit_code == 1


@fault(
    "a patch of a reviewed series does not apply", where="hostile input", blame=Blame.USER,
    survives="the review of the patches before it",
)  # fmt: skip
def test_a_series_that_does_not_apply(lab: FakeLab, tmp_path: Path) -> None:
    lab.refused["two"] = "two: kernel/a.c: expected other lines"
    made = review(lab, tmp_path, series("one", "two", "three"))
    assert [step.failed for step in made.steps] == [None, Stage.APPLIES, None]
    assert made.steps[0].reached is Stage.PASSES
    assert made.steps[2].pending == "patch 2 does not apply"
    assert made.exit_code == 2
    assert made.counts == {}


@fault("a run of a review fails on the host", where="host", blame=Blame.INFRA, survives="all other steps")
def test_what_the_lab_fails_at_is_no_fault_of_the_series(lab: FakeLab, tmp_path: Path) -> None:
    lab.broken_lab.add("one")
    made = review(lab, tmp_path, series("one", "two"))
    assert made.steps[0].pending.endswith("the host is tired")
    assert made.steps[1].reached is Stage.PASSES
    assert made.exit_code == 3


@pytest.mark.parametrize("how", ["builds", "boots"])
def test_a_base_that_is_no_ground_to_stand_on(lab: FakeLab, tmp_path: Path, how: str) -> None:
    if how == "builds":
        lab.compiled = lambda parent, patches: Compiled(error="no")  # type: ignore[method-assign]
    else:
        end = RunEnd(kind=EndKind.NOT_BOOTED, reason="panic", blames_kernel=True)
        lab._results = lambda patches, tests: RunResults(results=(), ended=end)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=f"the base does not {how.removesuffix('s')}"):
        review(lab, tmp_path, series("one"))


@pytest.mark.parametrize("option", ["patch_keyword", "keyword"])
def test_an_expression_that_no_test_matches_is_told_before_anything_runs(
    lab: FakeLab, tmp_path: Path, option: str
) -> None:
    with pytest.raises(UserError, match="no test matches"):
        review(lab, tmp_path, series("one"), None, **{option: "nothing"})
    assert lab.ran == []


def test_tests_for_each_patch_can_be_chosen(lab: FakeLab, tmp_path: Path) -> None:
    made = review(lab, tmp_path, series("one"), patch_keyword="few", patch_suites=("testcases",), suites=("testcases",))
    assert made.steps[0].sets[0].keyword == "few"
    assert lab.ran == [("base", "testcases"), ("one", "testcases")]  # which have the few among them


def test_a_whole_set_that_is_each_patchs_is_run_once(lab: FakeLab, tmp_path: Path) -> None:
    review(lab, tmp_path, series("one", "two"), patch_keyword="few", keyword="few")
    assert [key for key, _ in lab.ran] == ["base", "one", "one+two"]


def test_the_chosen_tests_are_run_by_themselves_where_the_whole_set_lacks_them(lab: FakeLab, tmp_path: Path) -> None:
    review(lab, tmp_path, series("one", "two"), patch_keyword="few", keyword="test_a")
    few = [key for key, tests in lab.ran if tests == "all suites -k 'few'"]
    assert few == ["base", "one", "one+two"]
    assert [key for key, tests in lab.ran if tests == "all suites -k 'test_a'"] == ["base", "one+two"]


# --- again --------------------------------------------------------------------------------------------------------


@fault("a review is killed at any of its runs", where="killed", blame=Blame.NOBODY, survives="every finished step")
@pytest.mark.parametrize("runs", range(1, 11))
def test_a_review_that_was_killed_goes_on(tmp_path: Path, runs: int) -> None:
    def scripted(killed_at: int) -> FakeLab:
        return FakeLab(breaks={"two": {B: "Oops in f"}}, killed_at=killed_at)

    whole = scripted(10**6)
    expected = review(whole, tmp_path / "whole", series("one", "two", "three"))
    assert len(whole.ran) == 10
    killed = scripted(runs)
    if runs < len(whole.ran):
        with pytest.raises(KeyboardInterrupt):
            review(killed, tmp_path / "out", series("one", "two", "three"))
    again = replace(scripted(10**6), disk=killed.disk, ran=[])
    made = review(again, tmp_path / "out", series("one", "two", "three"))
    assert replace(made, started=0, seconds=0) == replace(expected, started=0, seconds=0)
    assert len(killed.ran) + len(again.ran) == (len(whole.ran) if runs < len(whole.ran) else len(again.ran))
    compiled = [*killed.compiled_kernels, *again.compiled_kernels]
    assert len(compiled) == len(set(compiled))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 1}', '{"version": 2, "key": "k"}', "\0" * 64])
@fault("a note of a review is damaged", where="disk", blame=Blame.NOBODY, survives="the step is done again")
def test_a_damaged_note_counts_for_nothing(tmp_path: Path, content: str) -> None:
    journal = Journal(tmp_path)
    journal.keep("k", Compiled(digest="d", warnings=("w",)), parent="p")
    assert journal.compiled("k", parent="p") == Compiled(digest="d", warnings=("w",))
    assert journal.compiled("k", parent="q") is None
    (note,) = tmp_path.iterdir()
    note.write_text(content)
    assert journal.compiled("k", parent="p") is None


# --- two versions -------------------------------------------------------------------------------------------------


def versions() -> tuple[Series, Series]:
    newer = series("one", "two", "three@2", "four", "five@2", version="v2")
    return newer, series("one", "two", "three@1", "four", "five@1", version="v1")


def test_two_versions_are_told_apart_patch_by_patch(lab: FakeLab, tmp_path: Path) -> None:
    """The older one has a bug in its third patch, which the newer one mends; that has another in its fifth."""
    lab.breaks = {"three@1": {A: "Oops in f"}, "five@2": {B: "fails"}}
    newer, older = versions()
    made = review(lab, tmp_path, newer, older)
    assert [(each.kind, each.failure.test, each.patch, each.pair) for each in made.differences] == [
        (Kind.NEW, B, 5, 5),
        (Kind.FIXED, A, 3, 3),
    ]
    assert [pair.relation for pair in made.pairs] == [
        Relation.SAME, Relation.SAME, Relation.CHANGED, Relation.SAME, Relation.CHANGED,
    ]  # fmt: skip
    assert made.how_paired == "git range-diff"
    assert set(made.counts) == {"base", "older", "newer"}
    assert made.exit_code == 1


def test_a_test_that_fails_in_another_way_now_is_both_new_and_fixed(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks = {"three@1": {A: "Oops in f"}, "five@2": {A: "Oops in g"}}
    made = review(lab, tmp_path, *versions())
    assert [(each.kind, each.failure.title, each.patch) for each in made.differences] == [
        (Kind.NEW, "Oops in g", 5),
        (Kind.FIXED, "Oops in f", 3),
    ]


def test_what_both_versions_have_is_no_news(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks = {"three@1": {A: "Oops in f"}, "three@2": {A: "Oops in f"}}
    (difference,) = review(lab, tmp_path, *versions()).differences
    assert (difference.kind, difference.patch, difference.pair) == (Kind.BOTH, 3, 3)


def test_kernels_that_both_versions_share_are_not_run_twice(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks = {"three@1": {A: "Oops in f"}}
    review(lab, tmp_path, *versions())
    assert "one+two" in {key for key, _ in lab.ran}  # with what matters for it, which has the test
    tried = [key for key, tests in lab.ran if tests == "testcases -k '(test_a)'"]
    assert tried == ["base", "one+two+three@1+four+five@1", "one+two+three@2+four+five@2", "one+two+three@1"]


def test_versions_are_run_in_turns(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks = {"five@2": {B: "fails"}}
    newer, older = versions()
    review(lab, tmp_path, newer, older, rounds=3)
    whole, before = lab.key(newer.patches), lab.key(older.patches)
    turns = [key for key, tests in lab.ran if "test_b" in tests]
    assert turns[-9:] == ["base", before, whole] * 3


def test_a_dropped_patchs_fault_is_fixed(lab: FakeLab, tmp_path: Path) -> None:
    lab.breaks = {"gone": {A: "fails"}}
    made = review(lab, tmp_path, series("one", version="v2"), series("one", "gone", version="v1"))
    (difference,) = made.differences
    assert (difference.kind, difference.patch, difference.pair) == (Kind.FIXED, 2, None)
    assert made.is_well


@pytest.mark.parametrize("why", ["git", "apply", "build"])
def test_an_older_version_that_can_not_be_used_as_it_is(lab: FakeLab, tmp_path: Path, why: str) -> None:
    newer, older = versions()
    lab.breaks = {"five@2": {B: "fails"}}
    lab.git_fails = why == "git"
    lab.refused = {"five@1": "five@1: does not apply"} if why == "apply" else {}
    lab.unbuildable = {"five@1": True} if why == "build" else {}
    made = review(lab, tmp_path, newer, older)
    assert made.how_paired.startswith("git range-diff" if why == "build" else "title and changed lines")
    assert len(made.pairs) == 5
    assert [(each.kind, each.patch) for each in made.differences] == [(Kind.NEW, 5)]
    assert ("older" in made.counts) is (why == "git")
    assert bool(made.notes) is (why != "git")


# --- pinning ------------------------------------------------------------------------------------------------------


def test_pinning_halves_and_asks_for_several_tests_at_once() -> None:
    since = {"t5": 5, "t3": 3}
    asked: list[tuple[int, tuple[str, ...]]] = []

    def ask(index: int, tests: Sequence[str]) -> dict[str, bool | None]:
        asked.append((index, tuple(tests)))
        return {test: index >= since[test] for test in tests}

    found = pin(since, range(9), {}, ask)
    assert found == {"t5": Pinned(patch=5, good=4), "t3": Pinned(patch=3, good=2)}
    assert asked[0] == (4, ("t5", "t3"))
    assert len(asked) == 5


def test_what_is_known_is_not_asked_for() -> None:
    def ask(index: int, tests: Sequence[str]) -> dict[str, bool | None]:
        raise AssertionError(f"asked for {index}")

    assert pin(["t"], [0, 2, 3], {"t": {2: False, 3: True}}, ask) == {"t": Pinned(patch=3, good=2)}


def test_kernels_that_say_nothing_leave_a_gap() -> None:
    def ask(index: int, tests: Sequence[str]) -> dict[str, bool | None]:
        return dict.fromkeys(tests, None if index in (2, 3) else index >= 3)

    assert pin(["t"], range(6), {}, ask) == {"t": Pinned(patch=4, good=1)}
