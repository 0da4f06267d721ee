"""Builds that arrive at a worker. Each is named by the hash of its manifest, so a host fetches it once, whoever asks
for it, and every file in it is compared with its digest before it is used."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from harness import shortage
from harness.build.cache import cache_dir, published
from harness.build.finished import load_build
from harness.build.prune import limits_from_environment, prune
from harness.build.seal import MANIFEST
from harness.campaign.lab import parcels
from harness.errors import HarnessError, InfraError
from harness.limits import LAB_BUILD_BYTES
from harness.model.kernel import Build
from harness.model.lab import Parcel
from harness.model.progress import Progress

_NAMED = 24  # digits of the hash in the name of a directory
_MOST_HELD = 8  # of which the cache's limits remove none


def address_of(directory: Path) -> str:
    """Return what identifies the content of a finished build. Raises InfraError."""
    try:
        return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        raise InfraError(
            f"{directory}: expected a build with a {MANIFEST}, so that other hosts can check what they get, found "
            "none; an older harness made it: remove it, and it is made again"
        ) from None


class Arrivals:
    """The builds on this host that came from elsewhere. `scratch`: a directory for what is on its way."""

    def __init__(self, scratch: Path, progress: Progress) -> None:
        self._scratch = scratch
        self._progress = progress
        self._lock = threading.Lock()
        self._held: dict[str, Build] = {}  # which also keeps them in the cache
        self._coming: dict[str, tuple[Path, Parcel]] = {}

    def get(self, address: str) -> Build | None:
        """Return a build that is here; None if it is not."""
        with self._lock:
            if address in self._held:
                return self._held[address]
            try:
                build = load_build(_place_of(address))
            except HarnessError:
                return None
            if address_of(build.directory) != address:
                return None
            self._held[address] = build
            if len(self._held) > _MOST_HELD:
                del self._held[next(iter(self._held))]
            return build

    def clear(self) -> None:
        """Nothing is on its way any more: the connection over which it came was lost."""
        with self._lock:
            for path, _ in self._coming.values():
                path.unlink(missing_ok=True)
            self._coming.clear()
            self._held.clear()

    def begin(self, parcel: Parcel) -> str:
        """Get ready for an archive; return the name under which it comes. Raises UserError if it is too large."""
        LAB_BUILD_BYTES.check(parcel.size, place="a build that is sent here")
        name = secrets.token_hex(8)
        with self._lock, shortage.reported(self._scratch):
            self._coming[name] = self._scratch / f"{name}{parcels.SUFFIX}", parcel
            self._coming[name][0].touch()
        return name

    def add(self, name: str, offset: int, data: bytes) -> None:
        """Take the next chunk. Raises InfraError."""
        path, parcel = self._coming_as(name)
        with shortage.reported(path), path.open("ab") as file:
            if file.tell() != offset or offset + len(data) > parcel.size:
                raise InfraError(f"a build that is sent here: expected {file.tell()} of its bytes, found {offset}")
            file.write(data)

    def complete(self, name: str, address: str, say: Callable[[str], None]) -> None:
        """All chunks are here: check them, and put the build into the cache. Raises InfraError."""
        path, parcel = self._coming_as(name)
        try:
            found = parcels.parcel_of(path)
            if found != parcel:
                raise InfraError(f"a build that was sent here: expected {parcel}, found {found}; it is sent again")
            self._publish(path, address, say)
        finally:
            path.unlink(missing_ok=True)
            with self._lock:
                self._coming.pop(name, None)
        if self.get(address) is None:
            raise InfraError(f"build {address[:12]} vanished from this host's cache while it arrived")
        prune(limits_from_environment(), self._progress)

    def _publish(self, archive: Path, address: str, say: Callable[[str], None]) -> None:
        final = _place_of(address)

        def check(directory: Path) -> None:
            if address_of(directory) != address:
                raise InfraError("a build that was sent here is another one than was announced")
            load_build(directory, verify=True)

        with published(final, seal=check) as scratch:
            inside = scratch / "arriving"
            parcels.unpack(archive, inside, place="a build that was sent here", say=say)
            for part in (inside / "build").iterdir():
                part.rename(scratch / part.name)
            (inside / "build").rmdir()
            inside.rmdir()

    def _coming_as(self, name: str) -> tuple[Path, Parcel]:
        with self._lock:
            if name not in self._coming:
                raise InfraError("a build that is sent here: its beginning is missing; it is sent again")
            return self._coming[name]


def _place_of(address: str) -> Path:
    return cache_dir("builds") / f"lab-{address[:_NAMED]}"
