"""The stages of a build, in a workspace: from the source to the directory that is published."""

from __future__ import annotations

import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from harness.build import era, guesttools
from harness.build.changedlines import keep_changed_lines
from harness.build.collect import collect
from harness.build.finished import RECORD
from harness.build.kbuild import Kbuild
from harness.build.keptpatches import keep_patches
from harness.build.keys import (
    RECIPE,
    contents_of_fragments,
    digest,
    identity_of,
    kernel_key,
)
from harness.build.made import read_made
from harness.build.notbuilt import NotBuilt, config_of, errors_of, log_of
from harness.build.patches import applied_fixes, apply_series, patched_files
from harness.build.sourcetree import bring_source
from harness.build.stages import Stages, tool_stamps
from harness.build.strays import make_real
from harness.build.testprograms import Lacking, TestPrograms
from harness.build.tree import only_compiled
from harness.errors import BuildError
from harness.limits import SOURCE_BYTES
from harness.model.kernel import KernelSpec
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


class Builder:
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
