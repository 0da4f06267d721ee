"""`harness.parse.series`: patches out of files, mails and mailboxes."""

from __future__ import annotations

import base64
import quopri
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.parse.diff import parse_diff
from harness.parse.series import SeriesEntry, parse_series, patches_from_file, patches_from_mails, split_mbox

DATA = Path(__file__).parents[1] / "data" / "series"
DIFF = "--- a/k.c\n+++ b/k.c\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n"
GIT = "diff --git a/k.c b/k.c\nindex 1..2 100644\n" + DIFF


def mail(subject: str, body: str | bytes = GIT, *, headers: str = "", end: str = "\n") -> bytes:
    body = body if isinstance(body, bytes) else body.encode()
    head = f"From: a@example.org\nSubject: {subject}\n{headers}\n".encode()
    return (head + body).replace(b"\n", end.encode())


def mbox(*mails: bytes) -> bytes:
    return b"".join(b"From a@example.org Thu Jan  2 03:04:05 2025\n" + one + b"\n" for one in mails)


def diff_of(letter: str) -> str:
    return GIT.replace("+c", f"+{letter}")


def texts(data: bytes, *, name: str = "x.mbox") -> list[str]:
    return [patch.text for patch in patches_from_file(data, name=name)]


def names(data: bytes) -> list[str]:
    return [patch.name for patch in patches_from_file(data, name="x.mbox")]


class TestOneFile:
    @pytest.mark.parametrize("diff", [DIFF, GIT], ids=["plain", "git"])
    def test_text_is_from_the_first_diff_line_to_the_last(self, diff: str) -> None:
        data = f"Subject\n\nProse.\n---\n k.c | 2 +-\n\n{diff}-- \n2.39.5\n\n".encode()
        (patch,) = patches_from_file(data, name="a.patch")
        assert (patch.name, patch.text) == ("a.patch", diff)

    def test_checksum_is_that_of_the_diff_alone(self) -> None:
        (one,) = patches_from_file(f"Prose.\n\n{GIT}-- \n2.39.5\n".encode(), name="a.patch")
        (two,) = patches_from_file(GIT.encode(), name="b.diff")
        (other,) = patches_from_file(diff_of("x").encode(), name="b.diff")
        assert one.sha256 == two.sha256 != other.sha256

    def test_format_patch_is_called_by_its_file(self) -> None:
        data = b"From 0123456789 Mon Sep 17 00:00:00 2001\n" + mail("[PATCH 2/4] k: foo")
        (patch,) = patches_from_file(data, name="0002-foo.patch")
        assert (patch.name, patch.text) == ("0002-foo.patch", GIT)

    def test_patch_without_newline_at_end_of_file(self) -> None:
        diff = GIT.replace(" d\n", " d\n\\ No newline at end of file\n")
        assert texts(diff.encode().removesuffix(b"\n"), name="a.diff") == [diff]

    def test_crlf_patch_file_loses_its_cr(self) -> None:
        assert texts(GIT.replace("\n", "\r\n").encode(), name="a.diff") == [GIT]

    def test_cr_of_the_patched_file_stays(self) -> None:
        diff = GIT.replace("-b\n", "-b\r\n")
        assert texts(diff.encode(), name="a.diff") == [diff]

    def test_form_feed_is_no_line_end(self) -> None:
        diff = GIT.replace("-b", "-b\fmore\x0b\x85\u2028")
        assert texts(diff.encode(), name="a.diff") == [diff]

    def test_bytes_that_are_no_utf8_survive(self) -> None:
        data = GIT.encode().replace(b"+c", b"+c\xe9")
        assert texts(data, name="a.diff")[0].encode("utf-8", "surrogateescape") == data

    def test_byte_order_mark(self) -> None:
        assert texts(b"\xef\xbb\xbf" + GIT.encode(), name="a.diff") == [GIT]

    def test_dep3_header_without_a_blank_line(self) -> None:
        assert texts(b"Description: foo\nFrom: me\n" + DIFF.encode(), name="a.patch") == [DIFF]

    @pytest.mark.parametrize(
        ("data", "found"), [(b"", "an empty file"), (b" \n", "an empty file"), (b"int main;\n", "none in it")]
    )
    def test_no_patch(self, data: bytes, found: str) -> None:
        with pytest.raises(UserError, match=f"^a.patch: expected a patch .* found {found}: pass") as caught:
            patches_from_file(data, name="a.patch")
        assert "--- a/" not in caught.value.message

    def test_prose_that_looks_like_a_diff_is_prose(self) -> None:
        data = f"diff --git is a command\n--- old\n+++ and so on\n\n{DIFF}".encode()
        assert texts(data, name="a.patch") == [DIFF]


class TestMail:
    def test_named_by_subject(self) -> None:
        (patch,) = patches_from_file(mail("[PATCH v2] k: Fix\n the thing"), name="x.eml")
        assert patch.name == "[PATCH v2] k: Fix the thing"

    def test_encoded_subject(self) -> None:
        assert names(mail("=?utf-8?q?=5BPATCH=5D_Jos=C3=A9?=")) == ["[PATCH] José"]

    def test_broken_encoded_subject_does_no_harm(self) -> None:
        assert names(mail("=?nonsense?q?a?= =?utf-8?b?A?=")) == ["=?nonsense?q?a?= =?utf-8?b?A?="]

    @pytest.mark.parametrize("name", ["crlf.eml", "latin1.eml", "attached.eml"])
    def test_recorded(self, name: str) -> None:
        reference = texts((DATA / "quilt/clock-flags.patch").read_bytes(), name="a.patch")
        assert texts((DATA / name).read_bytes(), name=name) == reference

    def test_crlf_mail_with_crlf_lines_is_all_lf(self) -> None:
        assert texts(mail("x", end="\r\n"), name="x.eml") == [GIT]

    def test_quoted_printable(self) -> None:
        diff = GIT.replace("+c", "+c = 1; \t" + "x" * 100).replace(" a\n", " \n")
        encoded = quopri.encodestring(diff.encode()).replace(b"\n \n", b"\n=20\n")
        assert b"=20" in encoded
        assert b"=\n" in encoded
        assert texts(mail("x", encoded, headers="Content-Transfer-Encoding: quoted-printable\n")) == [diff]

    def test_quoted_printable_is_not_undone_where_it_was_not_done(self) -> None:
        diff = GIT.replace("+c", "+c =20 =")
        assert texts(mail("x", diff)) == [diff]

    def test_base64_with_crlf_inside(self) -> None:
        body = base64.encodebytes(GIT.replace("\n", "\r\n").encode())
        assert texts(mail("x", body, headers="Content-Transfer-Encoding: base64\n")) == [GIT]

    @pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "us-ascii", "no-such", '"bro\0ken"'])
    def test_utf8_wins_over_a_wrong_label(self, charset: str) -> None:
        diff = GIT.replace("+c", "+é")
        assert texts(mail("x", diff, headers=f"Content-Type: text/plain; charset={charset}\n")) == [diff]

    def test_charset_that_is_no_superset_of_ascii(self) -> None:
        diff = GIT.replace("+c", "+日本")
        header = "Content-Type: text/plain; charset=iso-2022-jp\n"
        assert texts(mail("x", diff.encode("iso-2022-jp"), headers=header)) == [diff]

    def test_html_twin_is_left_alone(self) -> None:
        parts = [("text/plain", GIT), ("text/html", f"<pre>\n{GIT}</pre>")]
        body = "".join(f"--B\nContent-Type: {kind}\n\n{text}\n" for kind, text in parts) + "--B--\n"
        assert texts(mail("x", body, headers="Content-Type: multipart/alternative; boundary=B\n")) == [GIT]

    def test_several_attachments_are_several_patches(self) -> None:
        part = "--B\nContent-Type: text/x-patch; name={0}.patch\n\n{1}\n"
        body = part.format("1", diff_of("x")) + part.format("2", diff_of("y")) + "--B--\n"
        found = patches_from_file(
            mail("fixes", body, headers="Content-Type: multipart/mixed; boundary=B\n"), name="x.eml"
        )
        assert [patch.name for patch in found] == ["fixes: 1.patch", "fixes: 2.patch"]
        assert [patch.text for patch in found] == [diff_of("x"), diff_of("y")]


class TestFlowed:
    FLOWED = "Content-Type: text/plain; format=flowed\n"
    DELSP = "Content-Type: text/plain; format=Flowed; DelSp=Yes\n"

    def test_stuffed_lines_are_unstuffed(self) -> None:
        assert texts(mail("x", GIT.replace("\n a", "\n  a").replace("\n d", "\n  d"), headers=self.FLOWED)) == [GIT]

    def test_soft_line_break_keeps_the_blank(self) -> None:
        body = GIT.replace("\n ", "\n  ").replace("+c", "+one \ntwo")
        assert texts(mail("x", body, headers=self.FLOWED)) == [GIT.replace("+c", "+one two")]

    def test_soft_line_break_without_the_blank(self) -> None:
        body = GIT.replace("\n ", "\n  ").replace("+c", "+on \ne \n two")
        assert texts(mail("x", body, headers=self.DELSP)) == [GIT.replace("+c", "+onetwo")]

    @pytest.mark.parametrize("sent", ["", "  "], ids=["trimmed", "stuffed"])
    @pytest.mark.parametrize("header", [FLOWED, DELSP])
    def test_empty_context_line(self, sent: str, header: str) -> None:
        body = GIT.replace("\n d", f"\n{sent}").replace("\n a", "\n  a")
        (patch,) = patches_from_file(mail("x", body, headers=header), name="x.eml")
        (section,) = parse_diff(patch.text, name="x")
        assert section.hunks[0].lines[-1] == " "

    def test_signature_is_not_joined(self) -> None:
        body = GIT.replace("\n ", "\n  ").replace("  d\n", "  d\n-- \n2.39\n")
        assert texts(mail("x", body, headers=self.FLOWED)) == [GIT]

    def test_plain_text_is_left_alone(self) -> None:
        diff = GIT.replace("+c", "+c ")
        assert texts(mail("x", diff)) == [diff]

    def test_flowed_crlf_mail(self) -> None:
        body = GIT.replace("\n ", "\n  ").replace("+c", "+one \ntwo")
        assert texts(mail("x", body, headers=self.FLOWED, end="\r\n")) == [GIT.replace("+c", "+one two")]


class TestMailbox:
    def test_recorded_thread(self) -> None:
        """v4 and v5, unordered, with replies, a quoted diff, base64, quoted-printable and format=flowed."""
        quilt = [("clock-flags", 1), ("clock-new", 0), ("docs/rename", 1), ("cleanup", 1)]
        expected = [
            patches_from_file((DATA / "quilt" / f"{name}.patch").read_bytes(), name="a.patch", strip=strip)[0].text
            for name, strip in quilt
        ]
        found = (DATA / "thread.mbox").read_bytes()
        assert names(found) == [
            "[PATCH v5 1/4] clock: Count the flags",
            "[PATCH v5 2/4] clock: Add new",
            "[PATCH v5 3/4] docs: Rename clock to time",
            "[PATCH v5 4/4] clock: Clean up",
        ]
        assert texts(found) == expected

    def test_from_line_inside_prose_does_not_split(self) -> None:
        one = mail("x", "From here on, at 10:00:00 in 2025, all is well\n\n" + GIT)
        assert len(split_mbox(mbox(one))) == 1

    def test_crlf_mbox(self) -> None:
        data = mbox(mail("[PATCH 2/2] b", diff_of("x")), mail("[PATCH 1/2] a")).replace(b"\n", b"\r\n")
        assert texts(data) == [GIT, diff_of("x")]

    def test_no_mbox(self) -> None:
        assert split_mbox(GIT.encode()) == ()
        assert split_mbox(b"prose\n" + mbox(mail("x"))) == ()

    def test_ten_follows_nine(self) -> None:
        mails = [mail(f"[PATCH {n}/10] k: {n}", diff_of(f"x{n}")) for n in (10, 9, 1, 2, 3, 4, 5, 6, 7, 8)]
        assert texts(mbox(*mails)) == [diff_of(f"x{n}") for n in range(1, 11)]

    @pytest.mark.parametrize(
        "tag",
        [
            "PATCH v5 {}/2",
            "PATCHv5 {}/2",
            "RFC PATCH v5 0{}/02",
            "v5,{}/2",
            "PATCH RESEND V5 {}/2",
            "PATCH net v5 {}/2",
        ],
    )
    def test_ways_to_number(self, tag: str) -> None:
        mails = [
            mail(f"[{tag.format(2)}] b", diff_of("x")),
            mail("[PATCH v4 1/1] a", diff_of("o")),
            mail(f"[{tag.format(1)}] a"),
        ]
        assert texts(mbox(*mails)) == [GIT, diff_of("x")]

    def test_kernel_version_in_the_tag_is_no_number(self) -> None:
        assert texts(mbox(mail("[PATCH 6.12 2/2] b", diff_of("x")), mail("[PATCH 6.12 1/2] a"))) == [GIT, diff_of("x")]

    @pytest.mark.parametrize("prefix", ["Re: ", "RE: ", "AW: ", "[list] Re: ", "Re[2]: ", "Fwd: Re: "])
    def test_replies_are_ignored(self, prefix: str) -> None:
        data = mbox(mail(f"{prefix}[PATCH 1/1] a", diff_of("wrong")), mail("[PATCH 1/1] a"))
        assert texts(data) == [GIT]

    def test_reply_does_not_make_up_for_a_missing_patch(self) -> None:
        with pytest.raises(UserError, match="missing: 2/2:"):
            texts(mbox(mail("[PATCH 1/2] a"), mail("Re: [PATCH 2/2] b")))

    def test_missing_numbers_are_named(self) -> None:
        data = mbox(mail("[PATCH v5 4/5] d"), mail("[PATCH v5 1/5] a"), mail("[PATCH v5 3/5] c", "HTML only\n"))
        message = (
            r"^x.mbox: expected all 5 patches of v5, found 1/5, 4/5; "
            r"missing: 2/5, 3/5 \(a mail without a diff\), 5/5: save the whole thread"
        )
        with pytest.raises(UserError, match=message) as caught:
            texts(data)
        assert "[PATCH v5 4/5] d" in caught.value.details

    def test_single_mail_of_a_series_in_an_mbox_is_incomplete(self) -> None:
        with pytest.raises(UserError, match=r"missing: 1/2: .*\*\.patch"):
            texts(mbox(mail("[PATCH 2/2] b")))

    def test_incomplete_new_version_does_not_fall_back_to_the_old_one(self) -> None:
        data = mbox(mail("[PATCH 1/1] a"), mail("[PATCH v2 0/1] cover", "prose\n"))
        with pytest.raises(UserError, match=r"all 1 patches of v2, found none; missing: 1/1"):
            texts(data)

    def test_cover_letter_with_a_diff_is_no_patch(self) -> None:
        assert texts(mbox(mail("[PATCH 0/1] all", diff_of("wrong")), mail("[PATCH 1/1] a"))) == [GIT]

    def test_copy_with_a_list_footer_is_the_same_patch(self) -> None:
        assert texts(mbox(mail("[PATCH 1/1] a"), mail("[PATCH 1/1] a", GIT + "-- \nlist footer\n"))) == [GIT]

    @pytest.mark.parametrize(
        ("mails", "finding"),
        [
            ([("[PATCH 1/1] a", "x"), ("[PATCH 1/1] b", "y")], "two different patches 1/1"),
            ([("[PATCH 1/2] a", "x"), ("[PATCH 2/2] b", "y"), ("[PATCH 3/3] c", "z")], "more than one series"),
            ([("[PATCH 1/1] a", "x"), ("[PATCH] b", "y")], "belong to no one series"),
            ([("[PATCH] a", "x"), ("[PATCH v2] b", "y")], "belong to no one series"),
            ([("[PATCH 1/1] a", "x"), ("[PATCH] a", "y")], "belong to no one series"),
            ([("[PATCH] a", "x"), ("[PATCH] a", "y")], "whose order is unknown"),
            ([("[PATCH 2/1] a", "x"), ("[PATCH 1/1] b", "y")], "more than one series"),
        ],
    )
    def test_ambiguous(self, mails: list[tuple[str, str]], finding: str) -> None:
        with pytest.raises(UserError, match=finding) as caught:
            texts(mbox(*(mail(subject, diff_of(letter)) for subject, letter in mails)))
        assert mails[-1][0] in caught.value.details

    def test_unnumbered_patch_yields_to_its_newer_version(self) -> None:
        data = mbox(mail("[PATCH v2] a", diff_of("x")), mail("[PATCH] a"))
        assert texts(data) == [diff_of("x")]

    def test_unnumbered_keep_an_order_that_means_something(self) -> None:
        mails = [mail("[PATCH] b", diff_of("x")), mail("[PATCH] a")]
        assert texts(mbox(*mails)) == [diff_of("x"), GIT]
        with pytest.raises(UserError, match="whose order is unknown"):
            patches_from_mails(mails, place="Maildir", ordered=False)

    def test_no_patch_in_it(self) -> None:
        with pytest.raises(UserError, match=r"^x.mbox: expected a patch series, found no diff in 2 mails"):
            texts(mbox(mail("[PATCH 0/1] a"), mail("Re: [PATCH 1/1] a")))


class TestQuiltSeries:
    def test_options_comments_and_blanks(self) -> None:
        text = "# head\n\n a.patch\nsub/b.diff -p0 # why\n#off.patch -p9\nc.patch\t-p 2\nd#1.patch -pab\r\n"
        assert parse_series(text, place="series") == (
            SeriesEntry(name="a.patch", strip=1),
            SeriesEntry(name="sub/b.diff", strip=0),
            SeriesEntry(name="c.patch", strip=2),
            SeriesEntry(name="d#1.patch", strip=1),
        )

    def test_unknown_option(self) -> None:
        with pytest.raises(UserError, match=r"series: line 2: expected 'FILE \[-pN\]', found the option '-R'"):
            parse_series("a.patch\nb.patch -R\n", place="series")

    def test_nothing_in_it(self) -> None:
        with pytest.raises(UserError, match="series: expected the names of patches, one a line, found none"):
            parse_series("# nothing\n", place="series")

    @pytest.mark.parametrize(
        ("strip", "old", "new"), [(0, "k.c", "k.c"), (2, "x/y/k.c", "z/y/k.c"), (1, "linux.orig/k.c", "linux/k.c")]
    )
    def test_stripped_paths_become_p1(self, strip: int, old: str, new: str) -> None:
        data = DIFF.replace("a/k.c", f"{old}\t2025-01-02").replace("b/k.c", new).encode()
        (patch,) = patches_from_file(data, name="a.patch", strip=strip)
        (section,) = parse_diff(patch.text, name="a.patch")
        assert (section.old, section.new) == ("k.c", "k.c")

    def test_git_p0(self) -> None:
        data = "diff --git k.c k.c\nnew file mode 100644\n--- /dev/null\n+++ k.c\n@@ -0,0 +1 @@\n+c\n"
        (patch,) = patches_from_file(data.encode(), name="a.patch", strip=0)
        assert patch.text.startswith("diff --git a/k.c b/k.c\nnew file mode 100644\n--- /dev/null\n+++ b/k.c\n")
