"""From the command line to a review: the series, its base, the directory of its files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import pytest

from harness.campaign.request import BuildOptions, ReviewRequest
from harness.campaign.review import reviewing
from harness.campaign.review.reading import find_base, notes_of, read_series
from harness.campaign.review.reviewing import review_here
from harness.cli.main import cli
from harness.errors import InfraError, UserError
from harness.layout import KCONFIGS
from harness.lockfile import locked_file
from harness.model.kernel import DEFAULT_SOURCE
from harness.model.review import Ground, Review, SeriesName
from harness.run.side_run import SideRuns
from tests.boards import spec
from tests.command import harness
from tests.faults.catalogue import Blame, fault
from tests.unit.test_review import FakeLab
from tests.unit.test_series_versions import BASE, mail, thread
from tests.unit.toytree import Recorder

WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false")


def request(series: Path | str, **wish: Any) -> ReviewRequest:
    kernel = BuildOptions(
        build_dir=None, kernel=DEFAULT_SOURCE, patches=(), kconfigs=(), toolchain=None, allow_plain_ftrace=False,
        jobs=None,
    )  # fmt: skip
    return ReviewRequest(**{"series": str(series), "kernel": kernel, "board_name": "b", "out_dir": Path("out"), **wish})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    where = tmp_path / "linux"
    where.mkdir()

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(where), *WHO, *words], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    for text in ("base", "one", "two"):
        (where / "f.c").write_text(f"{text}\n")
        git("add", ".")
        git("commit", "-qm", f"f: {text}")
    return where


def commit_of(repository: Path, name: str) -> str:
    words = ["git", "-C", str(repository), "rev-parse", name]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


# --- the series -----------------------------------------------------------------------------------------------------


def test_the_newest_version_against_one_of_the_same_thread(tmp_path: Path) -> None:
    newer, older = read_series(request(thread(tmp_path), against="v1"))
    assert older is not None
    assert (newer.name.version, older.name.version, newer.name.patches) == ("v2", "v1", 2)
    assert newer.titles == ["x: one", "x: two"]
    assert newer.patches != older.patches


def test_a_version_is_asked_for_and_another_file_is_older(tmp_path: Path) -> None:
    (tmp_path / "older.patch").write_text(mail("[PATCH] x: one", line="un"))
    newer, older = read_series(request(thread(tmp_path), version="v1", against=str(tmp_path / "older.patch")))
    assert older is not None
    assert (newer.name.version, older.name.version, older.name.patches) == ("v1", "v1", 1)


def test_ranges_of_commits(repository: Path) -> None:
    newer, older = read_series(
        request("main~2..main", against=f"git:{repository}#main~2..main~1", repository=repository)
    )
    assert older is not None
    assert (newer.titles, older.titles) == (["f: one", "f: two"], ["f: one"])
    assert newer.base_commit == commit_of(repository, "main~2")


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"against": "v2"}, "expected another version, found the very series"),
        ({"against": "v7"}, "expected patches of v7, found v1, v2"),
        ({"version": "newest"}, "--version: expected a version such as v5, found 'newest'"),
        ({"series": "a..b", "version": "v2"}, "a range of commits, which has no versions"),
        ({"series": "nowhere.mbox"}, "nowhere.mbox"),
    ],
)
@fault("what is no series to review", where="hostile input", blame=Blame.USER, survives="nothing was begun")
def test_what_is_no_series_is_told(tmp_path: Path, wish: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_series(request(wish.pop("series", str(thread(tmp_path))), **wish))


def test_what_a_mail_was_freed_from_is_told(tmp_path: Path) -> None:
    diff = "--- a/f.c\n+++ b/f.c\n@@ -1,2 +1,3 @@\n one\n+two\n three\n"
    quoted = "".join(f"> {line}\n" for line in diff.splitlines())
    path = tmp_path / "reply.eml"
    path.write_text(f"From: b@example.org\nSubject: Re: [PATCH v6] x\n\nOn Monday a wrote:\n{quoted}\nI like it.\n")
    newer, _ = read_series(request(path))
    assert "+two" in newer.patches[0].text
    assert notes_of([newer])


# --- the base -------------------------------------------------------------------------------------------------------


def based_on(tmp_path: Path, commit: str) -> Path:
    path = tmp_path / "x.patch"
    path.write_text(mail("[PATCH] x: one", line="one", more=f"base-commit: {commit}"))
    return path


def test_the_base_is_what_the_series_says(tmp_path: Path, repository: Path) -> None:
    commit = commit_of(repository, "main")
    asked = request(based_on(tmp_path, commit), repository=repository)
    base, _ = find_base(asked, *read_series(asked))
    assert base.spec == f"git:{repository}#{commit}"
    assert "base-commit" in base.why


def test_the_base_that_is_given_counts_more(tmp_path: Path) -> None:
    asked = request(based_on(tmp_path, BASE), base="7.3.4")
    assert find_base(asked, *read_series(asked))[0].spec == "7.3.4"


def test_a_base_that_is_nowhere_is_told(tmp_path: Path, repository: Path) -> None:
    asked = request(based_on(tmp_path, BASE), repository=repository)
    with pytest.raises(UserError, match=f"applies to the commit {BASE}, which {repository} does not have"):
        find_base(asked, *read_series(asked))


def test_without_a_word_it_is_the_default_kernel_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.patch").write_text(mail("[PATCH] x: one", line="one"))
    asked = request(tmp_path / "x.patch")
    base, notes = find_base(asked, *read_series(asked))
    assert base.spec == DEFAULT_SOURCE
    assert "names none" in base.why
    assert notes == ()


def test_a_range_goes_on_top_of_its_first_commits_parent(repository: Path) -> None:
    asked = request("main~1..main", repository=repository)
    assert find_base(asked, *read_series(asked))[0].spec == f"git:{repository}#{commit_of(repository, 'main~1')}"


def test_versions_for_different_bases_are_told(tmp_path: Path) -> None:
    asked = request(thread(tmp_path), against="v1", base="7.3.4")
    _, notes = find_base(asked, *read_series(asked))
    assert "both are tested on the same base" in notes[0]


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLab:
    """A host on which nothing is built."""
    lab = FakeLab()
    toolchain = SimpleNamespace(command="gcc", version="12")
    kernel = SimpleNamespace(
        source=SimpleNamespace(version="7.3.4-1"), toolchain=toolchain, fragments=(KCONFIGS / "base.config",),
        user_fragments=(),
    )  # fmt: skip
    monkeypatch.setattr(reviewing, "kernel_for", lambda options, board, display: kernel)
    monkeypatch.setattr(reviewing, "HostLab", lambda **how: lab)
    return lab


def test_a_review_leaves_its_documents(tmp_path: Path, fake: FakeLab) -> None:
    out = tmp_path / "out"
    asked = request(thread(tmp_path), against="v1", base="7.3.4", out_dir=out, tester="A <a@example.org>")
    made = review_here(asked, spec("b"), SideRuns([]), Recorder())
    assert made.is_well
    mail_text = (out / "review.txt").read_text()
    assert "Tested-by: A <a@example.org>" in mail_text
    assert "base: 7.3.4, that is 7.3.4-1 (--base)" in mail_text
    assert json.loads((out / "review.json").read_text())["ground"]["compiler"] == "gcc 12"
    assert "x: one" in (out / "review.html").read_text()
    assert len(list((out / "newer/patches").iterdir())) == len(list((out / "older/patches").iterdir())) == 2


@fault("another review uses the same directory", where="two users", blame=Blame.INFRA, survives="the other review")
def test_two_reviews_do_not_share_a_directory(tmp_path: Path, fake: FakeLab) -> None:
    out = tmp_path / "out"
    out.mkdir()
    held = locked_file(out / "lock", wait=False)
    assert held is not None
    with pytest.raises(InfraError, match="another review uses this directory"):
        review_here(request(thread(tmp_path), base="7.3.4", out_dir=out), spec("b"), SideRuns([]), Recorder())
    assert fake.compiled_kernels == []


@pytest.mark.parametrize("wish", [{"suites": ("selftests/nothing",)}, {"patch_suites": ("nothing",)}])
def test_suites_are_checked_before_work_begins(tmp_path: Path, fake: FakeLab, wish: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UserError, match="--suite: expected one of"):
        review_here(request(thread(tmp_path), base="7.3.4", **wish), spec("b"), SideRuns([]), Recorder())
    assert fake.compiled_kernels == []


def test_options_get_to_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[ReviewRequest, SideRuns]] = []

    def take(asked: ReviewRequest, board: object, side_runs: SideRuns, display: object) -> Review:
        seen.append((asked, side_runs))
        return Review(series=SeriesName(title="x"), ground=Ground(base="b", version="v"), steps=())

    monkeypatch.setattr(reviewing, "review_here", take)
    monkeypatch.chdir(tmp_path)
    words = [
        "review",
        "x.mbox",
        "--against",
        "v1",
        "--base",
        "7.3.4",
        "--suite",
        "testcases",
        "-k",
        "few",
        "--rounds",
        "3",
    ]
    words += ["--per-patch-keyword", "one", "--kconfig", "variants/size", "--toolchain", "gcc-11", "-j", "4"]
    words += ["--workers", "auto", "--timeout-factor", "2", "--no-history", "--tester", "A <a@example.org>"]
    done = click.testing.CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None
    ((asked, side_runs),) = seen
    assert (asked.against, asked.base, asked.suites, asked.keyword) == ("v1", "7.3.4", ("testcases",), "few")
    assert (asked.patch_keyword, asked.rounds, asked.tester) == ("one", 3, "A <a@example.org>")
    assert (asked.kernel.kconfigs, asked.kernel.toolchain, asked.kernel.jobs) == (
        (KCONFIGS / "variants/size.config",), "gcc-11", 4,
    )  # fmt: skip
    assert side_runs._arguments == ["--wait=inf", "--timeout-factor", "2.0", "-j", "auto", "--no-history"]
    assert "Tested-by: A <a@example.org>" in done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{tmp}/nowhere.mbox"], "nowhere.mbox"),
        (["{tmp}/thread.mbox", "--version", "v9", "--base", "7.3.4"], "expected patches of v9, found v1, v2"),
        (["{tmp}/thread.mbox"], "name a repository that has it with --git"),
        (["{tmp}/thread.mbox", "--base", "debian-image:linux-image-arm64@trixie"], "expected a source to build"),
        (["nowhere..there"], "that has the commit 'nowhere'"),
    ],
)
def test_wrong_input_is_told_in_a_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    thread(tmp_path)
    done = harness("review", *(word.format(tmp=tmp_path) for word in arguments), cwd=tmp_path)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
