"""What is on record about a build, a board and a run: enough to tell years later what ran where, and to run it again.

Every field has a default, because records are also read from files of older harnesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NO_SANDBOX = "none"
KERNEL_CONFIG = "kernel.config"  # in the directory of a run whose kernel does not build


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """Which kernel source: the spec as given, the version and checksum it was resolved to, and what identifies its
    content."""

    spec: str = ""
    version: str = ""
    checksum: str = ""
    identity: str = ""


@dataclass(frozen=True, kw_only=True)
class PatchRecord:
    """A patch of the series, with the name that messages use."""

    name: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class ToolchainRecord:
    """The compiler. `patchable`: whether it supports ``-fpatchable-function-entry``; None: not recorded."""

    name: str = ""
    command: str = ""
    version: str = ""
    patchable: bool | None = None

    @property
    def compiler(self) -> str:
        """Command and version, as ``aarch64-linux-gnu-gcc 12.2.0``."""
        return f"{self.command} {self.version}".strip()


@dataclass(frozen=True, kw_only=True)
class KernelRecord:
    """A kernel. `release`: ``uname -r``; `key`: the hash of the requested inputs (keys.kernel_key); `made`: the hash of
    what they resulted in; `without`: optional symbols that it can't have, each with the reason; `sandbox`: what it was
    built in (NO_SANDBOX: it was built without one; empty: not recorded); `era_fixes`: what its age made necessary, by
    name, each with the reason."""

    release: str = ""
    key: str = ""
    made: str = ""
    source: SourceRecord = SourceRecord()
    patches: tuple[PatchRecord, ...] = ()
    fragments: tuple[str, ...] = ()
    toolchain: ToolchainRecord = ToolchainRecord()
    without: Mapping[str, str] = field(default_factory=dict)
    sandbox: str = ""
    era_fixes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BuildHost:
    """The machine that a kernel was built on."""

    machine: str = ""
    system: str = ""
    cpus: int = 0


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """build.json. `key`: the name of the build's directory; `left_out`: test modules that can't be had with this
    kernel, each with the reason; `unbuilt`: those that do not build for it, and upstream suites (``selftests/NAME``),
    each with the first error; `times`: seconds by stage; `reproduce`: a command line that repeats the build;
    `has_manifest`: a manifest.json beside it records the digests of all files; `errors`: why the kernel does not build,
    the first one first; empty: it does."""

    key: str = ""
    kernel: KernelRecord = KernelRecord()
    left_out: Mapping[str, str] = field(default_factory=dict)
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    host: BuildHost = BuildHost()
    times: Mapping[str, float] = field(default_factory=dict)
    reproduce: str = ""
    has_manifest: bool = False
    errors: tuple[str, ...] = ()

    @property
    def is_configured(self) -> bool:
        """Whether a build that failed came so far as to have a configuration: the stage behind that has begun."""
        return "kernel" in self.times

    @property
    def seconds(self) -> float | None:
        """How long the build took; None if that is not recorded."""
        return sum(self.times.values()) if self.times else None


@dataclass(frozen=True, kw_only=True)
class HarnessRecord:
    """The harness itself. `commit`: of the checkout that it ran from or was packaged from; empty: unknown. `is_dirty`:
    whether that checkout had uncommitted changes."""

    version: str = ""
    commit: str = ""
    is_dirty: bool = False

    def __str__(self) -> str:
        commit = f" ({self.commit[:12]}{', modified' if self.is_dirty else ''})" if self.commit else ""
        return f"{self.version}{commit}"


@dataclass(frozen=True, kw_only=True)
class BoardRecord:
    """The board of a run. `details`: what its boot method adds, such as QEMU's accelerator."""

    name: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run: which harness ran what on which board.

    `id`: unique, and sorts by start time; empty for runs of harnesses that assigned none. `schema`: the version of its
    events.jsonl. `host`: name and architecture. `build`: the key of the build. `boards`: all of them, if there are
    several. `suites`, `keyword`: which tests were requested; `testcases`: a hash of ours."""

    id: str = ""
    schema: int = 1
    harness: HarnessRecord = HarnessRecord()
    host: str = ""
    build: str = ""
    kernel: KernelRecord = KernelRecord()
    board: BoardRecord = BoardRecord()
    boards: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    keyword: str = ""
    isolation: str = ""
    workers: int = 1
    testcases: str = ""
    command: str = ""
