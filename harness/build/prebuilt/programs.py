"""What tests a kernel that others built: its own selftests and our test modules, as far as there is what they are built
from. What is missing costs its own tests."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from harness.build import testmodules
from harness.build.kbuild import Kbuild
from harness.build.materialize import tarball_suffix
from harness.build.mirror import mirror
from harness.build.prebuilt.headers import KbuildOfHeaders, unpack_headers
from harness.build.prebuilt.resolve import Part
from harness.build.selftests import Selftests, write_not_built
from harness.build.source import parse_source_spec, resolve_source
from harness.build.stages import Stages
from harness.build.strays import UnusableOutput
from harness.build.testprograms import MODULES, Lacking, TestPrograms
from harness.build.untar import Damaged, untar
from harness.build.workspace import Workspace
from harness.errors import BuildError, InfraError
from harness.limits import open_regular
from harness.model.suite import UPSTREAM, Suite

_SELFTESTS = "tools/testing/selftests"
_INSTALL = f"`make ARCH=arm64 -C {_SELFTESTS} install`"
_ELF_HEAD_BYTES, _AARCH64 = 20, b"\xb7\0"  # e_machine is the last two of them
_DIRECTORIES = tuple(f"{_SELFTESTS}/{name}/" for name in (*(suite.directory for suite in UPSTREAM), "kselftest", "lib"))
_SHARED = ("Makefile", "scripts/subarch.include", f"{_SELFTESTS}/Makefile", f"{_SELFTESTS}/lib.mk")
# Which of the kernel's headers for programs a C library may be too old to have.
_HEADERS = ("user_events.h",)


@dataclass(frozen=True)
class Programs:
    """The selftests and test modules of a kernel, in the workspace of `kbuild`. `config`, `release`: the kernel's."""

    kbuild: Kbuild
    _: KW_ONLY
    config: Mapping[str, str]
    release: str

    @property
    def workspace(self) -> Workspace:
        return self.kbuild.workspace

    # -- test modules ---------------------------------------------------------------------------------------------

    def modules(self, headers: Part | None, *, suite: str, testcases: Path) -> Lacking:
        """Build our modules with the `headers` of the kernel, from Debian's `suite`."""
        prepared = testmodules.prepare(
            testcases, self.workspace.modules, config=self.config, without={}, release=self.release
        )
        goal = self.workspace.payload / "testcases"
        goal.mkdir(parents=True, exist_ok=True)
        if not prepared.names:
            return Lacking(prepared.left_out, {})
        why = "" if headers else f"there are no headers of {self.release} to build it with"
        if self.config.get("MODULE_SIG_FORCE") == "y":
            why = "this kernel takes only modules that its builder has signed (CONFIG_MODULE_SIG_FORCE)"
        if headers is None or why:
            return Lacking(prepared.left_out | dict.fromkeys(prepared.names, why), {})
        try:
            return Lacking(prepared.left_out, self._modules(prepared.names, headers, suite=suite, goal=goal))
        except UnusableOutput:
            raise
        except BuildError as error:  # nothing that tells of the kernel: it was built with other tools
            why = f"can't be built with the headers of {self.release}: {next(iter(error.details), error.message)}"
            return Lacking(prepared.left_out, dict.fromkeys(prepared.names, why))

    def _modules(self, names: Sequence[str], headers: Part, *, suite: str, goal: Path) -> dict[str, str]:
        """Build the modules `names` and install them as `goal`. Returns those that do not build, each with the
        reason."""
        fetched, place = self.workspace.directory / "fetched", self.workspace.directory / "headers"
        fetched.mkdir()
        packages = headers.fetch(self.kbuild.progress, fetched)
        tree = unpack_headers(packages, place, self.release, suite=suite, kbuild=self.kbuild)
        kbuild = KbuildOfHeaders(
            self.workspace,
            self.kbuild.toolchain,
            jobs=self.kbuild.jobs,
            progress=self.kbuild.progress,
            sandbox=self.kbuild.sandbox,
            headers=tree,
        )
        programs = TestPrograms(kbuild, Stages(self.workspace.stages), config=self.config, release=self.release)
        kbuild.progress.say(f"test modules: {', '.join(names)}")
        made = kbuild.make_together({MODULES: programs.module_words()})
        goal.rmdir()
        return programs.make_modules(names, made, goal)

    # -- selftests ------------------------------------------------------------------------------------------------

    def selftests_of(self, directory: Path, *, name: str) -> dict[str, str]:
        """Install the suites in `directory`, as they are. Returns those that are not there, each with the reason, in
        which it is called `name`."""
        lacking = {}
        for suite in UPSTREAM:
            if (directory / suite.directory).is_dir():
                goal = self.workspace.payload / "selftests" / suite.directory
                mirror(directory / suite.directory, goal, progress=self.kbuild.progress, everything=True)
                if what := _not_compiled(suite, goal):
                    lacking[suite.name] = f"{name} has no {what} of {suite.directory} for arm64: {_INSTALL} makes them"
                    write_not_built(goal, lacking[suite.name])
            else:
                lacking[suite.name] = f"{name} has none"
        return lacking

    def selftests_of_source(self, spec: str, checksum: str) -> dict[str, str]:
        """Build and install the selftests of the kernel's own source. Returns the suites that do not build, each with
        the first error."""
        source = resolve_source(parse_source_spec(spec), progress=self.kbuild.progress)
        if source.checksum != f"sha256:{checksum}":
            raise InfraError(
                f"{spec}: expected the package with SHA-256 {checksum}, found {source.checksum}; try again"
            )
        self.kbuild.progress.say(f"selftests: unpacking those of {spec}")
        tree = self.workspace.directory / "unpacked"
        tree.mkdir()
        try:
            untar(
                source.path,
                tree,
                suffix=tarball_suffix(source.path),
                tick=lambda file: self.kbuild.progress.advance("unpacking selftests", file.tell(), None),
                wanted=_is_of_selftests,
            )
        except Damaged as error:
            raise InfraError(f"{source.path}: expected a whole tarball, found a damaged one: {error}") from error
        top = next(tree.iterdir(), None)
        if top is None:
            return {suite.name: f"{spec} has none" for suite in UPSTREAM}
        top.rename(self.workspace.source)
        headers = self.workspace.objects / "usr/include/linux"
        headers.mkdir(parents=True)
        for name in _HEADERS:
            original = self.workspace.source / "include/uapi/linux" / name
            if original.is_file():
                shutil.copyfile(original, headers / name)
        suites = Selftests(self.kbuild, config=self.config, goal=self.workspace.payload / "selftests")
        unbuilt = {}
        for suite in (*suites.required(), *suites.optional()):
            if suite.needs and suite.of_kernel and self.workspace.has_modules_in_tree:
                unbuilt[suite.name] = "its modules are built with a kernel's own tree, and this kernel came without one"
                write_not_built(suites.goal / suite.directory, unbuilt[suite.name])
                continue
            self.kbuild.progress.say(f"selftests: building and installing {suite.directory}")
            unbuilt[suite.name] = suites.build_alone(suite, suites.goal / suite.directory)
        suites.add_names()
        return {name: why for name, why in unbuilt.items() if why}


def _not_compiled(suite: Suite, directory: Path) -> str:
    """What of an installed suite would have to be compiled, and is not, or for another machine; empty: nothing."""
    modules = directory / "test_modules"
    if modules.is_dir() and not any(map(_is_for_arm64, modules.glob("*.ko"))):
        return "modules"
    programs = [path.with_suffix("") for path in directory.glob(suite.named_in) if path.suffix == ".c"]
    return "programs" if programs and not any(map(_is_for_arm64, programs)) else ""


def _is_for_arm64(path: Path) -> bool:
    try:
        with open_regular(path, follow=False) as file:
            head = file.read(_ELF_HEAD_BYTES)
    except OSError:
        return False
    return head[:4] == b"\x7fELF" and head[18:20] == _AARCH64


def _is_of_selftests(name: str) -> bool:
    """Whether a member of a source's tarball is needed to build the selftests that the harness runs."""
    inner = name.partition("/")[2]
    if inner.startswith((*_DIRECTORIES, "tools/scripts/")) or inner in _SHARED:
        return True
    directory, _, file = inner.rpartition("/")
    return (directory == _SELFTESTS and file.endswith((".h", ".sh"))) or (
        directory == "include/uapi/linux" and file in _HEADERS
    )
