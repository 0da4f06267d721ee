"""`harness bisect`, with kernels that are texts (tests/fakebisect.py) and real git."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.campaign.bisect.gitrange import carried
from harness.campaign.bisect.place import Place
from harness.errors import BuildError, InfraError, UserError
from harness.model.bisect import Blame, Found
from harness.parse.bisect_state import progress_from_json, progress_to_json
from harness.report.bisect import answer_text
from tests.command import ROOT
from tests.fakebisect import Repository, search
from tests.faults.catalogue import Blame as Blames
from tests.faults.catalogue import fault


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    return Repository(tmp_path / "linux")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "search"


def commits(linux: Repository, *names: str) -> dict[str, str]:
    return {name: linux.commit(name) for name in names}


def test_the_first_bad_commit_is_found_with_few_builds(linux: Repository, out: Path) -> None:
    made = commits(linux, *(f"a{number}" for number in range(9)), "breaks", *(f"b{number}" for number in range(6)))
    answer, tester = search(linux, out)
    assert (answer.found, answer.exit_code) == (Found.CULPRIT, 0)
    assert answer.culprits[0].name == made["breaks"]
    assert answer.probability >= 0.997
    assert len(tester.built) == len(set(tester.built)) <= 4 + 2


def test_one_that_fails_now_and_then(linux: Repository, out: Path) -> None:
    made = commits(linux, "a", "b", "c", "d", "breaks", "e", "f", "g")
    answer, tester = search(linux, out, (0.3, 0.03))
    assert answer.culprits[0].name == made["breaks"]
    assert 0.15 < answer.bad < 0.5
    assert len(tester.built) <= 5
    assert len(tester.repeated) > 60


def test_the_culprit_is_tried_again_beside_its_parent_and_taken_back(linux: Repository, out: Path) -> None:
    made = commits(linux, "a", "breaks", "b", "c")
    answer, _ = search(linux, out)
    told = dict(answer.confirmed)
    assert told[f"{made['breaks'][:12]} (breaks)"].failures >= 1
    assert told[f"{made['a'][:12]} (a)"].failures == 0
    assert answer.reverted
    assert (answer.reverted.tally.failures, answer.reverted.tally.passes > 0) == (0, True)
    assert f"the bad end without it: failed {answer.reverted.tally}" in answer_text(answer)


def test_a_commit_that_does_not_build_is_skipped(linux: Repository, out: Path) -> None:
    commits(linux, "a")
    linux.commit("no-build")
    (linux.path / "no-build").unlink()
    made = commits(linux, "b", "breaks", "c")
    answer, _ = search(linux, out)
    assert answer.culprits[0].name == made["breaks"]


def test_neighbours_that_can_not_be_tested_stay_together(linux: Repository, out: Path) -> None:
    commits(linux, "a", "b")
    both = [linux.commit("no-boot")]
    (linux.path / "no-boot").unlink()
    both.append(linux.commit("breaks"))
    commits(linux, "c")
    answer, _ = search(linux, out)
    assert (answer.found, answer.exit_code) == (Found.SOME, 1)
    assert [change.name for change in answer.culprits] == both
    text = "\n".join(answer_text(answer))
    assert "skipped" in text
    assert "does not boot: it hung" in text


@pytest.mark.parametrize(("file", "option"), [("no-build", "build_failure"), ("no-boot", "boot_failure")])
def test_a_kernel_that_does_not_build_or_boot_is_bad_on_request(
    linux: Repository, out: Path, file: str, option: str
) -> None:
    made = commits(linux, "a", "b", file, "c")
    answer, _ = search(linux, out, **{option: Blame.BAD})
    assert answer.culprits[0].name == made[file]


def test_another_failure_is_another_bug(linux: Repository, out: Path) -> None:
    commits(linux, "a")
    linux.commit("other")
    (linux.path / "other").unlink()
    made = commits(linux, "b", "c", "breaks", "d")
    answer, _ = search(linux, out)
    assert answer.culprits[0].name == made["breaks"]
    assert answer.failure == "WARNING in f (a.c) [WARNING]"
    assert "another failure hides" not in "\n".join(answer_text(answer)) or answer.found is Found.CULPRIT


def test_every_failure_counts_on_request(linux: Repository, out: Path) -> None:
    made = commits(linux, "a", "other", "b", "breaks", "c")
    answer, _ = search(linux, out, any_failure=True)
    assert answer.culprits[0].name == made["other"]


def test_kernels_with_the_same_binaries_are_one(linux: Repository, out: Path) -> None:
    made = commits(linux, "a", "docs", "breaks")
    answer, _ = search(linux, out)
    assert answer.culprits[0].name == made["breaks"]


def test_two_ends_with_the_same_binaries_have_no_culprit(linux: Repository, out: Path) -> None:
    """Something else than the kernel makes the difference."""
    commits(linux, "a", "breaks")
    answer, _ = search(linux, out, same_binaries=True)
    assert (answer.found, answer.exit_code) == (Found.NO_SINGLE, 1)
    assert "no single change explains" in answer_text(answer)[0]


def test_merges_are_searched(linux: Repository, out: Path) -> None:
    linux.git("checkout", "--quiet", "-b", "side")
    side = commits(linux, "s1", "s2", "breaks", "s3")
    linux.git("checkout", "--quiet", "master")
    commits(linux, "m1", "m2", "m3")
    linux.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    merge = linux.git("rev-parse", "HEAD")
    commits(linux, "m4")
    answer, _ = search(linux, out)
    assert answer.culprits[0].name == side["breaks"]
    answer, _ = search(linux, out.with_name("first-parent"), first_parent=True)
    assert answer.culprits[0].name == merge
    assert answer.not_reverted == "it is a merge"


def test_what_the_states_of_a_history_with_merges_carry() -> None:
    history = [("a", ["base"]), ("b", ["base"]), ("m", ["a", "b"]), ("c", ["m"])]
    assert carried(history) == (0, 0b0001, 0b0010, 0b0111, 0b1111)


def test_a_person_can_go_on_with_git(linux: Repository, out: Path) -> None:
    made = commits(linux, "a", "b", "c", "breaks", "d", "e")
    search(linux, out)
    log = out / "git-bisect.log"
    assert "# failed " in log.read_text()
    said = linux.git("bisect", "replay", str(log))
    assert f"{made['breaks']} is the first bad commit" in said
    linux.git("bisect", "reset")
    there = subprocess.run(
        ["git", "-C", out / "git", "bisect", "log"], capture_output=True, text=True, check=True
    ).stdout
    assert f"# first bad commit: [{made['breaks']}]" in there
    assert linux.git("status", "--porcelain") == ""


def test_a_failure_that_is_not_seen_at_the_bad_end(linux: Repository, out: Path) -> None:
    commits(linux, "a", "b")
    answer, tester = search(linux, out, most=30)
    assert (answer.found, answer.exit_code) == (Found.NOT_SEEN, 1)
    assert tester.built == [2]
    assert answer.rows[0].trial.tally.runs == 30


def test_a_good_end_that_fails_as_well(linux: Repository, out: Path) -> None:
    linux.first = linux.commit("breaks")
    commits(linux, "a", "b")
    answer, tester = search(linux, out, (0.5, 0.0), most=40)
    assert (answer.found, answer.exit_code) == (Found.BOTH_ENDS, 1)
    assert set(tester.built) == {0, 2}


def test_ends_that_do_not_build_are_the_kernels_fault(linux: Repository, out: Path) -> None:
    commits(linux, "a", "no-build")
    with pytest.raises(BuildError):
        search(linux, out)


@fault(
    "SIGKILL after any step of a search, which is then started again", where="killed", blame=Blames.NOBODY,
    survives="every repetition that was done, and what was built; the answer is the same",
)  # fmt: skip
@pytest.mark.parametrize("saves", [0, 1, 9, 30, 60])
def test_a_search_that_is_killed_goes_on(linux: Repository, tmp_path: Path, saves: int) -> None:
    made = commits(linux, "a", "b", "c", "d", "breaks", "e", "f", "g")
    words = [sys.executable, "-m", "tests.fakebisect", str(saves), str(tmp_path), linux.first]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    record = tmp_path / "search/search.json"
    before = progress_from_json(json.loads(record.read_text())).trials if record.exists() else {}
    assert sum(trial.tally.runs for trial in before.values()) <= saves
    answer, tester = search(linux, tmp_path / "search", (0.5, 0.0))
    assert answer.culprits[0].name == made["breaks"]
    now = {row.state: row.trial.tally.runs for row in answer.rows}
    for state, trial in before.items():
        assert now[state] == trial.tally.runs + tester.repeated.count(state)


def test_a_search_that_is_over_gives_its_answer_again_without_a_repetition(linux: Repository, out: Path) -> None:
    commits(linux, "a", "breaks", "b")
    first, _ = search(linux, out)
    again, tester = search(linux, out)
    assert answer_text(first) == answer_text(again)
    assert (tester.built, tester.repeated) == ([], [])


def test_a_directory_has_one_search(linux: Repository, out: Path) -> None:
    commits(linux, "a", "breaks")
    search(linux, out)
    with pytest.raises(UserError, match="another test, range or configuration"):
        search(linux, out, test="testcases/function/test_calls.py::test_other")
    (out / "search.json").write_text("{}")
    with pytest.raises(UserError, match=r"search\.json: expected the record of a search"):
        search(linux, out)
    with Place(out).held(), pytest.raises(InfraError, match="another process"):
        search(linux, out)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"good": ""}, "expected both ends"),
        ({"good": "nothing"}, "--good: expected a commit of .*, found 'nothing'"),
        ({"bad": "--all"}, "--bad: expected a commit"),
        ({"good": "HEAD", "bad": "HEAD"}, "expected commits that --good has not"),
        ({"good": "HEAD", "bad": "HEAD~1"}, "expected an ancestor of --bad"),
        ({"toolchains": ("gcc-11", "gcc-12")}, "expected one range to search in"),
        ({"good": "", "bad": ""}, "expected a range to search in"),
        ({"good": "", "bad": "", "toolchains": ("gcc-12", "gcc-12")}, "at least two different names"),
        ({"test": "test_caller"}, "TEST: expected a test's id"),
    ],
)
def test_wrong_requests(linux: Repository, out: Path, changes: dict[str, object], complaint: str) -> None:
    commits(linux, "a", "breaks")
    with pytest.raises(UserError, match=complaint):
        search(linux, out, **changes)


def test_a_repository_elsewhere_has_to_be_cloned(linux: Repository, out: Path) -> None:
    with pytest.raises(UserError, match="repository on this host"):
        search(linux, out, kernel=linux.options(kernel="7.3.4"))


def test_the_record_of_a_search_is_read_back_as_it_was(linux: Repository, out: Path) -> None:
    commits(linux, "a", "no-build", "breaks")
    search(linux, out, build_failure=Blame.BAD)
    told = json.loads((out / "search.json").read_text())
    assert progress_to_json(progress_from_json(told)) == told
    for key, wrong in (("trials", []), ("version", 2), ("trials", {"x": {}}), ("confirmed", {"1": {"passes": -1}})):
        with pytest.raises(ValueError, match=key if key != "confirmed" else "passes"):
            progress_from_json({**told, key: wrong})
