"""Symbolic links in a patch series: made, changed, taken back, and never a way out of the tree."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.build.patches import apply_series, patched_files
from harness.build.tree import scan
from harness.errors import InfraError, UserError
from harness.model.kernel import Patch
from tests.unit.numbered import OLD, change, create, files, git, link, make_numbered, patch, times, turn, unlink


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Also with a link to a directory, one to a file and one that is nobody's business, as kernel trees have them."""
    tree = make_numbered(tmp_path / "src")
    (tree / "dir").symlink_to("kernel")
    (tree / "lib").mkdir()
    (tree / "lib/a.c").symlink_to("../kernel/a.c")
    (tree / "lib/far").symlink_to("/usr/include")
    return tree


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "series"


def leads(path: Path) -> str:
    """Where the link leads, as it stands there (`Path.readlink` would make one of ``./a`` and ``a``)."""
    return os.readlink(path)  # noqa: PTH115


def refusal(tree: Path, series: list[Patch], state: Path) -> str:
    before, clock = files(tree), times(tree)
    with pytest.raises(UserError) as caught:
        apply_series(tree, series, state=state)
    assert (files(tree), times(tree)) == (before, clock)
    return caught.value.message


class TestSeries:
    @pytest.mark.parametrize(
        ("path", "target"),
        [
            ("Documentation/own.rst", "../kernel/a.c"),
            ("own", "kernel"),
            ("own", "not/there/yet"),
            ("lib/own", "a.c"),
            ("own", "./kernel/../lib//a.c"),
            ("own", "dir/b.c"),
            ("kernel/own", ".."),
            ("own", "sp ace/ö"),
        ],
    )
    def test_link_is_made_and_taken_back(self, tree: Path, state: Path, path: str, target: str) -> None:
        before = files(tree)
        series = [link(path, target)]
        assert apply_series(tree, series, state=state)
        assert leads(tree / path) == target
        assert files(tree) == before | {path: (f"-> {target}".encode(), 0o777)}
        assert not apply_series(tree, series, state=state)
        assert apply_series(tree, [], state=state)
        assert files(tree) == before
        assert not (tree / "Documentation").exists()

    def test_link_of_the_tree_is_turned_removed_and_put_back(self, tree: Path, state: Path) -> None:
        before = files(tree)
        apply_series(tree, [turn("lib/a.c", "../kernel/a.c", "../kernel/b.c")], state=state)
        assert leads(tree / "lib/a.c") == "../kernel/b.c"
        apply_series(tree, [unlink("lib/a.c", "../kernel/a.c")], state=state)
        assert not (tree / "lib/a.c").is_symlink()
        assert times(tree)["kernel/a.c"] == OLD
        apply_series(tree, [], state=state)
        assert files(tree) == before
        assert not list((state / "pristine").rglob("a.c"))

    def test_link_that_does_not_change_keeps_its_time(self, tree: Path, state: Path) -> None:
        apply_series(tree, [link("own", "kernel/a.c"), change("kernel/a.c", 5, "one")], state=state)
        before = times(tree)
        apply_series(tree, [link("own", "kernel/a.c"), change("kernel/b.c", 5, "one")], state=state)
        assert times(tree)["own"] == before["own"]
        apply_series(tree, [link("own", "kernel/b.c"), change("kernel/b.c", 5, "one")], state=state)
        assert times(tree)["own"] > before["own"]

    def test_rename_and_copy(self, tree: Path, state: Path) -> None:
        moved = "diff --git a/lib/a.c b/tools/a.c\n{0} from lib/a.c\n{0} to tools/a.c\n"
        apply_series(tree, [patch(moved.format("rename"))], state=state)
        assert leads(tree / "tools/a.c") == "../kernel/a.c"
        assert not (tree / "lib/a.c").is_symlink()
        apply_series(tree, [patch(moved.format("copy"))], state=state)
        assert leads(tree / "lib/a.c") == leads(tree / "tools/a.c")

    def test_file_becomes_a_link_and_back(self, tree: Path, state: Path) -> None:
        (tree / "x").write_text("x\n")
        gone = git("x", "deleted file mode 100644", "--- a/x", "+++ /dev/null", "@@ -1 +0,0 @@", "-x")
        there = patch(gone.text + link("x", "kernel/a.c").text)
        back = patch(unlink("x", "kernel/a.c").text + create("x", "y").text)
        apply_series(tree, [there], state=state)
        assert leads(tree / "x") == "kernel/a.c"
        apply_series(tree, [there, back], state=state)
        assert files(tree)["x"] == (b"y\n", 0o644)
        apply_series(tree, [], state=state)
        assert files(tree)["x"] == (b"x\n", 0o644)

    def test_link_to_a_directory_becomes_a_directory_and_back(self, tree: Path, state: Path) -> None:
        before = files(tree)
        apply_series(tree, [unlink("dir", "kernel"), create("dir/x", "x")], state=state)
        assert files(tree)["dir/x"] == (b"x\n", 0o644)
        assert not (tree / "kernel/x").exists()
        apply_series(tree, [patch(unlink("dir", "kernel").text + create("dir/y", "y").text)], state=state)
        assert "dir/x" not in files(tree)
        apply_series(tree, [], state=state)
        assert files(tree) == before

    def test_directory_becomes_a_link_and_back(self, tree: Path, state: Path) -> None:
        apply_series(tree, [create("d/x", "x")], state=state)
        apply_series(tree, [link("d", "kernel")], state=state)
        assert leads(tree / "d") == "kernel"
        apply_series(tree, [create("d/x", "y")], state=state)
        assert files(tree)["d/x"] == (b"y\n", 0o644)
        assert not (tree / "kernel/x").exists()

    def test_hard_linked_target_of_a_link_stays(self, tree: Path, state: Path) -> None:
        apply_series(tree, [link("own", "kernel/a.c"), change("kernel/a.c", 5, "new")], state=state)
        assert b"new" in (tree / "own").read_bytes()

    def test_what_it_is_is_told_of_patched_files_and_seen_in_the_tree(self, tree: Path, state: Path) -> None:
        apply_series(tree, [link("own", "kernel/a.c")], state=state)
        first = patched_files(state)
        apply_series(tree, [create("own", "kernel/a.c")], state=state)
        assert first.keys() == patched_files(state).keys() == {"own"}
        assert first != patched_files(state)
        apply_series(tree, [link("own", "kernel/a.c")], state=state)
        (own,) = [entry for entry in scan(tree) if entry.path == "own"]
        assert stat.S_ISLNK(own.mode)

    def test_link_that_somebody_turned_is_not_healed(self, tree: Path, state: Path) -> None:
        apply_series(tree, [link("own", "kernel/a.c")], state=state)
        (tree / "own").unlink()
        (tree / "own").symlink_to("kernel/b.c")
        with pytest.raises(InfraError, match="own: expected the file as the last patch series left it"):
            apply_series(tree, [], state=state)

    def test_directory_that_somebody_made_a_link_is_not_written_through(
        self, tree: Path, state: Path, tmp_path: Path
    ) -> None:
        apply_series(tree, [create("n/x", "x"), create("n/y", "y")], state=state)
        (tree / "n").rename(tmp_path / "outside")
        (tree / "n").symlink_to(tmp_path / "outside")
        with pytest.raises(UserError, match="n/x: expected a path of plain directories, found the symbolic link n"):
            apply_series(tree, [create("n/x", "other")], state=state)
        apply_series(tree, [], state=state)
        assert {file.name for file in (tmp_path / "outside").iterdir()} == {"x", "y"}
        assert (tmp_path / "outside/x").read_text() == "x\n"


class TestKinds:
    def test_change_of_a_file_is_none_of_a_link(self, tree: Path, state: Path) -> None:
        message = refusal(tree, [change("lib/a.c", 5, "new")], state)
        assert "lib/a.c: expected a regular file, found a symbolic link to '../kernel/a.c'" in message
        message = refusal(tree, [turn("kernel/a.c", "x", "y")], state)
        assert "kernel/a.c: expected a symbolic link, found a regular file" in message

    @pytest.mark.parametrize("path", ["lib/a.c", "kernel/a.c"])
    def test_mode_of_another_kind(self, tree: Path, state: Path, path: str) -> None:
        mode = "100755" if path == "lib/a.c" else "120000"
        message = refusal(tree, [git(path, f"old mode {mode}", f"new mode {mode}")], state)
        assert f"{path}: expected a " in message

    def test_new_file_where_a_link_is_and_new_link_where_a_file_is(self, tree: Path, state: Path) -> None:
        created = "expected no such file yet, since the patch creates it, found "
        assert refusal(tree, [create("lib/far", "x")], state).endswith(f"lib/far: {created}a symbolic link")
        assert refusal(tree, [link("run.sh", "kernel/a.c")], state).endswith(f"run.sh: {created}a regular file")
        again = refusal(tree, [link("dir", "kernel")], state)
        assert again.endswith("with the same content: the patch seems to be already applied")

    def test_link_that_leads_elsewhere_than_the_patch_says(self, tree: Path, state: Path) -> None:
        assert "lib/a.c: hunk 1" in refusal(tree, [turn("lib/a.c", "../kernel/c.c", "../kernel/b.c")], state)


OUTSIDE = [
    *(("t", target) for target in ("/etc", "/etc/passwd", "..", "../x", "kernel/../../x", "./../x", "//etc")),
    *(("kernel/t", target) for target in ("../..", "../../x", ".././../x", "a/../../../x")),
    *(("t", target) for target in (".git", ".git/hooks", ".GIT/hooks", "kernel/../.git/config")),
    ("t", "lib/far"),
    ("t", "lib/far/stdio.h"),
    ("t", "dir/../../x"),
    ("lib/t", "../dir/../../x"),
    ("t", "a\tb"),
    ("t", "x" * 5000),
]


class TestWaysOut:
    """No patch writes anything outside the tree, or into .git, or leaves a link that leads there."""

    @pytest.mark.parametrize(("path", "target"), OUTSIDE)
    def test_link_that_leads_out(self, tree: Path, state: Path, path: str, target: str) -> None:
        message = refusal(tree, [link(path, target)], state)
        assert f"{path}: expected a symbolic link to a place in the tree, found one to" in message
        assert not (tree / path).is_symlink()

    def test_link_that_ends_in_a_line_feed(self, tree: Path, state: Path) -> None:
        assert "expected a symbolic link to" in refusal(tree, [create("t", "kernel/a.c", mode="120000")], state)

    def test_link_that_is_turned_to_lead_out(self, tree: Path, state: Path) -> None:
        assert "expected a symbolic link to" in refusal(tree, [turn("lib/a.c", "../kernel/a.c", "../../x")], state)

    def test_link_that_leads_out_from_where_it_is_moved(self, tree: Path, state: Path) -> None:
        moved = patch("diff --git a/lib/a.c b/a.c\nrename from lib/a.c\nrename to a.c\n")
        assert "a.c: expected a symbolic link to" in refusal(tree, [moved], state)

    def test_link_that_leads_out_once_another_is_there(self, tree: Path, state: Path) -> None:
        first = link("t", "one/two/../../x", name="1.patch")
        apply_series(tree, [first], state=state)
        apply_series(tree, [], state=state)
        message = refusal(tree, [first, link("one/two", "../kernel", name="2.patch")], state)
        assert message.startswith("2.patch: t: expected a symbolic link to a place in the tree")

    def test_links_in_a_circle(self, tree: Path, state: Path) -> None:
        assert "expected a symbolic link to" in refusal(tree, [link("t", "t")], state)
        assert "expected a symbolic link to" in refusal(tree, [link("t", "t/../..")], state)
        assert "expected a symbolic link to" in refusal(tree, [link("u", "v/x"), link("v", "u")], state)

    def test_links_that_would_take_for_ever_to_follow(self, tree: Path, state: Path) -> None:
        twice = [link(f"t{n}", f"t{n - 1}/../kernel/../t{n - 1}") for n in range(1, 30)]
        assert "expected a symbolic link to" in refusal(tree, [link("t0", "kernel"), *twice], state)
        chain = [link(f"t{n}", f"t{n - 1}") for n in range(1, 45)]
        assert "expected a symbolic link to" in refusal(tree, [link("t0", "kernel"), *chain], state)

    @pytest.mark.parametrize("path", ["dir/x", "dir/a.c", "lib/far/x", "dir/../x", "Dir/../../x"])
    def test_new_file_through_a_link_of_the_tree(self, tree: Path, state: Path, path: str) -> None:
        assert "expected a path " in refusal(tree, [create(path, "x")], state)

    def test_change_deletion_and_move_through_a_link_of_the_tree(self, tree: Path, state: Path) -> None:
        through = "dir/a.c: expected a path of plain directories, found the symbolic link dir"
        assert through in refusal(tree, [change("dir/a.c", 5, "x")], state)
        assert through in refusal(tree, [git("dir/a.c", "old mode 100644", "new mode 100755")], state)
        assert through in refusal(tree, [git("dir/a.c", "deleted file mode 100644", "index 1..0")], state)
        for kind in ("rename", "copy"):
            away = f"diff --git a/dir/a.c b/z\n{kind} from dir/a.c\n{kind} to z\n"
            assert through in refusal(tree, [patch(away)], state)
            here = f"diff --git a/run.sh b/dir/z\n{kind} from run.sh\n{kind} to dir/z\n"
            assert "dir/z: expected a path of plain directories" in refusal(tree, [patch(here)], state)
        assert "dir/z: expected a path of plain" in refusal(tree, [link("dir/z", "a.c")], state)

    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("target", ["kernel", "not/there", "."])
    def test_file_through_a_link_of_the_series(self, tree: Path, state: Path, together: bool, target: str) -> None:
        made, through = link("t", target), create("t/x", "x")
        for one, two in ((made, through), (through, made)):
            series = [patch(one.text + two.text)] if together else [one, two]
            message = refusal(tree, series, state)
            last = one is through and not together
            assert ("t: expected a file, found a directory" if last else "found the symbolic link t") in message
        assert "through" not in files(tree)

    def test_file_of_the_tree_through_a_link_of_the_series(self, tree: Path, state: Path) -> None:
        message = refusal(tree, [link("t", "kernel"), change("t/a.c", 5, "x")], state)
        assert "t/a.c: expected a path of plain directories, found the symbolic link t" in message

    def test_link_in_place_of_a_directory(self, tree: Path, state: Path) -> None:
        assert "kernel: expected a file, found a directory" in refusal(tree, [link("kernel", "lib")], state)
        (tree / "empty/of/files").mkdir(parents=True)
        apply_series(tree, [link("empty", "lib")], state=state)
        assert files(tree)["empty"] == (b"-> lib", 0o777)

    def test_link_beside_a_new_file_stays(self, tree: Path, state: Path) -> None:
        (tree / ".x.harness-new").symlink_to("kernel/a.c")
        apply_series(tree, [create("x", "x")], state=state)
        assert files(tree)["x"] == (b"x\n", 0o644)
        assert files(tree)[".x.harness-new"][0] == b"-> kernel/a.c"
        assert times(tree)["kernel/a.c"] == OLD

    @pytest.mark.parametrize("path", ["link/x", "link/sub/x"])
    def test_nothing_outside_is_read_or_written(self, tree: Path, state: Path, tmp_path: Path, path: str) -> None:
        (tmp_path / "outside/sub").mkdir(parents=True)
        (tmp_path / "outside/there").write_text("line 1\n")
        (tree / "link").symlink_to(tmp_path / "outside")
        assert "found the symbolic link link" in refusal(tree, [create(path, "x")], state)
        there = git("link/there", "deleted file mode 100644", "--- a/link/there", "+++ /dev/null", "@@ -1 +0,0 @@")
        assert "found the symbolic link link" in refusal(tree, [patch(there.text + "-line 1\n")], state)
        assert {file.name for file in (tmp_path / "outside").rglob("*")} == {"sub", "there"}

    @pytest.mark.parametrize("path", ["../t", "/t", ".git/t", "a/../../t", ".Git/t", "a/.GIT/t", "./t", "a//t", "a/."])
    def test_link_at_a_path_outside(self, tree: Path, state: Path, tmp_path: Path, path: str) -> None:
        assert "expected a path" in refusal(tree, [link(path, "kernel")], state)
        assert not (tmp_path / "t").is_symlink()
