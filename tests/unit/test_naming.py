"""Which run a name means: of a copy, of a directory that is gone, of a kernel's commit or tag."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.campaign import naming
from harness.campaign.history import LAST_GOOD, LATEST, add, resolve, sides
from harness.campaign.naming import directory_of, split_range
from harness.errors import UserError
from harness.model.event import Finished, Planned, RunBegun, RunEnded
from harness.model.record import BoardRecord, KernelRecord, PatchRecord, RunRecord, SourceRecord
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.parse.events import event_to_json
from harness.store.database import opened
from tests.faults.catalogue import Blame, fault

PASS, FAIL, SKIP = Verdict.PASS, Verdict.FAIL, Verdict.SKIP
C1, C2 = "1" * 40, "2" * 40


def run_dir(
    parent: Path,
    number: int,
    *verdicts: Verdict,
    commit: str = "",
    version: str = "7.3.4-1",
    patch: str = "",
    board: str = "virt",
    keyword: str = "",
    began: float | None = None,
    end: EndKind = EndKind.COMPLETE,
) -> Path:
    directory = parent / f"run-{number}"
    directory.mkdir(parents=True)
    spec = f"git:/linux#{commit}" if commit else "debian:@suite"
    kernel = KernelRecord(
        release="7.3.4",
        key=f"{commit}{version}{patch}",
        source=SourceRecord(spec=spec, version=version, checksum=commit),
        patches=(PatchRecord(sha256=patch),) if patch else (),
    )
    record = RunRecord(id=f"run-{number:04}", kernel=kernel, board=BoardRecord(name=board), keyword=keyword)
    time = 1e9 + 86400 * number if began is None else began
    events = [
        RunBegun(time=time, record=record),
        Planned(time=time, tests=tuple(f"t{n}" for n in range(len(verdicts)))),
        *(Finished(time=time, result=Result(test=f"t{n}", verdict=verdict)) for n, verdict in enumerate(verdicts)),
        RunEnded(time=time + 1, end=RunEnd(kind=end)),
    ]
    (directory / "events.jsonl").write_text("".join(event_to_json(event) + "\n" for event in events))
    return directory


def named(directory: Path, name: str, *, than: str = "", repository: Path | None = None) -> str:
    with opened(directory / "h") as connection:
        newer = resolve(connection, than) if than else None
        return resolve(connection, name, than=newer, repository=repository).id


def test_a_copy_of_a_run_is_that_run(tmp_path: Path) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS)])
    shutil.copytree(tmp_path / "run-1", tmp_path / "copy")
    assert named(tmp_path, str(tmp_path / "copy")) == "run-0001"


def test_a_directory_means_the_run_that_is_in_it_now(tmp_path: Path) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 9, PASS), run_dir(tmp_path, 1, PASS)])
    shutil.rmtree(tmp_path / "run-9")
    (tmp_path / "run-1").rename(tmp_path / "run-9")
    assert named(tmp_path, str(tmp_path / "run-9")) == "run-0001"


@fault("the events of a run can't be read", where="disk", blame=Blame.USER,
       survives="the history; the message names the run's directory, not the history")  # fmt: skip
def test_a_directory_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> Iterator[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS)])
    monkeypatch.setattr(naming, "event_lines", forbidden)
    with pytest.raises(UserError, match=f"^{tmp_path}/run-1: expected the directory of a run, can't read it: Perm"):
        named(tmp_path, str(tmp_path / "run-1"))
    monkeypatch.undo()
    assert named(tmp_path, str(tmp_path / "run-1")) == "run-0001"


def test_a_directory_that_is_gone_still_names_its_run(tmp_path: Path) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS)])
    shutil.rmtree(tmp_path / "run-1")
    assert named(tmp_path, str(tmp_path / "run-1")) == "run-0001"


@pytest.mark.parametrize("name", ["x" * 5000, "\0", "-rf", "v7.3", "abcdef0", "no/such/run", "\udcff"])
def test_a_name_that_means_nothing(tmp_path: Path, name: str) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS)])
    with pytest.raises(UserError, match="expected a run in the history"):
        named(tmp_path, name, repository=tmp_path)


@pytest.mark.parametrize("name", ["1111111", C1, "v7.2"])
def test_a_kernel_is_named_by_its_commit_or_tag(tmp_path: Path, name: str) -> None:
    first = [run_dir(tmp_path, number, PASS, commit=C1, version="v7.2") for number in (1, 2)]
    add(tmp_path / "h", [*first, run_dir(tmp_path, 3, PASS, commit=C2, version="v7.3")])
    assert named(tmp_path, name, than="run-0003") == "run-0002"


def test_digits_that_two_commits_begin_with(tmp_path: Path) -> None:
    other = "1" * 10 + "0" * 30
    add(tmp_path / "h", [run_dir(tmp_path, n, PASS, commit=commit) for n, commit in ((1, C1), (2, other))])
    with pytest.raises(UserError, match=f"expected the first digits of one commit, found {other} and {C1}"):
        named(tmp_path, "1111111")


def test_of_a_commits_runs_the_one_with_the_same_patches(tmp_path: Path) -> None:
    runs = [("aa", C1), ("", C1), ("bb", C1), ("aa", C2), ("", C2), ("cc", C2)]
    add(tmp_path / "h", [run_dir(tmp_path, n, PASS, commit=c, patch=p) for n, (p, c) in enumerate(runs)])
    assert [named(tmp_path, C1, than=f"run-000{n}") for n in (3, 4, 5)] == ["run-0000", "run-0001", "run-0001"]
    assert named(tmp_path, C2) == "run-0004"


def test_a_commit_that_ran_only_in_another_cell(tmp_path: Path) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS, commit=C1, board="pi"), run_dir(tmp_path, 2, PASS, commit=C2)])
    with pytest.raises(UserError, match="expected a run of that kernel of the cell virt, found runs of pi"):
        named(tmp_path, C1, than="run-0002")


def git(directory: Path, *words: str) -> str:
    names = {f"GIT_{role}_{what}": "x@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    words = ("git", "-C", str(directory), *words)
    return subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **names}).stdout.strip()


def test_names_that_git_knows(tmp_path: Path) -> None:
    linux = tmp_path / "linux"
    git(tmp_path, "init", "--quiet", str(linux))
    for _ in range(3):
        git(linux, "commit", "--quiet", "--allow-empty", "-m", "change")
    git(linux, "tag", "-a", "good", "-m", "good", "HEAD~2")
    runs = [
        run_dir(tmp_path, 1, PASS, commit=git(linux, "rev-parse", "HEAD~2")),
        run_dir(tmp_path, 2, FAIL, commit=git(linux, "rev-parse", "HEAD")),
    ]
    add(tmp_path / "h", runs)
    assert named(tmp_path, "good", repository=linux) == "run-0001"
    assert named(tmp_path, "HEAD", repository=linux) == "run-0002"
    with pytest.raises(UserError, match=r"HEAD~1: expected a run .* built from the commit [0-9a-f]{12}"):
        named(tmp_path, "HEAD~1", repository=linux)


def test_all_commits_of_a_repository_are_one_line_of_kernels(tmp_path: Path) -> None:
    commits = [f"{number:040x}" for number in range(12)]
    add(tmp_path / "h", [run_dir(tmp_path, n, PASS, commit=commit) for n, commit in enumerate(commits)])
    with opened(tmp_path / "h") as connection:
        before, since = sides(connection, commits[10], commits[11])
    assert (len(before.runs), len(since.runs)) == (11, 1)


@pytest.mark.parametrize(("text", "both"), [("a..b", ("a", "b")), ("v7.2..v7.3-rc1", ("v7.2", "v7.3-rc1"))])
def test_a_range(text: str, both: tuple[str, str]) -> None:
    assert split_range(text) == both


@pytest.mark.parametrize("text", ["", "a", "a..", "..b", "a...b", "latest"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UserError, match="expected two runs, or a range of kernels"):
        split_range(text)


def test_last_good_was_asked_for_the_same_tests_if_there_is_such_a_run(tmp_path: Path) -> None:
    runs = [
        run_dir(tmp_path, 1, PASS, PASS),
        run_dir(tmp_path, 2, PASS, keyword="t0"),
        run_dir(tmp_path, 3, PASS, FAIL),
        run_dir(tmp_path, 4, PASS, keyword="t1"),
    ]
    add(tmp_path / "h", runs)
    assert named(tmp_path, LAST_GOOD, than="run-0003") == "run-0001"
    assert named(tmp_path, LAST_GOOD, than="run-0004") == "run-0002"


@pytest.mark.parametrize(
    ("verdicts", "end"),
    [
        pytest.param((), EndKind.COMPLETE, id="no test"),
        pytest.param((SKIP, SKIP), EndKind.COMPLETE, id="skips only"),
        pytest.param((PASS,), EndKind.INTERRUPTED, id="not whole"),
        pytest.param((PASS, Verdict.ERROR), EndKind.COMPLETE, id="the lab failed"),
    ],
)
def test_what_shows_nothing_good_is_not_last_good(tmp_path: Path, verdicts: tuple[Verdict, ...], end: EndKind) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, *verdicts, end=end), run_dir(tmp_path, 2, FAIL)])
    with pytest.raises(UserError, match="last-good: expected such a run of the cell virt before run-0002"):
        named(tmp_path, LAST_GOOD, than="run-0002")


def test_a_run_whose_host_had_a_wrong_clock_is_not_the_latest_for_ever(tmp_path: Path) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS), run_dir(tmp_path, 2, PASS, began=time.time() + 1e9)])
    assert named(tmp_path, LATEST) == "run-0001"


def test_a_kernel_of_a_long_time_ago_keeps_its_own_runs(tmp_path: Path) -> None:
    """However many runs of other kernels came later in the same cell."""
    old = [run_dir(tmp_path, number, FAIL, patch="aa") for number in range(3)]
    add(tmp_path / "h", [*old, *(run_dir(tmp_path, number, PASS) for number in range(10, 75))])
    with opened(tmp_path / "h") as connection:
        _, since = sides(connection, "run-0010", "run-0001")
    assert [run.id for run, _ in since.runs] == ["run-0000", "run-0001", "run-0002"]


def test_a_run_without_results_is_not_compared(tmp_path: Path) -> None:
    add(tmp_path / "h", [run_dir(tmp_path, 1, PASS), run_dir(tmp_path, 2, end=EndKind.COLLECTION_FAILED)])
    with (
        pytest.raises(UserError, match=r"run-0002: expected a run with results, it has none \(collection failed\)"),
        opened(tmp_path / "h") as connection,
    ):
        sides(connection, "run-0001", "run-0002")


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    directory = run_dir(tmp_path, 1, PASS)
    add(tmp_path / "h", [directory])
    with (
        pytest.raises(UserError, match=r"expected two runs, found that .*run-1 and latest are the same one, run-0001"),
        opened(tmp_path / "h") as connection,
    ):
        sides(connection, str(directory), LATEST)


def test_the_directory_of_a_run_by_any_of_its_names(tmp_path: Path) -> None:
    directory, history = run_dir(tmp_path, 1, PASS), tmp_path / "h"
    assert directory_of(Path("run-0001"), history=history) == Path("run-0001")  # there is no history
    add(history, [directory])
    assert [directory_of(Path(name), history=history) for name in (str(directory), "run-0001", LATEST)] == [
        directory
    ] * 3
    shutil.rmtree(directory)
    with pytest.raises(UserError, match=r"latest: expected the files of the run run-0001 in .*run-1"):
        directory_of(Path(LATEST), history=history)
