"""Kernel sources: parses ``--kernel SPEC`` and fetches the pristine source into the cache.

`harness.build.materialize` then turns it into a directory to build in.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import threading
from pathlib import Path, PurePosixPath
from typing import IO

from harness import shortage
from harness.build import gitrepo, kernelorg
from harness.build.apt import PrivateApt, check_suite_name
from harness.build.cache import cache_dir, locked
from harness.build.checksum import CHUNK_BYTES, sha256_of
from harness.build.command import started
from harness.build.materialize import TAR_SUFFIXES, materialize, tarball_suffix
from harness.build.seal import MANIFEST, Kept, find_whole, maker_lock, seal_file
from harness.build.tree import fingerprint, kernel_version, only_compiled, scan
from harness.errors import InfraError, UserError
from harness.model.kernel import Source, SourceKind, SourceSpec
from harness.model.package import AptPackage
from harness.model.progress import Progress, Silent
from harness.userpath import user_path

__all__ = ["materialize", "parse_source_spec", "resolve_source"]

FORMS = (
    "a directory with a kernel tree",
    f"a tarball ({', '.join(TAR_SUFFIXES)})",
    "git:URL-or-path#branch-tag-or-commit",
    "a version from kernel.org: 7.3.4, 6.1",
    "debian:linux-source-7.3@trixie-backports, or debian:@trixie-backports for the newest there",
    "a kernel that is built: debian-image:linux-image-arm64@trixie, a .deb or .rpm file, prebuilt:PATH-or-URL",
)
VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:-rc\d+)?)")
UNPACK_TIMEOUT_S = 900.0


def parse_source_spec(text: str) -> SourceSpec:
    """Parse the value of --kernel. Raises UserError, with a list of the known forms, for anything else.

    A version is always taken as a version, even if there is a directory of that name (write ``./6.1`` for that).
    """
    text = text.strip()
    if text.startswith("git:"):
        return _parse_git(text)
    if text.startswith("debian:"):
        return _parse_debian(text)
    if match := VERSION.fullmatch(text):
        return SourceSpec(kind=SourceKind.VERSION, text=text, location=match[1])
    if "://" in text:
        raise _not_a_source(text, f"for a git repository write git:{text}; a tarball has to be downloaded first")
    return _parse_path(text)


def _parse_git(text: str) -> SourceSpec:
    location, mark, ref = text.removeprefix("git:").partition("#")
    if not location or location.startswith("-") or ref.startswith("-") or (mark and not ref):
        raise _not_a_source(text, "expected git:URL-or-path#branch-tag-or-commit")
    if "://" not in location and not re.match(r"[\w.-]+@[\w.-]+:|[\w.-]+:[^/]", location):
        path = user_path(location)
        if not path.is_dir():
            raise UserError(f"{text}: no such directory: {path}")
        location = str(path.resolve())
    return SourceSpec(kind=SourceKind.GIT, text=text, location=location, ref=ref or "HEAD")


def _parse_debian(text: str) -> SourceSpec:
    package, mark, suite = text.removeprefix("debian:").rpartition("@")
    if not mark and suite.startswith("linux-source"):
        raise _not_a_source(text, f"the suite is missing: {text}@trixie-backports")
    if package and not re.fullmatch(r"linux-source(-\d+\.\d+)?", package):
        raise _not_a_source(text, f"expected a package such as linux-source-7.3, found {package!r}")
    check_suite_name(suite)
    # linux-source itself is an empty package that depends on the newest one.
    return SourceSpec(kind=SourceKind.DEBIAN, text=text, location=package.removesuffix("linux-source"), ref=suite)


def _parse_path(text: str) -> SourceSpec:
    path = user_path(text).absolute()
    if text and path.is_dir():
        return SourceSpec(kind=SourceKind.DIRECTORY, text=text, location=str(path.resolve()))
    if text.endswith(TAR_SUFFIXES):
        if not path.is_file():
            raise UserError(f"{text}: no such file: {path}")
        return SourceSpec(kind=SourceKind.TARBALL, text=text, location=str(path.resolve()))
    if path.is_file():
        raise _not_a_source(text, f"that file's name does not end in any of {', '.join(TAR_SUFFIXES)}")
    raise _not_a_source(text, "there is no such file or directory either" if text else "it is empty")


def _not_a_source(text: str, why: str) -> UserError:
    return UserError(
        f"{text!r} is not a kernel source: {why}", details=["expected one of:", *(f"  {f}" for f in FORMS)]
    )


def resolve_source(
    spec: SourceSpec, *, progress: Progress | None = None, refresh: bool = False, verify: bool = False
) -> Source:
    """Find out exactly which source `spec` means, and fetch its pristine form into the cache if it is not there.

    `refresh`: also update remote state that may be a little old (Debian's package lists). `verify`: read all of a
    tarball, even if nothing hints at a change.
    """
    progress = progress or Silent()
    if spec.kind is SourceKind.DIRECTORY:
        return _directory(spec)
    if spec.kind is SourceKind.TARBALL:
        path = Path(spec.location)
        digest = sha256_of(path, progress=progress, fresh=verify)
        version, checksum = _version_in_name(path), f"sha256:{digest}"
        return Source(spec=spec, identity=digest, path=path, version=version, checksum=checksum)
    if spec.kind is SourceKind.VERSION:
        tarball = kernelorg.fetch_tarball(spec.location, progress=progress, verify=verify)
        checksum = f"sha256:{tarball.product.digest.sha256}"
        return _from_cache(spec, tarball, version=spec.location, checksum=checksum)
    if spec.kind is SourceKind.GIT:
        return gitrepo.fetch_commit(spec, progress=progress)
    return _debian(spec, progress=progress, refresh=refresh, verify=verify)


def _directory(spec: SourceSpec) -> Source:
    path = Path(spec.location)
    version = kernel_version(path)
    entries = list(scan(path))
    identity = fingerprint(entries)
    setup = fingerprint(entry for entry in entries if not only_compiled(entry.path))
    return Source(spec=spec, identity=identity, setup=setup, path=path, version=version, checksum=f"stat:{identity}")


def _from_cache(spec: SourceSpec, tarball: Kept, *, version: str, checksum: str) -> Source:
    """Describe a source whose tarball is in the cache; `checksum`: of what was downloaded."""
    identity = tarball.product.digest.sha256
    return Source(
        spec=spec, identity=identity, path=tarball.path, version=version, checksum=checksum, hold=tarball.hold
    )


def _version_in_name(path: Path) -> str:
    """``7.3.4`` of ``linux-7.3.4.tar.xz``; the whole stem where the name holds no version."""
    stem = path.name.removesuffix(tarball_suffix(path))
    match = re.search(r"\d+\.\d+(\.\d+)?([.~+-]\w+)*", stem)
    return match[0] if match else stem


def _debian(spec: SourceSpec, *, progress: Progress, refresh: bool, verify: bool) -> Source:
    apt = PrivateApt(spec.ref)
    apt.update(force=refresh, progress=progress)
    package = apt.newest(re.escape(spec.location) if spec.location else r"linux-source-\d+\.\d+")
    directory = cache_dir("downloads", f"{package.name}_{package.version}_{package.sha256[:12]}")
    while True:
        tarball = _unpacked_deb(directory, progress=progress, verify=verify)
        if tarball:
            return _from_cache(spec, tarball, version=package.version, checksum=f"sha256:{package.sha256}")
        with locked(directory / "lock"):
            if not _unpacked_deb(directory, progress=Silent(), verify=verify):
                _unpack_deb(apt, package, directory, progress=progress)


def _unpacked_deb(directory: Path, *, progress: Progress, verify: bool) -> Kept | None:
    """Return the tarball that was taken out of the package, if it is still as it was then. A file that somebody else
    put beside it has no manifest."""
    for manifest in sorted(directory.glob(f"linux-source-*.tar.*.{MANIFEST}")):
        path = manifest.with_name(manifest.name.removesuffix(f".{MANIFEST}"))
        if found := find_whole(path, progress, full=verify):
            return found
    return None


def _unpack_deb(apt: PrivateApt, package: AptPackage, directory: Path, *, progress: Progress) -> None:
    """Extract the kernel tarball from the package, and remove the .deb, which contains little else."""
    directory.mkdir(parents=True, exist_ok=True)
    deb = apt.download(package, progress=progress)
    partial = directory / f".{deb.name}.partial"
    tarball = directory / _extract_member(deb, partial, progress=progress)
    with locked(maker_lock(tarball)):
        seal_file(partial, tarball)
    deb.unlink(missing_ok=True)


def _extract_member(deb: Path, partial: Path, *, progress: Progress) -> str:
    """Copy the one kernel tarball inside `deb` to `partial`; return its name."""
    with started(["dpkg-deb", "--fsys-tarfile", str(deb)], stderr=subprocess.DEVNULL) as process:
        # Reading blocks, so a timer has to enforce the time limit.
        timer = threading.Timer(UNPACK_TIMEOUT_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            return _copy_member(process.stdout, partial, deb=deb, progress=progress)
        except (tarfile.TarError, OSError) as error:
            partial.unlink(missing_ok=True)
            unknown = InfraError(f"{deb}: the kernel tarball cannot be taken out of the package: {error}")
            raise shortage.of(error, where=partial.parent, needed="about 150 MB for the tarball") or unknown from error
        finally:
            timer.cancel()


def _copy_member(stream: IO[bytes], partial: Path, *, deb: Path, progress: Progress) -> str:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if member.isfile() and re.fullmatch(r"linux-source-[\d.]+\.tar\.\w+", name):
                content = archive.extractfile(member)
                assert content is not None
                done = 0
                with partial.open("wb") as out:
                    while chunk := content.read(CHUNK_BYTES):
                        out.write(chunk)
                        done += len(chunk)
                        progress.advance(f"unpacking {deb.name}", done, member.size)
                return name
    raise InfraError(f"{deb}: expected usr/src/linux-source-*.tar.* inside, found none")
