"""The target's root file system: Debian's arm64 packages, unpacked and made usable without running any of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

from harness import jsonfile
from harness.build import apt, command
from harness.build.cache import cache_dir, scratch_dir
from harness.build.seal import Kept, made_once, manifest_of
from harness.errors import HarnessError, InfraError
from harness.model.product import Digest
from harness.model.progress import Progress
from harness.parse.manifest import manifest_from_json

SUITE = "bookworm"
_SIZE = "700M"
_END_S = 30.0
_RECIPE = 3  # counts changes of what this module does to the unpacked packages

# Everything both selftest suites call, and what their helpers call; `harness/run/precheck.py` checks it there. Left
# out on purpose: checkbashisms, for a .tc file that lints the other test scripts (in perl, for minutes when emulated)
# and tells nothing of the kernel.
PACKAGES = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep"),
    *("gawk", "gzip", "hostname", "iproute2", "iputils-ping", "kmod", "libc-bin", "login", "mount"),
    *("ncurses-base", "ncurses-bin", "passwd", "procps", "sed", "tar", "util-linux", "util-linux-extra"),
    "bc",  # remotes/*.tc
    *("busybox", "dropbear-bin", "openssh-sftp-server"),  # DHCP and SSH on boards
    "binutils",  # readelf, nm: uprobe tests
)
_FSTAB = """\
sysfs /sys sysfs defaults 0 0
debugfs /sys/kernel/debug debugfs defaults 0 0
tracefs /sys/kernel/tracing tracefs defaults 0 0
devpts /dev/pts devpts mode=0620,gid=5,ptmxmode=0666 0 0
tmpfs /dev/shm tmpfs mode=1777 0 0
tmpfs /tmp tmpfs mode=1777 0 0
tmpfs /run tmpfs mode=0755 0 0
"""
_FILES = {
    "etc/fstab": _FSTAB,
    "etc/hostname": "target\n",
    "etc/hosts": "127.0.0.1 localhost target\n",
    "etc/shells": "/bin/sh\n/bin/bash\n",  # dropbear lets in only who has one of these
    "root/.profile": "PS1='target# '\ncd /root\n",
}
_LINKS = {"usr/bin/awk": "gawk", "usr/bin/which": "which.debianutils", "etc/mtab": "/proc/self/mounts"}
_DIRECTORIES = ("harness", "payload", "lib/modules", "root", "mnt", "dev/pts", "dev/shm", "proc", "sys", "tmp", "run")


class _Stopped(Exception):
    """Nobody needs the image any more."""


@contextlib.contextmanager
def begun(progress: Progress) -> Iterator[None]:
    """Make the image, if the cache has none, in another thread from this block on: it takes as long as to unpack a
    kernel. Whoever needs it calls `root_image` as usual, which waits for it, and tells what is wrong. If the block
    fails, it is given up."""
    given_up = threading.Event()

    def tick() -> None:
        if given_up.is_set():
            raise _Stopped

    def make() -> None:
        with contextlib.suppress(_Stopped, HarnessError, OSError):
            root_image(progress=progress, tick=tick)

    thread = threading.Thread(target=make, name="root image", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        given_up.set()
        thread.join(_END_S)  # it may only be waiting for another harness that makes it
        raise


def root_image(*, progress: Progress, verify: bool = False, tick: Callable[[], None] | None = None) -> Kept:
    """Return the ext4 image, made if the cache has none for this recipe. Needs mmdebstrap and mke2fs then. `verify`:
    read all of it. `tick`: called now and then while it is made."""
    image = _image()

    def make(partial: Path) -> None:
        progress.say(f"root file system: unpacking {len(PACKAGES)} packages and what they need ({SUITE}, arm64)")
        _make(partial, tick)
        progress.say(f"root file system: {image.name} ready")

    return made_once(image, make, progress=progress, needed="about 2 GB while it is made", full=verify)


def root_digest() -> Digest | None:
    """Return size and SHA-256 of the image, as they were recorded when it was made; None if the cache has none."""
    image = _image()
    try:
        return manifest_from_json(jsonfile.read_bytes(manifest_of(image)).decode()).files.get(image.name)
    except (OSError, ValueError):
        return None


def _image() -> Path:
    return cache_dir("rootfs") / f"root-{_key()}.ext4"


def _key() -> str:
    overlay = resources.files("harness.build") / "overlay" / "harness-init"
    recipe = [_RECIPE, SUITE, PACKAGES, _FILES, _LINKS, _DIRECTORIES, overlay.read_text()]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def _make(image: Path, tick: Callable[[], None] | None) -> None:
    with scratch_dir("making") as scratch:
        tarball, tree = scratch / "root.tar", scratch / "tree"
        tree.mkdir()
        _run(_mmdebstrap(tarball), limit=900.0, tick=tick)
        _run(_as_root("tar", "-C", str(tree), "--no-same-owner", "-xf", str(tarball)), limit=300.0, tick=tick)
        _finish(tree)
        words = ("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(tree), str(image), _SIZE)
        _run(_as_root(*words), limit=300.0, tick=tick)


def _mmdebstrap(tarball: Path) -> list[str]:
    return [
        *("mmdebstrap", f"--mode={'root' if os.geteuid() == 0 else 'unshare'}", "--architectures=arm64"),
        *("--variant=extract", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={','.join(PACKAGES)}"),
        *(SUITE, str(tarball), apt.mirror_for(SUITE)),
    ]


def _finish(tree: Path) -> None:
    """Do what the packages' maintainer scripts would have done, as far as tests need it, and add our own files."""
    for directory in _DIRECTORIES:
        (tree / directory).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (tree / name).write_text(text)
    for name, goal in _LINKS.items():
        (tree / name).unlink(missing_ok=True)
        (tree / name).symlink_to(goal)
    for database in ("passwd", "group"):
        shutil.copyfile(tree / "usr/share/base-passwd" / f"{database}.master", tree / "etc" / database)
    init = tree / "harness/harness-init"
    init.write_text((resources.files("harness.build") / "overlay" / "harness-init").read_text())
    init.chmod(0o755)
    for doc in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt"):
        shutil.rmtree(tree / doc, ignore_errors=True)


def _as_root(*words: str) -> list[str]:
    """`words` so that files it makes belong to uid 0 in the image: as root, or in a user namespace."""
    return list(words) if os.geteuid() == 0 else ["unshare", "--map-root-user", *words]


def _run(words: list[str], *, limit: float, tick: Callable[[], None] | None) -> None:
    done = command.run(words, timeout=limit, tick=tick)
    if done.status:
        raise InfraError(
            f"root file system: {words[0]} ended with exit code {done.status}", details=done.last_lines(15)
        )
