"""Quoted patches of which something may be missing, or that a mailer changed: they are refused, unless it is certain
what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.model.kernel import Patch
from harness.parse.diff import parse_diff
from harness.parse.series import patches_from_file
from harness.parse.unquote import unquote
from tests.unit.test_unquote import DIFF, STAT, applied, quoted, reply, taken

GIT_HEAD = "diff --git a/lib/count.c b/lib/count.c\nindex 1234567..89abcde 100644\n"
OTHER = "--- a/lib/other.c\n+++ b/lib/other.c\n@@ -1,3 +1,4 @@\n int x;\n+int y;\n int z;\n int w;\n"


def refusal(text: str) -> str:
    with pytest.raises(UserError) as error:
        unquote(text, name="mail")
    assert error.value.exit_code == 2
    return error.value.message


class TestNoDiffstat:
    """What the diff itself tells of parts that are not quoted."""

    def test_a_hunk_is_missing_where_the_next_one_is_shifted_too_far(self) -> None:
        lines = quoted(DIFF.replace("@@ -15,6 +16,7 @@", "@@ -15,6 +17,7 @@"))
        told = refusal(reply(lines))
        assert "hunk 2 (@@ -15,6 +17,7 @@) of lib/count.c: expected its start to be shifted by the 1 lines" in told
        assert "found 2: a hunk above it is missing" in told

    def test_the_first_hunk_is_missed_too(self) -> None:
        lines = quoted(DIFF)
        told = refusal(reply([*lines[:2], "", "Fine.", "", *lines[lines.index("> @@ -15,6 +16,7 @@") :]]))
        assert "hunk 1 (@@ -15,6 +16,7 @@) of lib/count.c: expected its start to be shifted by the 0 lines" in told

    def test_a_hunk_before_the_one_above_it_is_of_another_file(self) -> None:
        lines = [line for line in quoted(DIFF + OTHER) if "other.c" not in line]
        told = refusal(reply([line.replace("@@ -1,3 +1,4 @@", "@@ -1,3 +3,4 @@") for line in lines]))
        assert "expected it behind the hunk above it, found it before, as of another file" in told

    @pytest.mark.parametrize("kept", [OTHER.splitlines()[:2], OTHER.splitlines()[:1], OTHER.splitlines()[1:2]])
    def test_a_file_header_without_hunks(self, kept: list[str]) -> None:
        told = refusal(reply([*quoted("\n".join(kept)), "", "Fine.", "", *quoted(DIFF)]))
        assert f"expected its hunks beside the line {kept[0]!r}, found that it is missing" in told

    def test_hunks_without_a_file_header(self) -> None:
        told = refusal(reply([*quoted("\n".join(OTHER.splitlines()[2:])), "", "Fine.", "", *quoted(DIFF)]))
        assert "expected what belongs above it beside the line '@@ -1,3 +1,4 @@'" in told

    @pytest.mark.parametrize("mark", ["[...]", "[snip]", "<snip>", "[…]", "[ lots of code snipped ]"])
    def test_what_the_replier_says_to_have_left_out(self, mark: str) -> None:
        lines = quoted(DIFF + OTHER)
        at = lines.index("> --- a/lib/other.c")
        assert f"found {mark!r}" in refusal(reply([*lines[:at], "", mark, "", *lines[at:]]))
        assert f"found {mark!r}" in refusal("\n".join([*lines, "", mark]))

    def test_two_patches_are_not_one(self) -> None:
        told = refusal(reply([*quoted(DIFF), "", "And 2/2:", "", *quoted(DIFF)]))
        assert "lib/count.c: expected one section for it, found two, as of two patches" in told


class TestGitHeaders:
    @pytest.mark.parametrize(
        "section",
        [
            "diff --git a/old.c b/new.c\nsimilarity index 100%\nrename from old.c\nrename to new.c\n",
            "diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to y\n",
            "diff --git a/x.sh b/x.sh\nold mode 100644\nnew mode 100755\n",
            "diff --git a/x b/x\nnew file mode 100755\nindex 0000000..e69de29\n",
            "diff --git a/x b/x\ndeleted file mode 100644\nindex e69de29..0000000\n",
        ],
    )
    @pytest.mark.parametrize("is_last", [True, False])
    def test_a_section_without_hunks_is_kept_wherever_it_is(self, section: str, is_last: bool) -> None:
        text = GIT_HEAD + DIFF
        found = taken(reply(quoted(text + section if is_last else section + text)))
        paths = [diff.path for diff in parse_diff(found.diff, name="x")]
        assert len(paths) == 2
        assert section in found.diff
        assert found.notes[0].startswith("unquoted from a reply: 2 hunks in 2 files")

    @pytest.mark.parametrize(
        ("head", "lacks"),
        [
            ("diff --git a/x b/x\n", "its hunks"),
            ("diff --git a/x b/x\nindex 1234567..89abcde 100644\n", "its hunks"),
            ("diff --git a/x b/x\nnew file mode 100644\nindex 0000000..89abcde\n", "its hunks"),
            ("diff --git a/x b/x\nold mode 100644\nnew mode 100755\nindex 1234567..89abcde\n", "its hunks"),
            ("diff --git a/x b/x\nold mode 100644\n", "its old or its new mode"),
            ("diff --git a/x b/y\n", "what it was renamed or copied from and to"),
            ("diff --git a/x b/y\nsimilarity index 100%\nrename from x\n", "what it was renamed or copied from and to"),
        ],
    )
    @pytest.mark.parametrize("is_last", [True, False])
    def test_a_section_that_was_trimmed_is_refused(self, head: str, lacks: str, is_last: bool) -> None:
        parts = [quoted(GIT_HEAD + DIFF), ["", "Fine.", ""], quoted(head)]
        told = refusal(reply([line for part in (parts if is_last else parts[::-1]) for line in part]))
        assert f"expected all of its section to be quoted, found that it lacks {lacks}" in told

    @pytest.mark.parametrize(
        ("head", "lacks"),
        [
            ("diff --git a/lib/count.c b/lib/count.c\nindex 1234567..89abcde\n", "the change of its mode"),
            ("diff --git a/lib/old.c b/lib/count.c\nindex 1234567..89abcde 100644\n", "what it was renamed"),
            ("diff --git a/lib/count.c b/lib/count.c\nnew file mode 100644\n", "the line 'new file mode', or the name"),
        ],
    )
    def test_so_is_one_with_hunks(self, head: str, lacks: str) -> None:
        assert f"lib/count.c: expected all of its section to be quoted, found that it lacks {lacks}" in refusal(
            reply(quoted(head + DIFF))
        )

    def test_the_first_line_of_a_section_is_missed(self) -> None:
        told = refusal(reply(quoted("similarity index 90%\nrename from lib/a.c\nrename to lib/count.c\n" + DIFF)))
        assert "expected what belongs above it beside the line 'similarity index 90%'" in told


class TestWrappedLines:
    NEW = "--- /dev/null\n+++ b/n.c\n@@ -0,0 +1,2 @@\n+int a;\n+#define LONG first |\n"

    @pytest.mark.parametrize("rest", ["> second | third", "> \tsecond", "> + second"])
    def test_the_rest_of_the_last_line_quoted(self, rest: str) -> None:
        told = refusal(reply([*quoted(self.NEW), rest]))
        assert "(@@ -0,0 +1,2 @@) of n.c: expected its end" in told
        assert "the rest of one that a mailer wrapped" in told

    def test_the_rest_of_the_last_line_not_quoted(self) -> None:
        assert "found 'second | third', which may be the rest" in refusal(
            "\n".join([*quoted(self.NEW), "second | third", "", "Fine."])
        )

    @pytest.mark.parametrize("end", ["> -- ", "> ", ""])
    def test_what_may_stand_below_a_patch(self, end: str) -> None:
        lines = [*quoted(self.NEW), end, "> prose" if end else "prose"]
        assert taken(reply(lines)).diff == self.NEW

    def test_a_rest_that_takes_the_place_of_an_empty_context_line(self) -> None:
        diff = "--- a/n.c\n+++ b/n.c\n@@ -1,5 +1,6 @@\n a\n b\n c\n+int d = first +\n }\n\n"
        lines = quoted(diff)
        assert taken(reply([*lines, "> -- "])).diff == diff[:-1] + " \n"
        told = refusal(reply([*lines[:-2], ">  second;", *lines[-2:]]))
        assert "expected 3 lines of context at its end, or the end of the patch, found 2 and a blank line" in told

    @pytest.mark.parametrize("line", ["> second;", "> > looks bad"])
    def test_a_line_of_a_hunk_that_is_none_of_a_diff(self, line: str) -> None:
        diff = "--- a/n.c\n+++ b/n.c\n@@ -1,3 +1,4 @@\n int a;\n int b;\n+int c = first +\n }\n"
        lines = quoted(diff)
        told = refusal(reply([*lines[:-1], line, lines[-1]]))
        assert f"expected a line that begins with a blank, '+' or '-', found {line[2:]!r}" in told

    def test_where_white_space_was_collapsed_it_is_looked_for_in_the_source(self, tmp_path: Path) -> None:
        source = "int a;\nint b;\nint c;\nint d;\n}\n"
        hunk = "@@ -1,5 +1,6 @@\nint a;\nint b;\nint c;\n+int e = first +\nsecond;\nint d;\n"
        diff = f"--- a/lib/count.c\n+++ b/lib/count.c\n{hunk}"
        with pytest.raises(UserError, match="does not apply"):
            applied(reply(quoted(f" lib/count.c | 1 +\n 1 file changed, 1 insertion(+)\n\n{diff}")), tmp_path, source)

    def test_a_path_that_was_wrapped(self) -> None:
        lines = quoted(DIFF)
        assert "found 't.c', which may be the rest" in refusal(
            reply([lines[0], lines[1].removesuffix("t.c"), "t.c", *lines[2:]])
        )

    def test_lines_that_stand_for_what_was_left_out(self) -> None:
        for mark in ("+...", "+[snip]", " [...]"):
            diff = DIFF.replace("+\t/* never */" if mark[0] == "+" else " /* its limit */", mark)
            assert "instead of what was left out" in refusal(reply(quoted(diff)))
        yaml = "--- /dev/null\n+++ b/x.yaml\n@@ -0,0 +1,2 @@\n+a: b\n+...\n"
        assert taken(reply(quoted(yaml))).diff == yaml

    def test_no_break_spaces(self) -> None:
        assert "no-break spaces" in refusal(reply(quoted(DIFF.replace("+\told", "+\u00a0\u00a0old"))))

    def test_the_mark_of_a_file_without_a_last_line_end(self) -> None:
        diff = "--- a/n\n+++ b/n\n@@ -1,1 +1,1 @@\n-a\n+b\n"
        assert taken(reply(quoted(f"{diff}\\ No newline at end of file\n"))).diff.endswith(
            "+b\n\\ No newline at end of file\n"
        )
        told = refusal(reply([*quoted(diff), "> ", "> \\ No newline at end of file"]))
        assert "expected its end" in told


class TestFlowed:
    """Replies of mailers that wrap lines with format=flowed."""

    HEAD = "From: B <b@example.org>\nSubject: Re: [PATCH] x\nMIME-Version: 1.0\nContent-Type: text/plain; format=flowed"
    LONG = '+\tpr_info("a line that the mailer wraps, and that goes on");'
    DIFF = f"--- a/n.c\n+++ b/n.c\n@@ -1,3 +1,5 @@\n int a;\n{LONG}\n+int b;\n int c;\n int d;\n"
    STAT = " n.c | 2 ++\n 1 file changed, 2 insertions(+)\n\n"

    def patch(self, lines: list[str], head: str = HEAD) -> Patch:
        (found,) = patches_from_file(f"{head}\n\nOn Monday A wrote:\n{chr(10).join(lines)}\n".encode(), name="m.eml")
        return found

    def wrapped(self, prefix: str, *, after: str = "wraps, ") -> list[str]:
        lines = quoted(self.STAT + self.DIFF, prefix=prefix)
        at = next(at for at, line in enumerate(lines) if "pr_info" in line)
        cut = lines[at].index(after) + len(after)
        return [*lines[:at], lines[at][:cut], f"{prefix}{lines[at][cut:]}", *lines[at + 1 :]]

    @pytest.mark.parametrize("prefix", ["> ", "> > ", ">> "])
    def test_a_wrapped_line_is_joined_without_the_quote_mark(self, prefix: str) -> None:
        found = self.patch(self.wrapped(prefix))
        assert found.text == self.DIFF
        assert "1 line of its hunks that the mailer wrapped (format=flowed) joined" in found.notes

    def test_one_that_lost_its_blank_too(self) -> None:
        lines = [line.replace("wraps, ", "wraps,  ") for line in self.wrapped("> ")]
        assert self.patch(lines, head=f"{self.HEAD}; delsp=yes").text == self.DIFF

    def test_lines_of_other_depths_are_not_joined(self) -> None:
        lines = self.wrapped("> ")
        at = next(at for at, line in enumerate(lines) if line.endswith("wraps, "))
        for rest in (lines[at + 1][2:], f">{lines[at + 1]}"):
            with pytest.raises(UserError, match=r"line \d+: a patch quoted in a reply"):
                self.patch([*lines[: at + 1], rest, *lines[at + 2 :]])

    def test_a_blank_that_is_the_authors_own_is_no_wrap(self) -> None:
        diff = "--- a/n.c\n+++ b/n.c\n@@ -1,6 +1,8 @@\n a\n b\n c\n+int x;\n+int b; \n d\n e\n f\n"
        lines = quoted(self.STAT + diff)
        with pytest.raises(UserError, match="which the mailer seems to have wrapped"):
            self.patch(lines)

    def test_the_next_file_is_not_the_rest_of_a_line(self) -> None:
        two = "diff --git a/m.c b/m.c\n--- a/m.c\n+++ b/m.c\n@@ -1,1 +1,2 @@\n a\n+b \n"
        assert self.patch(quoted(f"{two}diff --git a/n.c b/n.c\n{self.DIFF}")).text.count("diff --git") == 2


class TestDiffstats:
    def test_its_totals_are_compared(self) -> None:
        for stat, told in (
            (
                " 2 files changed, 3 insertions(+), 1 deletion(-)",
                "the 2 changed files that its diffstat counts in all, found 1",
            ),
            (
                " 1 file changed, 4 insertions(+), 1 deletion(-)",
                "the 4 insertions that its diffstat counts in all, found 3",
            ),
            (" 1 file changed, 3 insertions(+)", "the 0 deletions that its diffstat counts in all, found 1"),
        ):
            assert told in refusal(reply(quoted(f"{stat}\n\n{DIFF}")))

    def test_one_without_totals_confirms_nothing(self) -> None:
        stat = " lib/count.c | 4 +++-\n\n"
        assert taken(reply(quoted(stat + DIFF + OTHER))).notes[1].startswith("it has no totals below its diffstat")
        told = refusal(reply(quoted(stat + OTHER + DIFF)[:-1]))
        assert "of lib/count.c: expected all of it to be quoted" in told
        assert "no totals below its diffstat to tell whether they are context" in told

    @pytest.mark.parametrize("table", [" clone | 1234 | 99", " clone | 1234", " 12 | 4\n 13 | 5"])
    def test_a_table_in_the_message_is_none(self, table: str) -> None:
        found = taken(reply(quoted(f"Results:\n\n{table}\n\nAs said.\n---\n{STAT}\n{DIFF}")))
        assert found.notes[1] == "its diffstat confirms that every changed line is quoted"
        assert "it has no diffstat" in taken(reply(quoted(f"{table}\n\nAs said.\n---\n{DIFF}"))).notes[1]

    @pytest.mark.parametrize(
        "path",
        ["{lib => src}/count.c", "{ => src}/count.c", "lib/count.c => src/count.c", ".../count.c", "src/count.c (new)"],
    )
    def test_paths_as_it_abbreviates_them(self, path: str) -> None:
        diff = DIFF.replace("b/lib/", "b/src/")
        stat = f" {path} | 4 +++-\n x.png | Bin 0 -> 1 bytes\n"
        assert "names x.png" in refusal(reply(quoted(f"{stat} 1 file changed, 3 insertions(+), 1 deletion(-)\n{diff}")))
        stat = f" {path} | 4 +++-\n 1 file changed, 3 insertions(+), 1 deletion(-)\n rename {path} (90%)\n"
        assert taken(reply(quoted(f"{stat}\n{diff}"))).notes[1].startswith("its diffstat confirms")
        assert "expected the 9 changed lines" in refusal(reply(quoted(f"{stat}\n{diff}".replace("| 4", "| 9"))))


class TestMoreThanOnePatch:
    def test_at_two_depths(self) -> None:
        told = refusal("\n".join([*quoted(DIFF, prefix="> > "), "> ", "> Newer:", "> ", *quoted(DIFF + OTHER)]))
        assert "expected one, found parts that are quoted with '> > ' and with '> '" in told

    def test_beside_one_that_is_not_quoted(self) -> None:
        own = DIFF.replace("never", "own")
        for name in ("mail.txt", "mail.eml"):
            head = "From: B <b@example.org>\nSubject: Re: x\n\n" if name == "mail.eml" else ""
            (patch,) = patches_from_file(f"{head}{reply(quoted())}\n{own}".encode(), name=name)
            assert patch.notes == ("the mail also quotes a patch, which was left out: what it has itself is applied",)

    def test_in_two_parts_of_a_mail(self) -> None:
        head = "From: B\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n"
        parts = [f"--B\nContent-Type: text/plain\n\n{reply(quoted(each))}\n" for each in (DIFF, OTHER)]
        with pytest.raises(UserError, match="expected one patch that is quoted, found 2 in parts of the mail"):
            patches_from_file(f"{head}{''.join(parts)}--B--\n".encode(), name="m.eml")

    def test_what_is_said_at_the_depth_between_is_a_comment(self) -> None:
        lines = quoted(prefix="> > ")
        text = "\n".join([*lines[:12], "> ", "> Why?", "> ", *lines[12:]])
        assert taken(text).diff == taken(reply(quoted())).diff


def test_readings_that_the_counts_allow_alike_are_refused() -> None:
    """Where white space was collapsed, a line that begins with a sign may be context."""
    diff = "--- a/n\n+++ b/n\n@@ -1,5 +1,5 @@\na\n- b\n- c\n+ d\n- e\nf\n"
    assert "expected one reading of its lines, found several" in refusal(reply(quoted(diff)))
