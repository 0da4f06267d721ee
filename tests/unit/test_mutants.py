"""A hunt with scripted builds and runs: what is built, what is run, what is held against what, what is resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.campaign import mutants
from harness.campaign.mutants import Hunt, Hunter, choose, keyword_of
from harness.campaign.request import BuildOptions
from harness.errors import BootError, BuildError, InfraError, UserError
from harness.model.board import BoardSpec
from harness.model.boot import QemuBoot
from harness.model.kernel import DEFAULT_SOURCE
from harness.model.mutant import Fate, Mutant
from harness.report.kill_table import KillTable
from harness.run.documents import read_results
from harness.run.side_run import Ended, Plan, SideRuns
from tests.records import build_json
from tests.unit.test_side_run import recorded

SIX = "debian:linux-source-6.1@bookworm-security"
SIX_UNPATCHED = "unpatched-debian_linux-source-6.1_bookworm-security"
OPTIONS = BuildOptions(
    build_dir=None,
    kernel=DEFAULT_SOURCE,
    patches=(),
    kconfigs=(),
    toolchain=None,
    allow_plain_ftrace=False,
    jobs=None,
)
PASSES = {"testcases/t/test_a.py::test_a": "PASS", "testcases/t/test_b.py::test_b": "PASS"}
FAILS_A = PASSES | {"testcases/t/test_a.py::test_a": "FAIL"}
TREE = {"selftests/x": "PASS"}


def mutant(name: str, kernel: str = "", *caught_by: str) -> Mutant:
    return Mutant(name=name, title=name, kernel=kernel, caught_by=caught_by or ("testcases/t/test_a.py::test_a",))


class Lab(SideRuns):
    """Stands for builds and runs. `says` maps (kernel, suite) to the verdicts, kernels being called as in
    ``7.3``, ``7.3+m1``; what is not there passes."""

    def __init__(self, builds: Path) -> None:
        super().__init__([])
        self.says: dict[tuple[str, str], dict[str, str] | str] = {}
        self.broken: dict[str, Exception] = {}
        self.built: list[str] = []
        self.builds = builds
        self.ran: list[tuple[str, str, str, int]] = []

    def kernel_for(self, options: BuildOptions, _board: object, _display: object) -> SimpleNamespace:
        version = "6.1" if "6.1" in options.kernel else "7.3"
        return SimpleNamespace(key="+".join([version, *(path.stem for path in options.patches)]))

    def build_kernel(self, spec: SimpleNamespace, _options: object, _display: object) -> SimpleNamespace:
        self.built.append(spec.key)
        if spec.key in self.broken:
            raise self.broken[spec.key]
        directory = self.builds / spec.key
        build_json(directory, made=f"made of {spec.key}")
        return SimpleNamespace(directory=directory, release=spec.key)

    def run(self, build: Path, plan: Plan, run_dir: Path, *, maxfail: int = 0) -> Ended:
        self.ran.append((plan.kernel, plan.suite, plan.keyword, maxfail))
        says = self.says.get((plan.kernel, plan.suite), PASSES if plan.suite == "testcases" else TREE)
        ended = says if isinstance(says, str) else "complete"
        told: dict[str, Any] = {
            "kernel_key": plan.kernel,
            "kernel_made": plan.made,
            "suites": [plan.suite],
            "keyword": plan.keyword,
            "kernel": "7.3.4",
        }
        shutil.rmtree(run_dir, ignore_errors=True)
        directory = recorded(run_dir, ended=ended, **told)
        with (directory / "events.jsonl").open("a") as events:
            for test, verdict in {} if isinstance(says, str) else says.items():
                record = {"kind": "finished", "time": 1.5, "test": test, "data": {"verdict": verdict}}
                events.write(f"{json.dumps(record)}\n")
        build_json(directory, kernel=30.0, collect=2.0)
        code = 0 if ended == "complete" else 1
        return Ended(code=code, results=read_results(run_dir), last_line="the last line")


class Quiet:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("builds"))
    monkeypatch.setattr(mutants, "kernel_for", lab.kernel_for)
    monkeypatch.setattr(mutants, "kernel_key", lambda spec: spec.key)
    monkeypatch.setattr(mutants, "build_kernel", lab.build_kernel)
    return lab


def hunt(lab: Lab, out: Path, *chosen: Mutant, **wish: Any) -> KillTable:
    board = BoardSpec(name="qemu-virt", boot=QemuBoot())
    lab.built.clear()
    lab.ran.clear()
    hunter = Hunter(Hunt(out=out, **wish), OPTIONS, board=board, side_runs=lab, display=Quiet())  # type: ignore[arg-type]
    return hunter.table(chosen)


# --- choosing ---------------------------------------------------------------------------------------------------


def test_only_what_is_asked_for_in_the_projects_order() -> None:
    known = {name: mutant(name) for name in ("a", "b", "c")}
    assert [each.name for each in choose(["c", "a.patch"], known)] == ["a", "c"]
    assert len(choose([], known)) == 3


def test_an_unknown_mutant_is_wrong_input_and_the_known_ones_are_told() -> None:
    with pytest.raises(UserError, match=r"--only: expected a name that .* shows, such as a, b; found 'x'"):
        choose(["x"], {name: mutant(name) for name in ("a", "b")})


@pytest.mark.parametrize(
    ("tests", "keyword"),
    [
        (["testcases/t/test_a.py::test_a"], "(test_a.py and test_a)"),
        (["testcases/t/test_a.py", "testcases/t/test_b.py::test_c[far]"], "(test_a.py) or (test_b.py and test_c[far])"),
        (["testcases/t/test_a.py::test_a", "testcases/t/test_a.py::test_a"], "(test_a.py and test_a)"),
        (["testcases/t/test_a.py::test_x[this and that]"], "(test_a.py and test_x[this and that])"),
        ([], ""),
    ],
)
def test_a_keyword_for_named_tests(tests: list[str], keyword: str) -> None:
    assert keyword_of(tests) == keyword


# --- what is built and run --------------------------------------------------------------------------------------


def test_one_baseline_for_all_mutants_of_a_kernel(lab: Lab, tmp_path: Path) -> None:
    lab.says[("7.3+m1", "testcases")] = FAILS_A
    table = hunt(lab, tmp_path, mutant("m1"), mutant("m2"))
    assert lab.built == ["7.3", "7.3+m1", "7.3+m2"]
    assert [row.fate for row in table.rows] == [Fate.CAUGHT, Fate.SURVIVED]
    assert table.exit_code == 1
    assert table.rows[0].build == 32.0
    assert table.rows[0].in_tree is None
    assert table.caption == ("7.3.4: 2 of our tests pass on the unpatched kernel",)
    assert "SURVIVED" in (tmp_path / "kill-table.md").read_text()
    assert json.loads((tmp_path / "kill-table.json").read_text())["exit_code"] == 1


def test_a_mutant_for_another_kernel_has_a_baseline_of_that_kernel(lab: Lab, tmp_path: Path) -> None:
    hunt(lab, tmp_path, mutant("m1"), mutant("six", SIX))
    assert lab.built == ["7.3", "6.1", "7.3+m1", "6.1+six"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "unpatched",
        SIX_UNPATCHED,
        "m1",
        "six",
    }


def test_a_test_that_fails_unpatched_kills_nothing(lab: Lab, tmp_path: Path) -> None:
    lab.says = {("7.3", "testcases"): FAILS_A, ("7.3+m1", "testcases"): FAILS_A}
    assert hunt(lab, tmp_path, mutant("m1")).rows[0].fate is Fate.SURVIVED


def test_a_test_that_fails_unpatched_now_and_then_is_seen_by_several_baselines(lab: Lab, tmp_path: Path) -> None:
    hunt(lab, tmp_path, mutant("m1"), baselines=2)
    assert [ran[:2] for ran in lab.ran] == [("7.3", "testcases")] * 2 + [("7.3+m1", "testcases")]
    assert (tmp_path / "unpatched/testcases-2").is_dir()


def test_only_the_named_tests(lab: Lab, tmp_path: Path) -> None:
    chosen = (mutant("m1"), mutant("m2", "", "testcases/t/test_b.py"))
    hunt(lab, tmp_path, *chosen, named=True)
    assert [ran[2] for ran in lab.ran] == [
        "(test_a.py and test_a) or (test_b.py)",
        "(test_a.py and test_a)",
        "(test_b.py)",
    ]


# --- resuming ---------------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_done_again(lab: Lab, tmp_path: Path) -> None:
    lab.says[("7.3+m1", "testcases")] = FAILS_A
    hunt(lab, tmp_path, mutant("m1"))
    table = hunt(lab, tmp_path, mutant("m1"), mutant("m2"))
    assert lab.built == ["7.3+m2"]
    assert [ran[0] for ran in lab.ran] == ["7.3+m2"]
    assert [row.fate for row in table.rows] == [Fate.CAUGHT, Fate.SURVIVED]


def test_a_whole_run_answers_for_the_named_tests(lab: Lab, tmp_path: Path) -> None:
    hunt(lab, tmp_path, mutant("m1"))
    hunt(lab, tmp_path, mutant("m1"), named=True)
    assert not lab.ran


def test_named_tests_do_not_answer_for_the_whole_suite(lab: Lab, tmp_path: Path) -> None:
    hunt(lab, tmp_path, mutant("m1"), named=True)
    hunt(lab, tmp_path, mutant("m1"))
    assert [ran[0] for ran in lab.ran] == ["7.3", "7.3+m1"]


def test_a_run_that_broke_off_is_done_again(lab: Lab, tmp_path: Path) -> None:
    lab.says[("7.3+m1", "testcases")] = "interrupted"
    table = hunt(lab, tmp_path, mutant("m1"))
    assert (table.rows[0].fate, table.exit_code) == (Fate.UNTOLD, 3)
    del lab.says[("7.3+m1", "testcases")]
    assert hunt(lab, tmp_path, mutant("m1")).rows[0].fate is Fate.SURVIVED


def test_a_fragment_that_changes_nothing_costs_builds_and_no_runs(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hunt(lab, tmp_path, mutant("m1"), selftests=True)
    monkeypatch.setattr(mutants, "kernel_key", lambda spec: f"{spec.key}, other words")
    table = hunt(lab, tmp_path, mutant("m1"), selftests=True)
    assert lab.built == ["7.3", "7.3+m1"]
    assert not lab.ran
    assert table.rows[0].fate is Fate.SURVIVED


# --- the in-tree column -----------------------------------------------------------------------------------------


def test_the_in_tree_selftests_stop_at_the_first_suite_that_catches(lab: Lab, tmp_path: Path) -> None:
    lab.says |= {("7.3+m1", "selftests/livepatch"): {"selftests/x": "CRASH"}}
    table = hunt(lab, tmp_path, mutant("m1"), mutant("m2"), selftests=True, keyword="fgraph")
    after = [ran for ran in lab.ran if ran[0] != "7.3" and ran[1] != "testcases"]
    assert after == [
        ("7.3+m1", "selftests/livepatch", "fgraph", 1),
        ("7.3+m2", "selftests/livepatch", "fgraph", 1),
        ("7.3+m2", "selftests/ftrace", "fgraph", 1),
    ]
    assert [bool(row.in_tree and row.in_tree.catches) for row in table.rows] == [True, False]
    assert table.caption[0].endswith("and 1 of the in-tree ones (not all were run: -k 'fgraph')")
    hunt(lab, tmp_path, mutant("m1"), mutant("m2"), selftests=True, keyword="fgraph")
    assert not lab.built


def test_tests_that_fail_unpatched_do_not_stop_the_in_tree_selftests(lab: Lab, tmp_path: Path) -> None:
    flaky = {"selftests/x": "PASS", "selftests/y": "CRASH", "selftests/z": "SKIP"}
    lab.says[("7.3", "selftests/ftrace")] = flaky
    hunt(lab, tmp_path, mutant("m1"), selftests=True)
    assert ("7.3+m1", "selftests/ftrace", "", 2) in lab.ran


def test_earlier_in_tree_results_of_the_same_kernel_fill_the_column(lab: Lab, tmp_path: Path) -> None:
    hunt(lab, tmp_path, mutant("m1"), selftests=True, keyword="fgraph")
    row = hunt(lab, tmp_path, mutant("m1")).rows[0]
    assert row.in_tree is not None
    assert row.in_tree.complete


# --- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [BuildError("it does not compile"), UserError("m1.patch: hunk 1 does not apply")])
def test_a_mutant_that_does_not_build_stops_nobody(lab: Lab, tmp_path: Path, error: BuildError | UserError) -> None:
    lab.broken["7.3+m1"] = error
    table = hunt(lab, tmp_path, mutant("m1"), mutant("m2"))
    assert [row.fate for row in table.rows] == [Fate.NO_BUILD, Fate.SURVIVED]
    assert error.message in table.rows[0].note


def test_a_mutant_that_does_not_boot_is_told_as_that(lab: Lab, tmp_path: Path) -> None:
    lab.says[("7.3+m1", "testcases")] = "the target could not be booted: the kernel panicked"
    table = hunt(lab, tmp_path, mutant("m1"))
    assert (table.rows[0].fate, table.rows[0].note) == (Fate.NO_BOOT, "the kernel panicked")
    assert table.exit_code == 0


def test_an_unpatched_kernel_that_does_not_boot_ends_the_hunt(lab: Lab, tmp_path: Path) -> None:
    lab.says[("7.3", "testcases")] = "the target could not be booted: the kernel panicked"
    with pytest.raises(BootError, match="the unpatched kernel does not boot"):
        hunt(lab, tmp_path, mutant("m1"))
    assert lab.built == ["7.3"]


def test_a_baseline_that_breaks_off_ends_the_hunt(lab: Lab, tmp_path: Path) -> None:
    lab.says[("7.3", "testcases")] = "interrupted"
    with pytest.raises(InfraError, match="on the unpatched kernel: the last line"):
        hunt(lab, tmp_path, mutant("m1"))


def test_an_unpatched_kernel_that_does_not_build_ends_the_hunt(lab: Lab, tmp_path: Path) -> None:
    lab.broken["7.3"] = BuildError("no")
    with pytest.raises(BuildError):
        hunt(lab, tmp_path, mutant("m1"))


def test_several_side_by_side_give_the_same_rows(lab: Lab, tmp_path: Path) -> None:
    chosen = [mutant(f"m{number}") for number in range(6)]
    for number in (1, 4):
        lab.says[(f"7.3+m{number}", "testcases")] = FAILS_A
    table = hunt(lab, tmp_path, *chosen, parallel=3)
    assert [row.mutant.name for row in table.rows if row.fate is Fate.CAUGHT] == ["m1", "m4"]
    assert [row.mutant.name for row in table.rows] == [each.name for each in chosen]
