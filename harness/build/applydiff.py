"""Applies one file's change to its content: text with patch(1), binary with git. Failures are explained."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.build.command import Finished, TimedOut, run
from harness.errors import InfraError, UserError
from harness.limits import APPLY_SECONDS
from harness.parse.diff import Binary, FileDiff, Hunk

_MOST_PAIRS = 1_000_000  # equal lines that are looked at to find where a hunk belongs
_NOTHING = "0" * 40
# No repository, nobody's configuration, and no more memory than a file of a kernel tree needs: a delta itself says how
# large its result is.
_GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "0",
    "GIT_DEFAULT_HASH": "sha1",
    "GIT_ALLOC_LIMIT": "256m",
}


def patched(source: bytes, diff: FileDiff, *, who: str) -> bytes:
    """Return the file's content after the diff. Raises UserError, in the name of `who`, if it does not apply."""
    try:
        if diff.binary:
            return _binary(source, diff.binary, who=who)
        return _text(source, diff, who=who) if diff.hunks else source
    except TimedOut as error:
        raise APPLY_SECONDS.exceeded(place=who) from error


def _text(source: bytes, diff: FileDiff, *, who: str) -> bytes:
    """Apply with patch(1), which may shift and fuzz hunks as kernel developers expect. It gets neutral file names, so
    that no path in a patch has any effect."""
    with tempfile.TemporaryDirectory(prefix="harness-patch-") as name:
        scratch = Path(name)
        (scratch / "in").write_bytes(source)
        body = "".join(f"{line}\n" for hunk in diff.hunks for line in (hunk.header, *hunk.lines))
        (scratch / "diff").write_bytes(f"--- in\n+++ in\n{body}".encode("utf-8", "surrogateescape"))
        done = _run_patch(scratch)
        if done.status == 0:
            return (scratch / "out").read_bytes()
        # Taking back what only removes lines, without context, always works.
        shows = any(line[0] in " +" for hunk in diff.hunks for line in hunk.lines)
        if shows and _run_patch(scratch, "--reverse", "--dry-run", "--fuzz=0").status == 0:
            raise _already_applied(who)
    raise _failure(source, diff, output=done.stdout + done.stderr, who=who)


def _run_patch(scratch: Path, *options: str) -> Finished:
    # --force, not --batch, which would reverse a patch that looks applied and remove its change from the tree.
    fixed = ("--force", "--no-backup-if-mismatch", "--reject-file=rej", "--output=out")
    return run(["patch", *fixed, *options, "in", "diff"], cwd=scratch, timeout=APPLY_SECONDS.value)


def _binary(source: bytes, change: Binary, *, who: str) -> bytes:
    """Apply with git apply, on a file with a neutral name in a directory that is no repository. git verifies the
    result."""
    found = _blob_name(source)
    if change.old != _NOTHING and found != change.old:
        if found == change.new:
            raise _already_applied(who)
        raise UserError(
            f"{who}: a binary change: expected the file that git calls {change.old[:12]}, found {found[:12]}: "
            "rebase the patch onto this source"
        )
    if change.new == _NOTHING:
        return b""
    if shutil.which("git") is None:
        raise InfraError(f"{who}: a binary change needs git to read it, and this host has none; install git")
    mode = "new file mode 100644\n" if change.old == _NOTHING else ""
    head = f"diff --git a/file b/file\n{mode}index {change.old}..{change.new}{'' if mode else ' 100644'}\n"
    with tempfile.TemporaryDirectory(prefix="harness-patch-") as name:
        scratch = Path(name).resolve()
        if not mode:
            (scratch / "file").write_bytes(source)
        (scratch / "diff").write_text(f"{head}GIT binary patch\n" + "".join(f"{line}\n" for line in change.lines))
        env = {**_GIT_ENV, "GIT_CEILING_DIRECTORIES": str(scratch.parent), "HOME": str(scratch)}
        words = ["git", "-c", "core.autocrlf=false", "apply", "diff"]
        done = run(words, cwd=scratch, timeout=APPLY_SECONDS.value, env=env)
        if done.status == 0:
            return (scratch / "file").read_bytes()
    raise UserError(f"{who}: expected a binary change that git apply takes, found an error", details=done.last_lines())


def _blob_name(content: bytes) -> str:
    """Return git's hash of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _already_applied(who: str) -> UserError:
    return UserError(f"{who}: expected the file without this change, found it: the patch seems to be already applied")


def _failure(source: bytes, diff: FileDiff, *, output: str, who: str) -> UserError:
    failed = [int(number) for number in re.findall(r"^Hunk #(\d+) FAILED", output, re.MULTILINE)]
    if not failed:
        return UserError(f"{who}: expected a diff that patch(1) takes, found an error", details=output.split("\n"))
    hunk = diff.hunks[failed[0] - 1]
    others = f" (nor do hunks {', '.join(map(str, failed[1:]))})" if failed[1:] else ""
    refused = f"{who}: hunk {failed[0]} ({hunk.header}) does not apply{others}: "
    before = diff.hunks[failed[0] - 2] if failed[0] > 1 else None
    if before and hunk.start < before.start + len(before.expected):
        expected = "expected the hunks in the order of the file's lines"
        return UserError(f"{refused}{expected}, found it not behind hunk {failed[0] - 1}; make the patch again")
    shifts = re.findall(r"^Hunk #(\d+) succeeded at .*\(offset (-?\d+) lines?\)", output, re.MULTILINE)
    shift = next((int(by) for number, by in reversed(shifts) if int(number) < failed[0]), 0)
    lines = source.decode("utf-8", "replace").removesuffix("\n").split("\n")
    at = _likeliest(hunk.expected, lines, near=max(hunk.start - 1 + shift, 0))
    found = lines[at : at + len(hunk.expected)]
    reason = "the file's lines are not those that the patch expects; rebase the patch onto this source"
    if found == [*hunk.expected] and not any(line.startswith("\\") for line in hunk.lines):
        reason = (
            f"its lines are only found at line {at + 1}, where the hunks around it or the file's ends rule them out"
        )
    elif _blankless(found) == _blankless(hunk.expected):
        reason = "only white space or line ends differ; get the patch again, unharmed (not pasted)"
    return UserError(refused + reason, details=_compared(hunk, found, at=at))


def _compared(hunk: Hunk, found: Sequence[str], *, at: int) -> list[str]:
    """Return both sides for people; ``>`` marks lines that differ."""
    expected = hunk.expected
    marks = ["  " if line == (expected[n] if n < len(expected) else None) else "> " for n, line in enumerate(found)]
    return [
        f"expected by the patch at line {hunk.start}:",
        *(f"  {line}" for line in expected),
        f"found in the file at line {at + 1}:" if found else f"found: the file has no line {at + 1}",
        *(mark + line for mark, line in zip(marks, found, strict=True)),
    ]


def _likeliest(expected: Sequence[str], lines: Sequence[str], *, near: int) -> int:
    """Return the index in `lines` where most lines of `expected` match, the nearest to `near` among equals. Lines that
    the file has most often count least: where there are very many pairs of equal lines, they do not count at all."""
    places: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        places.setdefault(line, []).append(number)
    telling = [(number, places[line]) for number, line in enumerate(expected) if line.strip() and line in places]
    same: Counter[int] = Counter()
    left = _MOST_PAIRS
    for number, found in sorted(telling, key=lambda each: len(each[1])):
        left -= len(found)
        if left < 0:
            break
        same.update(place - number for place in found if place >= number)
    return max(same, key=lambda at: (same[at], -abs(at - near), -at), default=near)


def _blankless(lines: Iterable[str]) -> list[str]:
    return ["".join(line.split()) for line in lines]
