"""Workspaces: source and object trees that are kept, so that the next build compiles only what changed.

A workspace belongs to one origin of sources (a Debian package, a directory, a git URL) and is used by one build at a
time. A second build that runs meanwhile gets another workspace; nobody waits and nobody is disturbed. It has one source
tree, and an object tree for each configuration that was built from it. The least recently used trees are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.build.cache import cache_dir, is_locked, try_locked
from harness.build.cutoff import mark, synced_after, was_cut_off
from harness.build.prune import limits_from_environment
from harness.build.strays import is_real, strays
from harness.model.kernel import Source, SourceKind
from harness.model.names import as_name
from harness.model.progress import Progress, Silent

_LONGEST_NAME = 120  # characters of a workspace's name; others are derived from it
_MOST = 16  # builds of one origin at once
KEEP_CONFIGURATIONS = 4  # of each origin; with debug information an object tree takes 1.8 GB
KEEP_WORKSPACES = 6  # a source tree takes 1.8 GB too
_CLOCK_S = 2.0  # a file system's clock and resolution may differ by as much
_OBJECTS, _STATE, _GONE = "obj-", "made-", ".gone-"
_SANDBOXED = "-sandboxed"


@dataclass(frozen=True)
class Workspace:
    """A workspace as builds of one `configuration` see it. What all configurations share is directly below
    `directory`."""

    directory: Path
    configuration: str = "default"

    @property
    def source(self) -> Path:
        return self.directory / "src"

    @property
    def series(self) -> Path:
        """The state of the patch series that is applied to the source tree."""
        return self.directory / "series"

    @property
    def objects(self) -> Path:
        """make's ``O=``. Its depth is the same in all workspaces, so ccache sees the same relative paths."""
        return self.directory / f"{_OBJECTS}{self.configuration}"

    @property
    def state(self) -> Path:
        """Other files of this configuration's builds."""
        return self.directory / f"{_STATE}{self.configuration}"

    @property
    def stages(self) -> Path:
        """The records of finished stages and their inputs (stages.py)."""
        return self.state / "stages"

    @property
    def payload(self) -> Path:
        """The files to install on the target."""
        return self.state / "payload"

    @property
    def optional_suites(self) -> Path:
        """Selftests that are built separately from the others, one directory for each."""
        return self.state / "optional-suites"

    @property
    def modules(self) -> Path:
        """Copies of the testcases' C sources, and their build products."""
        return self.state / "testmodules"

    def outside(self, error: str) -> str:
        """Return an error with paths that mean something outside of the workspace: those of a kernel's file are from
        its top. With ccache, compilers get paths that are relative to the objects."""
        for directory in (self.modules, self.source, self.objects):
            error = error.replace(f"{directory}/", "")
            if directory != self.objects:
                error = error.replace(f"{os.path.relpath(directory, self.objects)}/", "")
        return error.strip()

    @property
    def written_by_make(self) -> list[Path]:
        """The directories that the kernel's makes may write to; created if missing. Modules of the livepatch selftests
        are built in the source tree."""
        made = [self.objects, self.payload, self.modules, self.optional_suites]
        for directory in made:
            directory.mkdir(parents=True, exist_ok=True)
        return [*made, *([self.modules_in_tree] if self.has_modules_in_tree else [])]

    @property
    def modules_in_tree(self) -> Path:
        """The directory in the source tree in which upstream builds the modules of the livepatch selftests."""
        return self.source / "tools/testing/selftests/livepatch/test_modules"

    @property
    def has_modules_in_tree(self) -> bool:
        """Whether that is a directory. Behind a link there might be any part of the source, or of the host."""
        return is_real(self.modules_in_tree, below=self.source)

    def is_link_of_kbuild(self, link: Path) -> bool:
        """Return whether `link`, which leads out of the directory that make wrote it to, is one that kbuild makes: in
        the object tree to the source tree or to a file in it (the scripts for gdb), and what modules_install adds."""
        try:
            leads = link.resolve(strict=True)
        except (OSError, RuntimeError):  # to nothing; a circle of links
            return False
        source, objects = self.source.resolve(), self.objects.resolve()
        if link.is_relative_to(self.objects):
            return (
                leads == source if link == self.objects / "source" else leads.is_relative_to(source) and leads.is_file()
            )
        is_installed = link.name in ("build", "source") and link.parent.parent == self.payload / "lib/modules"
        return is_installed and leads in (source, objects)

    def is_of_make(self, path: str | bytes | None) -> bool:
        """Return whether a path that an error names is below a directory that the kernel's makes may write to."""
        named = Path(os.fsdecode(path or ""))
        return any(named.is_relative_to(directory) for directory in self.written_by_make)

    def is_usable(self, *, by_others: bool) -> bool:
        """Return whether a build in a sandbox can go on here. An interrupted one may have left strays; one of a root
        with another umask, files that no other user can read, which `by_others` rules out."""
        read = (self.directory, self.state, self.source, self.source / "Makefile")
        if by_others and not all(path.stat().st_mode & 0o004 for path in read if path.exists()):
            return False
        return not any(any(strays(each, is_expected=self.is_link_of_kbuild)) for each in self.written_by_make)

    def discard(self) -> None:
        """Empty the workspace, which we have locked; the next build makes everything anew."""
        _set_aside(self.directory.parent, self.directory)
        _create(self)


@contextlib.contextmanager
def workspace_for(
    source: Source, *, configuration: str, is_sandboxed: bool = True, progress: Progress | None = None
) -> Iterator[Workspace]:
    """Lock a workspace for `source` for the length of the ``with``, preferably one that has objects of this
    `configuration`. Builds in a sandbox have workspaces of their own: programs that one leaves must not run in a build
    without a sandbox, and their files may be another user's. Raises InfraError if all are in use."""
    progress = progress or Silent()
    root, name = cache_dir("workspaces"), origin_name(source) + (_SANDBOXED if is_sandboxed else "")
    candidates = [Workspace(root / f"{name}-{number}", configuration) for number in range(_MOST)]
    for workspace in sorted(candidates, key=lambda each: not each.objects.is_dir()):
        with try_locked(_lock_of(workspace.directory)) as is_mine:
            if is_mine:
                if was_cut_off(workspace.directory):
                    progress.say(
                        f"{workspace.directory}: the host went down while it was written, so files in it may be "
                        "damaged; it is made again"
                    )
                    _set_aside(root, workspace.directory)
                _forget_the_future(workspace)
                _create(workspace)
                _make_room(root, [each.directory for each in candidates], mine=workspace.directory, progress=progress)
                with synced_after(workspace.directory):
                    yield workspace
                return
    raise AssertionError(f"more than {_MOST} builds of {name} at once")


def _forget_the_future(workspace: Workspace) -> None:
    """Remove the object tree if it is younger than now, since the host's clock was set back: files that change from now
    on would be older than their objects, and make would keep these."""
    made = (workspace.directory, workspace.state, workspace.objects, workspace.objects / "vmlinux")
    if any(path.exists() and path.stat().st_mtime > time.time() + _CLOCK_S for path in made):
        for tree in (workspace.objects, workspace.state):
            shutil.rmtree(tree, ignore_errors=True)


def _create(workspace: Workspace) -> None:
    """Create its directories, and mark them as used, and written, now."""
    for used in (workspace.objects, workspace.state, workspace.directory):
        used.mkdir(parents=True, exist_ok=True)
        os.utime(used)
    mark(workspace.directory)


def is_workspace_in_use(directory: Path) -> bool:
    """Return whether a build goes on in a workspace."""
    return is_locked(_lock_of(directory))


def remove_workspace(directory: Path) -> bool:
    """Remove a workspace unless a build goes on in it; return whether it was removed."""
    with try_locked(_lock_of(directory)) as is_free:
        if is_free:
            _set_aside(directory.parent, directory)
    _remove_gone(directory.parent)
    return not directory.exists()


def _remove_gone(root: Path) -> None:
    for gone in root.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)


def _lock_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.lock")


def _make_room(root: Path, same_origin: Iterable[Path], *, mine: Path, progress: Progress) -> None:
    """Remove the least recently used object trees in the workspaces of `same_origin`, then the least recently used
    workspaces of any origin, and those that nobody has used for too long. Locked workspaces are in use and kept; `mine`
    is locked by us."""
    objects = (tree for directory in same_origin for tree in directory.glob(f"{_OBJECTS}*"))
    for tree in _oldest(objects, beyond=KEEP_CONFIGURATIONS):
        with contextlib.nullcontext(True) if tree.parent == mine else try_locked(_lock_of(tree.parent)) as is_free:
            if is_free:
                _set_aside(root, tree, tree.with_name(tree.name.replace(_OBJECTS, _STATE, 1)))
                why = f"{KEEP_CONFIGURATIONS} other configurations of this kernel were used more recently"
                progress.say(f"cache: removed workspaces/{tree.parent.name}/{tree.name}: {why}")
    others = [path for path in root.iterdir() if path.is_dir() and path != mine and path.name[:1] != "."]
    surplus, limits = _oldest(others, beyond=KEEP_WORKSPACES - 1), limits_from_environment()
    for directory in dict.fromkeys((*surplus, *_older(others, than=limits.age))):
        with try_locked(_lock_of(directory)) as is_free:
            if is_free:
                _set_aside(root, directory)
                why = f"{KEEP_WORKSPACES} others were used more recently" if directory in surplus else limits.too_old
                progress.say(f"cache: removed workspaces/{directory.name}: {why}")
    _remove_gone(root)


def _oldest(paths: Iterable[Path], *, beyond: int) -> list[Path]:
    """Return all but the `beyond` newest paths. A path that vanishes meanwhile was removed by another process."""
    times = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            times.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(times, reverse=True)[beyond:]]


def _older(paths: Iterable[Path], *, than: float) -> list[Path]:
    """Return the paths that were last used more than so many seconds ago."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > than:
                found.append(path)
    return found


def _set_aside(root: Path, *paths: Path) -> None:
    """Rename directories out of the way, which is instant; removing them takes seconds, during which no lock should be
    held."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.rename(root / f"{_GONE}{secrets.token_hex(8)}")


def origin_name(source: Source) -> str:
    """Return a directory name for the origin of `source`, the same for all of its versions and states."""
    spec = source.spec
    match spec.kind:
        case SourceKind.DEBIAN:
            origin = f"debian-{source.version.split('-')[0].rsplit('.', 1)[0]}-{spec.ref}"
        case SourceKind.VERSION:
            origin = f"linux-{'.'.join(spec.location.split('.')[:2])}"
        case _:
            digest = hashlib.sha256(spec.location.encode()).hexdigest()[:10]
            origin = f"{spec.kind}-{Path(spec.location).name}-{digest}"
    return as_name(origin, longest=_LONGEST_NAME)
