"""Makes a build directory of a kernel that others built, with the files that one of ours has, as far as there are."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import available, shortage
from harness.build import guesttools, prune, testmodules
from harness.build.cache import cache_dir, locked, published, scratch_dir
from harness.build.collect import copy_part, make_image
from harness.build.finished import RECORD, give_up_incomplete, usable_build
from harness.build.kbuild import Kbuild
from harness.build.keys import RECIPE, digest, identity_of
from harness.build.made import check_sizes
from harness.build.mirror import mirror
from harness.build.prebuilt.drivers import drivers_as_modules, index_modules, make_initramfs
from harness.build.prebuilt.image import plain, raw_image, release_of
from harness.build.prebuilt.layout import find_parts
from harness.build.prebuilt.programs import Programs
from harness.build.prebuilt.resolve import Prebuilt
from harness.build.prebuilt.unpack import unpack_all
from harness.build.sandbox import Sandbox, find_sandbox
from harness.build.seal import seal_directory
from harness.build.stages import programs_of
from harness.build.strays import make_real, strays
from harness.build.testprograms import Lacking
from harness.build.tree import fingerprint, scan
from harness.build.workspace import Workspace
from harness.errors import BuildError, InfraError, UserError
from harness.limits import ELF_BYTES, SOURCE_BYTES
from harness.model.kernel import Build, Toolchain
from harness.model.names import is_name
from harness.model.prebuilt import Layout, PrebuiltSpec
from harness.model.progress import Progress
from harness.model.record import BuildHost, BuildRecord, KernelRecord, SourceRecord, ToolchainRecord
from harness.model.suite import UPSTREAM
from harness.parse.kconfig import parse_dotconfig
from harness.parse.kernel_strings import banner_in, config_in
from harness.parse.records import build_record_to_json

_RECIPE = 2  # counts changes of what this package does
_ROOM = "about 1 GB while a kernel is unpacked"
_MOST_TRIES = 3
_HEAD = re.compile(r"^# Linux/(?P<machine>\S+) (?P<version>\d+\.\d+)\S* Kernel Configuration$", re.MULTILINE)
_COMPILER = re.compile(r"(?:\S*-)?(gcc|clang)(?:-\d+)?\b")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What to make. `toolchain`: compiles what the harness itself brings; `is_sandboxed`: programs that read the
    kernel's files run in a sandbox. `selftests`: the directory of suites that the user named."""

    prebuilt: Prebuilt
    toolchain: Toolchain
    testcases: Path
    selftests: Path | None = None
    reproduce: str
    is_sandboxed: bool = True

    @property
    def key(self) -> str:
        """The name of the build directory."""
        return digest(
            {
                "recipe": [RECIPE, _RECIPE],
                "prebuilt": self.prebuilt.identity,
                "modules": testmodules.fingerprint(self.testcases),
                "tools": guesttools.fingerprint(guesttools.EARLY),
                "headers": self.prebuilt.headers.identity if self.prebuilt.headers else "",
                "source": self.prebuilt.source or "",
                "selftests": fingerprint(scan(self.selftests, everything=True)) if self.selftests else "",
                "suites": [suite.directory for suite in UPSTREAM],
                "toolchain": identity_of(self.toolchain),
            }
        )


def assemble(wish: Wish, *, progress: Progress, verify: bool = False) -> Build:
    """Return the build directory of a kernel that others built, made unless the cache has it. `verify`: read every file
    of a finished one. Raises UserError if its files are none, damaged or hostile."""
    final = cache_dir("builds") / wish.key
    tries = 0
    give_up_incomplete(final, wish.toolchain, progress)
    while (found := usable_build(final, progress, verify=verify)) is None:
        tries += 1
        if tries > _MOST_TRIES:
            raise InfraError(f"{final}: made {_MOST_TRIES} times, and could not be used, or was removed, each time")
        with (
            shortage.reported(final.parent, needed=_ROOM),
            # one at a time: the packages are removed when they are unpacked
            locked(cache_dir("downloads") / f"prebuilt-{wish.prebuilt.identity[:16]}.lock"),
        ):
            if not final.exists():  # made by another one meanwhile
                _make(wish, final, progress)
    if tries:
        prune.prune(prune.limits_from_environment(), progress)
    else:
        progress.say(f"build {wish.key}: ready, nothing changed")
    return found


def _make(wish: Wish, final: Path, progress: Progress) -> None:
    prebuilt = wish.prebuilt
    sandbox = find_sandbox(progress=progress).knowing(programs_of(wish.toolchain)) if wish.is_sandboxed else None
    with (
        sandbox.ready(progress) if sandbox else contextlib.nullcontext(),
        scratch_dir("prebuilt") as scratch,
        published(final, seal=functools.partial(seal_directory, final=final)) as out,
    ):
        scratch.chmod(0o755)
        with _blamed(prebuilt.spec):
            _Assembly(wish, scratch, out, sandbox, progress).run()
            if prebuilt.identify and prebuilt.identify() != prebuilt.identity:
                raise UserError(f"{prebuilt.spec.text}: changed while it was read; start again when it is complete")
    prebuilt.forget()


@contextlib.contextmanager
def _blamed(spec: PrebuiltSpec) -> Iterator[None]:
    """Whatever is wrong with files that the user names is no fault of the kernel that is in them."""
    try:
        yield
    except BuildError as error:
        raise UserError(f"{spec.text}: {error.message}", details=error.details) from error
    except OSError as error:
        is_theirs = isinstance(error.filename, str) and Path(error.filename).is_relative_to(spec.location)
        if not is_theirs or shortage.of(error):
            raise
        raise UserError(f"{spec.text}: expected a file {error.filename}, found: {error.strerror}") from error


class _Assembly:
    """The making of one build directory, `out`."""

    def __init__(self, wish: Wish, scratch: Path, out: Path, sandbox: Sandbox | None, progress: Progress) -> None:
        self.wish, self.scratch, self.out, self.progress = wish, scratch, out, progress
        self.workspace = Workspace(scratch / "workspace")
        self.kbuild = Kbuild(self.workspace, wish.toolchain, jobs=available.cpus(), progress=progress, sandbox=sandbox)
        self.name = wish.prebuilt.spec.text
        self.started = time.monotonic()

    def run(self) -> None:
        prebuilt, payload = self.wish.prebuilt, self.workspace.payload
        self.workspace.state.mkdir(parents=True)
        self.kbuild.log.write_text("")
        layout = find_parts(
            unpack_all(prebuilt, self.scratch, sandbox=self.kbuild.sandbox, progress=self.progress), name=self.name
        )
        image = raw_image(layout.image)
        (self.out / "Image").write_bytes(image)
        release = release_of(image, name=self.name)
        if not is_name(release):
            raise UserError(f"{self.name}: expected a plain kernel release, found {release[:100]!r}")
        config = self._config(layout, image, release)
        self._files(layout, release)
        self._modules(layout, config, release)
        programs = Programs(self.kbuild, config=config, release=release)
        lacking = programs.modules(prebuilt.headers, suite=prebuilt.spec.ref, testcases=self.wish.testcases)
        unbuilt = self._selftests(programs, layout)
        tools = payload / "bin"
        make_real(tools, below=payload)
        guesttools.compile_tools(self.wish.toolchain, tools, confinement=self.kbuild.confinement(tools))
        self._collect()
        record = self._record(config, release, Lacking(lacking.left_out, {**lacking.unbuilt, **unbuilt}))
        (self.out / RECORD).write_text(build_record_to_json(record))

    def _selftests(self, programs: Programs, layout: Layout) -> dict[str, str]:
        """Install the selftests that the user named, those that came with the kernel, or those of its source. Returns
        the suites that there are not, each with the reason."""
        if self.wish.selftests:
            return programs.selftests_of(self.wish.selftests, name=str(self.wish.selftests))
        if layout.selftests:
            return programs.selftests_of(layout.selftests, name=self.name)
        if self.wish.prebuilt.source:
            return programs.selftests_of_source(*self.wish.prebuilt.source)
        why = f"there are no selftests of {programs.release}: name some with --selftests DIR"
        return {suite.name: why for suite in UPSTREAM}

    def _collect(self) -> None:
        payload = self.workspace.payload
        check_sizes([payload])
        parts = [("selftests", "selftests"), ("testmodules", "testcases"), ("tools", "bin")]
        if any((payload / "lib/modules").rglob("*.ko")):  # tests of modules' files read no packed ones
            parts.append(("modules", "lib/modules"))
        for name, part in parts:
            if (payload / part).exists():
                copy_part(payload / part, self.out / name, below=payload)
        make_image(payload, self.out / "payload.ext4")
        shutil.copyfile(self.kbuild.log, self.out / "build.log")

    def _config(self, layout: Layout, image: bytes, release: str) -> dict[str, str]:
        """Store the configuration: the file beside the kernel, or the kernel's own. Raises UserError if there is
        neither, or that of another kernel: which tests can run is read there."""
        if layout.config:
            content = SOURCE_BYTES.read(layout.config, follow=False)
        else:
            own = "".join(f"CONFIG_{name}={value}\n" for name, value in config_in(image).items())
            content = own.encode()
            SOURCE_BYTES.check(len(content), place=f"{self.name}: its configuration")
        text = content.decode(errors="replace")
        config = parse_dotconfig(text)
        if not config:
            raise UserError(f"{self.name}: expected the kernel's configuration (.config, config), found none")
        head = _HEAD.search(text)
        if head and (head["machine"] != "arm64" or not re.match(rf"{re.escape(head['version'])}\b", release)):
            raise UserError(
                f"{self.name}: expected the configuration of {release} for arm64, found that of {head['version']} for "
                f"{head['machine']}"
            )
        (self.out / ".config").write_bytes(content)
        return config

    def _files(self, layout: Layout, release: str) -> None:
        if layout.system_map:
            shutil.copyfile(layout.system_map, self.out / "System.map", follow_symlinks=False)
        if layout.vmlinux:
            vmlinux = plain(layout.vmlinux, ELF_BYTES)
            found, _ = banner_in(vmlinux)
            if found == release:
                (self.out / "vmlinux").write_bytes(vmlinux)
            else:
                self.progress.say(f"{layout.vmlinux.name}: left out: it is of {found or 'no kernel'}, not of {release}")
        (self.out / "dtbs").mkdir()
        for dtb in layout.dtbs:
            shutil.copyfile(dtb, self.out / "dtbs" / dtb.name, follow_symlinks=False)

    def _modules(self, layout: Layout, config: Mapping[str, str], release: str) -> None:
        """Put the modules where the target finds them, with depmod's files, and make an initramfs of them if the kernel
        needs one."""
        goal = self.workspace.payload / "lib/modules" / release
        goal.parent.mkdir(parents=True)
        drivers = drivers_as_modules(config)
        if layout.modules is None:
            goal.mkdir()
        else:
            self._copy_modules(layout.modules, goal, release)
            if drivers:
                self.progress.say(f"initramfs: {', '.join(drivers)}")
                archive = self.out / "initramfs.cpio.gz"
                make_initramfs(archive, goal, config=config, toolchain=self.wish.toolchain)
        # the livepatch scripts skip unless this is a directory
        (goal / "build").mkdir()

    def _copy_modules(self, modules: Path, goal: Path, release: str) -> None:
        if modules.name != release:
            raise UserError(f"{self.name}: expected the modules of {release}, found those of {modules.name}")
        if modules.is_relative_to(self.scratch):
            modules.rename(goal)
        else:
            mirror(modules, goal, progress=self.progress, everything=True)
        self._tidy(goal)
        self.progress.say(f"modules: indexing those of {release}")
        index_modules(self.workspace.payload, release, sandbox=self.kbuild.sandbox)

    def _tidy(self, modules: Path) -> None:
        """Leave nothing but files and what leads to them: other programs read these modules. `build` and `source` may
        be whole trees."""
        for name in ("build", "source"):
            if (modules / name).is_dir() and not (modules / name).is_symlink():
                shutil.rmtree(modules / name)
            else:
                (modules / name).unlink(missing_ok=True)
        for path, why in list(strays(modules)):
            if not path.is_symlink():
                raise UserError(f"{self.name}: expected modules, found {path.relative_to(modules)}, {why}")
            path.unlink()

    def _record(self, config: Mapping[str, str], release: str, lacking: Lacking) -> BuildRecord:
        prebuilt = self.wish.prebuilt
        source = SourceRecord(
            spec=prebuilt.spec.text,
            version=prebuilt.version or release,
            checksum=prebuilt.checksum,
            identity=prebuilt.identity,
        )
        kernel = KernelRecord(
            release=release,
            key=digest({"prebuilt": prebuilt.identity}),
            made=digest({"prebuilt": prebuilt.identity, "config": sorted(config.items())}),
            source=source,
            toolchain=_compiler(config),
        )
        return BuildRecord(
            key=self.wish.key,
            kernel=kernel,
            left_out=lacking.left_out,
            unbuilt=lacking.unbuilt,
            host=BuildHost(machine=platform.machine(), system="", cpus=os.cpu_count() or 0),
            times={"assemble": round(time.monotonic() - self.started, 3)},
            reproduce=self.wish.reproduce,
            has_manifest=True,
        )


def _compiler(config: Mapping[str, str]) -> ToolchainRecord:
    """What CONFIG_CC_VERSION_TEXT says: ``aarch64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0``."""
    words = config.get("CC_VERSION_TEXT", "").split()
    match = _COMPILER.match(words[0]) if words else None
    numbers = [word for word in words if re.fullmatch(r"\d+(\.\d+)+", word)]
    if not match or not numbers:
        return ToolchainRecord()
    return ToolchainRecord(name=match[1], command=words[0], version=numbers[-1])
