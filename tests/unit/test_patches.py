"""`harness.build.patches.apply_series`: from any series to any other, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.build import applydiff
from harness.build import patches as module
from harness.build.load_patches import load_patches
from harness.build.patches import apply_series
from harness.errors import InfraError, UserError
from harness.model.kernel import Patch
from tests.unit.numbered import LINES, OLD, change, create, files, git, make_numbered, patch, times

DATA = Path(__file__).parents[1] / "data" / "series"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_numbered(tmp_path / "src")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "series"


def refusal(tree: Path, series: list[Patch], state: Path) -> UserError:
    """The error; checks that it left the tree as it was."""
    before, clock = files(tree), times(tree)
    with pytest.raises(UserError) as caught:
        apply_series(tree, series, state=state)
    assert (files(tree), times(tree)) == (before, clock)
    return caught.value


class TestSeries:
    def test_recorded_series_there_and_back(self, tmp_path: Path, state: Path) -> None:
        tree = tmp_path / "tree"
        shutil.copytree(DATA / "tree", tree)
        series = load_patches([DATA / "quilt"])
        assert apply_series(tree, series, state=state)
        assert files(tree) == files(DATA / "after")
        assert not (tree / "kernel/old.c").exists()
        assert apply_series(tree, (), state=state)
        assert files(tree) == files(DATA / "tree")

    def test_same_series_again_does_nothing(self, tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        series = [change("kernel/a.c", 5, "new"), create("kernel/n.c", "n")]
        assert apply_series(tree, series, state=state)
        before = times(tree)
        monkeypatch.setattr(applydiff, "_run_patch", None)
        monkeypatch.setattr(module, "write", None)
        assert not apply_series(tree, series, state=state)
        assert times(tree) == before

    def test_no_series_on_a_pristine_tree_does_nothing(self, tree: Path, state: Path) -> None:
        assert not apply_series(tree, (), state=state)
        assert not state.exists()

    def test_other_series_replaces_the_former(self, tree: Path, state: Path) -> None:
        pristine = files(tree)
        apply_series(tree, [change("kernel/a.c", 5, "one"), create("new/x.c", "x")], state=state)
        apply_series(tree, [change("kernel/b.c", 5, "two")], state=state)
        assert files(tree).keys() == pristine.keys()
        assert files(tree)["kernel/a.c"] == pristine["kernel/a.c"]
        assert b"two" in files(tree)["kernel/b.c"][0]
        assert not (tree / "new").exists()
        assert sorted(path.name for path in (state / "pristine").rglob("*.c")) == ["b.c"]

    def test_only_what_differs_gets_a_new_time(self, tree: Path, state: Path) -> None:
        a, b = change("kernel/a.c", 5, "one"), change("kernel/b.c", 5, "two")
        apply_series(tree, [a, b], state=state)
        first = times(tree)
        assert first["run.sh"] == OLD
        assert first["kernel/a.c"] > OLD
        apply_series(tree, [a, change("kernel/b.c", 5, "three")], state=state)
        second = times(tree)
        assert (second["run.sh"], second["kernel/a.c"]) == (OLD, first["kernel/a.c"])
        assert second["kernel/b.c"] > first["kernel/b.c"]

    def test_taking_back_gives_a_new_time_too(self, tree: Path, state: Path) -> None:
        """make compares with objects that were built from the patched file."""
        apply_series(tree, [change("kernel/a.c", 5, "one")], state=state)
        patched = times(tree)["kernel/a.c"]
        apply_series(tree, [], state=state)
        assert times(tree)["kernel/a.c"] > patched

    def test_patch_that_is_taken_back_in_the_series_changes_nothing(self, tree: Path, state: Path) -> None:
        there = change("kernel/a.c", 5, "new")
        back = patch(there.text.replace("-line 5\n+new", "-new\n+line 5"), name="0002-back.patch")
        assert not apply_series(tree, [there, back], state=state)
        assert times(tree)["kernel/a.c"] == OLD

    def test_renamed_series_is_the_same(self, tree: Path, state: Path) -> None:
        apply_series(tree, [change("kernel/a.c", 5, "new", name="a.patch")], state=state)
        assert not apply_series(tree, [change("kernel/a.c", 5, "new", name="b.patch")], state=state)

    def test_hard_linked_tree_keeps_its_content(self, tree: Path, tmp_path: Path, state: Path) -> None:
        twin = tmp_path / "twin"
        shutil.copytree(tree, twin, copy_function=os.link)
        before = files(twin)
        mode = git("run.sh", "old mode 100755", "new mode 100644")
        apply_series(tree, [change("kernel/a.c", 5, "new"), mode], state=state)
        assert files(twin) == before
        apply_series(tree, [], state=state)
        assert files(twin) == before

    def test_nothing_is_left_over(self, tree: Path, state: Path) -> None:
        before = set(files(tree))
        apply_series(tree, [change("kernel/a.c", 5, "new")], state=state)
        assert set(files(tree)) == before

    def test_fuzz_and_offset_as_kernel_developers_know_them(self, tree: Path, state: Path) -> None:
        moved = [*(["added"] * 4), *LINES]
        apply_series(tree, [change("kernel/a.c", 8, "new", base=moved)], state=state)
        assert (tree / "kernel/a.c").read_text().split("\n")[3] == "new"


class TestForms:
    def test_modes_stay(self, tree: Path, state: Path) -> None:
        (tree / "kernel/a.c").chmod(0o640)
        apply_series(tree, [change("run.sh", 5, "new"), change("kernel/a.c", 5, "new")], state=state)
        assert files(tree)["run.sh"][1] == 0o755
        assert files(tree)["kernel/a.c"][1] == 0o640

    def test_mode_change_and_back(self, tree: Path, state: Path) -> None:
        apply_series(tree, [git("kernel/a.c", "old mode 100644", "new mode 100755")], state=state)
        assert files(tree)["kernel/a.c"][1] == 0o755
        apply_series(tree, [git("run.sh", "old mode 100755", "new mode 100644")], state=state)
        assert (files(tree)["kernel/a.c"][1], files(tree)["run.sh"][1]) == (0o644, 0o644)

    @pytest.mark.parametrize(("mode", "expected"), [("100644", 0o644), ("100755", 0o755)])
    def test_new_file(self, tree: Path, state: Path, mode: str, expected: int) -> None:
        apply_series(tree, [create("deep/er/x", "x", mode=mode)], state=state)
        assert files(tree)["deep/er/x"] == (b"x\n", expected)
        apply_series(tree, [], state=state)
        assert not (tree / "deep").exists()

    def test_new_empty_file(self, tree: Path, state: Path) -> None:
        apply_series(tree, [git("e", "new file mode 100644", "index 0..e")], state=state)
        assert files(tree)["e"][0] == b""

    def test_new_file_where_an_empty_one_is(self, tree: Path, state: Path) -> None:
        (tree / "x").touch()
        apply_series(tree, [create("x", "x")], state=state)
        assert files(tree)["x"][0] == b"x\n"

    def test_deleted_file_comes_back(self, tree: Path, state: Path) -> None:
        before = files(tree)
        body = "".join(f"-{line}\n" for line in LINES)
        apply_series(tree, [patch(f"--- a/run.sh\n+++ /dev/null\n@@ -1,30 +0,0 @@\n{body}")], state=state)
        assert not (tree / "run.sh").exists()
        apply_series(tree, [], state=state)
        assert files(tree) == before

    def test_rename_with_change(self, tree: Path, state: Path) -> None:
        text = change("kernel/a.c", 5, "new").text.replace("+++ b/kernel/a.c", "+++ b/lib/z.c")
        moved = patch("diff --git a/kernel/a.c b/lib/z.c\nrename from kernel/a.c\nrename to lib/z.c\n" + text)
        before = files(tree)
        apply_series(tree, [moved], state=state)
        assert "kernel/a.c" not in files(tree)
        assert b"line 4\nnew\nline 6" in files(tree)["lib/z.c"][0]
        apply_series(tree, [], state=state)
        assert files(tree) == before

    def test_swapped_names(self, tree: Path, state: Path) -> None:
        (tree / "x").write_text("x\n")
        (tree / "y").write_text("y\n")
        moves = [("x", "y"), ("y", "x")]
        text = "".join(f"diff --git a/{a} b/{b}\nrename from {a}\nrename to {b}\n" for a, b in moves)
        apply_series(tree, [patch(text)], state=state)
        assert (files(tree)["x"][0], files(tree)["y"][0]) == (b"y\n", b"x\n")

    def test_copy_takes_the_file_as_it_was_before_the_patch(self, tree: Path, state: Path) -> None:
        copy = "diff --git a/kernel/a.c b/z.c\ncopy from kernel/a.c\ncopy to z.c\n"
        before = files(tree)["kernel/a.c"]
        apply_series(tree, [patch(change("kernel/a.c", 5, "new").text + copy)], state=state)
        assert files(tree)["z.c"] == before
        assert b"new" in files(tree)["kernel/a.c"][0]

    def test_two_sections_for_one_file(self, tree: Path, state: Path) -> None:
        text = change("kernel/a.c", 5, "one").text + change("kernel/a.c", 20, "two").text
        apply_series(tree, [patch(text)], state=state)
        assert b"one" in files(tree)["kernel/a.c"][0]
        assert b"two" in files(tree)["kernel/a.c"][0]

    def test_no_newline_at_end_of_file(self, tree: Path, state: Path) -> None:
        (tree / "n").write_bytes(b"a")
        mark = "\\ No newline at end of file\n"
        apply_series(tree, [patch(f"--- a/n\n+++ b/n\n@@ -1 +1 @@\n-a\n{mark}+b\n{mark}")], state=state)
        assert (tree / "n").read_bytes() == b"b"
        apply_series(tree, [patch(f"--- a/n\n+++ b/n\n@@ -1 +1 @@\n-a\n{mark}+b\n")], state=state)
        assert (tree / "n").read_bytes() == b"b\n"

    def test_bytes_that_are_no_utf8(self, tree: Path, state: Path) -> None:
        (tree / "n").write_bytes(b"\xe9\f\r\n")
        apply_series(tree, [patch("--- a/n\n+++ b/n\n@@ -1 +1 @@\n-\udce9\f\r\n+\udcff\r\n")], state=state)
        assert (tree / "n").read_bytes() == b"\xff\r\n"

    def test_file_makes_room_for_a_directory_and_back(self, tree: Path, state: Path) -> None:
        (tree / "x").write_text("x\n")
        gone = git("x", "deleted file mode 100644", "--- a/x", "+++ /dev/null", "@@ -1 +0,0 @@", "-x")
        apply_series(tree, [gone, create("x/y", "y")], state=state)
        assert files(tree)["x/y"][0] == b"y\n"
        assert not apply_series(tree, [gone, create("x/y", "y")], state=state)
        apply_series(tree, [], state=state)
        assert files(tree)["x"][0] == b"x\n"


class TestRefusals:
    def test_hunk_that_does_not_apply(self, tree: Path, state: Path) -> None:
        apply_series(tree, [former := change("run.sh", 5, "former")], state=state)
        good = change("kernel/a.c", 5, "good")
        text = change("kernel/b.c", 5, "good").text
        text += "@@ -19,3 +19,4 @@ int f(void)\n line 19\n-line xx\n+new\n+more\n line yy\n"
        error = refusal(tree, [former, good, patch(text, name="0002-foo.patch")], state)
        assert error.message.startswith("0002-foo.patch: kernel/b.c: hunk 2 (@@ -19,3 +19,4 @@) does not apply: ")
        assert error.details == (
            "expected by the patch at line 19:",
            "  line 19",
            "  line xx",
            "  line yy",
            "found in the file at line 19:",
            "  line 19",
            "> line 20",
            "> line 21",
        )
        assert not apply_series(tree, [former], state=state)

    def test_details_follow_lines_that_moved(self, tree: Path, state: Path) -> None:
        added = patch("--- a/run.sh\n+++ b/run.sh\n@@ -0,0 +1,3 @@\n+x\n+y\n+z\n@@ -1 +4 @@\n-line 1\n+LINE 1\n")
        bad = change("run.sh", 10, "new", base=[*LINES[:9], "gone", "gone too", *LINES[11:]])
        error = refusal(tree, [added, bad], state)
        assert "found in the file at line 12:" in error.details
        assert error.details[-3:] == ("  line 9", "> line 10", "> line 11")

    def test_details_follow_the_hunks_before(self, tree: Path, state: Path) -> None:
        """The file is 4 lines shorter than the patch knows it, and nothing in it is like the hunk."""
        good = change("run.sh", 9, "new", base=[*(["x"] * 4), *LINES]).text
        error = refusal(tree, [patch(good + "@@ -20,2 +20,1 @@\n-other\n-lines\n+new\n")], state)
        assert error.details[-3:] == ("found in the file at line 16:", "> line 16", "> line 17")

    def test_details_show_the_nearest_of_equal_places(self, tree: Path, state: Path) -> None:
        (tree / "run.sh").write_text("{\n\tone();\n}\n" * 9)
        error = refusal(tree, [patch("--- a/run.sh\n+++ b/run.sh\n@@ -13,2 +13,1 @@\n {\n-\ttwo();\n")], state)
        assert error.details[-3:] == ("found in the file at line 13:", "  {", "> \tone();")

    def test_all_failed_hunks_are_counted(self, tree: Path, state: Path) -> None:
        text = "--- a/run.sh\n+++ b/run.sh\n@@ -1 +1 @@\n-x\n+y\n@@ -5 +5 @@\n-line 5\n+five\n@@ -9 +9 @@\n-x\n+y\n"
        assert "hunk 1 (@@ -1 +1 @@) does not apply (nor do hunks 3): " in refusal(tree, [patch(text)], state).message

    def test_hunk_past_the_end_of_the_file(self, tree: Path, state: Path) -> None:
        error = refusal(tree, [patch("--- a/run.sh\n+++ b/run.sh\n@@ -90 +90 @@\n-x\n+y\n")], state)
        assert error.details[-1] == "found: the file has no line 90"

    def test_only_white_space_differs(self, tree: Path, state: Path) -> None:
        (tree / "run.sh").write_text("\tfoo();\r\n")
        error = refusal(tree, [patch("--- a/run.sh\n+++ b/run.sh\n@@ -1 +1 @@\n-    foo();\n+bar();\n")], state)
        assert "only white space or line ends differ" in error.message

    @pytest.mark.parametrize("count", [1, 2])
    def test_already_applied(self, tree: Path, state: Path, count: int) -> None:
        series = [change("run.sh", 5, "new", name=f"{n}.patch") for n in range(count)]
        (tree / "run.sh").write_text(
            (tree / "run.sh").read_text().replace("line 5\n", "new\n" if count == 1 else "line 5\n")
        )
        message = refusal(tree, series, state).message
        assert message.startswith(f"{count - 1}.patch: run.sh: ")
        assert message.endswith("the patch seems to be already applied")

    def test_file_that_does_not_exist(self, tree: Path, state: Path) -> None:
        message = refusal(tree, [change("kernel/gone.c", 5, "x")], state).message
        assert message.startswith(
            "0001-x.patch: kernel/gone.c: expected this file in the source, found no such file: is this patch for"
        )

    def test_missing_prefixes_are_suspected(self, tree: Path, state: Path) -> None:
        text = change("kernel/a.c", 5, "x").text.replace("a/kernel", "kernel").replace("b/kernel", "kernel")
        message = refusal(tree, [patch(text)], state).message
        assert (
            "a.c: expected this file in the source, found no such file: its paths seem to lack the prefixes" in message
        )

    def test_deletion_and_rename_that_were_already_applied(self, tree: Path, state: Path) -> None:
        gone = git("gone", "deleted file mode 100644", "--- a/gone", "+++ /dev/null", "@@ -1 +0,0 @@", "-x")
        assert refusal(tree, [gone], state).message.endswith("seems to be already applied")
        moved = git("gone", "rename from gone", "rename to run.sh")
        assert refusal(tree, [moved], state).message.endswith("seems to be already applied")

    def test_new_file_that_is_there(self, tree: Path, state: Path) -> None:
        (tree / "x").write_text("x\n")
        assert refusal(tree, [create("x", "x")], state).message.endswith("the patch seems to be already applied")
        message = refusal(tree, [create("run.sh", "x")], state).message
        assert message == (
            "0001-x.patch: run.sh: expected no such file yet, since the patch creates it, found one with other content"
        )

    def test_rename_onto_a_file(self, tree: Path, state: Path) -> None:
        text = "diff --git a/run.sh b/kernel/a.c\nrename from run.sh\nrename to kernel/a.c\n"
        (tree / "kernel/a.c").write_text("other\n")
        assert "kernel/a.c: expected no such file yet" in refusal(tree, [patch(text)], state).message

    def test_deletion_of_a_file_with_more_in_it(self, tree: Path, state: Path) -> None:
        text = "--- a/run.sh\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-line 1\n-line 2\n"
        error = refusal(tree, [patch(text)], state)
        assert "run.sh: expected the whole file in the patch that deletes it" in error.message
        assert error.details[0] == "line 3"

    def test_section_that_changes_nothing(self, tree: Path, state: Path) -> None:
        nothing = git("run.sh", "index 1..2 100755", "--- a/run.sh", "+++ b/run.sh", "@@@ -1 -1 +1 @@@", "--line 1")
        message = refusal(tree, [nothing], state).message
        assert message.startswith(
            "0001-x.patch: run.sh: expected a change of the file (as '@@ -1,2 +1,3 @@' and lines)"
        )

    def test_submodule(self, tree: Path, state: Path) -> None:
        message = refusal(tree, [create("module", "Subproject commit 1", mode="160000")], state).message
        assert "module: expected a file or a symbolic link, found mode 160000 (a submodule)" in message

    def test_a_device(self, tree: Path, state: Path) -> None:
        message = refusal(tree, [create("disk", "x", mode="060000")], state).message
        assert message.endswith("disk: expected a file or a symbolic link, found mode 60000")

    def test_a_file_that_is_too_large_to_be_patched(
        self, tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tree / "run.sh").write_text("x" * 1000)
        monkeypatch.setenv("HARNESS_LIMIT_RESULT_BYTES", "500")
        nothing = git("run.sh", "--- a/run.sh", "+++ b/run.sh", "@@ -1 +1 @@", "-x", "+y")
        assert "run.sh: expected at most 500 bytes" in refusal(tree, [nothing], state).message

    def test_hunks_that_are_not_in_the_order_of_the_lines(self, tree: Path, state: Path) -> None:
        one, two = (change("run.sh", at, "new").text for at in (20, 5))
        text = one + "".join(two.partition("@@")[1:])
        error = refusal(tree, [patch(text)], state)
        assert error.message == (
            "0001-x.patch: run.sh: hunk 2 (@@ -4,3 +4,3 @@) does not apply: expected the hunks in the order of the "
            "file's lines, found it not behind hunk 1; make the patch again"
        )
        assert error.details == ()

    def test_lines_that_are_there_but_not_where_they_could_be_meant(self, tree: Path, state: Path) -> None:
        one = change("run.sh", 20, "new").text
        text = one + "@@ -25,3 +25,3 @@\n line 4\n-line 5\n+five\n line 6\n"
        message = refusal(tree, [patch(text)], state).message
        assert message.endswith(
            "its lines are only found at line 4, where the hunks around it or the file's ends rule them out"
        )

    def test_new_file_of_a_plain_diff_without_prefixes(self, tree: Path, state: Path) -> None:
        text = "--- /dev/null\n+++ {}/my/new.h\n@@ -0,0 +1 @@\n+x\n"
        message = refusal(tree, [patch(text.format("kernel"))], state).message
        assert message.startswith(
            "0001-x.patch: my/new.h: expected a prefix such as b/, found the directory kernel/: its"
        )
        assert message.endswith("list it in a quilt series with the option -p0")
        apply_series(tree, [patch(text.format("linux-new"))], state=state)
        assert files(tree)["my/new.h"][0] == b"x\n"

    def test_time_behind_blanks_is_no_part_of_a_name(self, tree: Path, state: Path) -> None:
        stamps = ("1970-01-01 01:00:00.000000000 +0100", "2024-03-01 20:13:31.484002255 +0100")
        text = f"--- a/n.txt     {stamps[0]}\n+++ b/n.txt     {stamps[1]}\n@@ -0,0 +1 @@\n+x\n"
        apply_series(tree, [patch(text)], state=state)
        assert files(tree)["n.txt"][0] == b"x\n"
        gone = f"--- a/n.txt     {stamps[1]}\n+++ b/n.txt     {stamps[0]}\n@@ -1 +0,0 @@\n-x\n"
        apply_series(tree, [patch(text), patch(gone)], state=state)
        assert not (tree / "n.txt").exists()

    def test_file_below_a_file_and_directory_over_a_file(self, tree: Path, state: Path) -> None:
        message = refusal(tree, [create("kernel/a.c/x", "x")], state).message
        assert "kernel/a.c/x: expected the directory kernel/a.c, found a file of that name" in message
        message = refusal(tree, [create("n/x", "x"), create("n", "x")], state).message
        assert "n: expected a file, found a directory" in message
        message = refusal(tree, [create("n", "x"), create("n/x", "x")], state).message
        assert "n/x: expected the directory n, found a file of that name" in message

    def test_file_where_the_last_series_made_a_directory(self, tree: Path, state: Path) -> None:
        apply_series(tree, [create("n/x", "x")], state=state)
        apply_series(tree, [create("n", "n")], state=state)
        assert files(tree)["n"][0] == b"n\n"
        apply_series(tree, [create("n/x", "x")], state=state)
        assert files(tree)["n/x"][0] == b"x\n"

    @pytest.mark.parametrize("name", [".a.c.harness-new", "new", "series.json", "x" * 255])
    def test_no_name_is_our_own(self, tree: Path, state: Path, name: str) -> None:
        """A file of any name survives when the file beside it is replaced, and when a killed run is finished."""
        series = [create(f"kernel/{name}", "x"), change("kernel/a.c", 5, "new")]
        pristine = files(tree)
        apply_series(tree, series, state=state)
        assert files(tree)[f"kernel/{name}"] == (b"x\n", 0o644)
        apply_series(tree, [series[0]], state=state)
        assert files(tree)[f"kernel/{name}"] == (b"x\n", 0o644)
        apply_series(tree, [], state=state)
        assert files(tree) == pristine

    @pytest.mark.parametrize("path", ["../out", "/etc/out", ".git/hooks/out", "kernel/../../out"])
    def test_path_outside_the_tree(self, tree: Path, state: Path, tmp_path: Path, path: str) -> None:
        assert "expected a path" in refusal(tree, [create(path, "x")], state).message
        assert not (tmp_path / "out").exists()

    def test_directory_of_that_name(self, tree: Path, state: Path) -> None:
        assert "kernel: expected a file, found a directory" in refusal(tree, [create("kernel", "x")], state).message

    def test_host_without_patch(self, tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InfraError, match="patch: "):
            apply_series(tree, [change("run.sh", 5, "x")], state=state)
