"""Unpacks what a built kernel came in. The content is untrusted: there are limits, and nothing but files, directories
and links within is written."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.build.command import started
from harness.build.confinement import Confinement
from harness.build.materialize import tarball_suffix
from harness.build.prebuilt.resolve import Prebuilt
from harness.build.sandbox import Sandbox, View
from harness.build.untar import Damaged, untar, untar_output
from harness.errors import UserError
from harness.limits import open_regular
from harness.model.prebuilt import PrebuiltKind
from harness.model.progress import Progress

_END_S = 30.0
_LINE_BYTES = 1 << 12
_MOST_INSIDE = 8
_USELESS = ("usr/share/", "etc/", "var/", "usr/lib/debug/")
_NO_KERNEL = re.compile(r"linux-(headers|libc-dev|kbuild|source)|kernel-(devel|headers|debuginfo)|.*-dbg(sym)?_")
_INNER = re.compile(r"(?:modules|dtbs|kselftest)\.(?:tar(?:\.\w+)?|tgz)")


def unpack_all(prebuilt: Prebuilt, scratch: Path, *, sandbox: Sandbox | None, progress: Progress) -> tuple[Path, ...]:
    """Unpack the files of `prebuilt` into directories below `scratch`. Returns all directories that the kernel's parts
    are in; one that the user named is not copied. Raises UserError for damaged or hostile files."""
    tree, fetched = scratch / "tree", scratch / "fetched"
    for directory in (tree, fetched):
        directory.mkdir()
    roots, files = [tree], prebuilt.fetch(progress, fetched)
    if prebuilt.spec.kind is PrebuiltKind.DIRECTORY:
        roots += files
        files = tuple(path for path in sorted(files[0].iterdir()) if _is_package_of_a_kernel(path))
    for path in files:
        progress.say(f"unpacking {path.name}")
        if path.name.endswith(".deb"):
            unpack_deb(path, tree, wanted=_is_useful)
        elif path.name.endswith(".rpm"):
            _unpack_rpm(path, tree, sandbox=sandbox)
        else:
            _unpack_tarball(path, tree, progress=progress)
    inside = _inner_tarballs(roots)
    if len(inside) > _MOST_INSIDE:  # each may have as much in it as the limits allow
        raise UserError(
            f"{prebuilt.spec.text}: expected at most {_MOST_INSIDE} tarballs with modules, device trees and selftests, "
            f"found {len(inside)}"
        )
    for number, inner in enumerate(inside):
        into = scratch / f"inner-{number}"
        into.mkdir()
        progress.say(f"unpacking {inner.name}")
        _unpack_tarball(inner, into, progress=progress)
        roots.append(into)
    return tuple(roots)


def _inner_tarballs(roots: Sequence[Path]) -> list[Path]:
    """What CI systems put beside the Image (tuxmake, KernelCI), each a tarball of its own."""
    near = [path for root in roots for pattern in ("*", "*/*") for path in sorted(root.glob(pattern))]
    return [path for path in near if _INNER.fullmatch(path.name) and path.is_file() and not path.is_symlink()]


def unpack_deb(package: Path, directory: Path, *, wanted: Callable[[str], bool]) -> None:
    """Unpack the files of a Debian package into a directory, in which may be those of others."""
    _unpack_package(package, directory, ["dpkg-deb", "--fsys-tarfile", str(package.absolute())], wanted=wanted)


def _unpack_rpm(package: Path, directory: Path, *, sandbox: Sandbox | None) -> None:
    """Do what `unpack_deb` does with an RPM package. libarchive reads it in the sandbox."""
    words = ["bsdtar", "--format", "pax", "-cf", "-", "@-"]
    confinement = sandbox.confine(View(root=directory.parent)) if sandbox else None
    _unpack_package(package, directory, words, wanted=_is_useful, confinement=confinement)


def _unpack_package(
    package: Path,
    directory: Path,
    words: Sequence[str],
    *,
    wanted: Callable[[str], bool],
    confinement: Confinement | None = None,
) -> None:
    """`words`: a program that makes a tarball of the package, which is also its standard input."""
    with (
        tempfile.TemporaryDirectory(dir=directory.parent, prefix="unpacking-") as scratch,
        tempfile.TemporaryFile() as said,
        open_regular(package) as file,
    ):
        alone = Path(scratch, "tree")  # so that no package writes through a link of another one
        alone.mkdir()
        with started(words, stdin=file, stderr=said, confinement=confinement) as process:
            try:
                untar_output(process, alone, place=str(package), wanted=wanted)
            except Damaged as error:
                raise _damaged(package, str(error)) from error
            try:
                status = process.wait(timeout=_END_S)
            except subprocess.TimeoutExpired:
                raise _damaged(package, f"{words[0]} does not end, {_END_S:.0f} s after its output did") from None
        if status:
            said.seek(0)
            told = said.read(_LINE_BYTES).decode(errors="replace").split("\n")[0]
            raise _damaged(package, told or f"{words[0]} ended with status {status}")
        _merge(alone, directory)


def _merge(tree: Path, into: Path) -> None:
    """Move what is in `tree` into the directory `into`; links in the way are replaced."""
    for path in tree.iterdir():
        goal = into / path.name
        if path.is_dir() and not path.is_symlink() and goal.is_dir() and not goal.is_symlink():
            _merge(path, goal)
            continue
        if goal.is_dir() and not goal.is_symlink():
            shutil.rmtree(goal)
        path.replace(goal)


def _unpack_tarball(path: Path, directory: Path, *, progress: Progress) -> None:
    suffix = tarball_suffix(path)
    if not suffix:
        raise UserError(f"{path}: expected a tarball's name, which ends in .tar, .tar.gz, .tar.xz or the like")
    total = path.stat().st_size
    try:
        untar(
            path,
            directory,
            suffix=suffix,
            tick=lambda file: progress.advance(f"unpacking {path.name}", file.tell(), total),
        )
    except Damaged as error:
        raise UserError(
            f"{path}: expected a whole tarball, found a damaged one: {error}", details=error.details
        ) from error


def _damaged(package: Path, why: str) -> UserError:
    return UserError(f"{package}: expected a whole package, found a damaged one: {why}")


def _is_package_of_a_kernel(path: Path) -> bool:
    return path.suffix in (".deb", ".rpm") and path.is_file() and not _NO_KERNEL.match(path.name)


def _is_useful(name: str) -> bool:
    return not name.startswith(_USELESS)
