"""Builds what tests a kernel: its own selftests, and our test modules. What does not build costs its own tests, which
are skipped with the first error, never the build."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from harness.build import hostheaders, klp_relocations, testmodules
from harness.build.collect import copy_part
from harness.build.kbuild import Kbuild, Made
from harness.build.made import check_sizes, read_made
from harness.build.selftests import Selftests
from harness.build.stages import Stages
from harness.build.workspace import Workspace
from harness.errors import BuildError
from harness.limits import MODULE_BYTES
from harness.model.suite import Suite
from harness.parse import make_log, module_log

_SELFTESTS = "selftests"
MODULES = "test modules"


@dataclass(frozen=True)
class Lacking:
    """What of the tests a build lacks. `left_out`: test modules that this kernel can't have; `unbuilt`: those that do
    not build, and suites (``selftests/NAME``). Each with the reason."""

    left_out: Mapping[str, str]
    unbuilt: Mapping[str, str]


@dataclass(frozen=True)
class TestPrograms:
    """The selftests and test modules of the kernel in `kbuild`'s workspace. `config`, `release`: the kernel's."""

    __test__ = False  # pytest takes the name for one of its own

    kbuild: Kbuild
    stages: Stages
    _: KW_ONLY
    config: Mapping[str, str]
    release: str

    @property
    def workspace(self) -> Workspace:
        return self.kbuild.workspace

    def build(self, kernel: str, testcases: Path, without: Mapping[str, str]) -> Lacking:
        """Build and install everything for the very kernel that is named `kernel`.

        The makes of the selftests and of the modules begin and end with serial work, so if both are needed, they run
        at the same time."""
        forget_stale_modules(self.workspace)
        prepared = testmodules.prepare(
            testcases, self.workspace.modules, config=self.config, without=without, release=self.release
        )
        suites = Selftests(self.kbuild, config=self.config, goal=self.workspace.payload / "selftests")
        installed = [suites.goal / suite.directory for suite in suites.required()]
        ours, inputs = self.workspace.payload / "testcases", [kernel, testmodules.fingerprint(testcases)]
        unbuilt = self._standing(_SELFTESTS, kernel, installed)
        unbuilt_modules = self.stages.standing(MODULES, inputs, [ours])
        makes: dict[str, list[str]] = {}
        if unbuilt is None:
            self.stages.forget(_SELFTESTS)
            shutil.rmtree(suites.goal, ignore_errors=True)
            self._say(f"selftests: building and installing {_listed(suites.required())}")
            self._install_headers()
            makes[_SELFTESTS] = suites.words()
        if unbuilt_modules is None:
            self.stages.forget(MODULES)
            shutil.rmtree(ours, ignore_errors=True)
            if prepared.names:
                self._say(f"test modules: {', '.join(prepared.names)}")
                makes[MODULES] = self.module_words()
        made = self.kbuild.make_together(makes) if makes else Made(())
        if unbuilt is None:
            unbuilt = self._each_alone(suites) if _SELFTESTS in made.failed else {}
            self.stages.finished(_SELFTESTS, kernel, installed, unbuilt)
        if unbuilt_modules is None:
            unbuilt_modules = self.make_modules(prepared.names, made, ours)
            self.stages.finished(MODULES, inputs, [ours], unbuilt_modules)
        unbuilt = unbuilt | self._optional_suites(suites)
        suites.add_names()
        return Lacking(prepared.left_out, unbuilt | unbuilt_modules)

    # -- test modules ---------------------------------------------------------------------------------------------

    def make_modules(self, names: Sequence[str], made: Made, goal: Path) -> dict[str, str]:
        """Make those of the modules `names` that can be made, after a first make of all of them. Returns the others,
        each with the reason. Raises BuildError where make says nothing about them, as a program is missing or crashed:
        such a reason must not be kept."""
        unbuilt: dict[str, str] = {}
        while left := [name for name in names if name not in unbuilt]:
            failed = MODULES in made.failed
            if failed and module_log.is_cut_short(made.lines):
                raise self.kbuild.error(MODULES, made)
            found = module_log.faults(made.lines, left, failed=failed)
            if failed and not found:  # of none in particular
                errors = make_log.errors(made.lines) or ["make failed without a word"]
                found = dict.fromkeys(left, errors[0])
            unbuilt |= {name: self.workspace.outside(why) for name, why in found.items()}
            if not failed:
                break
            testmodules.write_kbuild(self.workspace.modules, [name for name in left if name not in found])
            if len(found) < len(left):
                made = self.kbuild.make_together({MODULES: self.module_words()})
        goal.mkdir(parents=True)
        for name in names:
            if name not in unbuilt and (why := self._convert(name, goal)):
                unbuilt[name] = why
        return unbuilt

    def _convert(self, name: str, goal: Path) -> str:
        """Install a module with its livepatch relocations. Returns why that can't be done."""
        module = read_made(self.workspace.modules / f"{name}.ko", MODULE_BYTES)
        try:
            (goal / f"{name}.ko").write_bytes(klp_relocations.convert(module))
        except BuildError as error:
            return error.message
        return ""

    def module_words(self) -> list[str]:
        """make's arguments that make all modules."""
        return self.kbuild.words(f"M={self.workspace.modules}", "modules")

    # -- selftests ------------------------------------------------------------------------------------------------

    def _each_alone(self, suites: Selftests) -> dict[str, str]:
        """Build each required suite by itself, since not all build together. Returns those that do not, each with the
        first error."""
        told = {suite.name: suites.build_alone(suite, suites.goal / suite.directory) for suite in suites.required()}
        return {name: why for name, why in told.items() if why}

    def _optional_suites(self, suites: Selftests) -> dict[str, str]:
        """Build suites of programs, which need only the kernel's headers, so most patches do not affect them. Returns
        those that do not build, each with the first error."""
        unbuilt: dict[str, str] = {}
        for suite in suites.optional():
            made = self.workspace.optional_suites / suite.directory
            # of files that are not only compiled into the kernel: headers, selftests
            inputs = self.stages.identity("configure")
            stage = f"suite {suite.directory}"
            result = self._standing(stage, inputs, [made])
            if result is None:
                self.stages.forget(stage)
                self._say(f"selftests: building and installing {suite.directory}")
                self._install_headers()
                why = suites.build_alone(suite, made)
                result = {suite.name: why} if why else {}
                self.stages.finished(stage, inputs, [made], result)
            unbuilt |= result
            installed = suites.goal / suite.directory
            shutil.rmtree(installed, ignore_errors=True)
            check_sizes([made])
            copy_part(made, installed, below=self.workspace.optional_suites)
        return unbuilt

    def _standing(self, stage: str, inputs: object, products: Sequence[Path]) -> dict[str, str] | None:
        """Return which suites a stage could not build, if it is up to date. None also if this host lacked a header
        then, and has it now."""
        unbuilt = self.stages.standing(stage, inputs, products)
        return None if unbuilt and hostheaders.came(unbuilt, self.kbuild.toolchain) else unbuilt

    def _install_headers(self) -> None:
        self.kbuild.make("headers", self.kbuild.words("headers_install"))

    def _say(self, text: str) -> None:
        self.kbuild.progress.say(text)


def forget_stale_modules(workspace: Workspace) -> None:
    """Remove the build products of out-of-tree modules if they were built against another vmlinux.

    kbuild rebuilds in-tree modules by itself, but not these: from 6.13 on it runs in their directory, where the
    symbols' stamps (include/config/…) that their dependencies name do not exist, and it does not know that their BTF
    depends on vmlinux's. The kernel would refuse them: "Invalid module format". The selftests' modules are in the
    source tree, so they may also have been built for another configuration."""
    vmlinux = (workspace.objects / "vmlinux").stat()
    now = f"{workspace.configuration} {vmlinux.st_mtime_ns} {vmlinux.st_size}"
    if _is_news(workspace.state / "modules-made-for", now):
        shutil.rmtree(workspace.modules, ignore_errors=True)
    if _is_news(workspace.directory / "selftests-made-for", now) and workspace.has_modules_in_tree:
        for pattern in ("*.o", "*.ko", "*.mod", "*.mod.c", ".*.cmd", "Module.symvers", "modules.order"):
            for left in workspace.modules_in_tree.glob(pattern):
                left.unlink()


def _is_news(stamp: Path, now: str) -> bool:
    """Write `now` to the file `stamp`; return whether it had another content before."""
    if stamp.is_file() and stamp.read_text() == now:
        return False
    stamp.write_text(now)
    return True


def _listed(suites: Sequence[Suite]) -> str:
    return " and ".join(suite.directory for suite in suites)
