"""What a kernel is built from, and what a build produces."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.product import Product

DEFAULT_SOURCE = "debian:@trixie-backports"  # the default of --kernel


class SourceKind(enum.StrEnum):
    """The forms that ``--kernel SPEC`` takes."""

    DIRECTORY = "directory"
    TARBALL = "tarball"
    GIT = "git"
    VERSION = "version"
    DEBIAN = "debian"


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """``--kernel SPEC``, parsed but not resolved.

    `location`: a path, a git URL, a version as ``7.3.4``, or a Debian package's name (empty: the newest).
    `ref`: git's ref, or Debian's suite. `text`: the spec as given.
    """

    kind: SourceKind
    text: str
    location: str = ""
    ref: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A resolved source: exactly which one, and where its pristine form is.

    `identity`: identifies the content (part of every build key): a checksum, a commit, a fingerprint of file times and
    sizes. `path`: a tarball, a directory or a bare git repository. `version`: the distributor's version (Debian's
    package version, the tag); `checksum`: ``sha256:…`` or the commit. `setup`: identifies only the part of the content
    that determines a configuration; empty: only `identity` is known. `absent`: files of the commit that its repository
    lacks. `hold`: what keeps `path` in the cache.
    """

    spec: SourceSpec
    identity: str
    setup: str = ""
    path: Path
    version: str
    checksum: str
    absent: tuple[str, ...] = ()
    hold: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Mailed:
    """What the mail of a patch says besides the patch. `subject`: with its tags; `version`: as ``(5, 0)`` for v5, and
    (1, 0) where it names none; `base_commit`: what this mail or its series' cover letter says it applies to."""

    subject: str
    version: tuple[int, int] = (1, 0)
    base_commit: str = ""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One patch of a series, decoded, ready for ``patch -p1``.

    `name`: its name in messages (its file, or a mail's subject); `text`: from the first ``diff``/``---`` line on, LF
    line ends; `sha256`: of that text. `is_loose`: white space or context was lost, so its lines are found in
    the source by their words. `notes`: what was done to get it out of a mail, for people. `mailed`: None if it did not
    come in a mail.
    """

    name: str
    text: str
    sha256: str
    is_loose: bool = False
    notes: tuple[str, ...] = ()
    mailed: Mailed | None = None


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A compiler, with properties that were queried, not guessed.

    `make_args`: what kbuild needs for it (``CROSS_COMPILE=…``, ``CC=…`` or ``LLVM=…``). `patchable`: whether it
    knows ``-fpatchable-function-entry``, without which arm64 has no DYNAMIC_FTRACE_WITH_REGS/ARGS.
    """

    name: str
    command: str
    version: str
    make_args: tuple[str, ...]
    patchable: bool


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """Everything a build depends on. `fragments`: ours, in the order they are merged; `user_fragments`: those of
    ``--kconfig``, which are merged last. `era_fixes`: apply what a kernel of its age needs (era.py)."""

    source: Source
    patches: tuple[Patch, ...] = ()
    fragments: tuple[Path, ...] = ()
    user_fragments: tuple[Path, ...] = ()
    toolchain: Toolchain
    allow_plain_ftrace: bool = False
    era_fixes: bool = True


@dataclass(frozen=True, kw_only=True)
class Build:
    """A finished build directory: Image, vmlinux, System.map, .config, dtbs/, modules/, selftests/, payload.ext4,
    build.log and build.json. `release` is ``uname -r``; `config` maps every symbol that is set to its value."""

    directory: Path
    release: str
    key: str
    config: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Test modules that there are not for this kernel, each with the reason: the tests that need one are skipped."""
    broken: dict[str, str] = field(default_factory=dict)
    """Further ones, which its series keeps from building, each with the first error: those tests fail."""
    unbuilt: dict[str, str] = field(default_factory=dict)
    """All of both that do not build for it, and upstream suites (``selftests/NAME``), with the first errors."""
    without: dict[str, str] = field(default_factory=dict)
    """Optional symbols that this kernel can't have, each with the reason, which a skip quotes."""
    products: tuple[Product, ...] = ()
    """The files with their digests; none of a build of an older harness, which recorded no digests."""
    hold: object = field(default=None, compare=False, repr=False)
    """What keeps the directory in the cache: as long as it exists, nobody removes the build."""

    @property
    def image(self) -> Path:
        return self.directory / "Image"

    @property
    def initramfs(self) -> Path | None:
        """What loads the drivers of the disks, where they are modules; None: the kernel has them built in."""
        path = self.directory / "initramfs.cpio.gz"
        return path if path.is_file() else None

    @property
    def dtbs(self) -> Path:
        """The device trees of the boards that the build is for, each by its name."""
        return self.directory / "dtbs"

    @property
    def selftests(self) -> Path:
        """The installed selftests: ``ftrace/`` and ``livepatch/`` below it."""
        return self.directory / "selftests"

    @property
    def has_thaw(self) -> bool:
        """Whether the payload has what a target needs to resume from a snapshot; builds of older harnesses do not."""
        return (self.directory / "tools/thaw").is_file()

    @property
    def payload(self) -> Path:
        """ext4 image with lib/modules, selftests and test modules, attached beside the root image."""
        return self.directory / "payload.ext4"
