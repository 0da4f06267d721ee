"""A series that is a range of commits, and where a commit is: reads git repositories of this host.

Only plumbing is called, which the repository's configuration does not change: no external diff, no text conversion, no
hooks, no paths without prefixes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from harness.build.command import Finished, run
from harness.build.gitrepo import OPTIONS, QUERY_TIMEOUT_S, QUIET
from harness.errors import UserError
from harness.limits import PATCH_BYTES, PATCH_LINES, SERIES_BYTES, SERIES_PATCHES
from harness.model.kernel import Mailed, Patch
from harness.parse.diff import normalize_diff

_RANGE = re.compile(r"(?:git:(?P<place>[^#]+)#)?(?P<first>[^\s./](?:\S*?[^\s./])?)\.\.(?P<last>[^\s./]\S*)")
_DIFF = (
    *("diff-tree", "-p", "--binary", "--full-index", "--no-commit-id", "--no-ext-diff", "--no-textconv"),
    *("--no-renames", "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--root", "--end-of-options"),
)


def as_range(text: str) -> tuple[str, str, str] | None:
    """Return repository (empty: none is named), first and last of ``git:PATH#FIRST..LAST`` or ``FIRST..LAST``; None if
    the text has another form, or is the name of a file."""
    match = _RANGE.fullmatch(text)
    if match is None or Path(text).exists():
        return None
    return match["place"] or "", match["first"], match["last"]


def patches_of_range(repository: Path, first: str, last: str) -> tuple[Patch, ...]:
    """Return the commits that `last` has and `first` does not as patches, the oldest first; each says that it applies
    to the first one's parent. Raises UserError for what git does not know, for a range without commits, and for one
    with merges, which are no patches."""
    place = f"{repository}: {first}..{last}"
    ends = [commit_in(repository, each) for each in (first, last)]
    for name, commit in zip((first, last), ends, strict=True):
        if not commit:
            raise UserError(f"{repository}: expected a git repository that has the commit {name!r}, found none")
    listed = _git(repository, "rev-list", "--reverse", "--topo-order", "--parents", f"{ends[0]}..{ends[1]}").stdout
    commits = [line.split() for line in listed.splitlines()]
    SERIES_PATCHES.check(len(commits), place=place)
    if not commits:
        raise UserError(f"{place}: expected at least one commit, found none: is it the other way round?")
    if merges := [words[0] for words in commits if len(words) > 2]:
        raise UserError(
            f"{place}: expected a series of patches, found a merge ({merges[0][:12]}): rebase it, or name a range "
            "without merges"
        )
    base = commits[0][1] if len(commits[0]) > 1 else ""
    patches, size = [], 0
    for commit, *_ in commits:
        patches.append(_patch(repository, commit, base=base))
        size += len(patches[-1].text)
        SERIES_BYTES.check(size, place=place)
    return tuple(patches)


def commit_in(repository: Path, name: str) -> str:
    """Return the full name of a commit; empty if the repository does not have it, or is none."""
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    done = _git(repository, *words)
    return done.stdout.strip() if done.status == 0 else ""


def _patch(repository: Path, commit: str, *, base: str) -> Patch:
    done = _git(repository, *_DIFF, commit, names=True)
    if done.status != 0:
        raise UserError(f"{repository}: git can't show commit {commit[:12]}", details=done.last_lines())
    subject = _git(repository, "show", "-s", "--no-show-signature", "--format=%s", commit).stdout.strip()
    name = f"{commit[:12]} {subject}"
    PATCH_BYTES.check(len(done.stdout), place=name)
    PATCH_LINES.check(done.stdout.count("\n"), place=name)
    text = normalize_diff(done.stdout, name=name)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return Patch(name=name, text=text, sha256=digest, mailed=Mailed(subject=subject, base_commit=base))


def _git(repository: Path, *words: str, names: bool = False) -> Finished:
    return run(["git", "-C", repository, *OPTIONS, *words], timeout=QUERY_TIMEOUT_S, env=QUIET, names=names)
