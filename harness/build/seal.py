"""Records size and SHA-256 of everything that the cache keeps, and checks them at each use.

A finished directory has a manifest.json inside, a single file has one beside it (NAME.manifest.json). Both are written
when all content is on the disk. A file is read again only if its times, size or inode are not what they were when its
content was last found to be right. They are noted in the cache of whoever looks, so a manifest never changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.cache import cache_dir, locked
from harness.build.checksum import stamp_of, write_atomically
from harness.build.inuse import Hold, hold
from harness.build.treelinks import stays_inside
from harness.errors import InfraError
from harness.model.product import Manifest, Product
from harness.model.progress import Progress, Silent
from harness.parse.manifest import manifest_from_json, manifest_to_json
from harness.products import Damaged, check_size, digest_of, rename_synced, sync, verify

MANIFEST = "manifest.json"
_MADE_AGAIN = "it has to be made again, which the next run does"


def manifest_of(path: Path) -> Path:
    """Return the name of the manifest that belongs to the single file `path`."""
    return path.with_name(f"{path.name}.{MANIFEST}")


def maker_lock(path: Path) -> Path:
    """Return the lock of whoever makes or removes the single file `path`, or its manifest. Users hold the manifest."""
    return path.with_suffix(".lock")


def seal_directory(directory: Path, *, final: Path) -> None:
    """Write the manifest of a directory that is complete and about to be renamed to `final`, once its files are on the
    disk. Raises InfraError."""
    files, links = {}, {}
    try:
        for inner, names, others in os.walk(directory):
            for path in (Path(inner, name) for name in sorted((*names, *others))):
                name = str(path.relative_to(directory))
                if path.is_symlink():
                    links[name] = str(path.readlink())
                elif path.is_file() and name != MANIFEST:
                    files[name] = digest_of(path)
                    sync(path)
        for inner, _, _ in os.walk(directory, topdown=False):
            sync(Path(inner))
        _write(directory / MANIFEST, Manifest(files=files, links=links), final=final / MANIFEST)
    except OSError as error:
        raise _unwritable(error, directory) from error


def seal_file(partial: Path, final: Path) -> None:
    """Give a complete file its final name and its manifest; what has that name already is replaced. The caller has the
    `maker_lock`. Raises InfraError."""
    manifest = manifest_of(final)
    try:
        digest = digest_of(partial)
        manifest.unlink(missing_ok=True)
        rename_synced(partial, final)
        _write(manifest, Manifest(files={final.name: digest}), final=manifest)
    except OSError as error:
        raise _unwritable(error, final) from error


def _unwritable(error: OSError, path: Path) -> InfraError:
    wrong = InfraError(f"{error.filename or path}: can't be written: {error.strerror}")
    return shortage.of(error, where=path.parent) or wrong


def _write(path: Path, manifest: Manifest, *, final: Path) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    scratch.write_text(manifest_to_json(manifest))
    rename_synced(scratch, path)
    with contextlib.suppress(OSError):
        stamps = {name: stamp_of(path.parent / name) for name in manifest.files}
        _note(final, path.read_bytes(), stamps)


def checked(manifest: Path, *, remedy: str, full: bool = False) -> tuple[Product, ...]:
    """Return the files that `manifest` lists, each as it was recorded. `remedy`: what to do if one is not, for the
    message; `full`: read every file. Raises Damaged, or FileNotFoundError if there is no manifest."""
    try:
        text = jsonfile.read_bytes(manifest)
        recorded = manifest_from_json(text.decode())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(manifest) from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{manifest}: damaged: expected digests of files, found: {error}; {remedy}") from None
    known, stamps = _noted(manifest, text), {}
    products = tuple(
        Product(path=manifest.parent / name, digest=digest, remedy=remedy) for name, digest in recorded.files.items()
    )
    for name, product in zip(recorded.files, products, strict=True):
        stamps[name] = stamp_of(check_size(product))
        if full or known.get(name) != stamps[name]:
            verify(product)
    for name, target in recorded.links.items():
        _check_link(manifest.parent / name, target, remedy)
        if not stays_inside(name, target, recorded.links.get):  # as a build may have left it
            outside = f"expected a link that stays in {manifest.parent}, found one to {target}"
            raise Damaged(f"{manifest.parent / name}: damaged: {outside}; {remedy}")
    if stamps != known:
        _note(manifest, text, stamps)
    return products


def _check_link(path: Path, target: str, remedy: str) -> None:
    try:
        found = str(path.readlink())
    except OSError as error:
        found = f"none: {error.strerror}"
    if found != target:
        raise Damaged(f"{path}: damaged: expected a symbolic link to {target}, found {found}; {remedy}")


def _note(manifest: Path, text: bytes, stamps: dict[str, list[int]]) -> None:
    """Remember at which times and sizes the files were found to be right; in a cache that is read-only they are read
    again each time."""
    told = {"path": str(manifest.absolute()), "manifest": hashlib.sha256(text).hexdigest(), "stamps": stamps}
    with contextlib.suppress(OSError, InfraError):
        write_atomically(_place_of_note(manifest), json.dumps(told))


def _noted(manifest: Path, text: bytes) -> dict[str, list[int]]:
    with contextlib.suppress(OSError, InfraError, ValueError, TypeError, KeyError):
        told = jsonfile.read_object(_place_of_note(manifest))
        if told["manifest"] == hashlib.sha256(text).hexdigest():
            return dict(told["stamps"])
    return {}


def _place_of_note(manifest: Path) -> Path:
    name = hashlib.sha256(os.fsencode(manifest.absolute())).hexdigest()[:32]
    return cache_dir("checksums") / f"sealed-{name}.json"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A single file of the cache that was found to be right, and that nobody removes as long as `hold` exists."""

    product: Product
    hold: Hold

    @property
    def path(self) -> Path:
        return self.product.path


def find(path: Path, *, full: bool = False) -> Kept | None:
    """Return the sealed file `path` of the cache; None if there is none. Raises Damaged."""
    manifest = manifest_of(path)
    held = hold(manifest)
    if held is None:
        return None
    try:
        products = checked(manifest, remedy=_MADE_AGAIN, full=full)
        if [product.path for product in products] != [path]:
            raise Damaged(f"{manifest}: damaged: expected the digest of {path.name} in it; {_MADE_AGAIN}")
    except FileNotFoundError:  # removed by somebody who took no lock, such as `rm`
        held.close()
        return None
    except BaseException:
        held.close()  # at once: the error may be kept, and refers to it
        raise
    with contextlib.suppress(OSError):  # another user's, or read-only
        os.utime(manifest)  # tells the pruner that it is used
    return Kept(product=products[0], hold=held)


def made_once(path: Path, make: Callable[[Path], None], *, progress: Progress, needed: str, full: bool = False) -> Kept:
    """Return the sealed file `path` of the cache. If there is none, or a damaged one, `make` writes it to the path that
    it gets; others wait meanwhile. `needed`: how much room that takes, for the message if there is too little."""
    while True:
        kept = find_whole(path, progress, full=full)
        if kept:
            return kept
        with shortage.reported(path, needed=needed), locked(maker_lock(path)):
            if find_whole(path, Silent(), full=full):
                continue
            for left in path.parent.glob(f".{path.name}.*.partial"):  # by one that was killed: the lock is ours
                left.unlink()
            partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
            try:
                make(partial)
                seal_file(partial, path)
            finally:
                partial.unlink(missing_ok=True)


def find_whole(path: Path, progress: Progress, *, full: bool = False) -> Kept | None:
    """Do what `find` does, but report damage to `progress` and return None: the caller replaces the file."""
    try:
        return find(path, full=full)
    except Damaged as error:
        progress.say(f"{error.message.removesuffix(_MADE_AGAIN)}it is made again")
        return None
