"""The sandbox in which everything runs that comes from a kernel tree: kbuild's Makefiles and the programs it compiles.

A series that was mailed is a program once make reads it. In the sandbox it sees the system's directories, the toolchain
and its workspace; it can write to the workspace and to a ccache of the sandbox's own; it has no network, no
environment but what is listed here, no view of other processes, and no privileges. docs/security.md says against what
this helps and against what it does not."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import resources
from pathlib import Path

from harness import available, shortage
from harness.build import host
from harness.build.cache import cache_dir
from harness.build.command import run
from harness.build.confinement import Confinement
from harness.build.doctor import DoctorRow
from harness.build.strays import strays
from harness.errors import InfraError
from harness.model.progress import Progress, Silent

BUILD_USER = 60973
"""The user of builds if the caller is root: a number that neither Debian nor systemd assigns to anybody."""

_TRIAL_S = 20.0
_TMP_BYTES = 2 << 30
_MOST_PROCESSES = 4096
_MORE_PROCESSES_PER_CPU = 64
_HOME = "/tmp/home"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Of /etc what compilers, linkers, scripts and openssl read; the rest may hold secrets that the caller can read.
_CONFIGURATION = (
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd", "group", "nsswitch.conf", "localtime"),
    *("ssl/openssl.cnf", "perl", "python3", "depmod.d", "modprobe.d", "mke2fs.conf", "os-release", "debian_version"),
)
# Programs that kbuild runs; where one is installed outside the system's directories, its toolchain is shown as well.
_PROGRAMS = (
    *("gcc", "clang", "ld.lld", "make", "ccache", "pahole", "rustc", "bindgen", "flex", "bison", "bc", "perl", "rsync"),
    *("cpio", "depmod", "openssl", "pkg-config", "xz", "zstd"),
)
_TO_DROP_THE_REST = ("SETUID", "SETGID", "SETPCAP", "SYS_ADMIN", "SYS_CHROOT")
_OF_A_TOOLCHAIN = ("bin", "lib", "lib32", "lib64", "libexec", "include")
_PASSED_ON = ("PATH", "LANG", "CCACHE_MAXSIZE", "CCACHE_DISABLE", "CCACHE_RECACHE")
# Root's bubblewrap can't forbid user namespaces, in which a program would have capabilities again. The kernel refuses
# them to whoever has another root directory than the mount namespace; so this is one, with the same content.
_ROOTED = ("sh", "-c", 'mount --rbind / /.root && exec chroot /.root "$@"', "sandbox")
# The first process in the sandbox. It ends last, and it gets the signal of its parent's death, which a process loses
# when it becomes another user.
_FIRST = ("sh", "-c", 'code=0; "$@" || code=$?; exit $code', "sandbox")
_ALONE = ("--pid", "--net", "--ipc", "--uts")


class SandboxTool(StrEnum):
    """What makes the sandbox; the value is what records say."""

    BUBBLEWRAP = "bubblewrap"
    UNSHARE = "unshare"


@dataclass(frozen=True, kw_only=True)
class View:
    """What a program sees besides the system's directories. `root`: the directory of all its work, which it may read;
    `writable`: directories in it that it may write to. `is_expected`: which links it may leave there that lead out of
    them."""

    root: Path
    writable: tuple[Path, ...] = ()
    is_expected: Callable[[Path], bool] = lambda link: False


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A sandbox that was tried and works here. `user`: the user that programs run as; None: the caller."""

    tool: SandboxTool
    user: int | None = None
    toolchain: tuple[Path, ...] = field(default_factory=lambda: tuple(directories_of(_PROGRAMS)))

    def __str__(self) -> str:
        return f"{self.tool}, as user {self.user}" if self.user is not None else f"{self.tool}, as the caller's user"

    def knowing(self, programs: Iterable[str]) -> Sandbox:
        """Return the same sandbox, which also shows where these `programs` are installed."""
        return replace(self, toolchain=tuple(dict.fromkeys([*self.toolchain, *directories_of(programs)])))

    @contextlib.contextmanager
    def ready(self, progress: Progress) -> Iterator[None]:
        """Builds run in this ``with``. Files that we create in it can be read by the programs' user, if that is not us.
        ccache's directory, which builds share, is thrown away before and afterwards if one left there what nobody
        outside the sandbox should meet."""
        before = os.umask(0o022) if self.user is not None else None
        try:
            _inspect_ccache(self._ccache(), progress)
            try:
                yield
            finally:
                _inspect_ccache(self._ccache(), progress)
        finally:
            if before is not None:
                os.umask(before)

    def confine(self, view: View) -> Confinement:
        """Return what runs a program that sees `view`."""
        ccache = self._ccache()
        mounts = [("ro", path) for path in (*self.toolchain, *_rustup().values(), view.root)]
        mounts += [("rw", path) for path in (*view.writable, ccache)]
        prefix = self._bubblewrap(mounts) if self.tool is SandboxTool.BUBBLEWRAP else self._unshare(mounts)
        return Confinement(
            prefix=(*prefix, *self._rooted(), *_FIRST, *self._dropped(), *_limits()),
            environment=_environment(ccache),
            root=view.root,
            writable=view.writable,
            given=(*view.writable, ccache),
            owner=self._owner,
            is_expected=view.is_expected,
        )

    @property
    def _owner(self) -> int | None:
        """The user that files belong to which its programs write; None: ours, to whom they belong already."""
        return 0 if self.user is None and os.geteuid() == 0 else self.user

    def _ccache(self) -> Path:
        """Return the directory of its ccache. Root, for whom a sandbox with another user may work today and not
        tomorrow, has one for each: it would be taken away from a build that is running, and the kernel blamed."""
        return cache_dir("ccache-root" if self._owner == 0 else "ccache").resolve()

    def _bubblewrap(self, mounts: Sequence[tuple[str, Path]]) -> list[str]:
        words = [
            "bwrap",
            "--die-with-parent",
            "--as-pid-1",
            *(f"--unshare-{what[2:]}" for what in _ALONE),
            "--hostname",
            "harness",
        ]
        if self.user is None:
            words += ["--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
        else:
            words += ["--cap-drop", "ALL"]
            words += ["--dir", "/.root"]
            words += [word for name in _TO_DROP_THE_REST for word in ("--cap-add", f"CAP_{name}")]
        words += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]
        words += ["--perms", "1777", "--dir", _HOME]
        for link, target in _system_links():
            words += ["--symlink", target, link]
        # bubblewrap itself would make parents that only root may pass
        shown = [("ro", Path(path)) for path in _system_paths()] + list(mounts)
        parents = dict.fromkeys(parent for _, path in shown for parent in reversed(path.parents) if parent.parts[1:])
        for parent in parents:
            if not parent.is_relative_to("/usr") and parent != Path("/tmp"):
                words += ["--perms", "0755", "--dir", str(parent)]
        for how, path in shown:
            words += ["--ro-bind" if how == "ro" else "--bind", str(path), str(path)]
        return [*words, "--remount-ro", "/", "--chdir", "/", "--"]

    def _unshare(self, mounts: Sequence[tuple[str, Path]]) -> list[str]:
        base = cache_dir("sandbox")  # where the new root is mounted, in a mount namespace of its own
        words = ["unshare", *(["--user", "--map-root-user"] if self.user is None else []), "--mount", *_ALONE]
        words += ["--fork", "--kill-child=KILL", "--", "sh", "-c", _script(), "sandbox", str(base), str(_TMP_BYTES)]
        for link, target in _system_links():
            words += ["link", target, link]
        for how, path in [*(("ro", Path(path)) for path in _system_paths()), *mounts]:
            words += [how, str(path), str(path)]
        return [*words, "--"]

    def _rooted(self) -> tuple[str, ...]:
        """Return the words that rule out user namespaces. The other sandboxes do so themselves."""
        return _ROOTED if self.tool is SandboxTool.BUBBLEWRAP and self.user is not None else ()

    def _dropped(self) -> list[str]:
        """Return the words that drop what privileges are left. bubblewrap drops a caller's own by itself."""
        if self.user is None and self.tool is SandboxTool.BUBBLEWRAP:
            return []
        words = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if self.user is not None:
            words += [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return [*words, "--"]


def find_sandbox(*, progress: Progress | None = None) -> Sandbox:
    """Return the sandbox of this host: the first that runs a program. Installs bubblewrap if that is missing and may be
    installed. Raises InfraError if none works; there is no silent way around it."""
    if shutil.which("bwrap") is None:
        try:
            host.ensure_host(progress=progress or Silent(), needed_for={"sandbox"})
        except InfraError as error:
            (progress or Silent()).say(f"bubblewrap can't be installed, so unshare is tried: {error.message}")
    failed = []
    for sandbox in _candidates():
        why = _trial(sandbox)
        if not why:
            return sandbox
        failed.append(f"{sandbox}: {why}")
    raise InfraError(
        "a build runs programs from the kernel tree, and on this host no sandbox works to run them in; let this "
        "container or host have user namespaces and mounts, or, for sources and patches that you trust like your own "
        "programs, build without one: --no-sandbox (or HARNESS_NO_SANDBOX=1)",
        details=failed,
    )


def doctor_row() -> DoctorRow:
    """Return the row of `harness doctor` about the sandbox."""
    what = "build (untrusted sources and patches)"
    found = [(sandbox, _trial(sandbox)) for sandbox in _candidates()]
    works = next((sandbox for sandbox, why in found if not why), None)
    if works is None:
        told = "; ".join(f"{sandbox}: {why}" for sandbox, why in found)
        remedy = "allow user namespaces and mounts here, or build with --no-sandbox"
        return DoctorRow(name="sandbox", ok=False, found=f"none works: {told}", needed_for=what, remedy=remedy)
    remedy = "" if works.tool is SandboxTool.BUBBLEWRAP else f"better: {host.install_command(['bubblewrap'])}"
    return DoctorRow(name="sandbox", ok=True, found=str(works), needed_for=what, remedy=remedy)


def _inspect_ccache(ccache: Path, progress: Progress) -> None:
    for path, why in strays(ccache):
        told = os.fsencode(path).decode(errors="replace")
        progress.say(f"the sandbox's ccache is thrown away, because a build left {told}, {why}")
        # Files are not removed one by one: other builds may write there now, links as well. Until all are removed,
        # nobody else can reach them.
        try:
            gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=ccache.parent))
            ccache.rename(gone / "ccache")
            ccache.mkdir()
        except OSError as error:
            unmoved = InfraError(f"{ccache}: can't be renamed: {error.strerror}; empty it")
            raise shortage.of(error, where=ccache) or unmoved from error
        shutil.rmtree(gone, ignore_errors=True)
        return


def directories_of(programs: Iterable[str]) -> list[Path]:
    """Return the directories to show for `programs` that are installed outside the system's directories: the one that
    each is in, and those of the toolchain around it (not all of a directory that may be somebody's home)."""
    found: dict[Path, None] = {}
    for program in programs:
        for directory in _places(program):
            prefix = directory.parent
            parts = [prefix / name for name in _OF_A_TOOLCHAIN] if directory.name == "bin" else []
            parts += [prefix / program.rpartition("/")[2].rpartition("-")[0]] if directory.name == "bin" else []
            for path in (directory, *parts):
                if path.is_dir() and path not in (prefix, Path.home()):
                    found[path] = None
    return list(found)


def _rustup() -> dict[str, Path]:
    """Return RUSTUP_HOME, if the rustc on PATH is rustup's, which finds the compiler in there. It holds compilers and
    which one is in use; passwords are in CARGO_HOME."""
    rustc = shutil.which("rustc")
    home = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup").absolute()
    return {"RUSTUP_HOME": home} if rustc and Path(rustc).resolve().name == "rustup" and home.is_dir() else {}


def _places(program: str) -> list[Path]:
    """Return the directories with `program` that are not the system's: on PATH, and where a link there leads."""
    which = shutil.which(program)
    if which is None:
        return []
    found = Path(which).absolute()
    places = (found.parent, found.resolve().parent)
    return [place for place in dict.fromkeys(places) if not any(place.is_relative_to(path) for path in _SYSTEM)]


def _candidates() -> list[Sandbox]:
    """Return what to try, the best first. Root of a container may be refused mounts and other users, but not a user
    namespace; there it has none of its privileges, though its number."""
    users = [BUILD_USER, None] if os.geteuid() == 0 else [None]
    return [Sandbox(tool=tool, user=user) for user in users for tool in SandboxTool]


def _trial(sandbox: Sandbox) -> str:
    """Run `true` in the sandbox, with a directory to write to. Returns why that failed; empty: it works."""
    if shutil.which("bwrap" if sandbox.tool is SandboxTool.BUBBLEWRAP else "unshare") is None:
        return "not installed"
    root = cache_dir("sandbox-trial")
    out = root / f"out-{sandbox._owner}"  # others may be tried at this moment
    with shortage.reported(root):
        out.mkdir(exist_ok=True)
    confinement = sandbox.confine(View(root=root, writable=(out,)))
    try:
        done = run(["touch", out / "written"], timeout=_TRIAL_S, confinement=confinement)
    except (InfraError, OSError) as error:
        if short := shortage.of(error, where=root):
            raise short from None  # which says nothing about sandboxes
        if isinstance(error, InfraError):
            return error.details[0] if error.details else error.message
        # in a user namespace there may be no other user
        return f"files can't be given to user {sandbox.user}: {error.strerror}"
    return "" if done.status == 0 else (done.last_lines(1) or (f"exit code {done.status}",))[0]


def _environment(ccache: Path) -> Mapping[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed, "HOME": _HOME, "CCACHE_DIR": str(ccache)} | {name: str(path) for name, path in _rustup().items()}


def _limits() -> list[str]:
    most = _MOST_PROCESSES + _MORE_PROCESSES_PER_CPU * available.cpus()
    return ["prlimit", f"--nproc={most}:{most}", "--core=0:0", "--"]


def _system_links() -> list[tuple[str, str]]:
    """Return the system directories that are links (``/bin``), and where each leads."""
    return [(path, str(Path(path).readlink())) for path in _SYSTEM if Path(path).is_symlink()]


def _system_paths() -> list[str]:
    directories = [path for path in _SYSTEM if Path(path).is_dir() and not Path(path).is_symlink()]
    return [*directories, *(f"/etc/{name}" for name in _CONFIGURATION if Path("/etc", name).exists())]


def _script() -> str:
    return (resources.files("harness.build") / "unshare-sandbox.sh").read_text()
