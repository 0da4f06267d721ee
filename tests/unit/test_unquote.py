"""Patches out of mails that reply to them and quote them, with comments between their lines."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from harness.build.load_patches import load_patches
from harness.build.patches import apply_series
from harness.errors import UserError
from harness.model.kernel import Patch
from harness.parse.diff import parse_diff
from harness.parse.series import patches_from_file
from harness.parse.unquote import Unquoted, unquote

SEED = sorted((Path(__file__).parents[3] / "shared/seeds").glob("003_*.txt"))
SOURCE = """\
/* A counter. */
#include <linux/count.h>

static int count;

int count_up(int by)
{
\tint old = count;

\tcount += by;
\treturn old;
}

int count_down(int by)
{
\tcount -= by;
\treturn count;
}

/* its limit */
#define LIMIT   10
#define - 1
"""
DIFF = """\
--- a/lib/count.c
+++ b/lib/count.c
@@ -5,8 +5,9 @@ static int count;

 int count_up(int by)
 {
-\tint old = count;
+\tint old;

+\told = count;
 \tcount += by;
 \treturn old;
 }
@@ -15,6 +16,7 @@
 {
 \tcount -= by;
 \treturn count;
+\t/* never */
 }

 /* its limit */
"""
STAT = " lib/count.c |    4 +++-\n 1 file changed, 3 insertions(+), 1 deletion(-)\n"
MAIL = f"Count later.\n\nSigned-off-by: A <a@example.org>\n---\n{STAT}\n{DIFF}"
AFTER = (
    SOURCE.replace("\tint old = count;\n\n", "\tint old;\n\n\told = count;\n")
    .replace("\treturn count;\n", "\treturn count;\n\t/* never */\n")
)  # fmt: skip


def quoted(text: str = MAIL, *, prefix: str = "> ") -> list[str]:
    """The lines of a reply that quotes `text`."""
    return [f"{prefix}{line}".rstrip() if not line else f"{prefix}{line}" for line in text.splitlines()]


def collapsed(text: str = MAIL) -> list[str]:
    """The same as an archive shows it, with every run of blanks made one."""
    return [re.sub(r"[ \t]+", " ", line).rstrip() for line in quoted(text)]


def reply(lines: list[str], **comments: str) -> str:
    """The mail, with each of the `comments` between blank lines behind the first line that ends in ... of its value:
    ``c1="int old;|Why?"``."""
    for value in comments.values():
        end, _, text = value.partition("|")
        at = next(number for number, line in enumerate(lines) if line.endswith(end)) + 1
        lines = [*lines[:at], "", text, "", *lines[at:]]
    return "\n".join(["Re: [PATCH] count later", "", "From: B", "", "On Friday, A wrote:", *lines, "", "Thanks, B"])


def taken(text: str) -> Unquoted:
    found = unquote(text, name="mail")
    assert found is not None
    return found


def applied(text: str, tmp_path: Path, source: str = SOURCE) -> str:
    """The source file with the patch that the mail `text` quotes."""
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib/count.c").write_text(source)
    apply_series(tree, patches_from_file(text.encode(), name="mail.txt"), state=tmp_path / "state")
    return (tree / "lib/count.c").read_text()


@pytest.mark.parametrize("prefix", ["> ", ">", "> > ", ">> "])
def test_what_is_quoted_is_the_diff(prefix: str) -> None:
    found = taken(reply(quoted(prefix=prefix)))
    assert parse_diff(found.diff, name="x") == parse_diff(re.sub(r"(?m)^(@@.*@@).*", r"\1", DIFF), name="x")
    assert not found.is_loose
    assert found.notes == (
        "unquoted from a reply: 2 hunks in 1 file, 0 comments left out, 0 of them within hunks",
        "its diffstat confirms that every changed line is quoted",
    )


def test_hunks_that_comments_split_are_joined(tmp_path: Path) -> None:
    text = reply(quoted(), one="int old;|Why now?\nAnd why here?", two="return old;|- no\n+ yes", end="/|y")
    assert applied(text, tmp_path) == AFTER


def test_comments_are_counted() -> None:
    found = taken(
        reply(quoted(), one="int old;|Why now?", two="@@ static int count;|Is it?", head="+++ b/lib/count.c|So.")
    )
    assert found.notes[0].endswith("3 comments left out, 1 of them within hunks")


def test_a_mail_with_headers_in_any_encoding(tmp_path: Path) -> None:
    body = reply(quoted(), one="int old;|Warum ändern?").encode()
    head = b"From: B <b@example.org>\nSubject: Re: [PATCH] count later\nMIME-Version: 1.0\n"
    head += b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    (patch,) = patches_from_file(head + base64.encodebytes(body), name="reply.eml")
    assert patch.text == taken(body.decode()).diff
    assert patch.notes[0].startswith("unquoted from a reply: 2 hunks in 1 file, 1 comment left out")


@pytest.mark.parametrize("name", ["reply.mbox", "reply.eml", "reply.patch"])
def test_a_saved_mail_in_a_mailbox_of_its_own(name: str) -> None:
    head = "From b@example.org Fri Jan  4 12:50:30 2019\nFrom: B <b@example.org>\nSubject: Re: [PATCH v6] count\n\n"
    (patch,) = patches_from_file((head + reply(quoted())).encode(), name=name)
    assert patch.text == taken(reply(quoted())).diff


def test_replies_in_a_thread_still_do_not_count() -> None:
    head = "From b@example.org Fri Jan  4 12:50:30 2019\nFrom: B <b@example.org>\nSubject: {}\n\n{}\n"
    thread = head.format("[PATCH] count", DIFF) + head.format(
        "Re: [PATCH] count", reply(quoted(MAIL.replace("never", "x")))
    )
    (patch,) = patches_from_file(thread.encode(), name="thread.mbox")
    assert "never" in patch.text
    assert patch.notes == ()


class TestCollapsedWhiteSpace:
    def test_the_source_says_what_it_was(self, tmp_path: Path) -> None:
        done = applied(reply(collapsed(), one="int old;|Why now?"), tmp_path)
        assert done == AFTER.replace("\tint old;", " int old;").replace("\told =", " old =").replace("\t/* n", " /* n")

    def test_it_is_said(self) -> None:
        found = taken(reply(collapsed()))
        assert found.is_loose
        assert "white space was collapsed" in found.notes[-1]

    def test_a_line_that_only_looks_removed_is_context(self, tmp_path: Path) -> None:
        source = SOURCE.replace("/* its limit */", "\t- x;")
        text = MAIL.replace(" /* its limit */", " \t- x;")
        assert "\t- x;" in applied(reply(collapsed(text)), tmp_path, source)

    def test_context_may_differ_at_a_hunks_ends_as_with_patch(self, tmp_path: Path) -> None:
        done = applied(reply(collapsed()), tmp_path, SOURCE.replace("/* its limit */", "/* other */"))
        assert "/* never */" in done
        assert "/* other */" in done

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"mail.txt: lib/count.c: hunk \(@@ -5,8 \+5,9 @@\) does not apply"):
            applied(reply(collapsed()), tmp_path, SOURCE.replace("int old = count;", "int old = 0;"))

    def test_it_is_another_patch_than_the_same_text_with_its_white_space(self) -> None:
        loose = patches_from_file(reply(collapsed()).encode(), name="x")[0]
        exact = patches_from_file(loose.text.encode(), name="x")[0]
        assert loose.text == exact.text
        assert loose.sha256 != exact.sha256

    def test_the_nearest_of_equal_places_is_meant(self, tmp_path: Path) -> None:
        block = "a {\n\tb;\n\tc;\n}\n"
        diff = "--- a/lib/count.c\n+++ b/lib/count.c\n@@ -5,4 +5,5 @@\n a {\n \tb;\n+\tx;\n \tc;\n }\n"
        done = applied(reply(collapsed(f" lib/count.c | 1 +\n{diff}")), tmp_path, block * 3)
        assert done == block + block.replace("b;\n", "b;\n x;\n") + block


class TestWhatIsMissing:
    def refused(self, text: str) -> str:
        with pytest.raises(UserError) as error:
            unquote(text, name="mail")
        assert error.value.exit_code == 2
        assert error.value.message.endswith("apply the patch itself, as its author mailed it")
        return error.value.message

    def test_context_at_a_hunks_end_is_recovered_where_the_diffstat_agrees(self, tmp_path: Path) -> None:
        text = reply(quoted()[:-3])
        found = taken(text)
        assert "hunk 2 (@@ -15,6 +16,7 @@) of lib/count.c: 3 context lines missing at its end" in found.notes
        assert applied(text, tmp_path) == AFTER

    def test_context_is_not_recovered_without_a_diffstat(self) -> None:
        told = self.refused(reply(quoted(DIFF)[:-3]))
        assert "hunk 2 (@@ -15,6 +16,7 @@) of lib/count.c" in told
        assert "no diffstat to tell whether they are context" in told

    def test_a_changed_line_is(self) -> None:
        told = self.refused(reply([line for line in quoted() if "never" not in line]))
        assert "hunk 2 (@@ -15,6 +16,7 @@) of lib/count.c: expected all of it to be quoted" in told
        assert "0 old and 1 new lines are missing" in told

    def test_lines_cut_in_the_middle_are(self) -> None:
        lines = quoted()
        at = lines.index("> -\tint old = count;")
        told = self.refused(reply([*lines[:at], "", "[...]", "", *lines[at + 2 :]]))
        assert "hunk 1 (@@ -5,8 +5,9 @@) of lib/count.c: expected all of it to be quoted" in told

    def test_a_hunk_that_is_left_out_is_missed_by_the_diffstat(self) -> None:
        lines = quoted()
        told = self.refused(reply(lines[: lines.index("> @@ -15,6 +16,7 @@")]))
        assert "lib/count.c: expected the 4 changed lines that its diffstat counts, found 3" in told

    def test_a_file_that_is_left_out_too(self) -> None:
        told = self.refused(reply(quoted(MAIL.replace(STAT, f" lib/other.c | 2 +-\n{STAT}"))))
        assert "its diffstat names lib/other.c: expected the change of it, found none" in told

    def test_without_a_diffstat_that_is_said(self) -> None:
        assert "no diffstat" in taken(reply(quoted(DIFF))).notes[1]

    def test_a_header_that_counts_fewer_lines(self) -> None:
        told = self.refused(reply(quoted(DIFF.replace("@@ -15,6 +16,7 @@", "@@ -15,3 +16,3 @@"))))
        assert "line 33" not in told
        assert "hunk 2 (@@ -15,3 +16,3 @@) of lib/count.c: expected its end" in told

    def test_lines_that_do_not_add_up(self) -> None:
        told = self.refused(reply(quoted(DIFF.replace("@@ -15,6 +16,7 @@", "@@ -15,2 +16,4 @@"))))
        assert "expected as many lines as its header counts, found that they do not add up" in told

    def test_a_wrapped_line_is_no_comment(self) -> None:
        lines = quoted(MAIL.replace("+\told = count;", "+\told = count; /* a very long"))
        at = next(number for number, line in enumerate(lines) if line.endswith("very long"))
        told = self.refused(reply([*lines[: at + 1], "comment */", *lines[at + 1 :]]))
        assert "found 'comment */', which may be the rest of a line that a mailer wrapped" in told


@pytest.mark.parametrize("text", ["", "> a\n> b\n", "> --- a/x\n> nothing\n", "> --- a/x\n> +++ b/x\n> prose\n"])
def test_a_mail_that_quotes_no_patch(text: str) -> None:
    assert unquote(text, name="mail") is None
    with pytest.raises(UserError, match="expected a patch"):
        patches_from_file(text.encode(), name="mail.txt")


def test_git_headers_are_kept() -> None:
    head = "diff --git a/lib/new.c b/lib/new.c\nnew file mode 100644\nindex 0000000..1234567\n"
    text = f"{head}--- /dev/null\n+++ b/lib/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n-- \n2.39.5\n"
    (diff,) = parse_diff(taken(reply(quoted(f"{text}"))).diff, name="x")
    assert (diff.old, diff.new, diff.mode) == (None, "lib/new.c", 0o100644)


def test_a_patch_of_its_own_wins_over_a_quoted_one() -> None:
    own = DIFF.replace("never", "own")
    (patch,) = patches_from_file((reply(quoted()) + "\n" + own).encode(), name="mail.txt")
    assert "own" in patch.text
    assert "never" not in patch.text


@pytest.mark.skipif(not SEED, reason="the mails lie beside the checkout only where it is developed")
def test_the_review_of_v6_holds_all_of_the_patch() -> None:
    """`Re: [PATCH v6] arm64: implement ftrace with regs`, as the linux-kernel list's archive shows it."""
    (patch,) = load_patches(SEED)
    assert isinstance(patch, Patch)
    assert patch.is_loose
    assert patch.notes[:2] == (
        "unquoted from a reply: 18 hunks in 13 files, 16 comments left out, 15 of them within hunks",
        "its diffstat confirms that every changed line is quoted",
    )
    diffs = parse_diff(patch.text, name="v6")
    changed = [line[0] for diff in diffs for hunk in diff.hunks for line in hunk.lines]
    assert (len(diffs), changed.count("+"), changed.count("-")) == (13, 262, 36)
