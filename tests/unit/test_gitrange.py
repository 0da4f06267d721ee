"""A range of commits as a series, with real git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.build.gitrange import as_range, commit_in, patches_of_range
from harness.errors import UserError
from harness.parse.diff import parse_diff
from tests.faults.catalogue import Blame, fault

WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false")


def git(repository: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *WHO, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A base and two commits: one changes a file, one renames it."""
    where = tmp_path / "linux"
    where.mkdir()
    git(where, "init", "--quiet", "--initial-branch=main")
    (where / "a.c").write_text("int a;\n")
    git(where, "add", ".")
    git(where, "commit", "-qm", "base")
    (where / "a.c").write_text("int a;\nint b;\n")
    git(where, "commit", "-qam", "a: add b")
    git(where, "mv", "a.c", "c.c")
    git(where, "commit", "-qm", "a: rename it")
    return where


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("main~2..main", ("", "main~2", "main")),
        ("git:/some/where#v6.1..v6.2", ("/some/where", "v6.1", "v6.2")),
        ("series.mbox", None),
        ("git:/some/where#main", None),
        ("a...b", None),
        ("../series", None),
        ("patches/../series", None),
    ],
)
def test_what_is_a_range(text: str, found: tuple[str, str, str] | None) -> None:
    assert as_range(text) == found


def test_commits_become_patches(repository: Path) -> None:
    first, second = patches_of_range(repository, "main~2", "main")
    assert [each.mailed.subject for each in (first, second) if each.mailed] == ["a: add b", "a: rename it"]
    assert [(each.old, each.new) for each in parse_diff(first.text, name="x")] == [("a.c", "a.c")]
    assert {(each.old, each.new) for each in parse_diff(second.text, name="x")} == {("a.c", None), (None, "c.c")}
    assert first.mailed is not None
    assert first.mailed.base_commit == git(repository, "rev-parse", "main~2")


def test_configuration_changes_no_patch(repository: Path, tmp_path: Path) -> None:
    plain = patches_of_range(repository, "main~2", "main")
    ran = tmp_path / "ran"
    for key, value in (("diff.noprefix", "true"), ("diff.external", f"touch {ran}"), ("diff.renames", "true"),
                       ("color.ui", "always"), ("log.showSignature", "true")):  # fmt: skip
        git(repository, "config", key, value)
    assert patches_of_range(repository, "main~2", "main") == plain
    assert not ran.exists()


@fault("a range of commits with a merge", where="hostile input", blame=Blame.USER, survives="nothing was begun")
def test_a_merge_is_no_patch(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side", "main~2")
    (repository / "d.c").write_text("int d;\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "side")
    git(repository, "merge", "-q", "--no-edit", "main")
    with pytest.raises(UserError, match="found a merge"):
        patches_of_range(repository, "main~2", "side")


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        ("main", "main~2", "at least one commit"),
        ("nowhere", "main", "that has the commit 'nowhere'"),
        ("--output=x", "main", "that has the commit '--output=x'"),
    ],
)
def test_what_is_no_range_is_told(repository: Path, first: str, last: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        patches_of_range(repository, first, last)


def test_a_commit_is_looked_for(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "main")
    assert commit_in(repository, commit) == commit
    assert commit_in(repository, "0" * 40) == ""
    assert commit_in(tmp_path, commit) == ""
