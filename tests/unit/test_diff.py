"""`harness.parse.diff`: diffs taken apart."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.parse.diff import parse_diff

DIFF = "--- a/k.c\n+++ b/k.c\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n"
GIT = "diff --git a/k.c b/k.c\nindex 1..2 100644\n" + DIFF


def sections(*lines: str) -> list[tuple[str | None, str | None, bool, int | None]]:
    text = "\n".join(lines) + "\n"
    return [(one.old, one.new, one.copy, one.mode) for one in parse_diff(text, name="x")]


HUNK = ("@@ -1 +1 @@", "-a", "+b")


class TestParseDiff:
    def test_sections_and_hunks(self) -> None:
        first, second = parse_diff(GIT + "@@ -10,0 +11 @@ int f()\n+e\nprose\n" + DIFF, name="x")
        assert (first.old, first.new, first.path, first.mode, first.copy) == ("k.c", "k.c", "k.c", None, False)
        assert [hunk.header for hunk in first.hunks] == ["@@ -1,3 +1,3 @@", "@@ -10,0 +11 @@"]
        assert first.hunks[0].lines == (" a", "-b", "+c", " d")
        assert first.hunks[0].expected == ("a", "b", "d")
        assert first.hunks[1].start == 10
        assert len(second.hunks) == 1

    def test_removed_line_that_looks_like_a_header(self) -> None:
        (one,) = parse_diff("--- a/k\n+++ b/k\n@@ -1,2 +1,2 @@\n--- a/x\n-b\n+++ b/x\n+@@ -1 +1 @@\n", name="x")
        assert one.hunks[0].lines == ("--- a/x", "-b", "+++ b/x", "+@@ -1 +1 @@")

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (["new file mode 100755", "index 0..1"], (None, "k", False, 0o100755)),
            (["new file mode 100644", "--- /dev/null", "+++ b/k", "@@ -0,0 +1 @@", "+a"], (None, "k", False, 0o100644)),
            (["deleted file mode 100644", "--- a/k", "+++ /dev/null", "@@ -1 +0,0 @@", "-a"], ("k", None, False, None)),
            (["deleted file mode 100644", "index 1..0"], ("k", None, False, None)),
            (["old mode 100644", "new mode 100755"], ("k", "k", False, 0o100755)),
            (["rename from x/k", "rename to y/k"], ("x/k", "y/k", False, None)),
            (["copy from x/k", "copy to k", "--- a/x/k", "+++ b/k", *HUNK], ("x/k", "k", True, None)),
            (["--- a/k", "+++ b/k", *HUNK], ("k", "k", False, None)),
        ],
    )
    def test_git_headers(self, lines: list[str], expected: tuple[object, ...]) -> None:
        assert sections("diff --git a/k b/k", *lines) == [expected]

    @pytest.mark.parametrize(
        ("names", "path"),
        [("a/sp ace b/sp ace", "sp ace"), (r'"a/\303\266\t\"" "b/\303\266\t\""', 'ö\t"'), ("a/b/b b/b/b", "b/b")],
    )
    def test_unusual_names(self, names: str, path: str) -> None:
        assert sections(f"diff --git {names}", "old mode 100644", "new mode 100755")[0][:2] == (path, path)

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (["--- /dev/null", "+++ b/k", "@@ -0,0 +1 @@", "+a"], (None, "k")),
            (["--- a/k\t1970-01-01 01:00:00.0 +0100", "+++ b/k", "@@ -0,0 +1 @@", "+a"], (None, "k")),
            (["--- a/k", "+++ /dev/null", "@@ -1 +0,0 @@", "-a"], ("k", None)),
            (["--- a/k", "+++ b/k\t1969-12-31 19:00:00.0 -0500", "@@ -1 +0,0 @@", "-a"], ("k", None)),
            (["--- a/k", "+++ b/k\t2025-01-01 00:00:00.0 -0500", "@@ -1 +0,0 @@", "-a"], ("k", "k")),
            (["--- a/k.c.orig", "+++ b/k.c", *HUNK], ("k.c", "k.c")),
        ],
    )
    def test_plain_headers(self, lines: list[str], expected: tuple[object, ...]) -> None:
        assert sections("diff -urN a b", *lines)[0][:2] == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (DIFF.replace(" d\n", ""), r"line 7: hunk 1 \(@@ -1,3 \+1,3 @@\) of k.c is cut off: expected 1 more old"),
            (DIFF.replace(" a\n", "a\n"), r"line 4: hunk 1 .* is damaged .* found 'a'"),
            (DIFF.replace("+c\n", "+c\n+e\n"), r"line 8: hunk 1 .* do not add up to its header, found ' d'"),
            (DIFF + "+e\n", r"line 8: hunk 1 .* has more lines than its header says"),
            (DIFF + "prose\n@@ -1 +1 @@\n-a\n+b\n", r"line 9: expected a '--- a/file'"),
            (DIFF + "Binary files a/x and b/x differ\n", r"line 8: .* binary changes are not supported"),
            ("diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 1\n", r"line 3: x: .* binary changes"),
            ("diff --git a/x b/x\nindex 1..2\nBinary files a/x and b/x differ\n", r"line 3: x: .* binary changes"),
            ("diff --git x y\nold mode 100644\nnew mode 100755\n", r"line 1: expected a path below the tree"),
        ],
    )
    def test_damage_is_told_with_its_line(self, text: str, message: str) -> None:
        with pytest.raises(UserError, match="^x: " + message.replace(":", " of the diff:", 1)):
            parse_diff(text, name="x")

    @pytest.mark.parametrize("path", ["../x", "k/../../x", "/etc/x", ".git/hooks/x", "k/.GIT/x", "k//x", "./x"])
    def test_path_that_leaves_the_tree(self, path: str) -> None:
        plain = f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"
        bare = f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-a\n+b\n"
        moved = f"diff --git a/k b/k\nrename from k\nrename to {path}\n"
        for text in [plain, moved] + [bare] * path.startswith("/"):
            with pytest.raises(UserError, match=r"^x: line .*expected a path"):
                parse_diff(text, name="x")
