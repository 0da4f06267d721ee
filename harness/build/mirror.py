"""Make a tree of ours equal to another directory, touching only what differs.

Why not rsync: it gives a copied file the source's time, also where that is older than the objects built from the
file's predecessor (``cp -p``, another tree), and make would then not build it again. And a file that was merely
touched would be.
"""

from __future__ import annotations

import functools
import json
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.checksum import write_atomically
from harness.build.tree import Entry, scan
from harness.build.treelinks import link_target, stays_inside
from harness.errors import InfraError
from harness.model.progress import Progress

MANIFEST = "source.manifest.json"
PROGRESS_STEP = 256
_MOST_NAMED = 8  # links that a message names


def mirror(source: Path, tree: Path, *, progress: Progress, label: str = "", everything: bool = False) -> None:
    """Make the source files in `tree` equal to those of `source`; build products in either are ignored.

    Files with equal content keep their time; copied ones get the present time. A manifest beside the tree records for
    every file the states in which both were last equal, so that unchanged files need not be read. `everything`:
    `source` is a pristine extraction: nothing in it is a build's, and the note does not apply."""
    note = tree.parent / MANIFEST
    known = {} if everything else _read_manifest(note, source)
    # Until the end, the manifest lists fewer files than are equal, never more.
    note.unlink(missing_ok=True)
    wanted, left_out = _inside(source, scan(source, everything=everything))
    if left_out:
        more = f" and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
        progress.say(f"{source}: left out links that lead out of the tree: {', '.join(left_out[:_MOST_NAMED])}{more}")
    agreed: dict[str, list[int | None]] = {}
    try:
        tree.mkdir(parents=True, exist_ok=True)
        _remove_gone(tree, {entry.path for entry in wanted}, everything=everything)
        for done, entry in enumerate(wanted):
            copy = tree / entry.path
            state = [entry.size, entry.mtime_ns, entry.mode]
            if known.get(entry.path) != [*state, _time_of(copy)] and not _same(source / entry.path, copy, entry):
                _copy(source / entry.path, copy, entry)
            agreed[entry.path] = [*state, _time_of(copy)]
            if done % PROGRESS_STEP == 0:
                progress.advance(label or f"copying {source}", done, len(wanted))
    except OSError as error:
        unknown = InfraError(f"{error.filename or tree}: cannot be copied into the cache: {error.strerror}")
        raise shortage.of(error, where=tree) or unknown from error
    if not everything:
        text = json.dumps({"source": str(source), "files": agreed}, separators=(",", ":"))
        write_atomically(note, text)
    progress.advance(label or f"copying {source}", len(wanted), len(wanted))


def _inside(source: Path, entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
    """Split `entries` into those to copy, and the paths of links that lead out of `source`."""
    wanted, left_out = [], []
    for entry in entries:
        target = link_target(source, entry.path) if stat.S_ISLNK(entry.mode) else None
        if target is None or stays_inside(entry.path, target, functools.partial(link_target, source)):
            wanted.append(entry)
        else:
            left_out.append(entry.path)
    return wanted, left_out


def _read_manifest(note: Path, source: Path) -> dict[str, list[int | None]]:
    """Return what is recorded about the files of `source`; nothing if the record is about another directory."""
    try:
        known = jsonfile.read_object(note)
        return dict(known["files"]) if known["source"] == str(source) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _remove_gone(tree: Path, present: set[str], *, everything: bool) -> None:
    for entry in list(scan(tree, everything=everything)):
        if entry.path not in present:
            gone = tree / entry.path
            gone.unlink()
            for parent in gone.relative_to(tree).parents[:-1]:
                try:
                    (tree / parent).rmdir()
                except OSError:
                    break


def _time_of(copy: Path) -> int | None:
    try:
        return copy.lstat().st_mtime_ns
    except OSError:
        return None


def _same(original: Path, copy: Path, entry: Entry) -> bool:
    try:
        status = copy.lstat()
    except OSError:
        return False
    if status.st_mode != _mode(entry) or status.st_size != entry.size:
        return False
    if stat.S_ISLNK(entry.mode):
        return original.readlink() == copy.readlink()
    return original.read_bytes() == copy.read_bytes()


def _copy(original: Path, copy: Path, entry: Entry) -> None:
    if copy.is_dir() and not copy.is_symlink():
        shutil.rmtree(copy)
    copy.unlink(missing_ok=True)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(entry.mode):
        copy.symlink_to(original.readlink())
    else:
        shutil.copyfile(original, copy)
        copy.chmod(stat.S_IMODE(_mode(entry)))


def _mode(entry: Entry) -> int:
    """Return the mode of a copy: anybody may read it and run its scripts, because a build in the sandbox may be another
    user's."""
    if stat.S_ISLNK(entry.mode):
        return entry.mode
    return entry.mode | 0o444 | (0o111 if entry.mode & 0o100 else 0)
