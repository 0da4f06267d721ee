"""Which patches of two versions belong together: by git range-diff, and by title and content where git can't."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from harness.build.seriesdiff import range_diff
from harness.build.sourcetree import Tried
from harness.build.treefiles import TreeFile
from harness.model.kernel import Mailed, Patch
from harness.model.review import Pair, Relation
from harness.parse.rangediff import parse_range_diff
from harness.parse.series import patches_from_file
from harness.report.pairing import paired, title_of

TOLD = """\
1:  0a1b2c3 = 1:  4d5e6f7 arm64: first
2:  1a1b2c3 ! 2:  5d5e6f7 arm64: second
3:  2a1b2c3 < -:  ------- arm64: third
-:  ------- > 3:  6d5e6f7 arm64: 4:  0a1b2c3 = 9:  4d5e6f7
 @@ a line of a diff
"""


def patch(title: str, *lines: str) -> Patch:
    body = "".join(f"+{line}\n" for line in lines)
    diff = f"--- a/kernel/f.c\n+++ b/kernel/f.c\n@@ -0,0 +1,{len(lines)} @@\n{body}"
    (made,) = patches_from_file(diff.encode(), name="x.patch")
    return dataclasses.replace(made, mailed=Mailed(subject=title))


def pairs(*told: tuple[int | None, str, int | None]) -> tuple[Pair, ...]:
    return tuple(Pair(older=older, newer=newer, relation=Relation(sign)) for older, sign, newer in told)


def test_range_diffs_output() -> None:
    assert parse_range_diff(TOLD) == pairs((1, "=", 1), (2, "!", 2), (3, "<", None), (None, ">", 3))


@pytest.mark.parametrize(
    ("subject", "name", "title"),
    [
        ("[PATCH v2 3/5] arm64: x", "0003.patch", "arm64: x"),
        ("Re: [PATCH] [RFC] y", "n", "y"),
        ("", "v2-0003-arm64-x.patch", "arm64-x"),
        ("[PATCH]", "n", "[PATCH]"),
    ],
)
def test_titles(subject: str, name: str, title: str) -> None:
    mailed = Mailed(subject=subject) if subject else None
    assert title_of(Patch(name=name, text="", sha256="", mailed=mailed)) == title


def test_pairs_by_content_then_title_then_likeness() -> None:
    older = [patch("[PATCH 1/4] one", "a"), patch("two", "b", "c"), patch("three", "d", "e", "f"), patch("gone", "g")]
    newer = [patch("three, renamed", "d", "e", "f2"), patch("[v2] one", "a"), patch("two", "b2"), patch("added", "z")]
    assert paired(older, newer) == pairs((3, "!", 1), (1, "=", 2), (2, "!", 3), (None, ">", 4), (4, "<", None))


def test_the_first_patch_can_pair_with_a_later_one() -> None:
    one, two = patch("one", "a"), patch("two", "b")
    assert paired([one, two], [two, one]) == pairs((2, "=", 1), (1, "=", 2))


# --- git ----------------------------------------------------------------------------------------------------------


def tried(title: str, path: str, before: str | None, after: str | None) -> Tried:
    def file(text: str | None) -> TreeFile | None:
        return None if text is None else TreeFile(content=text.encode(), mode=0o644)

    return Tried(patch=patch(title, title), paths=(path,), before={path: file(before)}, after={path: file(after)})


LINES = "".join(f"line {number}\n" for number in range(40))


def test_git_pairs_what_changed_moved_came_and_went() -> None:
    """Among them a new file, and names that git's own stream has to quote."""
    one, two = LINES.replace("line 3\n", "one\n"), LINES.replace("line 30\n", "two\nand more\nof it\n")
    other = two.replace("of it", "of that")
    name = 'kernel/a "b" \\ c.c'
    older = [tried("one", name, LINES, one), tried("two", "kernel/t.c", LINES, two), tried("gone", "g.c", None, "g\n")]
    newer = [
        tried("added", "kernel/new.c", None, LINES),
        tried("one", name, LINES, one),
        tried("two", "kernel/t.c", LINES, other),
    ]
    found = range_diff(older, newer)
    assert set(found) == set(pairs((None, ">", 1), (1, "=", 2), (2, "!", 3), (3, "<", None)))


def test_the_users_git_configuration_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a template with a hook, nor an alias of a diff, nor a pager's colours."""
    (tmp_path / "template/hooks").mkdir(parents=True)
    ran = tmp_path / "ran"
    for hook in ("reference-transaction", "post-index-change"):
        (tmp_path / "template/hooks" / hook).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (tmp_path / "template/hooks" / hook).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(
        f"[init]\n\ttemplateDir = {tmp_path}/template\n[core]\n\thooksPath = {tmp_path}/template/hooks\n"
        f"[diff]\n\texternal = touch {ran}\n[color]\n\tui = always\n[core]\n\tabbrev = 40\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    told = subprocess.run(["git", "config", "color.ui"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "always"  # so it is in force elsewhere
    same = [tried("one", "a.c", LINES, LINES + "x\n")]
    assert range_diff(same, same) == pairs((1, "=", 1))
    assert not ran.exists()
