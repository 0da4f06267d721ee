"""`harness.build.patches.apply_series` after kills, edits by others and damage."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest

from harness.build import patched_tree
from harness.build.applydiff import patched
from harness.build.patches import apply_series
from harness.errors import InfraError
from harness.model.kernel import Patch
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault
from tests.unit.numbered import LINES, change, create, files, link, make_numbered, patch, turn, unlink


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_numbered(tmp_path / "src")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "series"


class TestRecovery:
    def test_edit_by_somebody_else_is_neither_lost_nor_built(self, tree: Path, state: Path) -> None:
        series = [change("run.sh", 5, "new")]
        apply_series(tree, series, state=state)
        (tree / "run.sh").write_text("edited\n")
        for wanted in (series, []):
            with pytest.raises(InfraError, match=r"run.sh: expected the file as the last patch series left it"):
                apply_series(tree, wanted, state=state)
        assert (tree / "run.sh").read_text() == "edited\n"

    def test_tree_that_was_renewed_to_pristine_is_patched_again(self, tree: Path, state: Path) -> None:
        series, pristine = [change("run.sh", 5, "new")], (tree / "run.sh").read_bytes()
        apply_series(tree, series, state=state)
        patched = files(tree)
        (tree / "run.sh").write_bytes(pristine)
        assert apply_series(tree, series, state=state)
        assert files(tree) == patched

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "forms": []}'])
    def test_damaged_record(self, tree: Path, state: Path, text: str) -> None:
        state.mkdir()
        (state / "series.json").write_text(text)
        with pytest.raises(InfraError, match=r"series.json: expected the record of a patch series"):
            apply_series(tree, [], state=state)

    def test_lost_pristine_copy(self, tree: Path, state: Path) -> None:
        apply_series(tree, [change("run.sh", 5, "new")], state=state)
        (state / "pristine/run.sh").write_text("other\n")
        with pytest.raises(InfraError, match=r"run.sh: expected the pristine copy"):
            apply_series(tree, [], state=state)

    @fault(
        "the disk is full where a patched file is renamed",
        where="disk",
        blame=Blame.INFRA,
        survives="the tree, which the next call finishes or takes back",
    )
    def test_full_disk_is_told_as_such(self, tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(self: Path, target: Path) -> None:
            raise OSError(28, "No space left on device", str(self))

        monkeypatch.setattr(Path, "replace", full)
        pristine = files(tree)
        with pytest.raises(Shortage, match="no space left on device"):
            apply_series(tree, [change("run.sh", 5, "new")], state=state)
        monkeypatch.undo()
        apply_series(tree, [], state=state)
        assert files(tree) == pristine

    @fault(
        "killed at each change to the disk while one series replaces another",
        where="killed",
        blame=Blame.NOBODY,
        survives="the tree: the next call makes it exactly what is asked for",
    )
    @pytest.mark.parametrize("then", ["new", "former", "none", "other"])
    def test_killed_at_every_single_step(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
    ) -> None:
        body = "".join(f"-{line}\n" for line in LINES)
        series = {
            "former": [change("run.sh", 5, "former"), change("kernel/a.c", 5, "a"), create("old/o", "o")],
            "new": [
                change("kernel/a.c", 9, "A"),
                patch(f"--- a/kernel/b.c\n+++ /dev/null\n@@ -1,30 +0,0 @@\n{body}"),
                create("n/n", "n", mode="100755"),
            ],
            "none": [],
            "other": [change("kernel/b.c", 9, "b"), create("n/n", "m")],
        }
        killed_everywhere(tree, series, then, tmp_path=tmp_path, monkeypatch=monkeypatch)

    @fault(
        "killed at each change to the disk while a series replaces directories by links",
        where="killed",
        blame=Blame.NOBODY,
        survives="the tree: the next call makes it exactly what is asked for",
    )
    @pytest.mark.parametrize("then", ["new", "former", "none", "other"])
    def test_killed_at_every_single_step_with_symbolic_links(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
    ) -> None:
        (tree / "dir").symlink_to("kernel")
        (tree / "lib").symlink_to("run.sh")
        series = {
            "former": [link("own", "kernel"), create("n/x", "x"), turn("lib", "run.sh", "kernel/a.c")],
            "new": [
                create("own/x", "x"),
                link("n", "kernel"),
                turn("lib", "run.sh", "dir/b.c"),
                unlink("dir", "kernel"),
            ],
            "none": [],
            "other": [unlink("dir", "kernel"), create("dir/a.c", "a"), link("n", "dir"), create("own", "kernel")],
        }
        killed_everywhere(tree, series, then, tmp_path=tmp_path, monkeypatch=monkeypatch)


def killed_everywhere(
    tree: Path, series: dict[str, list[Patch]], then: str, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the last act on the disk was on the way from the former series to the new one, the next call makes the
    tree exactly what it is asked for."""
    pristine = files(tree)
    monkeypatch.setattr(patched_tree, "patched", functools.cache(patched))
    apply_series(tree, series[then], state=tmp_path / "reference")
    expected = files(tree)
    apply_series(tree, [], state=tmp_path / "reference")
    steps = 0
    for steps in range(200):
        work, state = tmp_path / f"work{steps}", tmp_path / f"state{steps}"
        shutil.copytree(tree, work, symlinks=True)
        apply_series(work, series["former"], state=state)
        with monkeypatch.context() as dying:
            die_after(steps, dying)
            try:
                apply_series(work, series["new"], state=state)
            except Killed:
                done = False
            else:
                done = True
        apply_series(work, series[then], state=state)
        assert files(work) == expected, f"killed at step {steps}"
        apply_series(work, [], state=state)
        assert files(work) == pristine, f"killed at step {steps}"
        if done:
            break
    assert steps > 15


class Killed(BaseException):
    """SIGKILL's stand-in: nobody catches it."""


def die_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `steps` changes to the disk happen, then none."""
    left = [steps]

    def guard(name: str) -> None:
        real = getattr(Path, name)

        def act(self: Path, *args: object, **options: object) -> object:
            if name == "open" and "w" not in str(args):
                return real(self, *args, **options)
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(self, *args, **options)

        monkeypatch.setattr(Path, name, act)

    for name in ("open", "chmod", "replace", "unlink", "rmdir", "mkdir", "symlink_to"):
        guard(name)
