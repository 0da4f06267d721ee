"""`harness.parse.diff`: diffs taken apart."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.parse.diff import find_diff, normalize_diff, parse_diff

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
            (DIFF + "Binary files a/x and b/x differ\n", r"line 8: expected a 'diff --git' line .* binary change"),
            (DIFF + "prose\nGIT binary patch\nliteral 1\n", r"line 9: expected a 'diff --git' line .* binary change"),
            ("diff -r a/x b/x\nBinary files a/x and b/x differ\n" + DIFF, r"line 1: .* binary file: .* format-patch"),
            ("diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 1\n", r"line 3: x: expected an 'index' line"),
            ("diff --git a/x b/x\nindex 1..2\nBinary files a/x and b/x differ\n", r"line 3: x: expected its binary"),
            ("diff --git x y\nold mode 100644\nnew mode 100755\n", r"line 1: .* found 'x': its paths seem .* -p0$"),
        ],
    )
    def test_damage_is_told_with_its_line(self, text: str, message: str) -> None:
        with pytest.raises(UserError, match="^x: " + message.replace(":", " of the diff:", 1)):
            parse_diff(text, name="x")

    @pytest.mark.parametrize("ranges", ["-1,3 +1,x", "-1,3", "-1,3 1,3", "-" + "1" * 5000 + ",3 +1,3"])
    def test_a_damaged_hunk_header_is_no_prose(self, ranges: str) -> None:
        damaged = DIFF.replace("-1,3 +1,3", ranges)
        for text in (damaged, damaged + DIFF, DIFF + damaged, DIFF + damaged.partition("+++ b/k.c\n")[2]):
            found = find_diff(f"words\n\n{text}")
            assert found == text
            with pytest.raises(UserError, match=r"k\.c: expected a hunk, as '@@ -1,2 \+1,3 @@', found '@@ -1"):
                parse_diff(found, name="x")

    @pytest.mark.parametrize(
        "text",
        [
            "diff --git drivers/n.h drivers/n.h\nnew file mode 100644\nindex 0..1\n",
            "diff --git n.h n.h\nnew file mode 100644\nindex 0..1\n",
            "diff --git sp ace/n.h sp ace/n.h\nold mode 100644\nnew mode 100755\n",
            r'diff --git "d/\303\266" "d/\303\266"' + "\ndeleted file mode 100644\nindex 0..1\n",
            "diff --git d/a e/b\nrename from d/a\nrename to e/b\n--- d/a\n+++ e/b\n@@ -1 +1 @@\n-a\n+b\n",
            "--- note.txt.orig\t2024-03-01 20:13:31 +0100\n+++ note.txt\n@@ -1 +1 @@\n-a\n+b\n",
            "--- /dev/null\n+++ note.txt\n@@ -0,0 +1 @@\n+b\n",
        ],
    )
    def test_paths_without_prefixes(self, text: str) -> None:
        with pytest.raises(
            UserError, match=r"its paths seem to lack the prefixes .* quilt series with the option -p0$"
        ):
            parse_diff(text, name="x")
        assert parse_diff(normalize_diff(text, name="x", strip=0), name="x")

    def test_names_of_a_git_section_agree(self) -> None:
        text = GIT.replace("+++ b/k.c", "+++ b/other.c")
        with pytest.raises(
            UserError, match=r"line 3 of the diff: expected the name of the lines before, 'k\.c', found"
        ):
            parse_diff(text, name="x")

    def test_moved_names_are_stripped_as_the_others_are(self) -> None:
        text = (
            "diff --git a/l/d/a b/l/e/b\n{0} from l/d/a\n{0} to l/e/b\n--- a/l/d/a\n+++ b/l/e/b\n@@ -1 +1 @@\n-a\n+b\n"
        )
        for kind in ("rename", "copy"):
            (one,) = parse_diff(normalize_diff(text.format(kind), name="x", strip=2), name="x")
            assert (one.old, one.new, one.copy) == ("d/a", "e/b", kind == "copy")

    @pytest.mark.parametrize(
        "stamp",
        [
            "\t2024-03-01 20:13:31.484002255 +0100",
            "     2024-03-01 20:13:31.484002255 +0100",
            " 2024-03-01 20:13:31 +0100",
            "  2024-03-01 20:13:31 +01:00",
            "  2024-03-01 20:13:31",
            " 2024-03-01",
            " 24-03-01",
            "   Fri Mar  1 20:13:31 2024",
            "   Fri Mar 01 20:13:31 CET 2024",
            " (revision 12)",
            "\t(working copy)",
            "\t",
            "  ",
        ],
    )
    @pytest.mark.parametrize("strip", [0, 1, 2])
    def test_what_stands_behind_a_name_is_no_part_of_it(self, stamp: str, strip: int) -> None:
        before = ["", "a/", "a/b/"][strip]
        text = f"--- {before}no te.txt{stamp}\n+++ {before}no te.txt{stamp}\n@@ -1 +1 @@\n-a\n+b\n"
        for _ in range(2):
            (one,) = parse_diff(text := normalize_diff(text, name="x", strip=strip), name="x")
            assert (one.old, one.new) == ("no te.txt", "no te.txt")
            strip = 1

    def test_a_name_may_hold_a_tab_where_a_time_ends_it(self) -> None:
        (one,) = parse_diff("--- a/k\tl\t2024-03-01 20:13:31\n+++ b/k\tl\t2024-03-01\n@@ -1 +1 @@\n-a\n+b\n", name="x")
        assert one.path == "k\tl"

    @pytest.mark.parametrize(
        "stamp", ["1970-01-01 01:00:00.0 +0100", "1969-12-31 19:00:00", "Thu Jan  1 01:00:00 1970", "(nonexistent)"]
    )
    @pytest.mark.parametrize("blank", ["\t", "   "])
    def test_a_file_that_is_nowhere(self, stamp: str, blank: str) -> None:
        (one,) = parse_diff(f"--- a/k\n+++ b/k{blank}{stamp}\n@@ -1 +0,0 @@\n-a\n", name="x")
        assert (one.old, one.new) == ("k", None)

    @pytest.mark.parametrize("name", ["k 2024", "k 1.2", "k 12:00:00", "2024-03-01", "k2024-03-01"])
    def test_a_name_that_only_looks_like_one_with_a_time(self, name: str) -> None:
        (one,) = parse_diff(f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n", name="x")
        assert one.path == name

    @pytest.mark.parametrize(
        ("lines", "old_mode"),
        [
            (["index 1..2 100755", "--- a/k", "+++ b/k", *HUNK], 0o100755),
            (["old mode 100644", "new mode 100755"], 0o100644),
            (["deleted file mode 120000", "index 1..0"], 0o120000),
            (["new file mode 120000", "index 0..1"], None),
        ],
    )
    def test_mode_before(self, lines: list[str], old_mode: int | None) -> None:
        (one,) = parse_diff("\n".join(["diff --git a/k b/k", *lines, ""]), name="x")
        assert one.old_mode == old_mode

    @pytest.mark.parametrize("path", ["../x", "k/../../x", "/etc/x", ".git/hooks/x", "k/.GIT/x", "k//x", "./x"])
    def test_path_that_leaves_the_tree(self, path: str) -> None:
        plain = f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"
        bare = f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-a\n+b\n"
        moved = f"diff --git a/k b/k\nrename from k\nrename to {path}\n"
        for text in [plain, moved] + [bare] * path.startswith("/"):
            with pytest.raises(UserError, match=r"^x: line .*expected a path"):
                parse_diff(text, name="x")


NAMES = ("0" * 40, "d7e83e0d5e3a0ad1a2fd85dd9ce5b0ae7cc11a8e")
LITERAL = "literal 3\nKcmZQzU}9tfVE_OC\n"  # no matter what: git reads it, not we
BINARY = f"diff --git a/x.png b/x.png\nnew file mode 100644\nindex {NAMES[0]}..{NAMES[1]}\nGIT binary patch\n"


class TestBinary:
    def test_forth_and_back(self) -> None:
        text = BINARY + LITERAL + "\n" + "literal 0\nHcmV?d00001\n\n" + GIT
        binary, other = parse_diff(text, name="x")
        assert binary.binary is not None
        assert (binary.binary.old, binary.binary.new, binary.new) == (*NAMES, "x.png")
        assert binary.binary.lines == (*LITERAL.split("\n")[:2], "")
        assert other.path == "k.c"

    @pytest.mark.parametrize("end", ["", "\n", "\n\n-- \n2.43.0\n", "\n-- \n2.43.0\n", "\nprose\n"])
    def test_end_in_a_mail(self, end: str) -> None:
        found = find_diff("words\n---\n x.png | Bin\n\n" + BINARY + LITERAL + end)
        assert found is not None
        text = normalize_diff(found, name="x")
        assert "2.43" not in text
        assert "prose" not in text
        assert parse_diff(text, name="x") == parse_diff(BINARY + LITERAL + "\n", name="x")
        assert normalize_diff(text, name="x") == text

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("", r"line 5: x\.png: expected 'literal SIZE' or 'delta SIZE', found ''"),
            ("literal x\n", r"line 5: x\.png: expected 'literal SIZE'"),
            ("literal 3\n", r"line 6: x\.png: its binary change is cut off"),
            ("literal 3\nBcmZQzU}9tf\n\n", r"line 6: x\.png: its binary change is damaged"),
            ("literal 3\nKcmZQ U}9tfVE_OC\n\n", r"line 6: x\.png: its binary change is damaged"),
            ("literal 3\nKcmZQ\n\n", r"line 6: x\.png: its binary change is damaged"),
            (LITERAL + " \n", r"line 7: x\.png: its binary change is damaged"),
            (LITERAL + "+more\n", r"line 7: x\.png: its binary change is damaged"),
            ("literal 99999999999\n", r"line 5: x\.png: expected at most 67108864 bytes \(one binary"),
        ],
    )
    def test_damage(self, body: str, message: str) -> None:
        with pytest.raises(UserError, match=message.replace(":", " of the diff:", 1)):
            parse_diff(BINARY + body, name="x")
