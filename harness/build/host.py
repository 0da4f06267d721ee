"""The programs and headers that this host needs: a table, a check which of them are installed, and the installation of
the rest."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import shortage
from harness.build.cache import cache_dir, cache_root, locked
from harness.build.command import SYSTEM_PATH, run
from harness.errors import InfraError
from harness.model.progress import Progress, Silent

VERSION_TIMEOUT_S = 10.0
UPDATE_TIMEOUT_S = 300.0
INSTALL_TIMEOUT_S = 1800.0
LISTS = Path("/var/lib/apt/lists")
LISTS_STALE_S = 7 * 86400.0
LOCK_WAIT_S = 120.0
LOCK_POLL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program or file that the host needs.

    `command`: its name on PATH; empty for headers and data, which are found by the file `probe`. `package`: its Debian
    package. `needed_for`: stages out of STAGES. `version_args`: the arguments that make it print its version."""

    name: str
    package: str
    needed_for: frozenset[str]
    command: str = ""
    probe: str = ""
    minimum_version: str | None = None
    version_args: tuple[str, ...] = ("--version",)


@dataclass(frozen=True, kw_only=True)
class ToolStatus:
    """What was found of `tool`. `version` is None if it was not queried or not printed."""

    tool: Tool
    found: bool
    version: str | None = None
    path: Path | None = None

    @property
    def outdated(self) -> bool:
        """Whether it is installed, but too old."""
        minimum = self.tool.minimum_version
        return bool(self.version and minimum and _numbers(self.version) < _numbers(minimum))


STAGES = (
    "fetch",
    "git",
    "build",
    "prebuilt",
    "rpm",
    "sandbox",
    "selftests",
    "btf",
    "rootfs",
    "qemu",
    "boards",
    "u-boot",
    "labgrid",
    "tftp",
    "tests",
    "browser",
    "compilers",
    "gdb",
)
OPTIONAL_STAGES = frozenset({"gdb", "rpm", "sandbox", "u-boot", "labgrid", "tftp", "tests", "browser", "compilers"})


def _program(
    command: str,
    package: str,
    stages: str,
    *,
    name: str = "",
    minimum: str | None = None,
    version_args: tuple[str, ...] = ("--version",),
) -> Tool:
    return Tool(
        name=name or command,
        command=command,
        package=package,
        needed_for=frozenset(stages.split()),
        minimum_version=minimum,
        version_args=version_args,
    )


def _file(name: str, package: str, stages: str, probe: str) -> Tool:
    return Tool(name=name, package=package, needed_for=frozenset(stages.split()), probe=probe)


_COMMON = (
    _program("dpkg-deb", "dpkg", "fetch prebuilt"),
    _program("tar", "tar", "fetch build", minimum="1.30"),
    _program("xz", "xz-utils", "fetch build prebuilt"),
    _program("bzip2", "bzip2", "fetch prebuilt"),
    _program("zstd", "zstd", "fetch prebuilt"),
    _program("bsdtar", "libarchive-tools", "rpm"),
    _file(
        "Debian's keys",
        "debian-archive-keyring",
        "fetch prebuilt rootfs",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
    _program("git", "git", "git", minimum="2.20"),
    _program("gcc", "gcc", "build", name="host compiler", minimum="8"),
    _file("C library headers", "libc6-dev", "build", "/usr/include/stdio.h"),
    _program("make", "make", "build prebuilt selftests", minimum="4.0"),
    _program("flex", "flex", "build", minimum="2.5.35"),
    _program("bison", "bison", "build", minimum="2.0"),
    _program("bc", "bc", "build", minimum="1.06.95"),
    _program("perl", "perl", "build"),
    _program("patch", "patch", "build"),
    _program("cpio", "cpio", "build"),
    _program("depmod", "kmod", "build prebuilt"),
    _program("ccache", "ccache", "build"),
    _program("bwrap", "bubblewrap", "sandbox"),  # where it can't be installed, unshare takes its place
    _program("setpriv", "util-linux", "build prebuilt qemu boards"),
    _file("libelf headers", "libelf-dev", "build", "/usr/include/gelf.h"),
    _file("OpenSSL headers", "libssl-dev", "build", "/usr/include/openssl/ssl.h"),
    _program("rsync", "rsync", "selftests"),
    _program("pahole", "dwarves", "btf", minimum="1.22"),
    _program("mmdebstrap", "mmdebstrap", "rootfs", minimum="1.0"),
    _program("mke2fs", "e2fsprogs", "build prebuilt rootfs", minimum="1.43", version_args=("-V",)),
    _program("debugfs", "e2fsprogs", "boards", version_args=("-V",)),
    _program("qemu-system-aarch64", "qemu-system-arm", "qemu", minimum="7.0"),
    _program("qemu-img", "qemu-utils", "qemu"),
    # Only recommended by qemu-system-arm; without it QEMU refuses a PCI network card without `romfile=`.
    _file("network boot ROM", "ipxe-qemu", "qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom"),
    # Run by labgrid's exporter, in the tests' lab.
    _program("ser2net", "ser2net", "labgrid", version_args=("-v",)),
    # The harness's own tests log in to a real sshd on loopback and have GRUB's checker read what GRUB is told.
    _program("sshd", "openssh-server", "tests", version_args=("-V",)),
    _program("grub-script-check", "grub-common", "tests"),
    _program("ip", "iproute2", "tests", version_args=("-V",)),
    # The pages of `harness web`, in a browser.
    _program("gdb-multiarch", "gdb-multiarch", "gdb", minimum="8.0"),
    _program("chromium", "chromium", "browser"),
    _program("chromedriver", "chromium-driver", "browser"),
    # What they make of functions' entries is tested with each.
    _program("clang-14", "clang-14", "compilers"),
    _program("clang-16", "clang-16", "compilers"),
    _program("clang-19", "clang-19", "compilers"),
    _program("ld.lld-14", "lld-14", "compilers"),
    _program("ld.lld-16", "lld-16", "compilers"),
    _program("ld.lld-19", "lld-19", "compilers"),
    _program("dnsmasq", "dnsmasq-base", "tftp"),
    _file("U-Boot for QEMU", "u-boot-qemu", "u-boot", "/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
)
_CROSS = (
    # -fpatchable-function-entry came with gcc 8.
    _program(
        "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "build prebuilt selftests", name="cross compiler", minimum="8"
    ),
    _program("aarch64-linux-gnu-gcc-11", "gcc-11-aarch64-linux-gnu", "compilers"),
    _program("aarch64-linux-gnu-gcc-12", "gcc-12-aarch64-linux-gnu", "compilers"),
    _file("arm64 C library headers", "libc6-dev-arm64-cross", "selftests", "/usr/aarch64-linux-gnu/include/stdio.h"),
)


def host_tools(*, machine: str | None = None) -> tuple[Tool, ...]:
    """Return the table for a host of architecture `machine` (default: this one); an arm64 host needs no cross tools."""
    native = (machine or platform.machine()) in ("aarch64", "arm64")
    return _COMMON if native else _COMMON + _CROSS


def toolchain_tools(name: str | None, *, machine: str | None = None) -> tuple[Tool, ...]:
    """Return what ``--toolchain NAME`` needs beyond the table. A prefix is the user's own: for it, nothing."""
    match = re.fullmatch(r"(gcc|clang)(-\d+)?", name or "gcc")
    if match is None or match[0] == "gcc":
        return ()
    kind, suffix = match[1], match[2] or ""
    if kind == "clang":  # one program of each package
        commands = {
            f"clang{suffix}": f"clang{suffix}",
            f"ld.lld{suffix}": f"lld{suffix}",
            f"llvm-ar{suffix}": f"llvm{suffix}",
        }
    elif (machine or platform.machine()) in ("aarch64", "arm64"):
        commands = {f"gcc{suffix}": f"gcc{suffix}"}
    else:
        commands = {f"aarch64-linux-gnu-gcc{suffix}": f"gcc{suffix}-aarch64-linux-gnu"}
    return tuple(_program(command, package, "build") for command, package in commands.items())


def check_host(*, needed_for: set[str] | None = None, versions: bool = True) -> list[ToolStatus]:
    """Check which tools of the table are installed. `needed_for`: only these stages (None: all that are not optional).

    With `versions`, every program is started once; otherwise only files are looked up.
    """
    return [_status(tool, versions=versions) for tool in host_tools() if _wanted(tool, needed_for)]


def ensure_host(
    *,
    progress: Progress | None = None,
    needed_for: set[str] | None = None,
    also: Sequence[Tool] = (),
    install: bool = True,
) -> None:
    """Ensure that everything is installed that the stages `needed_for` need (None: all that are not optional), and the
    tools `also`.

    What is missing is reported in one line and installed with apt-get if that is possible (as root, or with
    passwordless sudo). Otherwise, or with `install` off, raises InfraError with the command to use."""
    missing = _missing(needed_for, also)
    if not missing:
        return
    progress = progress or Silent()
    what = "missing on this host: " + ", ".join(f"{tool.name} ({tool.package})" for tool in missing)
    packages = _packages(missing)
    if _which("apt-get") is None:
        raise InfraError(f"{what}; install your system's equivalents of these Debian packages: {' '.join(packages)}")
    prefix = _privilege() if install else None
    if prefix is None:
        raise InfraError(f"{what}; install them: {install_command(packages)}")
    progress.say(what)
    with locked(cache_root() / "host-install.lock"):
        # Another process may have installed them while we waited.
        if packages := _packages(_missing(needed_for, also)):
            _install(packages, prefix=prefix, progress=progress)
    if still := _missing(needed_for, also):
        raise InfraError(
            f"apt-get installed {' '.join(packages)}, yet there is still no "
            + ", ".join(tool.command or tool.probe for tool in still)
        )


def install_command(packages: Sequence[str]) -> str:
    """Return the command with which a person installs `packages`."""
    return shlex.join([*([] if os.geteuid() == 0 else ["sudo"]), *_APT_INSTALL[:4], *packages])


def _wanted(tool: Tool, needed_for: set[str] | None) -> bool:
    stages = set(STAGES) - OPTIONAL_STAGES if needed_for is None else needed_for
    if unknown := stages - set(STAGES):
        raise ValueError(f"unknown stages {sorted(unknown)}; known: {', '.join(STAGES)}")
    return bool(stages & tool.needed_for)


def _status(tool: Tool, *, versions: bool) -> ToolStatus:
    path = _find(tool)
    version = _version(tool, path) if path and versions and tool.command else None
    return ToolStatus(tool=tool, found=path is not None, version=version, path=path)


def _find(tool: Tool) -> Path | None:
    if tool.command:
        return _which(tool.command)
    path = Path(tool.probe)
    return path if path.exists() else None


def _which(command: str) -> Path | None:
    found = shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath), SYSTEM_PATH)))
    return Path(found) if found else None


def _version(tool: Tool, path: Path) -> str | None:
    try:
        done = run([path, *tool.version_args], timeout=VERSION_TIMEOUT_S)
    except InfraError:
        return None
    said = done.stdout + done.stderr
    match = re.search(r"\d+(?:\.\d+)+", said) or re.search(r"\d+", said)
    return match[0] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _missing(needed_for: set[str] | None, also: Sequence[Tool]) -> list[Tool]:
    missing = [status.tool for status in check_host(needed_for=needed_for, versions=False) if not status.found]
    return [*missing, *(tool for tool in also if _find(tool) is None)]


def _packages(tools: Iterable[Tool]) -> list[str]:
    return sorted({tool.package for tool in tools})


def _privilege() -> tuple[str, ...] | None:
    """Return the words before a command that run it as root; None if that needs a password."""
    if os.geteuid() == 0:
        return ()
    if _which("sudo") and run(["sudo", "-n", "true"], timeout=VERSION_TIMEOUT_S).status == 0:
        return ("sudo", "-n")
    return None


_APT_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")


def _install(packages: Sequence[str], *, prefix: Sequence[str], progress: Progress) -> None:
    log = cache_dir("logs") / "host-install.log"
    progress.say(f"installing {' '.join(packages)} (log: {log})")
    root = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    update = [*root, "apt-get", "update"]
    install = [*root, *_APT_INSTALL, "-o", f"DPkg::Lock::Timeout={LOCK_WAIT_S:.0f}", *packages]
    updated = _lists_are_stale()
    if updated:
        # If this fails, the existing lists may be good enough.
        _logged(update, log, timeout=UPDATE_TIMEOUT_S, progress=progress)
    said = _logged(install, log, timeout=INSTALL_TIMEOUT_S, progress=progress)
    if said is not None and not updated:
        _logged(update, log, timeout=UPDATE_TIMEOUT_S, progress=progress)
        said = _logged(install, log, timeout=INSTALL_TIMEOUT_S, progress=progress)
    if said is not None:
        if short := shortage.said(said, what="apt-get install"):
            raise short
        errors = [line for line in said if line.startswith(("E: ", "Err:", "dpkg: error"))]
        raise InfraError(
            f"installing failed (log: {log}); try it by hand: {install_command(packages)}",
            details=errors[-10:] or said[-10:],
        )


def _logged(words: Sequence[str], log: Path, *, timeout: float, progress: Progress) -> list[str] | None:
    """Run `words` and append its output to `log`. Returns None if it succeeded, otherwise its output lines."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        with log.open("ab") as output:
            output.write(f"$ {shlex.join(words)}\n".encode())
            output.flush()
            start = output.tell()

            def tick(start: int = start) -> None:
                done = log.read_bytes()[start:].count(b"\nSetting up ")
                progress.advance("installing host packages", done, None)

            done = run(words, timeout=timeout, output=output, tick=tick, finishes=True)
        if done.status == 0:
            return None
        said = log.read_bytes()[start:].decode(errors="replace").splitlines()
        # DPkg::Lock::Timeout covers dpkg's lock, not the one of the lists.
        if not any("Could not get lock" in line for line in said) or time.monotonic() > deadline:
            return said
        time.sleep(LOCK_POLL_S)


def _lists_are_stale() -> bool:
    """Return whether the machine's package lists are absent or a week old. The lists themselves have the server's
    times, but apt touches its download directory with every update."""
    try:
        if not any(LISTS.glob("*Packages*")):
            return True
        return time.time() - max(path.stat().st_mtime for path in (LISTS, LISTS / "partial")) > LISTS_STALE_S
    except OSError:
        return True
