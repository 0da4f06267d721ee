"""Released kernels from kernel.org, verified with the list of checksums beside them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from harness.build.cache import cache_dir, locked
from harness.build.checksum import sha256_of
from harness.build.command import run
from harness.build.download import NotThere, fetch_file, fetch_text
from harness.build.seal import Kept, find_whole, maker_lock, seal_file
from harness.errors import InfraError, UserError
from harness.model.progress import Progress, Silent

ORIGIN = "https://www.kernel.org/pub/linux/kernel"
TORVALDS = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git"
SUMS = "sha256sums.asc"
KEYRING_VARIABLE = "HARNESS_KERNEL_ORG_KEYRING"
GPGV_TIMEOUT_S = 30.0


def fetch_tarball(version: str, *, progress: Progress, verify: bool = False) -> Kept:
    """Return ``linux-VERSION.tar.xz`` in the cache, downloaded and verified unless it is there already; one that is not
    as it was downloaded is replaced. `verify`: read all of it.

    ``$HARNESS_KERNEL_ORG`` names another origin. ``gpgv`` checks the list's PGP signature if
    ``$HARNESS_KERNEL_ORG_KEYRING`` names a keyring; otherwise `progress` gets a note that it was not checked."""
    if "-rc" in version:
        raise UserError(
            f"{version}: kernel.org has no tarballs of release candidates, they come only from git: "
            f"--kernel git:{TORVALDS}#v{version}"
        )
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (3, 7):
        raise UserError(f"{version}: the first kernel for arm64 is 3.7")
    name = f"linux-{version}.tar.xz"
    target = cache_dir("downloads") / name
    while True:
        kept = find_whole(target, progress, full=verify)
        if kept:
            return kept
        with locked(maker_lock(target)):
            if not find_whole(target, Silent(), full=verify):
                _download(version, target, folder=f"{origin()}/v{major}.x", progress=progress)


def origin() -> str:
    """Return the URL below which the directories of kernel.org's tarballs are."""
    return os.environ.get("HARNESS_KERNEL_ORG", ORIGIN).rstrip("/")


def _download(version: str, target: Path, *, folder: str, progress: Progress) -> None:
    try:
        listed = fetch_text(f"{folder}/{SUMS}")
    except NotThere as error:
        raise UserError(f"{version}: there is no kernel {version.partition('.')[0]}.x at {folder}") from error
    sums = _parse_sums(_verified(listed, progress=progress))
    if target.name not in sums:
        raise _no_such_version(version, sums, folder)
    # an older harness may have downloaded it, which recorded nothing
    if not target.is_file() or sha256_of(target, progress=progress, fresh=True) != sums[target.name]:
        progress.say(f"downloading {folder}/{target.name}")
        fetch_file(f"{folder}/{target.name}", target, sha256=sums[target.name], progress=progress)
    seal_file(target, target)


def _verified(listed: str, *, progress: Progress) -> str:
    """Return the signed part of the list; the whole list if no keyring is configured."""
    keyring = os.environ.get(KEYRING_VARIABLE)
    if not keyring:
        progress.say(f"only the checksum is checked, not kernel.org's signature: ${KEYRING_VARIABLE} is not set")
        return listed
    if not Path(keyring).is_file():
        raise UserError(f"${KEYRING_VARIABLE}: no such file: {keyring}")
    with tempfile.TemporaryDirectory() as scratch:
        signed = Path(scratch) / SUMS
        signed.write_text(listed)
        # --output: trust only the signed text, not what somebody put around it.
        words = ["gpgv", "--keyring", str(Path(keyring).absolute()), "--output", "-", str(signed)]
        done = run(words, timeout=GPGV_TIMEOUT_S)
    if done.status != 0:
        raise InfraError(f"{SUMS}: its signature is not good by {keyring}", details=done.last_lines())
    return done.stdout


def _parse_sums(text: str) -> dict[str, str]:
    return {name: digest for digest, name in re.findall(r"(?m)^([0-9a-f]{64}) [ *](\S+)\r?$", text)}


def _no_such_version(version: str, sums: dict[str, str], folder: str) -> UserError:
    there = [match[1] for name in sums if (match := re.fullmatch(r"linux-([\d.]+)\.tar\.xz", name))]
    there.sort(key=lambda known: [int(part) for part in known.split(".")])
    series = ".".join(version.split(".")[:2])
    near = [known for known in there if known == series or known.startswith(f"{series}.")] or there
    return UserError(f"{version}: there is no such kernel at {folder}; the last ones there: {', '.join(near[-6:])}")
