"""Patches as git writes them, binary ones among them, held against what git itself makes of them."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness.build.load_patches import load_patches
from harness.build.patches import apply_series
from harness.errors import InfraError, UserError
from harness.model.kernel import Patch
from tests.unit.numbered import files, make_numbered, patch, times

PICTURE = bytes(range(256)) * 40
OTHER = PICTURE[:3000] + b"\0other\0" + PICTURE[3100:]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = make_numbered(tmp_path / "src")
    (tree / "Documentation").mkdir()
    (tree / "Documentation/there.png").write_bytes(PICTURE)
    return tree


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def git(repository: Path, *words: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    known = ("-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "core.autocrlf=false")
    done = subprocess.run(
        ["git", "-C", str(repository), *known, *words], check=True, capture_output=True, env=env, timeout=60
    )
    return done.stdout.decode("utf-8", "surrogateescape")


class Twin:
    """A copy of the tree under git, whose changes become patches."""

    def __init__(self, tree: Path, place: Path) -> None:
        shutil.copytree(tree, place, symlinks=True)
        self.tree = place
        git(place, "init", "-q")
        self.commit()

    def commit(self) -> None:
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-q", "--allow-empty", "-m", "a subject")

    def patch(self, *options: str) -> str:
        """What was changed since the last one, and commit it."""
        self.commit()
        return git(self.tree, "format-patch", "--stdout", *(options or ("-M", "-C")), "-1")

    @property
    def files(self) -> dict[str, tuple[bytes, int]]:
        return {path: form for path, form in files(self.tree).items() if not path.startswith(".git/")}


@pytest.fixture
def twin(tree: Path, tmp_path: Path) -> Twin:
    return Twin(tree, tmp_path / "twin")


def both_ways(tree: Path, twin: Twin, state: Path, *options: str) -> str:
    """Apply what was changed in the twin, hold the trees against each other, take it back; returns the patch."""
    before, text = files(tree), twin.patch(*options)
    series = load_patches([_written(tree.parent / "0001-x.patch", text)])
    assert apply_series(tree, series, state=state)
    assert files(tree) == twin.files
    assert not apply_series(tree, series, state=state)
    apply_series(tree, [], state=state)
    assert files(tree) == before
    return text


def _written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


class TestBinary:
    def test_new_changed_and_deleted(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "Documentation/new.png").write_bytes(OTHER)
        assert "GIT binary patch\nliteral " in both_ways(tree, twin, state)
        (tree / "Documentation/new.png").write_bytes(OTHER)
        (twin.tree / "Documentation/there.png").write_bytes(OTHER)
        assert "GIT binary patch\ndelta " in both_ways(tree, twin, state)
        (tree / "Documentation/there.png").write_bytes(OTHER)
        (twin.tree / "Documentation/there.png").unlink()
        both_ways(tree, twin, state)

    def test_beside_text_and_executable(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "tool").write_bytes(b"\x7fELF\0\0")
        (twin.tree / "tool").chmod(0o755)
        (twin.tree / "run.sh").write_text("#!/bin/sh\n")
        (twin.tree / "kernel/z.c").write_text("z\n")
        both_ways(tree, twin, state)

    def test_renamed_with_a_change_and_copied(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "Documentation/there.png").rename(twin.tree / "moved.png")
        (twin.tree / "moved.png").write_bytes(OTHER)
        assert "rename to moved.png" in both_ways(tree, twin, state)

    def test_becomes_text_and_empty(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "Documentation/there.png").write_text("text\n")
        both_ways(tree, twin, state)
        (tree / "Documentation/there.png").write_text("text\n")
        (twin.tree / "Documentation/there.png").write_bytes(PICTURE)
        both_ways(tree, twin, state)

    def test_in_a_mail_with_crlf_and_a_list_footer(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "new.png").write_bytes(OTHER)
        text = (twin.patch() + "\n_______\nlist@localhost\n").replace("\n", "\r\n")
        apply_series(tree, load_patches([_written(tree.parent / "x.mbox", text)]), state=state)
        assert (tree / "new.png").read_bytes() == OTHER

    def test_without_prefixes_in_a_quilt_series(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "Documentation/there.png").rename(twin.tree / "moved.png")
        (twin.tree / "moved.png").write_bytes(OTHER)
        (twin.tree / "Documentation/new.rst").write_text("new\n")
        text = twin.patch("-M", "--no-prefix")
        with pytest.raises(UserError, match="list it in a quilt series with the option -p0"):
            load_patches([_written(tree.parent / "x.patch", text)])
        _written(tree.parent / "series", "x.patch -p0\n")
        apply_series(tree, load_patches([tree.parent / "series"]), state=state)
        assert files(tree) == twin.files

    def test_below_more_parts_in_a_quilt_series(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "Documentation/there.png").rename(twin.tree / "moved.png")
        (twin.tree / "moved.png").write_bytes(OTHER)
        text = twin.patch("-M", "--src-prefix=a/linux/", "--dst-prefix=b/linux/")
        text = re.sub("^(rename (?:from|to)) ", r"\1 linux/", text, flags=re.MULTILINE)
        _written(tree.parent / "x.patch", text)
        _written(tree.parent / "series", "x.patch -p2\n")
        apply_series(tree, load_patches([tree.parent / "series"]), state=state)
        assert files(tree) == twin.files

    def test_other_file_than_the_patch_was_made_from(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "Documentation/there.png").write_bytes(OTHER)
        change = patch(twin.patch())
        (tree / "Documentation/there.png").write_bytes(PICTURE + b"x")
        before = files(tree)
        with pytest.raises(UserError, match=r"there\.png: a binary change: expected the file that git calls .* rebase"):
            apply_series(tree, [change], state=state)
        (tree / "Documentation/there.png").write_bytes(OTHER)
        with pytest.raises(UserError, match=r"there\.png: .* the patch seems to be already applied"):
            apply_series(tree, [change], state=state)
        (tree / "Documentation/there.png").unlink()
        with pytest.raises(UserError, match=r"there\.png: expected this file in the source"):
            apply_series(tree, [change], state=state)
        assert files(tree).keys() | {"Documentation/there.png"} == before.keys()

    def test_new_one_that_is_there(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "new.png").write_bytes(OTHER)
        change = patch(twin.patch())
        (tree / "new.png").write_bytes(OTHER)
        with pytest.raises(UserError, match=r"new\.png: expected no such file yet"):
            apply_series(tree, [change], state=state)

    def test_content_that_is_not_what_the_patch_says(self, tree: Path, twin: Twin, state: Path) -> None:
        (twin.tree / "new.png").write_bytes(OTHER)
        text = twin.patch()
        line = re.search(r"^z.{60,}$", text, re.MULTILINE)
        assert line
        wrong = text.replace(line[0], "z" + line[0][:0:-1])
        with pytest.raises(UserError, match=r"new\.png: expected a binary change that git apply takes") as caught:
            apply_series(tree, [patch(wrong)], state=state)
        assert caught.value.details
        assert not (tree / "new.png").exists()

    def test_host_without_git(
        self, tree: Path, twin: Twin, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (twin.tree / "new.png").write_bytes(OTHER)
        change = patch(twin.patch())
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InfraError, match=r"new\.png: a binary change needs git .* install git"):
            apply_series(tree, [change], state=state)

    def test_neither_a_repository_around_nor_anybodys_configuration_counts(
        self, tree: Path, twin: Twin, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (twin.tree / "new.png").write_bytes(b"\0\r\n")
        change = patch(twin.patch())
        config = _written(tmp_path / "gitconfig", "[core]\n\tautocrlf = true\n[apply]\n\twhitespace = error-all\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        git(tmp_path, "init", "-q")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        apply_series(tree, [change], state=state)
        assert (tree / "new.png").read_bytes() == b"\0\r\n"

    def test_what_grows_beyond_all_measure_is_refused(self, tree: Path, state: Path) -> None:
        name = "0123456789" * 4
        text = f"diff --git a/x b/x\nnew file mode 100644\nindex {'0' * 40}..{name}\nGIT binary patch\n"
        with pytest.raises(UserError, match=r"x: expected at most \d+ bytes \(one binary .*\), found 9+;"):
            apply_series(tree, [patch(f"{text}literal {'9' * 30}\nHcmV?d00001\n\n")], state=state)


ODD = ["a", "b c", "ü", "d/e", "d/f", "d/g h", "x/y/z", "l", "d/l"]
LINKS = {"ü": ["l", "d", "x/y"], "l": ["a", "d/e", "nowhere"], "d/l": ["e", "../l", ".."]}  # never in a circle


class TestAsGit:
    """Random changes of all kinds, as git writes them down."""

    @pytest.mark.parametrize("seed", range(12))
    def test_series_there_back_and_across(self, tmp_path: Path, state: Path, seed: int) -> None:
        chance = random.Random(seed)
        tree = tmp_path / "tree"
        tree.mkdir()
        for _ in range(4):
            _change(tree, chance)
        twin = Twin(tree, tmp_path / "twin")
        before = files(tree)
        made: list[Patch] = []
        after: list[dict[str, tuple[bytes, int]]] = []
        for number in range(3):
            for _ in range(3):
                _change(twin.tree, chance)
            text = twin.patch("-M", "-C", "--find-copies-harder")
            if "\ndiff --git " in text:
                made += load_patches([_written(tmp_path / f"{number}.patch", text)])
                after.append(twin.files)
        for count in chance.sample(range(len(made) + 1), len(made) + 1):
            clock = times(tree)
            old = files(tree)
            apply_series(tree, made[:count], state=state)
            assert files(tree) == (after[count - 1] if count else before)
            kept = {path: time for path, time in times(tree).items() if files(tree)[path] == old.get(path)}
            assert kept.items() <= clock.items()


def _change(tree: Path, chance: random.Random) -> None:
    """Make, change, remove or turn into something else one file or link of the tree."""
    path = tree / chance.choice(ODD)
    kind = chance.choice(["text", "text", "binary", "link", "gone", "move", "mode"])
    there = sorted(
        file for file in tree.rglob("*") if ".git" not in file.parts and (file.is_symlink() or file.is_file())
    )
    if kind == "move" and there:
        source = chance.choice(there)
        if not source.is_symlink() and not path.exists() and not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            source.rename(path)
        return
    if path.is_dir() and not path.is_symlink():
        return
    old = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if kind == "mode":
        if old:
            path.chmod(path.stat().st_mode ^ 0o111)
        return
    path.unlink(missing_ok=True)
    if kind == "gone":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link" and (name := path.relative_to(tree).as_posix()) in LINKS:
        path.symlink_to(chance.choice(LINKS[name]))
    elif kind == "binary":
        path.write_bytes(old + b"\0" + chance.randbytes(chance.choice([10, 3000])))
    else:
        lines = old.decode("latin-1").split("\n") if old and b"\0" not in old else []
        lines[len(lines) // 2 : len(lines) // 2] = [f"line {chance.random()}" for _ in range(chance.randint(1, 9))]
        path.write_text("\n".join(lines) + chance.choice(["\n", "", "\f\n"]), encoding="latin-1")
