"""Input that is too large, too deep or made to be slow is refused: which limit, what was found, how to raise it.

The limits are lowered here, so that small inputs are above them.
"""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import limits
from harness.build.load_patches import load_patches
from harness.build.patches import apply_series
from harness.errors import UserError
from harness.limits import LIMITS, Limit
from tests.faults.catalogue import Blame, fault
from tests.unit.numbered import change, create, files, make_numbered, patch
from tests.unit.test_load_patches import diff_of

ROOT = Path(__file__).parents[2]

Lower = Callable[[Limit, int], None]


@pytest.fixture
def lower(monkeypatch: pytest.MonkeyPatch) -> Lower:
    """Set a limit as a user does."""
    return lambda limit, value: monkeypatch.setenv(limit.variable, str(value))


def is_told(error: UserError, limit: Limit, *, place: str) -> bool:
    """Whether the message names place, limit and the way to raise it."""
    return (
        error.exit_code == 2
        and place in error.message
        and f"expected at most {limit.value} {limit.unit} ({limit.on}), found " in error.message
        and limit.variable in error.message
    )


def refused(path: Path, limit: Limit) -> bool:
    with pytest.raises(UserError) as caught:
        load_patches([path])
    return is_told(caught.value, limit, place=path.name)


class TestLimits:
    def test_the_documented_ones_are_those_in_force(self) -> None:
        text = (ROOT / "docs/limits.md").read_text()
        assert limits.table() in text, "python -m harness.limits writes the table for docs/limits.md"

    def test_each_has_a_name_of_its_own(self) -> None:
        assert len({each.name for each in LIMITS}) == len(LIMITS) > 20

    def test_the_environment_changes_it(self, lower: Lower) -> None:
        assert limits.PATCH_FILES.value == limits.PATCH_FILES.default
        lower(limits.PATCH_FILES, 3)
        limits.PATCH_FILES.check(3, place="x")
        with pytest.raises(UserError) as caught:
            limits.PATCH_FILES.check(4, place="x.patch")
        assert is_told(caught.value, limits.PATCH_FILES, place="x.patch: ")

    @pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "unlimited", "9" * 5000, "١"])
    def test_a_limit_that_is_no_number(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("HARNESS_LIMIT_PATCH_FILES", text)
        with pytest.raises(UserError, match="HARNESS_LIMIT_PATCH_FILES: expected a positive number"):
            limits.PATCH_FILES.check(1, place="x")


class TestPatchFiles:
    @pytest.mark.parametrize(
        "pack",
        [
            pytest.param(bytes, id="plain"),
            pytest.param(
                gzip.compress,
                id="gz",
                marks=fault(
                    "a .gz patch that unpacks to more than the limit",
                    where="hostile input",
                    blame=Blame.USER,
                    survives="the memory of the host",
                ),
            ),
            pytest.param(
                lzma.compress,
                id="xz",
                marks=fault(
                    "an .xz patch that unpacks to more than the limit",
                    where="hostile input",
                    blame=Blame.USER,
                    survives="the memory of the host",
                ),
            ),
            pytest.param(lambda data: lzma.compress(data[:60]) + lzma.compress(data[60:]), id="xz streams"),
            pytest.param(lambda data: gzip.compress(data[:60]) + gzip.compress(data[60:]), id="gz members"),
        ],
    )
    def test_larger_than_the_limit(self, tmp_path: Path, lower: Lower, pack: Callable[[bytes], bytes]) -> None:
        path = tmp_path / "a.patch"
        data = diff_of("b").encode() + b"\n" * 3000
        path.write_bytes(pack(data))
        assert load_patches([path])[0].text == diff_of("b")
        lower(limits.PATCH_BYTES, len(data))
        assert load_patches([path])[0].text == diff_of("b")
        lower(limits.PATCH_BYTES, len(data) - 1)
        assert refused(path, limits.PATCH_BYTES)

    @fault(
        "an .xz patch that asks for more memory than the limit to be unpacked",
        where="hostile input",
        blame=Blame.USER,
        survives="the memory of the host",
    )
    def test_xz_that_needs_much_memory(self, tmp_path: Path, lower: Lower) -> None:
        path = tmp_path / "a.patch"
        path.write_bytes(lzma.compress(diff_of("b").encode(), preset=9))
        assert load_patches([path])
        lower(limits.XZ_BYTES, 1 << 20)
        assert refused(path, limits.XZ_BYTES)

    def test_xz_with_padding(self, tmp_path: Path) -> None:
        data = diff_of("b").encode()
        path = tmp_path / "a.patch"
        path.write_bytes(lzma.compress(data[:20]) + bytes(8) + lzma.compress(data[20:]) + bytes(4))
        assert load_patches([path])[0].text == diff_of("b")

    @fault(
        "a mailbox of newlines",
        where="hostile input",
        blame=Blame.USER,
        survives="the memory of the host",
    )
    def test_more_lines_than_the_limit(self, tmp_path: Path, lower: Lower) -> None:
        path = tmp_path / "a.mbox"
        path.write_bytes(b"\n" * 50 + diff_of("b").encode())
        lower(limits.PATCH_LINES, 40)
        assert refused(path, limits.PATCH_LINES)

    def test_many_files_that_are_too_large_together(self, tmp_path: Path, lower: Lower) -> None:
        for letter in "bcd":
            (tmp_path / f"{letter}.patch").write_text(diff_of(letter))
        lower(limits.SERIES_BYTES, 2 * len(diff_of("b")))
        with pytest.raises(UserError) as caught:
            load_patches([tmp_path])
        assert is_told(caught.value, limits.SERIES_BYTES, place=str(tmp_path / "d.patch"))

    @pytest.mark.parametrize("form", ["directory", "quilt", "maildir", "mailbox"])
    def test_more_patches_than_the_limit(self, tmp_path: Path, lower: Lower, form: str) -> None:
        lower(limits.SERIES_PATCHES, 2)
        mail = "From: a@example.org\nSubject: [PATCH {0}/3] {0}\n\n{1}"
        path, names = tmp_path / form, ("1.patch", "2.patch", "3.patch")
        (path / "cur").mkdir(parents=True) if form == "maildir" else path.mkdir()
        for number, name in enumerate(names, start=1):
            (path / "cur" / name if form == "maildir" else path / name).write_text(mail.format(number, diff_of("b")))
        if form == "quilt":
            (path / "series").write_text("\n".join(names))
            path /= "series"
        if form == "mailbox":
            box = [f"From a Mon Sep 17 00:00:00 2001\n{(path / name).read_text()}" for name in names]
            path = tmp_path / "s.mbox"
            path.write_text("\n".join(box))
        assert refused(path, limits.SERIES_PATCHES)

    def test_more_changed_files_than_the_limit(self, tmp_path: Path, lower: Lower) -> None:
        (tmp_path / "a.patch").write_text(diff_of("b") * 3)
        lower(limits.PATCH_FILES, 2)
        with pytest.raises(UserError) as caught:
            load_patches([tmp_path / "a.patch"])
        assert is_told(caught.value, limits.PATCH_FILES, place="a.patch")

    @pytest.mark.parametrize("kind", ["device", "pipe"])
    @fault(
        "--patches names a device or a pipe, which might never end",
        where="hostile input",
        blame=Blame.USER,
        survives="what it is",
    )
    def test_what_is_no_file(self, kind: str, tmp_path: Path) -> None:
        path = Path("/dev/null")
        if kind == "pipe":
            os.mkfifo(path := tmp_path / "a.patch")
        with pytest.raises(UserError, match=f"it is a {kind}, not a regular file") as caught:
            load_patches([path])
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(("magic", "packer"), [(b"BZh9", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd")])
    def test_a_packed_patch_of_another_kind(self, magic: bytes, packer: str, tmp_path: Path) -> None:
        (tmp_path / "a.patch").write_bytes(magic + b"x")
        with pytest.raises(UserError, match=f"found one packed by {packer}: unpack it"):
            load_patches([tmp_path / "a.patch"])


class TestMails:
    @pytest.mark.parametrize(
        "subject",
        [
            pytest.param(
                "[PATCH 1/1000000000] x",
                marks=fault(
                    "a mail that is the first patch of a billion",
                    where="hostile input",
                    blame=Blame.USER,
                    survives="the memory of the host",
                ),
            ),
            pytest.param(
                f"[PATCH 1/{'9' * 900}] x",
                marks=fault(
                    "a mail whose number has hundreds of digits",
                    where="hostile input",
                    blame=Blame.USER,
                    survives="nothing is applied",
                ),
            ),
            f"[PATCH 1/{'9' * 3000}] x",
            "[PATCH 1000000000/1000000000] x",
        ],
    )
    def test_numbers(self, tmp_path: Path, subject: str) -> None:
        path = tmp_path / "a.mbox"
        path.write_text(f"From a Mon Sep 17 00:00:00 2001\nSubject: {subject}\n\n{diff_of('b')}")
        assert refused(path, limits.SERIES_PATCHES)

    def test_missing_mails_are_told_briefly(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mbox"
        path.write_text(f"From a Mon Sep 17 00:00:00 2001\nSubject: [PATCH 1/9999] x\n\n{diff_of('b')}")
        with pytest.raises(UserError, match=r"missing: 2/9999, .* and 9958 more: save the whole") as caught:
            load_patches([path])
        assert len(caught.value.message) < 1000

    @fault(
        "a mail of parts within parts, deeper than a parser can follow",
        where="hostile input",
        blame=Blame.USER,
        survives="nothing is applied",
    )
    @pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
    def test_nested_parts(self, tmp_path: Path, end: str) -> None:
        head = ["From: a@example.org", "Subject: x", "MIME-Version: 1.0"]
        nest = [line for n in range(40) for line in (f'Content-Type: multipart/mixed; boundary="{n}"', "", f"--{n}")]
        path = tmp_path / "a.eml"
        path.write_bytes(end.join([*head, *nest, "", diff_of("b")]).encode())
        assert refused(path, limits.MAIL_NESTED)

    def test_attached_mails_within_mails(self, tmp_path: Path, lower: Lower) -> None:
        lower(limits.MAIL_NESTED, 3)
        nest = "Content-Type:\n message/rfc822\n\n" * 4
        path = tmp_path / "a.eml"
        path.write_text(f"From: a@example.org\nSubject: x\n{nest}{diff_of('b')}")
        assert refused(path, limits.MAIL_NESTED)

    @fault("a mail of very many parts", where="hostile input", blame=Blame.USER, survives="nothing is applied")
    def test_many_parts(self, tmp_path: Path, lower: Lower) -> None:
        lower(limits.MAIL_PARTS, 10)
        parts = "--b\n\nx\n" * 12 + "--b--\n"
        path = tmp_path / "a.eml"
        path.write_text(f"From: a@example.org\nContent-Type: multipart/mixed; boundary=b\n\n{parts}{diff_of('b')}")
        assert refused(path, limits.MAIL_PARTS)

    @pytest.mark.parametrize(
        ("name", "limit"),
        [
            ("Content-Type", limits.MAIL_SHORT_BYTES),
            ("Subject", limits.MAIL_SHORT_BYTES),
            ("References", limits.MAIL_HEADER_BYTES),
        ],
    )
    @fault("a mail with a header of kilobytes", where="hostile input", blame=Blame.USER, survives="nothing is applied")
    def test_long_header(self, tmp_path: Path, lower: Lower, name: str, limit: Limit) -> None:
        lower(limit, 300)
        path = tmp_path / "a.eml"
        path.write_text(f"From: a@example.org\n{name}: text/plain{'; a=b' * 100}\n\n{diff_of('b')}")
        assert refused(path, limit)

    def test_a_long_from_line_is_no_mailbox(self, tmp_path: Path) -> None:
        path = tmp_path / "a.patch"
        path.write_text(f"From a {'00:00 2001 ' * 5000}\nSubject: x\n\n{diff_of('b')}")
        assert load_patches([path])[0].text == diff_of("b")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_numbered(tmp_path / "src")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "series"


class TestApplying:
    def test_what_a_series_makes_is_limited(self, tree: Path, state: Path, lower: Lower) -> None:
        """Copies of one file take a line each in a patch."""
        before = files(tree)
        copies = "".join(
            f"diff --git a/run.sh b/{n}\nsimilarity index 100%\ncopy from run.sh\ncopy to {n}\n" for n in range(9)
        )
        apply_series(tree, [patch(copies)], state=state)
        apply_series(tree, [], state=state)
        lower(limits.RESULT_BYTES, 9 * (tree / "run.sh").stat().st_size - 1)
        with pytest.raises(UserError) as caught:
            apply_series(tree, [patch(copies)], state=state)
        assert is_told(caught.value, limits.RESULT_BYTES, place="0001-x.patch")
        assert files(tree) == before

    @fault(
        "a patch that takes patch(1) longer than the limit",
        where="hostile input",
        blame=Blame.USER,
        survives="the tree as it was",
    )
    def test_a_patch_that_takes_for_ever(
        self, tree: Path, state: Path, lower: Lower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = files(tree)
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/patch").write_text("#!/bin/sh\nexec sleep 600\n")
        (tmp_path / "bin/patch").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        lower(limits.APPLY_SECONDS, 1)
        with pytest.raises(UserError) as caught:
            apply_series(tree, [change("run.sh", 5, "x")], state=state)
        assert is_told(caught.value, limits.APPLY_SECONDS, place="0001-x.patch: run.sh")
        assert files(tree) == before

    def test_a_series_that_takes_for_ever(
        self, tree: Path, state: Path, lower: Lower, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, now = files(tree), [0.0]

        def later() -> float:
            now[0] += 5
            return now[0]

        monkeypatch.setattr("harness.limits.time.monotonic", later)
        monkeypatch.setattr("harness.build.patched_tree.patched", lambda source, diff, who: source)
        lower(limits.SERIES_SECONDS, 12)
        with pytest.raises(UserError) as caught:
            apply_series(tree, [change("run.sh", 5, "x")] * 5, state=state)
        assert is_told(caught.value, limits.SERIES_SECONDS, place="0001-x.patch: run.sh")
        assert files(tree) == before

    def test_a_hunk_that_does_not_apply_is_compared_in_bounded_time(
        self, tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where very many lines are equal, the ones that tell most decide."""
        monkeypatch.setattr("harness.build.applydiff._MOST_PAIRS", 500)
        (tree / "x").write_text("same\n" * 400 + "here\nthere\n" + "same\n" * 100)
        body = " same\n" * 5 + " here\n there\n-nowhere\n+x\n"
        with pytest.raises(UserError, match=r"hunk 1 .* does not apply") as caught:
            apply_series(tree, [patch(f"--- a/x\n+++ b/x\n@@ -1,8 +1,8 @@\n{body}")], state=state)
        assert "found in the file at line 396:" in caught.value.details

    @pytest.mark.parametrize(
        "path", ["/".join("x" * 70), "x" * 256, "/".join(["x" * 200] * 30)], ids=["parts", "name", "whole"]
    )
    @fault(
        "a patch with a path that no file system can have",
        where="hostile input",
        blame=Blame.USER,
        survives="the tree as it was",
    )
    def test_long_paths(self, tree: Path, state: Path, path: str) -> None:
        before = files(tree)
        with pytest.raises(UserError, match="expected a path of at most 64 parts of 255 bytes each, 4095 in all"):
            apply_series(tree, [create(path, "x")], state=state)
        assert files(tree) == before

    def test_many_headers_in_a_row(self, tree: Path, state: Path, tmp_path: Path) -> None:
        """Each was followed to the last one, by a call within another."""
        path = tmp_path / "a.patch"
        path.write_text("diff --git a/run.sh b/run.sh\n" * 3000)
        with pytest.raises(UserError, match=r"a\.patch: expected a patch \(a unified diff\), found none in it"):
            load_patches([path])
        path.write_text("diff --git a/run.sh b/run.sh\n" * 3000 + change("run.sh", 5, "x").text)
        with pytest.raises(UserError, match=r"run.sh: expected a change of the file"):
            apply_series(tree, load_patches([path]), state=state)

    def test_deletion_of_a_file_with_other_lines(self, tree: Path, state: Path) -> None:
        """It can't be taken for one that was already applied, though patch(1) can take it back anywhere."""
        gone = "".join(f"-other {n}\n" for n in range(3))
        with pytest.raises(UserError, match=r"run.sh: hunk 1 .* does not apply: the file's lines are not those"):
            apply_series(tree, [patch(f"--- a/run.sh\n+++ /dev/null\n@@ -1,3 +0,0 @@\n{gone}")], state=state)
