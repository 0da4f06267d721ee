"""Commits from a repository on this host that lacks the content of some files.

Mirrors and archives of public repositories leave out large files, and git then refuses to fetch the commit at all. A
kernel for a small machine needs none of them, so the commit is taken without these files, and they are named. A
repository that was completed since then is asked for them again."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.build.command import Finished, shown
from harness.errors import InfraError

LACKS_OBJECTS = re.compile(r"\bunable to read [0-9a-f]{40}\b")
_KEPT = "refs/harness/partial/"
"""Below it are the trees without those files, each under the name of its commit."""
_NEVER_FETCH = {"GIT_NO_LAZY_FETCH": "1"}

Git = Callable[..., Finished]


@dataclass(frozen=True, kw_only=True)
class Partial:
    """A tree that is a commit's without the files `absent` (their names, for people), whose content its repository
    lacks."""

    tree: str
    absent: tuple[str, ...]


def standing(git: Git, commit: str) -> Partial | None:
    """Return what `take` made of this commit; None if it is whole, or was not fetched. `git` runs git in our cache."""
    tree = git("rev-parse", "--verify", "--quiet", f"{_KEPT}{commit}").stdout.strip()
    return Partial(tree=tree, absent=tuple(map(shown, _absent(git, commit, tree)))) if tree else None


def _absent(git: Git, commit: str, tree: str) -> dict[str, str]:
    """Return which files of the commit the tree lacks, each with the name of its content."""
    words = ("diff-tree", "-r", "-z", "--no-renames", f"{commit}^{{tree}}", tree)
    listed = git(*words, names=True).stdout.split("\0")
    return {path: told.split()[2] for told, path in zip(listed[::2], listed[1::2], strict=False)}


def take(ours: Path, git: Git, theirs: Git, commit: str, *, timeout: float) -> None:
    """Copy what the repository of `theirs` has of `commit` into `ours`, and make the tree of the files that are there.

    `git` and `theirs` run git in the two repositories. Raises InfraError if git fails."""
    # as a shallow commit, so that its history is not asked for
    packed = ("pack-objects", "--quiet", "--revs", "--missing=allow-any", str(ours / "objects/pack/pack"))
    _done(theirs, *packed, given=f"--shallow {commit}\n{commit}\n", env=_NEVER_FETCH, timeout=timeout, about=commit)
    _keep_tree(git, commit, timeout=timeout)


def complete(ours: Path, git: Git, theirs: Git, commit: str, *, timeout: float) -> None:
    """Copy those files that `commit` lacked when it was taken and that the repository of `theirs` has now. With all of
    them it is whole. If they can't be read it stays as it is."""
    partial = standing(git, commit)
    if partial is None:
        return
    wanted = set(_absent(git, commit, partial.tree).values())
    with contextlib.suppress(InfraError):
        held = wanted - _missing(theirs, wanted, timeout=timeout, about=commit)
        if held:
            packed = ("pack-objects", "--quiet", str(ours / "objects/pack/pack"))
            given = "".join(f"{each}\n" for each in sorted(held))
            _done(theirs, *packed, given=given, env=_NEVER_FETCH, timeout=timeout, about=commit)
            _keep_tree(git, commit, timeout=timeout)


def _keep_tree(git: Git, commit: str, *, timeout: float) -> None:
    """Keep the tree of the files of `commit` that are there; none if all are."""
    listed = _done(git, "ls-tree", "-r", "-z", commit, names=True, timeout=timeout, about=commit)
    files = [entry.partition("\t") for entry in listed.split("\0") if entry]
    hashes = {path: told.split()[2] for told, _, path in files if told.split()[1] == "blob"}
    lacking = _missing(git, hashes.values(), timeout=timeout, about=commit)
    if not lacking:
        _done(git, "update-ref", "-d", f"{_KEPT}{commit}", timeout=timeout, about=commit)
        return
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        _done(git, "read-tree", commit, env=index, timeout=timeout, about=commit)
        absent = "".join(f"0 {'0' * 40}\t{path}\0" for path, each in hashes.items() if each in lacking)
        _done(git, "update-index", "-z", "--index-info", given=absent, env=index, timeout=timeout, about=commit)
        tree = _done(git, "write-tree", env=index, timeout=timeout, about=commit).strip()
    _done(git, "update-ref", f"{_KEPT}{commit}", tree, timeout=timeout, about=commit)


def _missing(git: Git, hashes: Iterable[str], *, timeout: float, about: str) -> set[str]:
    """Return which of the objects `hashes` the repository lacks."""
    given = "".join(f"{each}\n" for each in hashes)
    checked = _done(git, "cat-file", "--batch-check", given=given, env=_NEVER_FETCH, timeout=timeout, about=about)
    return {line.split()[0] for line in checked.splitlines() if line.endswith(" missing")}


def _done(run: Git, *words: str, about: str, given: str = "", **more: Any) -> str:
    with tempfile.TemporaryFile() as stdin:
        stdin.write(given.encode("utf-8", "surrogateescape"))
        stdin.seek(0)
        finished = run(*words, stdin=stdin, **more)
    if finished.status != 0:
        raise InfraError(f"{about}: git {words[0]} failed", details=finished.last_lines())
    return finished.stdout
