"""Which version of a series is taken from a thread, and what its mails say besides the patches."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.load_patches import load_version
from harness.errors import UserError

BASE = "0123456789abcdef0123456789abcdef01234567"
OTHER = "89abcdef0123456789abcdef0123456789abcdef"


def mail(subject: str, *, line: str = "", more: str = "") -> str:
    diff = f"--- a/f.c\n+++ b/f.c\n@@ -0,0 +1 @@\n+{line}\n" if line else ""
    return (
        "From a@example.org Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n"
        f"Subject: {subject}\n\nsome words\n{diff}{more}\n-- \n2.39.5\n\n"
    )


def thread(directory: Path) -> Path:
    path = directory / "thread.mbox"
    path.write_text(
        mail("[PATCH 0/2] x", more=f"base-commit: {OTHER}")
        + mail("[PATCH 1/2] x: one", line="one")
        + mail("[PATCH 2/2] x: two", line="two")
        + mail("Re: [PATCH 2/2] x: two")
        + mail("[PATCH v2 0/2] x", more=f"base-commit: {BASE}")
        + mail("[PATCH v2 1/2] x: one", line="uno")
        + mail("[PATCH v2 2/2] x: two", line="dos")
    )
    return path


def test_the_newest_version_is_taken_with_what_its_cover_letter_says(tmp_path: Path) -> None:
    first, second = load_version(thread(tmp_path), None)
    assert ("+uno" in first.text, "+dos" in second.text) == (True, True)
    assert first.mailed is not None
    assert second.mailed is not None
    assert (first.mailed.base_commit, first.mailed.version) == (BASE, (2, 0))
    assert second.mailed.base_commit == ""


def test_an_older_version_can_be_asked_for(tmp_path: Path) -> None:
    first, _ = load_version(thread(tmp_path), (1, 0))
    assert "+one" in first.text
    assert first.mailed is not None
    assert first.mailed.base_commit == OTHER


def test_a_version_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected patches of v3, found v1, v2"):
        load_version(thread(tmp_path), (3, 0))


def test_a_single_patch_says_what_it_is_based_on(tmp_path: Path) -> None:
    path = tmp_path / "0001-x.patch"
    path.write_text(mail("[PATCH v3] x: one", line="one", more=f"base-commit: {BASE}"))
    (patch,) = load_version(path, (3, 0))
    assert patch.mailed is not None
    assert (patch.mailed.subject, patch.mailed.base_commit) == ("[PATCH v3] x: one", BASE)


def test_a_directory_of_git_format_patch(tmp_path: Path) -> None:
    for version, prefix in ((1, ""), (2, "v2-")):
        tags = "PATCH" if version == 1 else "PATCH v2"
        (tmp_path / f"{prefix}0000-cover-letter.patch").write_text(
            mail(f"[{tags} 0/1] x", more=f"base-commit: {OTHER if version == 1 else BASE}")
        )
        (tmp_path / f"{prefix}0001-x.patch").write_text(mail(f"[{tags} 1/1] x", line=f"v{version}"))
    for asked, line, base in ((None, "+v2", BASE), ((1, 0), "+v1", OTHER)):
        (patch,) = load_version(tmp_path, asked)
        assert line in patch.text
        assert patch.mailed is not None
        assert patch.mailed.base_commit == base
    with pytest.raises(UserError, match=r"expected patches of v4, found v2"):
        load_version(tmp_path, (4, 0))


def test_a_diff_has_no_version(tmp_path: Path) -> None:
    path = tmp_path / "x.diff"
    path.write_text("--- a/f.c\n+++ b/f.c\n@@ -0,0 +1 @@\n+x\n")
    assert load_version(path, None)[0].mailed is None
    with pytest.raises(UserError, match=r"expected patches of v2, found none that says its version"):
        load_version(path, (2, 0))
