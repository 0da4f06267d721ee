"""Commits from a repository on this host that lacks the content of some files.

Mirrors and archives of public repositories leave out large files, and git then refuses to fetch the commit at all. A
kernel for a small machine needs none of them, so the commit is taken without these files, and they are named."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.build.command import Finished
from harness.errors import InfraError

LACKS_OBJECTS = re.compile(r"\bunable to read [0-9a-f]{40}\b")
_KEPT = "refs/harness/partial/"
"""Below it are the trees without those files, each under the name of its commit."""
_NEVER_FETCH = {"GIT_NO_LAZY_FETCH": "1"}

Git = Callable[..., Finished]


@dataclass(frozen=True, kw_only=True)
class Partial:
    """A tree that is a commit's without the files `absent`, whose content its repository lacks."""

    tree: str
    absent: tuple[str, ...]


def standing(git: Git, commit: str) -> Partial | None:
    """Return what `take` made of this commit; None if it is whole, or was not fetched. `git` runs git in our cache."""
    tree = git("rev-parse", "--verify", "--quiet", f"{_KEPT}{commit}").stdout.strip()
    if not tree:
        return None
    listed = git("diff-tree", "-r", "-z", "--no-renames", "--name-only", f"{commit}^{{tree}}", tree).stdout
    return Partial(tree=tree, absent=tuple(path for path in listed.split("\0") if path))


def take(ours: Path, git: Git, theirs: Git, commit: str, *, timeout: float) -> None:
    """Copy what the repository of `theirs` has of `commit` into `ours`, and make the tree of the files that are there.

    `git` and `theirs` run git in the two repositories. Raises InfraError if git fails."""

    def done(run: Git, *words: str, given: str = "", **more: Any) -> str:
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given.encode("utf-8", "surrogateescape"))
            stdin.seek(0)
            finished = run(*words, timeout=timeout, stdin=stdin, **more)
        if finished.status != 0:
            raise InfraError(f"{commit}: git {words[0]} failed", details=finished.last_lines())
        return finished.stdout

    # as a shallow commit, so that its history is not asked for
    packed = ("pack-objects", "--quiet", "--revs", "--missing=allow-any", str(ours / "objects/pack/pack"))
    done(theirs, *packed, given=f"--shallow {commit}\n{commit}\n", env=_NEVER_FETCH)
    files = [entry.partition("\t") for entry in done(git, "ls-tree", "-r", "-z", commit).split("\0") if entry]
    hashes = {path: told.split()[2] for told, _, path in files if told.split()[1] == "blob"}
    checked = done(git, "cat-file", "--batch-check", given="".join(f"{each}\n" for each in hashes.values()))
    lacking = {line.split()[0] for line in checked.splitlines() if line.endswith(" missing")}
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        done(git, "read-tree", commit, env=index)
        absent = "".join(f"0 {'0' * 40}\t{path}\0" for path, each in hashes.items() if each in lacking)
        done(git, "update-index", "-z", "--index-info", given=absent, env=index)
        tree = done(git, "write-tree", env=index).strip()
    done(git, "update-ref", f"{_KEPT}{commit}", tree)
