"""Finds, builds and installs the upstream suites of a kernel's source."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from harness.build import hostheaders
from harness.build.kbuild import Kbuild
from harness.build.strays import UnusableOutput, is_real
from harness.errors import BuildError
from harness.limits import MAKEFILE_BYTES
from harness.model.suite import NOT_BUILT, UPSTREAM, Suite


@dataclass(frozen=True)
class Selftests:
    """The suites of the source tree in `kbuild`'s workspace. `config`: the kernel's; `goal`: the directory below which
    each is installed in one of its own."""

    kbuild: Kbuild
    _: KW_ONLY
    config: Mapping[str, str]
    goal: Path

    @property
    def present(self) -> list[Suite]:
        """Return the suites that this kernel's source has."""
        return [suite for suite in UPSTREAM if (self._source / suite.directory / "Makefile").is_file()]

    def required(self) -> list[Suite]:
        """Return those that are built for this very kernel, because it has what they need."""
        return [suite for suite in self.present if suite.of_kernel and self._can_have(suite)]

    def optional(self) -> list[Suite]:
        """Return those that are built for its headers and its configuration."""
        return [suite for suite in self.present if not suite.of_kernel and self._can_have(suite)]

    def words(self) -> list[str]:
        """make's arguments that build and install the required ones."""
        return self._install(self.required(), self.goal)

    def build_alone(self, suite: Suite, directory: Path) -> str:
        """Build `suite` by itself and install it as `directory`. Returns the first error, which is also in a file
        there; empty: it was built."""
        shutil.rmtree(directory, ignore_errors=True)
        # its programs' Makefile rules do not name the kernel's headers
        objects = self.kbuild.workspace.objects
        if is_real(objects / "kselftest", below=objects):
            shutil.rmtree(objects / "kselftest" / suite.directory, ignore_errors=True)
        scratch = directory.with_name(f".{directory.name}.installing")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            self.kbuild.make(suite.name, self._install([suite], scratch))
            (scratch / suite.directory).rename(directory)
        except UnusableOutput:  # nothing may be written there any more
            raise
        except BuildError as error:
            told = hostheaders.explained(error.details or (error.message,), self.kbuild.toolchain)
            why = self.kbuild.workspace.outside(told)
            write_not_built(directory, why)
            return why
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return ""

    def add_names(self) -> None:
        """Copy the files that name the tests where make's installation does not hold them: those of suites that are not
        built, whose tests have to be skipped, and the sources of programs."""
        for suite in self.present:
            for path in _files(self._source / suite.directory, suite.named_in):
                copy = self.goal / suite.directory / path
                if not copy.exists():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(self._source / suite.directory / path, copy)

    def _can_have(self, suite: Suite) -> bool:
        return all(self.config.get(symbol) in ("y", "m") for symbol in suite.needs)

    def _install(self, suites: list[Suite], goal: Path) -> list[str]:
        targets = " ".join(suite.directory for suite in suites)
        # FORCE_TARGETS: one suite that does not build is an error, though the others do
        install = (f"TARGETS={targets}", "FORCE_TARGETS=1", f"INSTALL_PATH={goal}", "install")
        objects = self.kbuild.workspace.objects
        return self.kbuild.words(f"KDIR={objects}", *self._kept(objects), *install, directory=self._source)

    def _kept(self, objects: Path) -> list[str]:
        """From 5.2 to 5.19 the selftests install the kernel's headers themselves, by a make that does not get O=, for
        MAKEFLAGS is cleared where another make calls, as ours does for several parts. That would be in the source tree.
        What is on the command line is in the environment too, where the kernel's Makefile looks for this name."""
        makefile = self._source / "Makefile"
        rules = MAKEFILE_BYTES.read(makefile, follow=False) if makefile.exists() else b""
        return [f"KBUILD_OUTPUT={objects}"] if re.search(rb"^khdr:", rules, re.MULTILINE) else []

    @property
    def _source(self) -> Path:
        return self.kbuild.workspace.source / "tools/testing/selftests"


def write_not_built(directory: Path, why: str) -> None:
    """Have the tests of the suite that is installed as `directory` skipped with this reason: its programs are
    missing."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / NOT_BUILT).write_text(f"{why}\n")


def _files(directory: Path, pattern: str) -> Iterator[Path]:
    """The files below `directory` that fit, relative to it."""
    return (path.relative_to(directory) for path in directory.glob(pattern) if path.is_file())
