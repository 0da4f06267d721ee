"""`build`: a KernelSpec in, a finished build directory out.

The directory is published by a rename, named by the hash of everything that went into it; the same inputs again
are therefore found without calling make, and a build that was killed leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import BuildError, InfraError, UserError
from harness.model.kernel import Build, KernelSpec
from harness.model.progress import Progress
from harness.parse import make_log
from harness.parse.kconfig import parse_dotconfig

from . import command, kconfig, klp_relocations, testmodules
from .cache import cache_dir, published
from .materialize import held_source, materialize
from .patches import apply_series
from .process import run_logged
from .toolchain import with_ccache
from .workspace import Workspace, workspace_for

_RECIPE = 4  # counts changes of what a build directory holds
_KEEP = 12  # finished builds kept in the cache
_MAKE_LIMIT = 5400.0
_SELFTESTS = ("ftrace", "livepatch")


def build(spec: KernelSpec, *, testcases: Path, reproduce: str, progress: Progress, jobs: int | None = None) -> Build:
    """Build what `spec` asks for, or find it built.

    `testcases`: the directory with the test modules' C sources. `reproduce`: a command line that repeats the build,
    for build.json. Raises UserError (a patch, a fragment), BuildError (the compiler), InfraError (the host)."""
    key = build_key(spec, testcases=testcases)
    final = cache_dir("builds") / key
    if (final / "build.json").is_file():
        os.utime(final)
        progress.say(f"build {key}: ready, nothing changed")
        return load_build(final)
    with workspace_for(spec.source, flavour=_flavour(spec)) as workspace, published(final) as out:
        _Builder(spec, workspace, out, progress, jobs or os.cpu_count() or 1).run(key, testcases, reproduce)
    _prune(cache_dir("builds"))
    return load_build(final)


def load_build(directory: Path) -> Build:
    """The Build that a finished `directory` holds; UserError where it is not one."""
    try:
        data = json.loads((directory / "build.json").read_text())
        return Build(
            directory=directory.absolute(),
            release=data["release"],
            key=data["key"],
            config=parse_dotconfig((directory / ".config").read_text()),
            without=dict(data["without"]),
            left_out=dict(data["test_modules_left_out"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{directory}: expected a finished build (build.json, .config), found: {told}") from None


def build_key(spec: KernelSpec, *, testcases: Path) -> str:
    """The hash that names a build: the kernel, the test modules, and how a build directory is made of them."""
    return _digest({"recipe": _RECIPE, "kernel": kernel_key(spec), "modules": testmodules.fingerprint(testcases)})


def kernel_key(spec: KernelSpec) -> str:
    """The hash that names a kernel, whatever is tested on it: source, patches, fragments, toolchain."""
    return _digest(
        {
            "source": spec.source.identity,
            "patches": [patch.sha256 for patch in spec.patches],
            "fragments": [path.read_bytes().hex() for path in (*spec.fragments, *spec.user_fragments)],
            "toolchain": [spec.toolchain.command, spec.toolchain.version, *spec.toolchain.make_args],
            "plain": spec.allow_plain_ftrace,
        }
    )


def _digest(inputs: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def _flavour(spec: KernelSpec) -> str:
    told = f"{spec.toolchain.command} {spec.toolchain.version} {spec.allow_plain_ftrace}"
    return hashlib.sha256(told.encode()).hexdigest()[:8]


class _Builder:
    """One run through the stages of a build; `out` is the directory that becomes the finished build."""

    def __init__(self, spec: KernelSpec, workspace: Workspace, out: Path, progress: Progress, jobs: int) -> None:
        self.spec = spec
        self.workspace = workspace
        self.out = out
        self.progress = progress
        self.log = workspace.directory / "build.log"
        self.jobs = jobs
        self.times: dict[str, float] = {}

    def run(self, key: str, testcases: Path, reproduce: str) -> None:
        self.workspace.directory.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        self._stage("source", self._prepare_source)
        configured = self._stage("configure", self._configure)
        self._stage("kernel", lambda: self._make("kernel", ["Image", "modules", *self._dtbs()]))
        forget_stale_modules(self.workspace)
        release = (self.workspace.objects / "include/config/kernel.release").read_text().strip()
        payload = self.workspace.directory / "payload"
        shutil.rmtree(payload, ignore_errors=True)
        self._stage("modules", lambda: self._install_modules(payload, release))
        self._stage("selftests", lambda: self._install_selftests(payload))
        left_out = self._stage("test modules", lambda: self._test_modules(payload, testcases, configured.config))
        self._stage("collect", lambda: self._collect(payload))
        record = self._record(key, release, reproduce)
        record |= {"without": configured.without, "test_modules_left_out": left_out}
        (self.out / "build.json").write_text(json.dumps(record, indent=2) + "\n")

    def _stage(self, name: str, work: Any) -> Any:
        started = time.monotonic()
        result = work()
        self.times[name] = round(time.monotonic() - started, 3)
        return result

    def _prepare_source(self) -> None:
        spec, workspace = self.spec, self.workspace
        held = held_source(workspace.source).get("identity")
        if held is None:  # a build was killed while the tree was renewed, which now restores every file
            shutil.rmtree(workspace.series, ignore_errors=True)
        elif held != spec.source.identity:
            apply_series(workspace.source, (), state=workspace.series)
        materialize(spec.source, workspace.source, progress=self.progress)
        if apply_series(workspace.source, spec.patches, state=workspace.series) and spec.patches:
            self.progress.say(f"patches: {len(spec.patches)} applied")

    def _configure(self) -> kconfig.Configured:
        self.progress.say(f"configure: {', '.join(path.name for path in self._fragments())}")
        return kconfig.configure(
            tree=self.workspace.source,
            objdir=self.workspace.objects,
            fragments=self.spec.fragments,
            user_fragments=self.spec.user_fragments,
            toolchain=self.spec.toolchain,
            allow_plain_ftrace=self.spec.allow_plain_ftrace,
        )

    def _fragments(self) -> tuple[Path, ...]:
        return (*self.spec.fragments, *self.spec.user_fragments)

    def _dtbs(self) -> list[str]:
        return ["dtbs"] if self._config().get("OF") == "y" else []

    def _make(self, what: str, targets: Sequence[str], *, directory: Path | None = None) -> None:
        """Run make; a failure becomes a BuildError that shows the compiler's words and keeps the log."""
        made = 0
        total = _expected_steps(self.workspace, what)

        def follow(line: str) -> None:
            nonlocal made
            if make_log.step(line):
                made += 1
                self.progress.advance(f"make {what}", made, total)

        words = [
            *("make", "-C", str(directory or self.workspace.source), f"O={self.workspace.objects}", "ARCH=arm64"),
            *(f"-j{self.jobs}", *with_ccache(self.spec.toolchain).make_args, *_reproducible(), *targets),
        ]
        code, lines = run_logged(words, log=self.log, limit=_MAKE_LIMIT, on_line=follow, env=self._ccache())
        if code:
            kept = self._keep_log()
            raise BuildError(
                f"the kernel does not build ({what}); the whole log: {kept}", details=make_log.errors(lines)
            )
        _remember_steps(self.workspace, what, made)

    def _ccache(self) -> dict[str, str]:
        """Let ccache find in one workspace what was compiled in another."""
        return {"CCACHE_BASEDIR": str(self.workspace.directory), "CCACHE_NOHASHDIR": "1"}

    def _keep_log(self) -> Path:
        kept = cache_dir("failed") / f"{self.workspace.directory.name}.log"
        shutil.copyfile(self.log, kept)
        return kept

    def _install_modules(self, payload: Path, release: str) -> None:
        self._make("modules_install", [f"INSTALL_MOD_PATH={payload}", "INSTALL_MOD_STRIP=1", "modules_install"])
        directory = payload / "lib/modules" / release
        for link in ("build", "source"):
            (directory / link).unlink(missing_ok=True)
        # the livepatch scripts skip unless this is a directory, even though their modules are prebuilt
        (directory / "build").mkdir(parents=True)

    def _install_selftests(self, payload: Path) -> None:
        self.progress.say("selftests: building and installing ftrace and livepatch")
        self._make("headers", ["headers_install"])
        sources = self.workspace.source / "tools/testing/selftests"
        present = [suite for suite in _SELFTESTS if (sources / suite / "Makefile").is_file()]
        built = [suite for suite in present if suite != "livepatch" or self._config().get("LIVEPATCH") == "y"]
        # FORCE_TARGETS: one suite that does not build is an error, though the other does
        install = [f"TARGETS={' '.join(built)}", "FORCE_TARGETS=1", f"INSTALL_PATH={payload / 'selftests'}", "install"]
        self._make("selftests", [f"KDIR={self.workspace.objects}", *install], directory=sources)
        for suite in set(present) - set(built):  # its scripts tell which tests have to be skipped
            (payload / "selftests" / suite).mkdir(parents=True)
            for script in (sources / suite).glob("*.sh"):
                shutil.copy(script, payload / "selftests" / suite)

    def _config(self) -> dict[str, str]:
        return parse_dotconfig((self.workspace.objects / ".config").read_text())

    def _test_modules(self, payload: Path, testcases: Path, config: dict[str, str]) -> dict[str, str]:
        prepared = testmodules.prepare(testcases, self.workspace.modules, config=config)
        if prepared.names:
            self.progress.say(f"test modules: {', '.join(prepared.names)}")
            self._make("test modules", [f"M={self.workspace.modules}", "modules"])
            goal = payload / "testcases"
            goal.mkdir(parents=True)
            for name in prepared.names:
                module = (self.workspace.modules / f"{name}.ko").read_bytes()
                (goal / f"{name}.ko").write_bytes(klp_relocations.convert(module))
        return prepared.left_out

    def _collect(self, payload: Path) -> None:
        objects, out = self.workspace.objects, self.out
        for name in ("arch/arm64/boot/Image", "vmlinux", "System.map", ".config"):
            _copy(objects / name, out / Path(name).name)
        for dtb in (objects / "arch/arm64/boot/dts").rglob("*.dtb"):
            (out / "dtbs").mkdir(exist_ok=True)
            _copy(dtb, out / "dtbs" / dtb.name)
        (out / "dtbs").mkdir(exist_ok=True)
        for name, source in (("modules", "lib/modules"), ("selftests", "selftests"), ("testmodules", "testcases")):
            if (payload / source).is_dir():
                shutil.copytree(payload / source, out / name, symlinks=True)
        make_payload_image(payload, out / "payload.ext4")
        _copy(self.log, out / "build.log")

    def _made(self) -> str:
        """The hash that names what came out, in which two kernels are alike whose fragments differ in words only."""
        config = sorted(self._config().items())
        patches = [patch.sha256 for patch in self.spec.patches]
        compiler = [self.spec.toolchain.command, self.spec.toolchain.version]
        return _digest({"source": self.spec.source.identity, "patches": patches, "with": [config, compiler]})

    def _record(self, key: str, release: str, reproduce: str) -> dict[str, Any]:
        spec = self.spec
        return {
            "key": key,
            "kernel": kernel_key(spec),
            "made": self._made(),
            "release": release,
            "source": {
                "spec": spec.source.spec.text,
                "version": spec.source.version,
                "checksum": spec.source.checksum,
                "identity": spec.source.identity,
            },
            "patches": [{"name": patch.name, "sha256": patch.sha256} for patch in spec.patches],
            "fragments": [path.name for path in self._fragments()],
            "toolchain": {
                "name": spec.toolchain.name,
                "command": spec.toolchain.command,
                "version": spec.toolchain.version,
                "patchable_function_entry": spec.toolchain.patchable,
            },
            "host": {"machine": platform.machine(), "system": _system(), "cpus": os.cpu_count()},
            "times": self.times,
            "reproduce": reproduce,
        }


def forget_stale_modules(workspace: Workspace) -> None:
    """Remove what was made of modules outside the kernel's own tree when they were made against another vmlinux.

    kbuild rebuilds its own modules then. For these it can't: from 6.13 on it runs in their directory, where the
    symbols' stamps (include/config/…) that their dependencies name do not exist, and it never saw that their BTF
    builds upon vmlinux's. The kernel would refuse them: "Invalid module format"."""
    vmlinux = workspace.objects / "vmlinux"
    stamp = workspace.directory / "modules-made-for"
    now = f"{vmlinux.stat().st_mtime_ns} {vmlinux.stat().st_size}"
    if stamp.is_file() and stamp.read_text() == now:
        return
    shutil.rmtree(workspace.modules, ignore_errors=True)
    selftests = workspace.source / "tools/testing/selftests/livepatch/test_modules"
    for pattern in ("*.o", "*.ko", "*.mod", "*.mod.c", ".*.cmd", "Module.symvers", "modules.order"):
        for left in selftests.glob(pattern):
            left.unlink()
    stamp.write_text(now)


def make_payload_image(tree: Path, image: Path) -> None:
    """Pack `tree` as an ext4 image with some room to spare."""
    used = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    blocks = 16 * 1024 + used * 13 // 10 // 1024
    words = ["mke2fs", "-q", "-t", "ext4", "-L", "payload", "-E", "root_owner=0:0", "-d", str(tree), str(image)]
    done = command.run([*words, f"{blocks}k"], timeout=300.0)
    if done.status:
        raise InfraError(f"mke2fs ended with exit code {done.status}", details=done.last_lines())


def _reproducible() -> list[str]:
    """What would make two builds of the same differ: who built it, and where."""
    return ["KBUILD_BUILD_USER=harness", "KBUILD_BUILD_HOST=harness"]


def _expected_steps(workspace: Workspace, what: str) -> int | None:
    try:
        return int(json.loads((workspace.directory / "steps.json").read_text())[what]) or None
    except (OSError, ValueError, KeyError):
        return None


def _remember_steps(workspace: Workspace, what: str, made: int) -> None:
    """How many steps a full build took, for the next progress bar; incremental builds tell nothing."""
    path = workspace.directory / "steps.json"
    try:
        steps = json.loads(path.read_text())
    except (OSError, ValueError):
        steps = {}
    if made > steps.get(what, 0):
        path.write_text(json.dumps(steps | {what: made}))


def _copy(source: Path, goal: Path) -> None:
    """Copy with shared blocks where the file system can."""
    done = command.run(["cp", "--reflink=auto", "--preserve=timestamps", source, goal], timeout=300.0)
    if done.status:
        raise InfraError(f"{goal}: can't be written", details=done.last_lines())


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _prune(builds: Path) -> None:
    """Remove the builds used longest ago, beyond the newest dozen, and what killed builds left unfinished."""
    for partial in builds.glob(".*.partial"):
        if not Path("/proc", partial.name.split(".")[-2]).exists():
            shutil.rmtree(partial, ignore_errors=True)
    finished = sorted(
        (path for path in builds.iterdir() if (path / "build.json").is_file()), key=lambda p: p.stat().st_mtime
    )
    for old in finished[:-_KEEP]:
        shutil.rmtree(old, ignore_errors=True)
