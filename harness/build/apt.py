"""A private apt: packages of any Debian suite from this machine's own mirror, without touching its apt.

State, cache and sources are ours, one set per suite. Everything else (proxy, certificates, credentials) comes from the
machine's configuration. Signatures are checked."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.build.cache import cache_dir, locked, named_in
from harness.build.checksum import sha256_of
from harness.build.command import Finished, run
from harness.build.download import fetch_file
from harness.errors import HarnessError, InfraError, UserError
from harness.model.package import AptPackage
from harness.model.progress import Progress, Silent
from harness.parse.packages import parse_packages

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FRESH_S = 3600.0
RETRY_S = 600.0
QUERY_TIMEOUT_S = 60.0
UPDATE_TIMEOUT_S = 300.0
DOWNLOAD_TIMEOUT_S = 3600.0
CODENAME = re.compile(
    r"(buster|bullseye|bookworm|trixie|forky|duke|sid|(old){0,2}stable|testing|unstable)"
    r"(-security|-updates|-backports|-backports-sloppy|-proposed-updates)?"
)
"""Names that Debian uses: a mirror without one of these is at fault, with any other it is a typing error."""
Tick = Callable[[], None]
USUAL_SUITES = ("trixie-backports", "bookworm-security", "bullseye-security")


@dataclass(frozen=True)
class _Site:
    """A line of the machine's apt configuration: which mirror serves which suite."""

    url: str
    release: str
    component: str
    origin: str


def mirror_for(suite: str) -> str:
    """Return the URL of the mirror that serves Debian's `suite`, from this machine's own apt configuration. Raises
    InfraError.

    Security suites are on another site than the rest, so a suite's mirror is that of a configured suite of the same
    kind."""
    sites = _configured_sites()
    security = suite.endswith("-security")
    for site in sites:
        if site.release == suite:
            return site.url
    for site in sites:
        if site.release.endswith("-security") == security:
            return site.url
    wanted = "deb MIRROR-security CODENAME-security main" if security else "deb MIRROR CODENAME main"
    raise InfraError(
        f"{suite}: this machine's apt has no {'security ' if security else ''}mirror of Debian to take it from; "
        f"add a line `{wanted}` of a Debian mirror to /etc/apt/sources.list (or a .sources file) and try again",
        details=[f"configured: {site.release} ({site.component})" for site in sites],
    )


def sources_for(suite: str) -> str:
    """Return a one-line sources.list for `suite` (main), with the keyring that its signature is checked with."""
    check_suite_name(suite)
    return f"deb [signed-by={keyring()}] {mirror_for(suite)} {suite} main\n"


def keyring() -> Path:
    """Return the keyring of Debian's archive on this machine."""
    if not KEYRING.is_file():
        raise InfraError(
            f"{KEYRING}: missing, so Debian's signatures cannot be checked; "
            "install it: apt-get install debian-archive-keyring"
        )
    return KEYRING


def check_suite_name(suite: str) -> None:
    """Raise UserError unless `suite` looks like a suite's name (it becomes part of paths and of a sources.list)."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", suite):
        raise UserError(f"expected the name of a Debian suite such as {USUAL_SUITES[0]}, found {suite!r}")


# Lines that begin with #clear take the machine's hooks out: they clean its own caches, not ours.
# Download as the user who runs: apt's own unprivileged user cannot write to a private cache.
_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "{dir}/state";
Dir::State::lists "lists/";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "archives/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "{dir}/empty";
Dir::Etc::preferences "{dir}/empty/preferences";
Dir::Etc::preferencesparts "{dir}/empty";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


_FOREIGN = """\
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
"""


class Unreachable(InfraError):
    """The mirror did not answer; files fetched earlier are still valid."""


class PrivateApt:
    """apt for one foreign `suite`. Several harnesses may use it at once: they take turns. `architecture`: that of the
    packages that it finds (default: this host's)."""

    def __init__(self, suite: str, *, architecture: str = "") -> None:
        check_suite_name(suite)
        self.suite = suite
        self._architecture = architecture
        self._dir = cache_dir("apt", f"{suite}-{architecture}" if architecture else suite)
        self._lock = self._dir / "lock"
        self._config = self._dir / "apt.conf"
        self._stamp = self._dir / "updated"

    def update(self, *, force: bool = False, progress: Progress | None = None) -> None:
        """Fetch the suite's package list unless ours is younger than an hour (`force`: in any case).

        Without a network the existing list is used, with a note to `progress`.
        """
        progress = progress or Silent()
        with locked(self._lock):
            if not force and self._is_fresh():
                return
            unchanged = self._write_config()
            had_list = unchanged and self._stamp.exists()
            progress.say(f"fetching the package list of {self.suite}")
            done = self._apt("apt-get", "-q", "update", timeout=UPDATE_TIMEOUT_S)
            if done.status == 0:
                self._stamp.touch()
                return
            error = _update_error(self.suite, done)
            if not had_list or not isinstance(error, Unreachable):
                raise error
            progress.say(f"{error.message}; continuing with the package list in the cache")
            # so that later runs need not wait for the network's time limits again
            soon = time.time() - FRESH_S + RETRY_S
            os.utime(self._stamp, (soon, soon))

    def newest(self, package_regex: str) -> AptPackage:
        """Return the highest version among all packages whose whole name matches. Call `update` first.

        Raises UserError when there is none; the message names similar ones that do exist.
        """
        with locked(self._lock):
            names = self._apt("apt-cache", "pkgnames", timeout=QUERY_TIMEOUT_S).stdout.split()
            matching = [name for name in names if re.fullmatch(package_regex, name)]
            shown = self._apt("apt-cache", "show", *matching, timeout=QUERY_TIMEOUT_S).stdout if matching else ""
        found = parse_packages(shown)
        if not found:
            raise self._no_such_package(package_regex, names)
        return functools.reduce(_higher, found)

    def download(self, package: AptPackage, *, into: Path | None = None, progress: Progress | None = None) -> Path:
        """Return the package's .deb in the cache, downloaded if it is not there yet; an interrupted download resumes.
        `into`: give it a second name in this directory, so that it stays when another harness calls `forget`.

        apt verifies it against the signed list, and we compare its SHA-256 once more.
        """
        progress = progress or Silent()
        final = self._dir / "debs" / package.filename
        with locked(self._lock):
            if not final.is_file():
                self._fetch(package, final, progress=progress)
            found = sha256_of(final, progress=progress)
            if found != package.sha256:
                final.unlink()
                raise InfraError(
                    f"{package.filename}: damaged, so removed; expected sha256 {package.sha256}, found {found}; "
                    "try again"
                )
            return named_in(into, final) if into else final

    def forget(self, packages: Iterable[AptPackage]) -> None:
        """Remove the .deb files of `packages` from the cache."""
        with locked(self._lock):
            for package in packages:
                (self._dir / "debs" / package.filename).unlink(missing_ok=True)

    def _fetch(self, package: AptPackage, final: Path, *, progress: Progress) -> None:
        incoming = self._dir / "incoming" / package.filename
        for directory in (incoming, final.parent):
            directory.mkdir(parents=True, exist_ok=True)
        for other in incoming.parent.iterdir():
            if other != incoming:
                shutil.rmtree(other)
        progress.say(f"downloading {package.name} {package.version} from {self.suite} ({package.size / 1e6:.0f} MB)")
        left = next(incoming.glob("*.deb*"), None)
        if not (left and self._resume(package, left, final, progress=progress)):
            self._fetch_whole(package, incoming, final, progress=progress)
        shutil.rmtree(incoming)

    def _fetch_whole(self, package: AptPackage, incoming: Path, final: Path, *, progress: Progress) -> None:
        def tick() -> None:
            progress.advance(package.name, _bytes_in(incoming), package.size)

        words = ["apt-get", "-q", "download", package.wanted]
        done = self._apt(*words, timeout=DOWNLOAD_TIMEOUT_S, cwd=incoming, tick=tick)
        debs = sorted(incoming.glob("*.deb"))
        if done.status != 0 or len(debs) != 1:
            if "mismatch" in done.stderr:
                shutil.rmtree(incoming)
            raise InfraError(
                f"{package.wanted} from {self.suite}: the download failed; check the network and try again, it resumes",
                details=_complaints(done),
            )
        progress.advance(package.name, package.size, package.size)
        debs[0].replace(final)

    def _resume(self, package: AptPackage, left: Path, final: Path, *, progress: Progress) -> bool:
        """Complete an interrupted download, because ``apt-get download`` starts over (apt 2.6 removes the file first).
        The SHA-256 of the signed list vouches for the result. Returns False if apt has to download it, which also
        supports proxies and passwords."""
        partial = left.with_name(f"{package.filename}.partial")
        left.replace(partial)
        # Not in `incoming`: where the file is there already, apt prints nothing.
        told = self._apt("apt-get", "download", "--print-uris", package.wanted, timeout=QUERY_TIMEOUT_S, cwd=self._dir)
        proxies = run(["apt-config", "dump", "--no-empty", "--format", "%F%n"], timeout=QUERY_TIMEOUT_S).stdout
        url = re.match(r"'(https?://[^']+)'", told.stdout)
        if url and not re.search(r"(?m)^Acquire::https?::(.*::)?Proxy", proxies):
            try:
                fetch_file(url[1], partial.with_suffix(""), sha256=package.sha256, progress=progress)
                partial.with_suffix("").replace(final)
                return True
            except HarnessError as error:
                progress.say(f"{error.message}; beginning again with apt")
        for path in left.parent.iterdir():
            path.unlink()
        return False

    def _is_fresh(self) -> bool:
        try:
            age = time.time() - self._stamp.stat().st_mtime
        except FileNotFoundError:
            return False
        return 0 <= age < FRESH_S

    def _write_config(self) -> bool:
        """Write apt.conf and sources.list; return False if the sources changed, which makes an older list invalid."""
        for part in ("state/lists/partial", "cache/archives/partial", "empty"):
            (self._dir / part).mkdir(parents=True, exist_ok=True)
        (self._dir / "status").touch()
        sources = self._dir / "sources.list"
        text = sources_for(self.suite)
        unchanged = sources.is_file() and sources.read_text() == text
        if not unchanged:
            self._stamp.unlink(missing_ok=True)
            sources.write_text(text)
        config = _CONFIG.format(dir=self._dir)
        if self._architecture:
            config += _FOREIGN.format(architecture=self._architecture)
        self._config.write_text(config)
        return unchanged

    def _apt(self, *args: str, timeout: float, cwd: Path | None = None, tick: Tick | None = None) -> Finished:
        # -c and not $APT_CONFIG: the latter is read before the machine's own files, which could then overrule it.
        return run([args[0], "-c", self._config, *args[1:]], timeout=timeout, cwd=cwd, tick=tick)

    def _no_such_package(self, package_regex: str, names: list[str]) -> HarnessError:
        if not names:
            return InfraError(f"{self.suite}: its package list here is empty; fetch it again with `harness fetch`")
        stem = re.split(r"[^a-z-]", package_regex.replace("\\", ""))[0].strip("-")
        similar = sorted(name for name in names if stem and name.startswith(stem))
        return UserError(
            f"{self.suite}: no package {package_regex.replace(chr(92), '')!r}; "
            f"there {'are: ' + ', '.join(similar[:12]) if similar else 'is nothing like it'}"
        )


def _configured_sites() -> list[_Site]:
    """Debian's sites in this machine's apt configuration."""
    # The origin is known only if a list was fetched before; otherwise the suite's name has to do.
    known = _index_targets("$(ORIGIN)")
    debian = [site for site in known if site.origin == "Debian"]
    return debian or [
        site
        for site in _index_targets("-", "--no-release-info")
        if site.component == "main" and CODENAME.fullmatch(site.release)
    ]


def _index_targets(origin: str, *options: str) -> list[_Site]:
    form = f"$(SITE)|$(RELEASE)|$(COMPONENT)|{origin}"
    done = run(["apt-get", *options, "indextargets", "--format", form, "Created-By: Packages"], timeout=QUERY_TIMEOUT_S)
    if done.status != 0:
        raise InfraError("this machine's apt cannot list its own sources", details=_complaints(done))
    rows = (line.split("|") for line in done.stdout.splitlines())
    sites = [_Site(*row) for row in rows if len(row) == 4]
    return [site for site in sites if not site.url.startswith("cdrom")]


def _bytes_in(directory: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(entry.stat().st_size for entry in directory.iterdir() if entry.is_file())
    return 0


def _higher(one: AptPackage, other: AptPackage) -> AptPackage:
    newer = run(["dpkg", "--compare-versions", other.version, "gt", one.version], timeout=QUERY_TIMEOUT_S)
    return other if newer.status == 0 else one


def _update_error(suite: str, done: Finished) -> HarnessError:
    """Return an error that explains a failed update and what to do about it."""
    said = done.stdout + done.stderr
    details = _complaints(done)
    if "does not have a Release file" in said or re.search(r"Release\b.*\n.*\b404\b", said):
        if CODENAME.fullmatch(suite):
            return InfraError(f"{suite}: this machine's mirror does not carry that suite (any more)", details=details)
        usual = ", ".join(USUAL_SUITES)
        return UserError(f"{suite}: the mirror knows no such suite; usual ones: {usual}", details=details)
    if re.search(r"NO_PUBKEY|BADSIG|EXPKEYSIG|KEYEXPIRED|not signed|GPG error", said):
        return InfraError(
            f"{suite}: the signature of its package list is not good by {KEYRING}; renew it: "
            "apt-get install --only-upgrade debian-archive-keyring",
            details=details,
        )
    return Unreachable(f"{suite}: its package list could not be fetched; check the network", details=details)


def _complaints(done: Finished) -> tuple[str, ...]:
    """Return apt's errors, or the end of its output if it printed none."""
    lines = (done.stdout + "\n" + done.stderr).splitlines()
    errors = tuple(dict.fromkeys(line for line in lines if line.startswith(("E: ", "W: ", "Err:"))))
    return errors[:12] or done.last_lines()
