"""Runs make in a workspace: its arguments, its progress and its errors."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.cache import cache_dir
from harness.build.confinement import Confinement, refused
from harness.build.made import first_bytes
from harness.build.process import run_logged
from harness.build.sandbox import Sandbox, View
from harness.build.toolchain import has_program, with_ccache
from harness.build.workspace import Workspace
from harness.errors import BuildError
from harness.model.kernel import Toolchain
from harness.model.progress import Progress
from harness.parse import make_log

_LIMIT_S = 5400.0
_LONGEST_RELEASE = 64  # the kernel's own limit
_RELEASE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+~-]{{0,{_LONGEST_RELEASE - 1}}}")
ROOM = "about 5 GB for a kernel that is built for the first time"
"""How much free space a build needs, for people."""
_FAILED = re.compile(r"^make: \*\*\* \[(?:\S+ )?(?P<goal>part-\d+)\] ")


@dataclass(frozen=True)
class Made:
    """What make printed, and which of the things it was called for it could not make."""

    lines: tuple[str, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kbuild:
    """make for one build. `jobs`: how many run at a time; `sandbox`: in which it runs; None: in none."""

    workspace: Workspace
    toolchain: Toolchain
    _: KW_ONLY
    jobs: int
    progress: Progress
    sandbox: Sandbox | None = None

    @property
    def log(self) -> Path:
        """The file that gets all output of make."""
        return self.workspace.state / "build.log"

    def words(self, *targets: str, directory: Path | None = None) -> list[str]:
        """Return make's arguments, except the number of jobs, to make `targets` in `directory` (default: the
        kernel's)."""
        return [
            "-L",  # after a patch changed a symbolic link, only the link is newer than what was made from it
            *("-C", str(directory or self.workspace.source), f"O={self.workspace.objects}", "ARCH=arm64"),
            *(*with_ccache(self.toolchain).make_args, *reproducible(), *targets),
        ]

    def make(self, what: str, words: Sequence[str]) -> None:
        """Run make. Raises BuildError, in the name of `what`, if it fails; Shortage if this host is the reason."""
        made = self._run(what, words)
        if made.failed:
            raise self.error(what, made)

    def make_together(self, parts: Mapping[str, Sequence[str]]) -> Made:
        """Run make for each of the `parts` (name → arguments) in parallel, sharing the jobs. A kbuild of a dozen
        modules leaves a second CPU idle for half of its time. Where one fails, everything else is still made, and the
        output of each target stays together, so that it can be told what failed and why. Raises Shortage if this host
        is the reason."""
        file = self.workspace.state / "together.mk"
        file.write_text(_makefile(parts))
        made = self._run(", ".join(parts), ["-k", "-Otarget", "-f", str(file)])
        return Made(made.lines, _failed(parts, made.lines) or tuple(parts) if made.failed else ())

    def error(self, what: str, made: Made) -> BuildError:
        """The failure of `what`, with the compiler's messages; the log is kept."""
        return BuildError(
            f"the kernel does not build ({what}); the whole log: {self._kept_log()}",
            details=make_log.errors(made.lines),
        )

    def _run(self, what: str, words: Sequence[str]) -> Made:
        """Run make. Raises BuildError if it wrote where it must not, Shortage, and InfraError if a tool is missing."""
        steps = 0
        total = _expected_steps(self.workspace, what)

        def follow(line: str) -> None:
            nonlocal steps
            if make_log.step(line):
                steps += 1
                self.progress.advance(f"make {what}", steps, total)

        command = ["make", f"-j{self.jobs}", *words]
        confinement = self.confinement()
        code, lines = run_logged(
            command, log=self.log, limit=_LIMIT_S, on_line=follow, env=self._ccache(), confinement=confinement
        )
        if code:
            is_read_only = shortage.is_read_only(self.workspace.directory)  # the host's doing, not the tree's
            if confinement and not is_read_only and (error := refused(lines)):
                raise error
            name = f"make ({what})"
            short = shortage.said(lines, what=name, where=self.workspace.directory, needed=ROOM)
            if lost := short or shortage.lost_program(lines, self._is_tool, what=name):
                raise lost
            return Made(tuple(lines), (what,))
        _remember_steps(self.workspace, what, steps)
        return Made(tuple(lines))

    def _is_tool(self, program: str) -> bool:
        return has_program(self.toolchain, program)

    def _kept_log(self) -> Path:
        """Return a copy of the log, which the next build in this workspace overwrites."""
        kept = cache_dir("failed") / f"{self.workspace.directory.name}.log"
        with contextlib.suppress(OSError):  # the kernel's fault is to be told in any case
            shutil.copyfile(self.log, kept)
            return kept
        return self.log

    def release(self) -> str:
        """Return what ``uname -r`` will say. It becomes part of paths, and the tree's Makefile decides what it is:
        raises BuildError for anything but a name."""
        found = first_bytes(self.workspace.objects / "include/config/kernel.release", _LONGEST_RELEASE + 1)
        release = found.decode(errors="replace").strip()
        if not _RELEASE.fullmatch(release):
            raise BuildError(
                f"kernel release: expected a name of at most {_LONGEST_RELEASE} letters, digits and . _ + ~ -, "
                f"found {release!r}"
            )
        return release

    def confinement(self, *writable: Path) -> Confinement | None:
        """Return how a program that works in the workspace is confined, if it is. `writable`: the directories that it
        may write to (default: those of make)."""
        if self.sandbox is None:
            return None
        directories = writable or tuple(self.workspace.written_by_make)
        expected = self.workspace.is_link_of_kbuild
        return self.sandbox.confine(View(root=self.workspace.directory, writable=directories, is_expected=expected))

    def _ccache(self) -> dict[str, str]:
        """Return the environment with which ccache finds in one workspace what was compiled in another."""
        return {"CCACHE_BASEDIR": str(self.workspace.directory), "CCACHE_NOHASHDIR": "1"}


def _makefile(parts: Mapping[str, Sequence[str]]) -> str:
    """A Makefile whose goals are the `parts`: the name of each, and the arguments of its make (without ``-j``)."""
    goals = [f"part-{number}" for number in range(len(parts))]
    rules = [
        f"{goal}:\n\t+$(MAKE) {shlex.join(words).replace('$', '$$')}\n"
        for goal, words in zip(goals, parts.values(), strict=True)
    ]
    return f".PHONY: all {' '.join(goals)}\nall: {' '.join(goals)}\n" + "".join(rules)


def _failed(parts: Iterable[str], lines: Iterable[str]) -> tuple[str, ...]:
    """Return which of the `parts` failed, from make's output; they have to be in the order of `_makefile`."""
    goals = {match["goal"] for line in lines if (match := _FAILED.match(line))}
    return tuple(name for number, name in enumerate(parts) if f"part-{number}" in goals)


def reproducible() -> list[str]:
    """Return variables that hide who built a kernel, where, when and how often, so that two builds of the same are
    equal. The time has no blank, because Makefiles of old kernels do not quote it, and a zone."""
    who = ["KBUILD_BUILD_USER=harness", "KBUILD_BUILD_HOST=harness"]
    return [*who, "KBUILD_BUILD_TIMESTAMP=2000-01-01T00:00:00Z", "KBUILD_BUILD_VERSION=1"]


def _expected_steps(workspace: Workspace, what: str) -> int | None:
    try:
        return int(jsonfile.read_object(workspace.state / "steps.json")[what]) or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember_steps(workspace: Workspace, what: str, made: int) -> None:
    """Store how many steps a full build took, for the next progress bar; incremental builds are no measure."""
    path = workspace.state / "steps.json"
    try:
        steps = jsonfile.read_object(path)
    except (OSError, ValueError):
        steps = {}
    if made > steps.get(what, 0):
        path.write_text(json.dumps(steps | {what: made}))
