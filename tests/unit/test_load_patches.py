"""`harness.build.load_patches`: every form that ``--patches PATH`` takes."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import limits
from harness.build.load_patches import load_patches
from harness.build.patches import apply_series
from harness.errors import UserError

DATA = Path(__file__).parents[1] / "data" / "series"


def diff_of(letter: str) -> str:
    return f"--- a/k.c\n+++ b/k.c\n@@ -1 +1 @@\n-a\n+{letter}\n"


def write(path: Path, letter: str, *, subject: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"From: a@example.org\nSubject: {subject}\n\n" if subject else ""
    path.write_text(head + diff_of(letter))
    return path


def letters(*paths: Path) -> str:
    """The last letter that each loaded patch writes."""
    return "".join(patch.text[-2] for patch in load_patches(paths))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_patches([path])
    return caught.value.message


@pytest.mark.parametrize("name", ["a.patch", "a.diff", "patch-7.3.4"])
def test_file(tmp_path: Path, name: str) -> None:
    (patch,) = load_patches([write(tmp_path / name, "b")])
    assert (patch.name, patch.text) == (name, diff_of("b"))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_file(tmp_path: Path, suffix: str, pack: object) -> None:
    assert callable(pack)
    (tmp_path / f"a.patch{suffix}").write_bytes(pack(diff_of("b").encode()))
    (patch,) = load_patches([tmp_path / f"a.patch{suffix}"])
    assert (patch.name, patch.text) == ("a.patch", diff_of("b"))
    assert letters(tmp_path) == "b"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_packed_file_cut_off(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    (tmp_path / "a.patch").write_bytes(pack(os.urandom(200))[:-40])
    assert "a.patch: expected a whole packed file, found" in refusal(tmp_path / "a.patch")


def test_paths_keep_their_order(tmp_path: Path) -> None:
    assert letters(write(tmp_path / "z.patch", "1"), write(tmp_path / "a.patch", "2")) == "12"
    assert load_patches([]) == ()


def test_directory_is_sorted_and_cover_letter_skipped(tmp_path: Path) -> None:
    for name in ("0010-x.patch", "0002-y.diff", "0001-z.patch", "README", "0000-cover-letter.patch", "0000-0.patch"):
        write(tmp_path / name, name[3])
    write(tmp_path / ".0001-swap.patch", "x")
    (tmp_path / "sub.patch").mkdir()
    assert letters(tmp_path) == "0120"


def test_numbers_without_zeros_are_sorted_by_value(tmp_path: Path) -> None:
    for name in ("10-x.patch", "9-y.patch", "1-z.patch"):
        write(tmp_path / name, name[0])
    write(tmp_path / "9-y-more.patch", "8")
    assert letters(tmp_path) == "1891"


def test_directory_with_two_versions_gives_the_newest(tmp_path: Path) -> None:
    for name in ("0001-x.patch", "0002-y.patch", "v2-0000-cover-letter.patch", "v2-0001-x.patch", "v10-0001-x.patch"):
        write(tmp_path / name, name[1])
    assert letters(tmp_path) == "1"
    (tmp_path / "v10-0001-x.patch").unlink()
    assert letters(tmp_path) == "2"


def test_quilt_directory_and_its_series_file() -> None:
    patches = load_patches([DATA / "quilt"])
    assert [patch.name for patch in patches] == [
        "clock-flags.patch",
        "clock-new.patch",
        "docs/rename.patch",
        "cleanup.patch",
    ]
    assert load_patches([DATA / "quilt" / "series"]) == patches
    assert "\n+++ b/kernel/new.c\n" in patches[1].text


def test_quilt_names_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("gone.patch\n")
    assert "series: gone.patch: expected a patch beside the series file, found no such file" in refusal(tmp_path)


@pytest.mark.parametrize("form", ["thread.mbox", "Maildir", "mails"])
def test_mailed_series_in_every_form(tmp_path: Path, form: str) -> None:
    """One thread (v4, v5, replies) as mbox, maildir and saved mails gives what the quilt series gives."""
    mbox = (DATA / "thread.mbox").read_bytes()
    path = tmp_path / form
    if form == "thread.mbox":
        path.write_bytes(mbox)
    else:
        for number, mail in enumerate(mbox.split(b"From mboxrd@z Thu Jan  1 00:00:00 1970\n")[1:]):
            place = path / ("new" if number % 2 else "cur") / f"17{number}.M1.host:2,S"
            if form == "mails":
                place = path / f"{number}.eml"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(mail)
    if form == "Maildir":
        (path / "tmp").mkdir()
        write(path / "tmp" / "half", "x", subject="[PATCH v6 1/1] unfinished")
        (path / "cur" / ".nfs1").write_bytes(b"")
    found = load_patches([path])
    assert [patch.sha256 for patch in found] == [patch.sha256 for patch in load_patches([DATA / "quilt"])]
    assert found[0].name == "[PATCH v5 1/4] clock: Count the flags"


def test_single_mail(tmp_path: Path) -> None:
    (patch,) = load_patches([write(tmp_path / "x.eml", "b", subject="[PATCH 2/4] k: b")])
    assert (patch.name, patch.text) == ("[PATCH 2/4] k: b", diff_of("b"))


def test_path_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = write(tmp_path / "a.patch", "b")
    monkeypatch.setattr(limits, "open_regular", refuse)
    assert "found that it can't be read: [Errno 13] Permission denied" in refusal(path)


def test_refusals_say_place_expectation_and_finding(tmp_path: Path) -> None:
    (tmp_path / "empty.patch").write_bytes(b"")
    (tmp_path / "void").mkdir()
    for part in ("cur", "new", "tmp"):
        (tmp_path / "Maildir" / part).mkdir(parents=True)
    (tmp_path / "prose.txt").write_text("nothing here\n")
    gone = tmp_path / "gone.patch"
    assert refusal(gone).startswith(f"{gone}: expected a .patch or .diff, a directory of them,")
    assert refusal(gone).endswith("found no such file: check the path")
    assert "empty.patch: expected a patch (a unified diff), found an empty file" in refusal(tmp_path / "empty.patch")
    assert "prose.txt: expected a patch (a unified diff), found none in it" in refusal(tmp_path / "prose.txt")
    assert "void: expected a .patch or .diff, a directory" in refusal(tmp_path / "void")
    assert "Maildir: expected a maildir with mails in cur/ or new/, found" in refusal(tmp_path / "Maildir")


@pytest.mark.parametrize("only", ["0000-cover-letter.patch", "v2-0000-cover-letter.patch"])
def test_directory_with_nothing_but_a_cover_letter(tmp_path: Path, only: str) -> None:
    write(tmp_path / only, "x")
    assert "found a directory without any" in refusal(tmp_path)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("form", ["directory", "mbox", "attached"])
def test_what_git_writes_makes_the_tree_that_git_has(tmp_path: Path, form: str) -> None:
    repo, tree = tmp_path / "repo", tmp_path / "tree"

    def git(*args: str) -> str:
        config = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null"]
        done = subprocess.run(["git", *config, *args], cwd=repo, check=True, capture_output=True, timeout=60)
        return done.stdout.decode()

    shutil.copytree(DATA / "tree", repo)
    shutil.copytree(DATA / "tree", tree)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "base")
    (repo / "kernel/clock.c").write_text((repo / "kernel/clock.c").read_text().replace("return 3", "return 33"))
    git("commit", "-qam", "clock: José's change\n\nFrom here on all is well.\n--- not a diff\n+++ at all\n")
    git("mv", "kernel/old.c", "kernel/with space.c")
    (repo / "kernel/ö.c").write_text("int ö;")
    (repo / "kernel/empty").write_text("")
    (repo / "scripts/run.sh").chmod(0o755)
    git("add", ".")
    git("commit", "-qm", "all the rest")
    common = ["format-patch", "--cover-letter", "-v3", "HEAD~2"]
    if form == "directory":
        git(*common, "-q", "-o", str(tmp_path / "out"))
    else:
        (tmp_path / "out").write_text(git(*common, "--stdout", *["--attach"] * (form == "attached")))
    patches = load_patches([tmp_path / "out"])
    assert len(patches) == 2
    assert apply_series(tree, patches, state=tmp_path / "state")
    made = {path.relative_to(tree): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert made == {Path(path): (repo / path).read_bytes() for path in git("ls-files", "-z").split("\0") if path}
    assert (tree / "scripts/run.sh").stat().st_mode & 0o111
