"""The files of a build for tests: vmlinux, its vDSO, its modules. No kernel has to run for this."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.kernel import Build
from harness.parse.elf import Elf, Section
from harness.parse.instrumentation import (
    EFI_STUB,
    NVHE,
    POSITION_INDEPENDENT,
    Flavour,
    Function,
    Instrumentation,
    flavour_of,
    several,
)
from harness.run.api import ours
from harness.run.api.leftout import REGIONS, left_out


@dataclass(frozen=True)
class ModuleFile:
    """A .ko file. `source`: its source file in the kernel tree, such as ``kernel/trace/preemptirq_delay_test.c``; for
    our own modules ``testcases/NAME.c``."""

    name: str
    source: str
    code: Instrumentation

    @property
    def is_ours(self) -> bool:
        return self.source.startswith("testcases/")

    def section(self, name: str) -> Section | None:
        return next(iter(self.code.elf.named(name)), None)

    def __str__(self) -> str:
        return f"{self.name}.ko"


class KernelFiles:
    """The results of a build, parsed on first use, once per run."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._groups: dict[str, str] = {}

    @cached_property
    def version(self) -> tuple[int, ...]:
        """The kernel's version, such as (7, 3, 4)."""
        return tuple(int(part) for part in re.findall(r"\d+", self._build.release.partition("-")[0]))

    @cached_property
    def flavour(self) -> Flavour:
        """How functions are instrumented; skips the test if they are not, or if they call _mcount."""
        flavour = flavour_of(self._build.config)
        if flavour is None:
            pytest.skip("this kernel has no NOPs at its functions' entries: it is built with -pg, or without ftrace")
        return flavour

    @cached_property
    def vmlinux(self) -> Instrumentation:
        """The kernel proper; skips the test if only its Image is there."""
        path = self._build.directory / "vmlinux"
        if not path.exists():
            pytest.skip("there is no vmlinux of this kernel, which was built elsewhere")
        return Instrumentation(_open(path), self.flavour)

    def from_files(self) -> tuple[Function, ...]:
        """The kernel's functions, each with its source; skips the test if the kernel has no debug information."""
        sources = {function.source for function in self.vmlinux.functions if function.source}
        if not sources:
            pytest.skip("vmlinux has no debug information, so the source files of its functions are unknown")
        if "init/main.c" not in sources:  # otherwise every test of files would pass
            raise InfraError(f"vmlinux: expected sources as init/main.c, found {several(sorted(sources), 3)}")
        return self.vmlinux.functions

    def left_out(self, group: str) -> list[Function]:
        """The kernel's functions from files which upstream keeps out of tracing: those of `group`, one of LEFT_OUT.
        Skips the test if the kernel has no debug information."""
        return self._left_out.get(group, [])

    @cached_property
    def _left_out(self) -> dict[str, list[Function]]:
        groups: dict[str, list[Function]] = {}
        for function in self.from_files():
            groups.setdefault(self._group(function.source or ""), []).append(function)
        return groups

    def _group(self, source: str) -> str:
        if source not in self._groups:
            self._groups[source] = left_out(source, version=self.version, config=self._build.config)
        return self._groups[source]

    def left_out_module(self, module: ModuleFile) -> bool:
        """Whether upstream keeps the source of `module` out of tracing."""
        return bool(self._group(module.source))

    def may_be_instrumented(self, function: Function) -> bool:
        """Whether neither the file nor the section of `function` is kept out of tracing."""
        elsewhere = any(function.all_named(prefix) for prefix in (EFI_STUB, NVHE, POSITION_INDEPENDENT))
        special = any(function.address in place for place in self._special)
        return not elsewhere and not special and not self._group(function.source or "")

    @cached_property
    def _special(self) -> list[range]:
        places = [self.vmlinux.region(region.begin, region.end) for region in REGIONS]
        return [place for place in places if place]

    @property
    def module_plts(self) -> bool:
        """Whether modules can call through PLTs: a choice up to 6.4, always from 6.5 on."""
        return self._build.config.get("ARM64_MODULE_PLTS") == "y" or self.version >= (6, 5)

    def trampolines(self) -> int:
        """How many PLT entries ftrace has in a module: for ftrace_caller, and for ftrace_regs_caller if it exists;
        skips the test if modules have no PLT."""
        if not self.module_plts:
            pytest.skip("this kernel's modules have no PLT (CONFIG_ARM64_MODULE_PLTS is not set)")
        return 2 if self._build.config.get("DYNAMIC_FTRACE_WITH_REGS") == "y" else 1

    def traced_after_boot(self) -> list[tuple[str, ...]]:
        """The functions of the kernel proper that can be traced once its init text is freed, by address, each with all
        names that the kernel may use for it."""
        code, freed = self.vmlinux, self.vmlinux.region("__init_begin", "__init_end") or range(0)
        return [code.names_of(entry) for entry in code.entries if code.call_site(entry) not in freed]

    def vdso(self) -> Instrumentation:
        """The vDSO, which is embedded in the kernel as a whole ELF file."""
        place = self.vmlinux.region("vdso_start", "vdso_end")
        if place is None:
            pytest.skip("this kernel has no vDSO")
        content = self.vmlinux.elf.read(place.start, len(place))
        return Instrumentation(Elf(io.BytesIO(content), name="vDSO"), self.flavour)

    @cached_property
    def modules(self) -> tuple[ModuleFile, ...]:
        """The kernel's own modules and ours, sorted by name."""
        found = [self._module(path) for path in sorted(self._build.directory.glob("*modules/**/*.ko"))]
        if not found:
            pytest.skip("this kernel has no modules")
        return tuple(sorted(found, key=lambda module: module.name))

    def module(self, name: str) -> ModuleFile:
        """The module of that name; skips the test if this kernel can't have it, fails it if its series is why."""
        ours.require(self._build, name)
        found = [module for module in self.modules if module.name == name]
        if not found:
            raise InfraError(f"{self._build.directory}: expected {name}.ko; was it built from other testcases?")
        return found[0]

    def _module(self, path: Path) -> ModuleFile:
        inside = path.relative_to(self._build.directory).parts
        directory = "testcases" if inside[0] == "testmodules" else "/".join(inside[3:-1])
        name = path.stem.replace("-", "_")
        return ModuleFile(name, f"{directory}/{path.stem}.c", Instrumentation(_open(path), self.flavour))


def _open(path: Path) -> Elf:
    return Elf(path.open("rb"), name=str(path))
