"""Finds out which kernel a spec means, and what else there is of it: its headers, its source."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.build.apt import PrivateApt
from harness.build.cache import cache_dir, locked, named_in
from harness.build.checksum import sha256_of
from harness.build.download import fetch_file
from harness.build.tree import Entry, fingerprint, scan
from harness.errors import InfraError, UserError
from harness.limits import TREE_FILES
from harness.model.package import AptPackage
from harness.model.prebuilt import PrebuiltKind, PrebuiltSpec
from harness.model.progress import Progress

ARCHITECTURE = "arm64"
Fetch = Callable[[Progress, Path | None], tuple[Path, ...]]
_MOST_PACKAGES = 16
# Since 6.19 the image package is empty: the kernel, its configuration and its modules are in packages of their own.
_OF_A_KERNEL = re.compile(
    r"linux-(?:image|binary|binary-unsigned|base|modules)-(?P<release>\d[a-z0-9.+-]*?)(?:-unsigned)?"
)
_OF_HEADERS = re.compile(r"linux-(?:headers|kbuild)-\d[a-z0-9.+-]*")
_UPSTREAM = re.compile(r"(\d+\.\d+)[.~-]")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A further part of a kernel: `identity` names its content; `fetch` is called only if it is used. `fetch`,
    `forget`: as for Prebuilt."""

    identity: str
    fetch: Fetch
    forget: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Prebuilt:
    """A kernel that others built. `fetch` returns its packages, its tarball or its directory; given a directory, it
    puts what it has downloaded there, because several kernels may share packages, and `forget` removes them from the
    cache. `identity`: names its content; `identify`: finds out whether that is still the same; `version`: the
    distributor's version, if that is known; `checksum`: of the file that holds the kernel, ``sha256:…``. `headers`: the
    packages to build modules with; `source`: the spec of the source that it was built from, for --kernel, with the
    checksum of its package."""

    spec: PrebuiltSpec
    fetch: Fetch
    forget: Callable[[], None] = lambda: None
    identity: str
    identify: Callable[[], str] | None = None
    version: str = ""
    checksum: str = ""
    headers: Part | None = None
    source: tuple[str, str] | None = None


def resolve_prebuilt(
    spec: PrebuiltSpec, *, progress: Progress, refresh: bool = False, verify: bool = False
) -> Prebuilt:
    """Find out which kernel `spec` means. `refresh`: also fetch package lists that may be a little old; `verify`: read
    all of a file, even if nothing hints at a change."""
    path = Path(spec.location)
    match spec.kind:
        case PrebuiltKind.DEBIAN:
            return _debian(spec, progress=progress, refresh=refresh)
        case PrebuiltKind.DIRECTORY:
            return _directory(spec)
        case PrebuiltKind.URL:
            return _remote(spec)
        case PrebuiltKind.TARBALL | PrebuiltKind.DEB | PrebuiltKind.RPM:
            digest = sha256_of(path, progress=progress, fresh=verify)
            return Prebuilt(
                spec=spec,
                fetch=lambda _progress, _into: (path,),
                identity=digest,
                identify=lambda: sha256_of(path, progress=progress),
                checksum=f"sha256:{digest}",
            )


def _directory(spec: PrebuiltSpec) -> Prebuilt:
    path = Path(spec.location)

    def identify() -> str:
        return fingerprint(_counted(path, place=spec.text))

    identity = identify()
    headers = tuple(sorted(path.glob("linux-headers-*.deb")))  # as `make bindeb-pkg` leaves them
    return Prebuilt(
        spec=spec,
        fetch=lambda _progress, _into: (path,),
        identity=identity,
        identify=identify,
        checksum=f"stat:{identity}",
        headers=Part(identity=identity, fetch=lambda *_: headers, forget=lambda: None) if headers else None,
    )


def _counted(directory: Path, *, place: str) -> Iterator[Entry]:
    """The files of a directory. Raises UserError if it has so many that the whole file system may have been named."""
    for count, entry in enumerate(scan(directory, everything=True), 1):
        TREE_FILES.check(count, place=place)
        yield entry


def _remote(spec: PrebuiltSpec) -> Prebuilt:
    """A file at a URL; its checksum says which content is meant, so it is downloaded only to be unpacked."""
    name = urllib.parse.unquote(spec.location.rpartition("/")[2])
    file = cache_dir("downloads", f"prebuilt-{spec.ref[:12]}") / name

    def fetch(progress: Progress, into: Path | None) -> tuple[Path, ...]:
        with locked(file.with_name("lock")):
            if not file.is_file() or sha256_of(file, progress=progress) != spec.ref:
                progress.say(f"downloading {name}")
                fetch_file(spec.location, file, sha256=spec.ref, progress=progress)
            return (named_in(into, file) if into else file,)

    return Prebuilt(
        spec=spec,
        fetch=fetch,
        forget=lambda: file.unlink(missing_ok=True),
        identity=spec.ref,
        checksum=f"sha256:{spec.ref}",
    )


def _debian(spec: PrebuiltSpec, *, progress: Progress, refresh: bool) -> Prebuilt:
    apt, here = PrivateApt(spec.ref, architecture=ARCHITECTURE), PrivateApt(spec.ref)
    with ThreadPoolExecutor(max_workers=1) as at_once:  # each takes seconds, mostly of waiting
        lists = at_once.submit(here.update, progress=progress)
        apt.update(force=refresh, progress=progress)
    packages = list(_reachable(apt, spec.location, _OF_A_KERNEL))
    own = [package for package in packages if _OF_A_KERNEL.fullmatch(package.name)]
    if not own:
        raise UserError(f"{spec.text}: expected a package with a kernel, found that {spec.location} needs none")
    largest = max(own, key=lambda package: package.size)
    lists.result()
    headers = _headers(apt, here, own)

    def forget() -> None:
        apt.forget(own)
        if headers:
            headers.forget()

    return Prebuilt(
        spec=spec,
        fetch=lambda progress, into: tuple(apt.download(package, into=into, progress=progress) for package in own),
        forget=forget,
        identity=_identity(own),
        version=largest.version,
        checksum=f"sha256:{largest.sha256}",
        headers=headers,
        source=_source(apt, largest.version),
    )


def _headers(apt: PrivateApt, here: PrivateApt, own: Sequence[AptPackage]) -> Part | None:
    """What modules for the kernel are built with: headers of its architecture, from `apt`, and programs that run on
    this host, from `here`."""
    match = next(match for package in own if (match := _OF_A_KERNEL.fullmatch(package.name)))
    try:
        found = list(_reachable(apt, f"linux-headers-{match['release']}", _OF_HEADERS))
        tools = [here.newest(re.escape(each.name)) for each in found if each.name.startswith("linux-kbuild-")]
    except UserError:  # there is no such package
        return None
    headers = [each for each in found if not each.name.startswith("linux-kbuild-")]

    def fetch(progress: Progress, into: Path | None) -> tuple[Path, ...]:
        packages = [(apt, each) for each in headers] + [(here, each) for each in tools]
        return tuple(each.download(package, into=into, progress=progress) for each, package in packages)

    def forget() -> None:
        apt.forget(headers)
        here.forget(tools)

    return Part(identity=_identity([*headers, *tools]), fetch=fetch, forget=forget)


def _source(apt: PrivateApt, version: str) -> tuple[str, str] | None:
    """The source package of this very version, in the same suite."""
    match = _UPSTREAM.match(version)
    if not match:
        return None
    name = f"linux-source-{match[1]}"
    try:
        package = apt.newest(re.escape(name))
    except UserError:
        return None
    return (f"debian:{name}@{apt.suite}", package.sha256) if package.version == version else None


def _reachable(apt: PrivateApt, first: str, pattern: re.Pattern[str]) -> Iterator[AptPackage]:
    """The package `first`, and those whose names match that it depends on, directly or not: the package of the newest
    kernel of a kind only depends on that kernel's."""
    waiting, known = [first], {first}
    while waiting:
        package = apt.newest(re.escape(waiting.pop()))
        yield package
        more = [each for each in package.depends if pattern.fullmatch(each) and each not in known]
        if len(known) + len(more) > _MOST_PACKAGES:
            raise InfraError(
                f"{first}@{apt.suite}: expected at most {_MOST_PACKAGES} packages with parts of one kernel"
            )
        known.update(more)
        waiting += more


def _identity(packages: Sequence[AptPackage]) -> str:
    return hashlib.sha256(" ".join(sorted(package.sha256 for package in packages)).encode()).hexdigest()
