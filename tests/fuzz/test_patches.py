"""Series, mails and diffs: whatever they hold is refused by a UserError, or applied and taken back exactly."""

from __future__ import annotations

import difflib
import hashlib
import re
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from hypothesis import example
from hypothesis import strategies as st

from harness.build.applydiff import _likeliest, patched
from harness.build.patches import apply_series
from harness.errors import UserError
from harness.model.kernel import Patch
from harness.parse.diff import FileDiff, Hunk, find_diff, normalize_diff, parse_diff
from harness.parse.mail import header, parse_mail
from harness.parse.series import parse_series, patches_from_file, patches_from_mails, split_mbox
from harness.parse.unquote import unquote
from tests.fuzz.fuzzing import fuzzed, lines_of, pieces_of, refused
from tests.unit.numbered import create, files, git, link, patch

DIFF_WORDS = (
    "diff --git ", "a/k.c", "b/k.c", '"a/k\\303\\266"', "--- a/k.c\n", "+++ b/k.c\n", "/dev/null", "@@ -1 +1 @@\n",
    "@@ -0,0 +1,2 @@\n", "-a\n", "+b\n", " c\n", "\n", "\\ No newline at end of file\n", "new file mode 100644\n",
    "deleted file mode 100644\n", "old mode 100644\n", "rename from ", "copy to ", "similarity index 100%\n", "index ",
    "0" * 40, "..", "GIT binary patch\n", "literal 1\n", "delta 9\n", "zcmV", "Binary files a and b differ\n",
    "\t2024-01-01 00:00:00", "\tJan 1 1970", "--- ", "+++ ", "@@ ", "../", ".git/", "-- \n2.39\n",
)  # fmt: skip
MAIL_WORDS = (
    "From a Mon Sep 17 00:00:00 2001\n", "From: a@example.org\n", "Subject: ", "[PATCH 1/2] x", "[PATCH v2 2/2]",
    "Re: ", "=?utf-8?q?x?=", "=?x?b?!", "Content-Type: ", "multipart/mixed; boundary=b", "text/plain; charset=",
    "utf-16", "idna", "punycode", "uu", "; format=flowed; delsp=yes", "message/rfc822", "Content-Transfer-Encoding: ",
    "base64\n", "quoted-printable\n", "x-uuencode\n", "Content-Disposition: attachment; filename*=utf-8''a.patch\n",
    "MIME-Version: 1.0\n", "--b\n", "--b--\n", "\n\n", "\n ", ">From x\n", "=\n", "IA==\n",
    "--- a/k.c\n+++ b/k.c\n@@ -1 +1 @@\n-a\n+b\n",
)  # fmt: skip
NAMES = ("n", "n/e", "n/e/f", "d/x", "d", "d/x/e", ".n.harness-new")


@fuzzed(pieces_of(*DIFF_WORDS), st.integers(0, 3), examples=200)
@example("diff --git a/k.c b/k.c\n" * 1200, 1)
def test_diffs(text: str, strip: int) -> None:
    """A diff that is accepted says the same once it is normalized, with the paths and lines that it had."""
    diff = find_diff(text)
    if diff is None:
        return
    assert text.replace("\r", "").endswith(diff.replace("\r", ""))
    if refused(lambda: normalize_diff(diff, name="x", strip=strip)):
        return
    once = normalize_diff(diff, name="x", strip=strip)
    sections = parse_diff(once, name="x")
    assert normalize_diff(once, name="x") == once
    assert parse_diff(once, name="x") == sections
    for section in sections:
        assert not {"", ".", "..", ".git"} & {part.lower() for part in section.path.split("/")}
        for hunk in section.hunks:
            assert all(line[0] in " +-\\" for line in hunk.lines)


@fuzzed(lines_of(*(f"> {word}" for word in DIFF_WORDS), "> @@ -1,3 +1,4 @@ f", "> k.c | 2 +-", "> ", ">", "x", ""))
def test_quoted_diffs(text: str) -> None:
    """A diff that is taken out of a mail has as many lines as its hunks say."""
    found = None if refused(lambda: unquote(text, name="x")) else unquote(text, name="x")
    if found is not None and not refused(lambda: normalize_diff(found.diff, name="x")):
        assert parse_diff(found.diff, name="x")


_line = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=4) | st.sampled_from(
    ["a", "b", "-- x", "++ y", "", " ", "\\ No newline", "@@ -1 +1 @@", "\r", "\x0c", "diff --git a b", "--- a"]
)
_lines = st.lists(_line, max_size=12)


@fuzzed(_lines, _lines)
@example(["a"], [])
@example([], ["a"])
@example(["\r"], ["a\r"])
def test_a_diff_takes_one_file_to_the_other(old: list[str], new: list[str]) -> None:
    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    text = "".join(difflib.unified_diff([f"{x}\n" for x in old], [f"{x}\n" for x in new], "a/k.c", "b/k.c", n=1))
    if not text or "".join(old + new).isspace():
        return
    (section,) = parse_diff(normalize_diff(text, name="x"), name="x")
    expected = after.encode("utf-8", "surrogateescape")
    assert patched(before.encode("utf-8", "surrogateescape"), section, who="x") == expected


_word = st.sampled_from(["a", "b", "\ta", "\t\tb c", "#a", "- x", "+ y", "", "*/"])
_words = st.lists(_word, min_size=1, max_size=14)


@fuzzed(_words, _words, st.lists(st.integers(0, 60), max_size=4))
def test_a_diff_that_is_quoted_with_comments_is_that_diff(old: list[str], new: list[str], comments: list[int]) -> None:
    text = "".join(difflib.unified_diff([f"{x}\n" for x in old], [f"{x}\n" for x in new], "a/k.c", "b/k.c"))
    if not text:
        return
    lines = [f"> {line}" for line in text.splitlines()]
    # nobody comments between the two lines of a file's header, and there no patch is seen
    for at in sorted((at for at in comments if at < len(lines) and at != 1), reverse=True):
        lines[at:at] = ["", "Why?", ""]
    found = unquote("\n".join(lines), name="x")
    assert found is not None
    assert not found.is_loose
    assert parse_diff(found.diff, name="x")[0].hunks == _counted(parse_diff(text, name="x")[0].hunks)


_how = st.sampled_from(["leave out", "mark", "wrap", "wrap bare", "comment"])
_places = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), min_size=1, max_size=2)


@fuzzed(_words, _words, _words, _how, _places, st.booleans(), examples=300)
def test_a_quoted_diff_that_a_mailer_or_a_person_mangled_is_that_diff_or_refused(
    old: list[str], new: list[str], other: list[str], how: str, places: list[tuple[int, int]], is_git: bool
) -> None:
    nothing: list[str] = []
    pairs = (("k.c", old, new), ("l.c", new, other), ("m.c", nothing, other))
    text, changed = "", 0
    for name, before, after in pairs:
        sides = [[f"{x}\n" for x in each] for each in (before, after)]
        part = "".join(difflib.unified_diff(sides[0], sides[1], f"a/{name}", f"b/{name}"))
        text += f"diff --git a/{name} b/{name}\nindex 1234567..89abcde 100644\n{part}" if is_git and part else part
        changed += bool(part)
    kinds = [line[0] for line in text.splitlines() if not line.startswith(("---", "+++"))]
    stat = f" {changed} files changed, {kinds.count('+')} insertions(+), {kinds.count('-')} deletions(-)"
    lines = [f"> {line}" for line in [stat, "", *text.splitlines()]]
    for where, much in places[: 1 if "wrap" in how else 2]:  # a line that is wrapped twice can look like a comment
        at = 2 + where % max(len(lines) - 2, 1)
        if how in ("leave out", "mark"):
            lines[at : at + 1 + much % 12] = ["", "[...]", ""] if how == "mark" else []
        elif how == "comment":
            lines[at:at] = ["", "Why?", ""]
        elif at < len(lines) and len(lines[at]) > 3:
            cut = 3 + much % (len(lines[at]) - 3)
            lines[at : at + 1] = [lines[at][:cut], ("> " if how == "wrap" else "") + lines[at][cut:]]
    if refused(lambda: unquote("\n".join(lines), name="x")):
        return
    found = unquote("\n".join(lines), name="x")
    if found is None or refused(partial(parse_diff, found.diff, name="x")):
        return
    expected, given = (parse_diff(each, name="x") for each in (text, found.diff))
    assert [_changes(each) for each in given] == [_changes(each) for each in expected]
    if not found.is_loose:
        assert [each.hunks for each in given] == [_counted(each.hunks) for each in expected]


def _changes(section: FileDiff) -> tuple[str, list[str]]:
    return section.path, [line for hunk in section.hunks for line in hunk.lines if line[0] in "+-"]


def _counted(hunks: tuple[Hunk, ...]) -> tuple[Hunk, ...]:
    """With both counts in the headers, where diff leaves out those of one line."""
    return tuple(replace(each, header=re.sub(r"(?<=[-+])(\d+)(?= )", r"\1,1", each.header)) for each in hunks)


@fuzzed(_lines, _lines, st.integers(0, 20), examples=200)
def test_where_a_hunk_belongs(expected: list[str], lines: list[str], near: int) -> None:
    """As by comparing with every place, which takes time that grows with the square."""

    def same(at: int) -> int:
        return sum(a == b for a, b in zip(expected, lines[at:], strict=False) if a.strip())

    at = _likeliest(expected, lines, near=near)
    best = max((same(place) for place in range(len(lines))), default=0)
    assert same(at) == best if best else at == near
    if best:
        assert abs(at - near) == min(abs(place - near) for place in range(len(lines)) if same(place) == best)


@fuzzed(pieces_of(*MAIL_WORDS, *DIFF_WORDS[:8]).map(lambda text: text.encode("utf-8", "surrogatepass")), examples=200)
def test_mails(data: bytes) -> None:
    mails = split_mbox(data)
    assert b"".join(mails) == b"" or all(mail in data for mail in mails)
    assert sum(map(len, mails)) <= len(data)
    for name in ("x.patch", "x.mbox"):
        if refused(partial(patches_from_file, data, name=name)):
            continue
        found = patches_from_file(data, name=name)
        assert found
        for each in found:
            assert each.text == normalize_diff(each.text, name="x")
            assert each.sha256 == hashlib.sha256(each.text.encode("utf-8", "surrogateescape")).hexdigest()


@fuzzed(pieces_of(*MAIL_WORDS).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_headers(data: bytes) -> None:
    if refused(lambda: parse_mail(data, place="x")):
        return
    message = parse_mail(data, place="x")
    for name in message.keys():  # noqa: SIM118 (a Message is no mapping)
        told = header(message, name)
        assert told == " ".join(told.split())


_counts = st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 2))


@fuzzed(st.lists(_counts, max_size=5))
def test_a_mailed_series_is_whole_or_refused(numbers: list[tuple[int, int, int]]) -> None:
    diff = "--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-a\n+b\n"
    mails = [
        f"Subject: [PATCH v{version} {number}/{total}] x\n\n{diff.format(number)}".encode()
        for number, total, version in numbers
    ]
    if refused(lambda: patches_from_mails(mails, place="x")):
        return
    found = patches_from_mails(mails, place="x")
    newest = max(version for _, _, version in numbers)
    total = max(total for _, total, version in numbers if version == newest)
    assert [each.name.partition("/")[0].rpartition(" ")[2] for each in found] == [str(n) for n in range(1, total + 1)]


@fuzzed(lines_of("a.patch", " -p", "1", "ab", "# x", " ", "-R"))
def test_quilt(text: str) -> None:
    if not refused(lambda: parse_series(text, place="x")):
        assert 0 < len(parse_series(text, place="x")) <= text.count("\n") + 1


def _remove(path: str) -> Patch:
    return git(path, "deleted file mode 100644", f"--- a/{path}", "+++ /dev/null", "@@ -1 +0,0 @@", "-x")


def _move(verb: str, one: str, other: str) -> Patch:
    return patch(f"diff --git a/{one} b/{other}\nsimilarity index 100%\n{verb} from {one}\n{verb} to {other}\n")


_name = st.sampled_from(NAMES)
_operation = st.one_of(
    _name.map(lambda path: create(path, "x")),
    _name.map(lambda path: git(path, "new file mode 100644")),
    _name.map(lambda path: patch(f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n")),
    _name.map(_remove),
    _name.map(lambda path: patch(f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-x\n+y\n")),
    _name.map(lambda path: git(path, "old mode 100644", "new mode 100755")),
    st.builds(link, _name, st.sampled_from(["d", "x", "d/x", "../x", "n", "/etc"])),
    st.builds(_move, st.sampled_from(["copy", "rename"]), _name, _name),
)


def _joined(patches: list[Patch]) -> list[Patch]:
    return [patch("".join(each.text for each in patches))]


_operations = st.lists(_operation, min_size=1, max_size=3)
_series = _operations | _operations.map(_joined)


@fuzzed(st.sampled_from(["", "n", "n/e", "n/e/f", "n/o", ".n.harness-new"]), _series, _series)
@example("", [create("n", "x"), create("n/e", "x")], [create("n/e", "x")])
@example("", _joined([create("n", "x"), create("n/e", "x")]), [create("n", "x")])
@example("n/e", [_remove("n/e"), create("n", "x")], [create("n/e", "x")])
def test_a_series_is_applied_or_leaves_the_tree(there: str, first: list[Patch], second: list[Patch]) -> None:
    with tempfile.TemporaryDirectory() as name:
        tree, state = Path(name) / "tree", Path(name) / "state"
        for path in ("d/x", *([there] if there else [])):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text("x\n")
        pristine = files(tree)
        for series in (first, second):
            before = files(tree)
            try:
                apply_series(tree, series, state=state)
            except UserError:
                assert files(tree) == before
        assert not any(path.is_symlink() and "/etc" in str(path.readlink()) for path in tree.rglob("*"))
        apply_series(tree, [], state=state)
        assert files(tree) == pristine
