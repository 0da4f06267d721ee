"""A source tree with a patch series applied, kept in memory; the tree on disk is only read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.build.applydiff import patched
from harness.build.loosediff import restored
from harness.build.treefiles import TreeFile, is_directory, link_before, read
from harness.build.treelinks import stays_inside
from harness.errors import UserError
from harness.limits import RESULT_BYTES, SERIES_SECONDS, Deadline
from harness.model.kernel import Patch
from harness.parse.diff import FileDiff, parse_diff
from harness.parse.diff_names import NO_PREFIX

Files = dict[str, TreeFile | None]
_SUBMODULE = 0o160000
_Directory = dict[str, Any]  # name → what is below it


class Overlay:
    """`base`: pristine files; `files`: what patches made of them; None stands for a file that does not exist.

    A patch writes to plain paths only: no part of a path may be a symbolic link, from the tree or from the series, and
    no link that the series creates may lead out of the tree."""

    def __init__(self, tree: Path, base: Files) -> None:
        self.tree = tree
        self.base = base
        self.files: Files = {}
        self._bytes = 0  # in all of `files`
        self._deadline = Deadline.start(SERIES_SECONDS)
        self._links: set[str] = set()  # paths at which the series has ever made a link
        self._known: _Directory = {}  # every path that the series has named
        for path in base:
            self._remember(path)

    def apply(self, patch: Patch) -> None:
        """Apply one whole patch. As in git, renames and copies use the files as they were before the patch."""
        diffs = parse_diff(patch.text, name=patch.name)
        gone = {diff.old for diff in diffs if diff.old and diff.old != diff.new and not diff.copy}
        made: Files = {}
        for diff in diffs:
            who = f"{patch.name}: {diff.path}"
            self._deadline.check(place=who)
            source = self._source(diff, made, patch=patch)
            _check_kind(source, diff, who=who)
            if diff.old == diff.new and not (diff.hunks or diff.binary or diff.mode):
                raise UserError(f"{who}: expected a change of the file (as '@@ -1,2 +1,3 @@' and lines), found none")
            if patch.is_loose and source:
                diff = restored(source.content, diff, who=who)
            content = patched(source.content if source else b"", diff, who=who)
            if diff.new is not None:
                file = made[diff.new] = _result(diff, source, content, who=who)
                target = self._touch(diff.new) if diff.new != diff.old else None
                if target and target.content and diff.new not in gone:
                    raise _exists(who, target, file)
                self._check_prefix(diff, who=who)
            elif content:
                raise UserError(
                    f"{who}: expected the whole file in the patch that deletes it, found other lines in the file: "
                    "rebase the patch onto this source",
                    details=content.decode("utf-8", "replace").split("\n")[:10],
                )
        change = dict.fromkeys(gone - made.keys()) | made
        self._check_places(change, patch=patch)
        self._adopt(change)
        RESULT_BYTES.check(self._bytes, place=patch.name)
        self._check_links(patch)

    def text(self, path: str) -> str | None:
        """Return the text of a file with the patches so far applied; None if it is none."""
        file = self._look(path)
        return None if file is None or file.is_link else file.content.decode("utf-8", "surrogateescape")

    def rewrite(self, path: str, text: str) -> None:
        """Replace the text of a file that is there."""
        file = self._touch(path)
        assert file is not None, path
        self._adopt({path: replace(file, content=text.encode("utf-8", "surrogateescape"))})

    def _adopt(self, change: Files) -> None:
        for path, file in change.items():
            self._bytes += _size(file) - _size(self.files.get(path))
            self.files[path] = file
            self._remember(path)
            if file is not None and file.is_link:
                self._links.add(path)

    def _remember(self, path: str) -> None:
        place = self._known
        for part in path.split("/"):
            place = place.setdefault(part, {})

    def _known_below(self, directory: str) -> Iterator[str]:
        """The paths below `directory` that the series has named, and directories among them."""
        place = self._known
        for part in directory.split("/"):
            place = place.get(part, {})
        pending = [(directory, place)]
        while pending:
            above, place = pending.pop()
            for part, inner in place.items():
                yield f"{above}/{part}"
                pending.append((f"{above}/{part}", inner))

    def _look(self, path: str) -> TreeFile | None:
        """Return the file at `path` with the patches so far applied."""
        for files in (self.files, self.base):
            if path in files:
                return files[path]
        return read(self.tree, path)

    def _touch(self, path: str) -> TreeFile | None:
        """Return the same for a file that a patch changes."""
        if path not in self.files and path not in self.base:
            self.base[path] = read(self.tree, path)
            self._remember(path)
        return self._look(path)

    def _source(self, diff: FileDiff, made: Mapping[str, TreeFile | None], *, patch: Patch) -> TreeFile | None:
        """Return the file that the diff changes; None for a new file."""
        if diff.old is None:
            return None
        source = made.get(diff.old) if diff.old == diff.new else None
        source = source or self._touch(diff.old)
        if source is not None:
            return source
        for directory in _parents(diff.old):
            if (found := self._look(directory)) and found.is_link:
                raise _through_link(f"{patch.name}: {diff.old}", directory)
        hint = "is this patch for another version?"
        if diff.new is None or (diff.new != diff.old and self._touch(diff.new)):
            hint = "the patch seems to be already applied"
        elif any(
            (self.tree / top / diff.old).is_file() for top in re.findall(r"^--- (\w+)/", patch.text, re.MULTILINE)
        ):
            hint = NO_PREFIX
        raise UserError(f"{patch.name}: {diff.old}: expected this file in the source, found no such file: {hint}")

    def _check_prefix(self, diff: FileDiff, *, who: str) -> None:
        """Refuse a patch without prefixes, which would create a new file in a wrong directory. git's headers show that;
        for other diffs it is assumed if the first part of the name is a directory of the tree."""
        if diff.old is None and diff.prefix not in ("", "a", "b") and is_directory(self.tree / diff.prefix):
            raise UserError(f"{who}: expected a prefix such as b/, found the directory {diff.prefix}/: {NO_PREFIX}")

    def _check_places(self, change: Files, *, patch: Patch) -> None:
        """Refuse a new file in place of a directory, and one below what is not a directory, in the resulting tree."""

        def after(path: str) -> TreeFile | None:
            return change[path] if path in change else self._look(path)

        created = [path for path, file in change.items() if file is not None and self._look(path) is None]
        for path in created:
            who = f"{patch.name}: {path}"
            for directory in _parents(path):
                if (found := after(directory)) is None:
                    continue
                if found.is_link:
                    raise _through_link(who, directory)
                raise UserError(f"{who}: expected the directory {directory}, found a file of that name")
        directories = {directory for path in created for directory in _parents(path)}
        for path in created:
            inside = path in directories or any(map(after, self._known_below(path)))
            if inside or any(not self._is_known(other, change) for other in self._on_disk(path)):
                raise UserError(f"{patch.name}: {path}: expected a file, found a directory in the source tree")

    def _is_known(self, path: str, change: Files) -> bool:
        return path in change or path in self.files or path in self.base

    def _on_disk(self, directory: str) -> Iterator[str]:
        """Return the files and links below `directory` on disk, if it is one."""
        top = self.tree / directory
        if link_before(top, top=self.tree) or not is_directory(top):
            return
        for place, directories, names in os.walk(top):
            here = Path(place).relative_to(self.tree).as_posix()
            yield from (f"{here}/{name}" for name in names)
            yield from (f"{here}/{name}" for name in directories if (Path(place) / name).is_symlink())

    def _check_links(self, patch: Patch) -> None:
        """Refuse a link that leads out of the tree, even one that does so only because of another link."""
        for path in sorted(self._links):
            file = self.files[path]
            if file is not None and file.is_link and not stays_inside(path, file.target, self._target_of):
                raise UserError(
                    f"{patch.name}: {path}: expected a symbolic link to a place in the tree, found one to "
                    f"{file.target[:200]!r}"
                )

    def _target_of(self, path: str) -> str | None:
        found = self._look(path)
        return found.target if found and found.is_link else None


def _size(file: TreeFile | None) -> int:
    return len(file.content) if file else 0


def _parents(path: str) -> Iterator[str]:
    """The directories on the way to `path`, from the top."""
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _check_kind(source: TreeFile | None, diff: FileDiff, *, who: str) -> None:
    """Refuse a diff that changes a link as a file or a file as a link: git writes that as a deletion and a new file."""
    if source is None:
        return
    means_link = _is_link(diff.old_mode)
    if source.is_link and (diff.hunks or diff.binary) and not means_link:
        raise UserError(f"{who}: expected a regular file, found a symbolic link to {source.target!r}")
    if means_link and not source.is_link:
        raise UserError(f"{who}: expected a symbolic link, found a regular file")
    if diff.mode is not None and _is_link(diff.mode) != source.is_link:
        raise UserError(f"{who}: expected a mode of the same kind of file, found {diff.mode:o}")


def _is_link(mode: int | None) -> bool:
    return mode is not None and stat.S_IFMT(mode) == stat.S_IFLNK


def _result(diff: FileDiff, source: TreeFile | None, content: bytes, *, who: str) -> TreeFile:
    """Return the file with its permission bits after the patch. Git has only the executable bit; the others are
    kept."""
    if diff.mode is None:
        return replace(source, content=content) if source else TreeFile(content=content, mode=0o644)
    if _is_link(diff.mode):
        return TreeFile(content=content, is_link=True)
    if stat.S_IFMT(diff.mode) != stat.S_IFREG:
        raise UserError(f"{who}: expected a file or a symbolic link, found mode {diff.mode:o}{_kind(diff.mode)}")
    if source is None:
        return TreeFile(content=content, mode=0o755 if diff.mode & 0o111 else 0o644)
    return TreeFile(content=content, mode=source.mode | 0o111 if diff.mode & 0o111 else source.mode & ~0o111)


def _kind(mode: int) -> str:
    return " (a submodule)" if stat.S_IFMT(mode) == _SUBMODULE else ""


def _through_link(who: str, link: str) -> UserError:
    return UserError(f"{who}: expected a path of plain directories, found the symbolic link {link}")


def _exists(who: str, there: TreeFile, made: TreeFile) -> UserError:
    found = "one with other content"
    if there.is_link != made.is_link:
        found = "a symbolic link" if there.is_link else "a regular file"
    elif there.content == made.content:
        found = "one with the same content: the patch seems to be already applied"
    return UserError(f"{who}: expected no such file yet, since the patch creates it, found {found}")
