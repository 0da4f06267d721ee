"""`build` turns a KernelSpec into a finished build directory.

The directory is named by the hash of everything that went into it and published by a rename. So the same inputs are
found again without calling make, and a killed build leaves nothing that looks finished."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from harness import available, shortage
from harness.build import era, guesttools, prune
from harness.build.cache import cache_dir, published
from harness.build.changedlines import keep_changed_lines
from harness.build.collect import collect
from harness.build.finished import RECORD, give_up_incomplete, not_built, usable_build
from harness.build.kbuild import ROOM, Kbuild
from harness.build.keptpatches import keep_patches
from harness.build.keys import (
    RECIPE,
    build_key,
    configuration_name,
    contents_of_fragments,
    digest,
    identity_of,
    kernel_key,
)
from harness.build.made import read_made
from harness.build.notbuilt import NotBuilt, config_of, errors_of, log_of
from harness.build.patches import applied_fixes, apply_series, patched_files
from harness.build.sandbox import find_sandbox
from harness.build.seal import seal_directory
from harness.build.sourcetree import bring_source
from harness.build.stages import Stages, programs_of, tool_stamps
from harness.build.strays import UnusableOutput, make_real
from harness.build.testprograms import Lacking, TestPrograms
from harness.build.tree import only_compiled
from harness.build.workspace import workspace_for
from harness.errors import BuildError
from harness.limits import SOURCE_BYTES
from harness.model.kernel import Build, KernelSpec
from harness.model.progress import Progress
from harness.model.record import (
    NO_SANDBOX,
    BuildHost,
    BuildRecord,
    KernelRecord,
    PatchRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.suite import UPSTREAM
from harness.parse.kconfig import parse_dotconfig
from harness.parse.records import build_record_to_json

_KERNEL = (
    "arch/arm64/boot/Image",
    "vmlinux",
    "System.map",
    "Module.symvers",
    ".config",
    "include/config/kernel.release",
)


def build(
    spec: KernelSpec,
    *,
    testcases: Path,
    reproduce: str,
    progress: Progress,
    jobs: int | None = None,
    is_sandboxed: bool = True,
    verify: bool = False,
) -> Build:
    """Build `spec`, or return the finished build from the cache. A damaged one is removed and built again.

    `testcases`: the directory with the test modules' C sources. `reproduce`: a command line that repeats the build,
    for build.json. `is_sandboxed`: run what comes from the kernel tree in a sandbox. `verify`: read every file of a
    finished build. Raises UserError (a patch, a fragment), BuildError (the compiler), InfraError (the host, or no
    sandbox works on it). The BuildError of a build that had begun is a NotBuilt."""
    key = build_key(spec, testcases=testcases)
    final, limits = cache_dir("builds") / key, prune.limits_from_environment()
    is_new = False
    give_up_incomplete(final, spec.toolchain, progress)
    while (found := usable_build(final, progress, verify=verify)) is None:
        with shortage.reported(final.parent, needed=ROOM, kept="what is already compiled"):
            _build(
                spec,
                final,
                testcases=testcases,
                reproduce=reproduce,
                progress=progress,
                jobs=jobs or available.cpus(),
                is_sandboxed=is_sandboxed,
            )
        is_new = True
    if is_new:
        prune.prune(limits, progress)
    else:
        progress.say(f"build {key}: ready, nothing changed")
    for told in not_built(found.unbuilt, found.broken):
        progress.say(told)
    return found


def compile_kernel(
    spec: KernelSpec, *, progress: Progress, jobs: int | None = None, is_sandboxed: bool = True
) -> tuple[str, ...]:
    """Compile the kernel in its workspace and publish nothing; return what make printed, line by line, with paths from
    the top of the source. That is of the files that had to be compiled; none if all are up to date. Raises what `build`
    raises."""
    lines: list[str] = []
    nowhere = contextlib.nullcontext(Path())

    def compile_it(builder: _Builder) -> None:
        builder.compile()
        lines.extend(map(builder.workspace.outside, log_of(builder.log).splitlines()))

    with shortage.reported(cache_dir("workspaces"), needed=ROOM, kept="what is already compiled"):
        _in_workspace(
            spec,
            nowhere,
            compile_it,
            key=kernel_key(spec),
            reproduce="",
            progress=progress,
            jobs=jobs or available.cpus(),
            is_sandboxed=is_sandboxed,
        )
    return tuple(lines)


def _build(
    spec: KernelSpec,
    final: Path,
    *,
    testcases: Path,
    reproduce: str,
    progress: Progress,
    jobs: int,
    is_sandboxed: bool,
) -> None:
    """Build `spec` and publish it as `final`, whose name is its key."""
    output = published(final, seal=functools.partial(seal_directory, final=final))
    _in_workspace(
        spec,
        output,
        functools.partial(_Builder.run, key=final.name, testcases=testcases, reproduce=reproduce),
        key=final.name,
        reproduce=reproduce,
        progress=progress,
        jobs=jobs,
        is_sandboxed=is_sandboxed,
    )


def _in_workspace(
    spec: KernelSpec,
    output: AbstractContextManager[Path],
    work: Callable[[_Builder], None],
    *,
    key: str,
    reproduce: str,
    progress: Progress,
    jobs: int,
    is_sandboxed: bool,
) -> None:
    """Lock a workspace and have `work` done in it; what it makes goes to the directory `output`."""
    sandbox = find_sandbox(progress=progress).knowing(programs_of(spec.toolchain)) if is_sandboxed else None
    if sandbox is None:
        progress.say("building without a sandbox: the kernel tree's programs run with all that you may do and see")
    configuration = configuration_name(spec)
    with (
        sandbox.ready(progress) if sandbox else contextlib.nullcontext(),
        workspace_for(
            spec.source, configuration=configuration, is_sandboxed=is_sandboxed, progress=progress
        ) as workspace,
        output as out,
    ):
        if sandbox and not workspace.is_usable(by_others=sandbox.user is not None):
            progress.say("the workspace of earlier builds can't be used in the sandbox: building everything anew")
            workspace.discard()
        kbuild = Kbuild(workspace, spec.toolchain, jobs=jobs, progress=progress, sandbox=sandbox)
        builder = _Builder(spec, kbuild, out)
        try:
            work(builder)
        except UnusableOutput as error:
            found = builder.not_built(error, key, reproduce, is_usable=False)
            workspace.discard()
            raise found from error
        except BuildError as error:
            raise builder.not_built(error, key, reproduce) from error
        except OSError as error:
            if sandbox is None or not workspace.is_of_make(error.filename):
                raise
            told = f"{error.filename}: expected what kbuild makes there, found: {error.strerror}"
            wrong = BuildError(f"the kernel's build left something else than a kernel: {told}")
            found = builder.not_built(wrong, key, reproduce, is_usable=False)
            workspace.discard()
            raise found from None


class _Builder:
    """One run through the stages of a build; `out` is the directory that becomes the finished build."""

    def __init__(self, spec: KernelSpec, kbuild: Kbuild, out: Path) -> None:
        workspace = kbuild.workspace
        self.spec = spec
        self.workspace = workspace
        self.out = out
        self.progress = kbuild.progress
        self.log = kbuild.log
        self.times: dict[str, float] = {}
        self.payload = workspace.payload
        self.stages = Stages(workspace.stages)
        self.kbuild = kbuild
        self.tools = tool_stamps(spec.toolchain)
        self.fixes = era.fixes_for(spec)
        self.applied: dict[str, str] = {}
        self.without: dict[str, str] = {}

    def compile(self) -> None:
        self.log.write_text("")
        self._stage("source", self._prepare_source)
        configured = self._stage("configure", self._configure)
        self.without = configured["without"]
        self.applied |= configured["era_fixes"]
        for name, why in self.applied.items():
            self.progress.say(f"era fix: {name}: {why}")
        self._stage("kernel", self._kernel)

    def run(self, *, key: str, testcases: Path, reproduce: str) -> None:
        self.compile()
        kernel = self.stages.identity("kernel")
        release = self.kbuild.release()
        self._stage("modules", lambda: self._modules(kernel, release))
        lacking = self._stage("selftests, test modules", lambda: self._tests(kernel, release, testcases, self.without))
        tools = self.payload / "bin"
        make_real(tools, below=self.payload)
        guesttools.compile_tools(self.spec.toolchain, tools, confinement=self.kbuild.confinement(tools))
        self._stage("collect", lambda: collect(self.workspace.objects, self.payload, self.out, log=self.log))
        keep_patches(self.spec.patches, self.out)
        keep_changed_lines(self.workspace.source, state=self.workspace.series, directory=self.out)
        record = self._record(key, self._kernel_record(release, self._made()), reproduce, lacking=lacking)
        (self.out / RECORD).write_text(build_record_to_json(record))

    def _stage(self, name: str, work: Any) -> Any:
        started = time.monotonic()
        try:
            return work()
        finally:
            self.times[name] = round(time.monotonic() - started, 3)

    def _prepare_source(self) -> None:
        spec, workspace = self.spec, self.workspace
        bring_source(spec.source, workspace, self.progress)
        edits = [fix for fix in self.fixes if isinstance(fix, era.Edit)]
        if apply_series(workspace.source, spec.patches, state=workspace.series, fixes=edits) and spec.patches:
            self.progress.say(f"patches: {len(spec.patches)} applied")
        applied = applied_fixes(workspace.series)
        self.applied = {fix.name: fix.why for fix in edits if fix.name in applied}

    def _configure(self) -> dict[str, Any]:
        """Configure, unless only files changed that only the compiler reads, which leave the configuration as it is."""
        spec = self.spec
        patched = patched_files(self.workspace.series)
        inputs = {
            "recipe": RECIPE,
            "source": spec.source.setup or spec.source.identity,
            "patched": {path: form for path, form in patched.items() if not only_compiled(path)},
            "fragments": contents_of_fragments(spec),
            "suites": [suite.directory for suite in UPSTREAM],
            "toolchain": identity_of(spec.toolchain),
            "tools": self.tools,
            "plain": spec.allow_plain_ftrace,
            "era": era.fingerprint(self.fixes),
        }

        def work() -> dict[str, Any]:
            from harness.build import kconfig  # its parsers are slow to import, and most builds configure nothing

            self.progress.say(f"configure: {', '.join(path.name for path in self._fragments())}")
            done = kconfig.configure(
                tree=self.workspace.source,
                objdir=self.workspace.objects,
                fragments=spec.fragments,
                user_fragments=spec.user_fragments,
                fixes=[fix for fix in self.fixes if isinstance(fix, era.Ask)],
                toolchain=spec.toolchain,
                allow_plain_ftrace=spec.allow_plain_ftrace,
                confinement=self.kbuild.confinement(),
            )
            for symbol in done.given_up:
                self.progress.say(f"configure: given up: CONFIG_{symbol}: {done.without[symbol]}")
            return {"without": done.without, "era_fixes": done.era_fixes}

        return self.stages.once("configure", inputs, [self.workspace.objects / ".config"], work)

    def _kernel(self) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            self.kbuild.make("kernel", self.kbuild.words("Image", "modules", *self._dtbs()))
            return {}

        inputs = [RECIPE, kernel_key(self.spec), self.tools]
        return self.stages.once("kernel", inputs, [self.workspace.objects / name for name in _KERNEL], work)

    def _fragments(self) -> tuple[Path, ...]:
        return (*self.spec.fragments, *self.spec.user_fragments)

    def _dtbs(self) -> list[str]:
        return ["dtbs"] if self._config().get("OF") == "y" else []

    def _modules(self, kernel: str, release: str) -> dict[str, Any]:
        directory = self.payload / "lib/modules" / release

        def work() -> dict[str, Any]:
            shutil.rmtree(self.payload / "lib", ignore_errors=True)
            install = (f"INSTALL_MOD_PATH={self.payload}", "INSTALL_MOD_STRIP=1", "modules_install")
            self.kbuild.make("modules_install", self.kbuild.words(*install))
            make_real(directory, below=self.payload)
            for link in ("build", "source"):
                (directory / link).unlink(missing_ok=True)
            # the livepatch scripts skip unless this is a directory, even though their modules are prebuilt
            (directory / "build").mkdir()
            return {}

        return self.stages.once("modules", kernel, [directory, directory / "modules.dep"], work)

    def _tests(self, kernel: str, release: str, testcases: Path, without: dict[str, str]) -> Lacking:
        """Build the selftests and our test modules; return what of them this build lacks."""
        programs = TestPrograms(self.kbuild, self.stages, config=self._config(), release=release)
        return programs.build(kernel, testcases, without)

    def _config(self) -> dict[str, str]:
        return parse_dotconfig(read_made(self.workspace.objects / ".config", SOURCE_BYTES).decode(errors="replace"))

    def _made(self) -> str:
        """Return the hash of the result, which is equal for kernels whose fragments differ only in wording."""
        config = sorted(self._config().items())
        patches = [patch.sha256 for patch in self.spec.patches]
        compiler = [self.spec.toolchain.command, self.spec.toolchain.version]
        return digest({"source": self.spec.source.identity, "patches": patches, "with": [config, compiler]})

    def not_built(self, error: BuildError, key: str, reproduce: str, *, is_usable: bool = True) -> NotBuilt:
        """What is known of this build, which ends with `error`. `is_usable`: what make left may be read."""
        record = self._record(key, self._kernel_record(), reproduce, errors=errors_of(error, self.workspace))
        config = config_of(self.workspace) if record.is_configured and is_usable else b""
        return NotBuilt(error, record=record, log=log_of(self.log), config=config, patches=self.spec.patches)

    def _kernel_record(self, release: str = "", made: str = "") -> KernelRecord:
        """`release`, `made`: empty for a kernel that does not build."""
        source, toolchain = self.spec.source, self.spec.toolchain
        return KernelRecord(
            release=release,
            key=kernel_key(self.spec),
            made=made,
            source=SourceRecord(
                spec=source.spec.text, version=source.version, checksum=source.checksum, identity=source.identity
            ),
            patches=tuple(PatchRecord(name=patch.name, sha256=patch.sha256) for patch in self.spec.patches),
            fragments=tuple(path.name for path in self._fragments()),
            toolchain=ToolchainRecord(
                name=toolchain.name,
                command=toolchain.command,
                version=toolchain.version,
                patchable=toolchain.patchable,
            ),
            without=self.without,
            era_fixes=self.applied,
            sandbox=str(self.kbuild.sandbox.tool) if self.kbuild.sandbox else NO_SANDBOX,
        )

    def _record(
        self,
        key: str,
        kernel: KernelRecord,
        reproduce: str,
        *,
        lacking: Lacking | None = None,
        errors: tuple[str, ...] = (),
    ) -> BuildRecord:
        return BuildRecord(
            key=key,
            kernel=kernel,
            left_out=lacking.left_out if lacking else {},
            unbuilt=lacking.unbuilt if lacking else {},
            host=BuildHost(machine=platform.machine(), system=_system(), cpus=os.cpu_count() or 0),
            times=self.times,
            reproduce=reproduce,
            has_manifest=not errors,
            errors=errors,
        )


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()
