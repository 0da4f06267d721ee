"""Put a kernel source into a directory of ours, touching only files that differ."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import IO

from harness import jsonfile, shortage
from harness.build import gitrepo
from harness.build.cache import locked
from harness.build.checksum import sha256_of, write_atomically
from harness.build.mirror import MANIFEST, mirror
from harness.build.tree import kernel_version
from harness.build.untar import UNPACKERS, Damaged, untar
from harness.errors import InfraError, UserError
from harness.model.kernel import Source, SourceKind
from harness.model.progress import Progress, Silent

MARKER = "source.json"
_BUILT = frozenset({"boot", "lib", "usr", "Image", "Image.gz", "vmlinuz", "vmlinuz.efi"})
_MOST_NAMED = 8  # files that a message names
TAR_SUFFIXES = tuple(UNPACKERS)


def tarball_suffix(path: Path) -> str:
    """Return which of TAR_SUFFIXES the name ends in; empty if none."""
    return next((suffix for suffix in TAR_SUFFIXES if path.name.endswith(suffix)), "")


def materialize(source: Source, tree: Path, *, progress: Progress | None = None) -> None:
    """Put `source` into `tree`, a directory of ours; files that do not differ keep their times.

    ``source.json`` beside the tree records its content; if the identity in it is the right one, nothing is done. So
    code that changes files in the tree has to undo that later, or to call `forget` first."""
    progress = progress or Silent()
    tree.parent.mkdir(parents=True, exist_ok=True)
    with locked(tree.parent / f"{MARKER}.lock"):
        held = held_source(tree)
        if held.get("identity") == source.identity and tree.is_dir():
            return
        forget(tree)
        progress.say(f"preparing the source tree: {source.spec.text} ({source.version})")
        if source.spec.kind is SourceKind.DIRECTORY:
            mirror(source.path, tree, progress=progress)
        elif source.spec.kind is SourceKind.GIT:
            gitrepo.check_out(source, tree, progress=progress)
        else:
            _unpack_tarball(source, tree, held=held.get("version", "what is there"), progress=progress)
        _write_marker(source, tree)


def held_source(tree: Path) -> dict[str, str]:
    """Read the marker of `tree`: identity, kind, spec, version, checksum of its source. Empty if it has no complete
    source."""
    with contextlib.suppress(OSError, ValueError):
        held = jsonfile.read_object(tree.parent / MARKER)
        return {str(key): str(value) for key, value in held.items()}
    return {}


def forget(tree: Path) -> None:
    """Mark `tree` as not pristine, so that the next `materialize` restores what differs."""
    (tree.parent / MARKER).unlink(missing_ok=True)


def _write_marker(source: Source, tree: Path) -> None:
    held = {
        "identity": source.identity,
        "kind": source.spec.kind.value,
        "spec": source.spec.text,
        "version": source.version,
        "checksum": source.checksum,
    }
    write_atomically(tree.parent / MARKER, json.dumps(held, indent=2) + "\n")


def _unpack_tarball(source: Source, tree: Path, *, held: str, progress: Progress) -> None:
    """Extract beside the tree, check that it is a kernel, then move it into place."""
    scratch = tree.with_name(f".{tree.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _untar(source, scratch, progress=progress)
        _check_unchanged(source, progress=progress)
        top = sorted(scratch.iterdir())
        names = {path.name for path in top}
        if len(top) != 1 or not top[0].is_dir() or top[0].is_symlink():
            shown = ", ".join(path.name for path in top[:8]) or "nothing"
            hint = "; for a kernel that is built already, write prebuilt: before its path" if _BUILT & names else ""
            raise UserError(f"{source.path}: expected one directory with a kernel tree inside, found {shown}{hint}")
        try:
            kernel_version(top[0])
        except UserError as error:
            raise UserError(f"{source.path}: {error.message.removeprefix(f'{scratch}/')}") from error
        if tree.is_dir():
            # Another version was built here. Files equal in both keep their times and are not built again; files that
            # differ get the present time, even if the archive's is older than the objects.
            mirror(top[0], tree, progress=progress, label=f"comparing with {held}", everything=True)
        else:
            (tree.parent / MANIFEST).unlink(missing_ok=True)
            top[0].rename(tree)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_unchanged(source: Source, *, progress: Progress) -> None:
    """Raises an error if the tarball was replaced after its checksum was recorded: the results would name another."""
    found = sha256_of(source.path, progress=progress)
    if found != source.identity:
        kind = UserError if source.spec.kind is SourceKind.TARBALL else InfraError
        raise kind(
            f"{source.path}: changed while it was unpacked: expected SHA-256 {source.identity}, found {found}; "
            "start again when it is complete"
        )


def _untar(source: Source, directory: Path, *, progress: Progress) -> None:
    path = source.path
    total = path.stat().st_size

    def tick(file: IO[bytes]) -> None:
        # A child reads from the same open file, so its position shows the progress.
        progress.advance(f"unpacking {path.name}", os.lseek(file.fileno(), 0, os.SEEK_CUR), total)

    try:
        left_out = untar(path, directory, suffix=tarball_suffix(path), tick=tick)
    except Damaged as error:
        kind = UserError if source.spec.kind is SourceKind.TARBALL else InfraError
        details = error.details or (str(error),)
        raise kind(f"{path}: damaged or not a tarball; get it again", details=details) from error
    except OSError as error:
        raise shortage.of(error, where=directory) or InfraError(f"{path}: cannot be unpacked: {error}") from error
    if left_out:
        names = ", ".join(name.partition("/")[2] or name for name in left_out[:_MOST_NAMED])
        more = f" and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
        progress.say(f"{path.name}: left out devices, pipes and links that lead out of the tree: {names}{more}")
    progress.advance(f"unpacking {path.name}", total, total)
