"""Requests as frozen values. Imports only the standard library, so that making a request costs no start-up time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.layout import KCONFIGS
from harness.model.bisect import Blame, Wanted
from harness.model.kernel import DEFAULT_SOURCE
from harness.userpath import user_path


def fragment_path(given: Path, *, beside: Path = Path()) -> Path:
    """Return the path of the fragment that `given` names: a file, relative to the directory `beside`, or else the name
    of one of ours, below kconfigs/ and without suffix."""
    path, ours = user_path(given, beside=beside), KCONFIGS / f"{given}.config"
    is_ours = not given.is_absolute() and ".." not in given.parts and not path.exists() and ours.is_file()
    return ours if is_ours else path


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Which kernel is meant: a finished build, or what to build. `no_sandbox`: what comes from the kernel tree runs as
    any other program of the user. `no_era_fixes`: an old kernel is built as it is. `verify`: read all files from the
    cache and compare their checksums, instead of only those that seem to have changed. `selftests_dir`: those of a
    kernel that was built elsewhere."""

    build_dir: Path | None
    kernel: str
    patches: tuple[Path, ...]
    kconfigs: tuple[Path, ...]
    toolchain: str | None
    allow_plain_ftrace: bool
    jobs: int | None
    no_sandbox: bool = False
    no_era_fixes: bool = False
    verify: bool = False
    selftests_dir: Path | None = None

    def checked(self) -> BuildOptions:
        """Return these options. Raises UserError if they contradict each other."""
        changes = (self.patches, self.kconfigs, self.toolchain, self.selftests_dir, self.kernel != DEFAULT_SOURCE)
        if self.build_dir and any(changes):
            raise UserError(
                "--build names a finished kernel: --kernel, --patches, --kconfig, --toolchain and --selftests can't "
                "change it"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run: which kernel, on which board (`wait`: how many seconds to wait for a board in use), which tests (all
    suites if none is named), how they are run, and where the run's files go (None: below out/).

    `workers`: how many machines run in parallel; None: as many as suit host and board. `isolation`: test, file or
    crash; None: the best that the board supports. `confirm`: repeat unexpected failures; None: where the
    board has snapshots. `history`: the file that takes the run in (None: the usual one),
    unless `no_history`. `coverage`: find out which changed lines the tests execute. `wanted`: a test that is repeated
    whatever its verdict is, in place of failures."""

    kernel: BuildOptions
    board_name: str
    boards_file: Path | None = None
    wait: float | None = None
    suites: tuple[str, ...] = ()
    keyword: str = ""
    maxfail: int = 0
    timeout_factor: float = 1.0
    hammer_seconds: float = 5.0
    workers: int | None = 1
    isolation: str | None = None
    expectations: tuple[Path, ...] = ()
    out_dir: Path | None = None
    confirm: bool | None = None
    history: Path | None = None
    no_history: bool = False
    coverage: bool = False
    wanted: Wanted | None = None


@dataclass(frozen=True, kw_only=True)
class MailRequest:
    """A mail about what changed between two runs. `sender`: empty: git's user. `smtp`: HOST:PORT. `in_reply_to`: ids of
    the mails that it answers, the thread's first one first. `history`: None: the usual one."""

    older: str
    newer: str
    to: tuple[str, ...]
    sender: str = ""
    smtp: str = "localhost:25"
    in_reply_to: tuple[str, ...] = ()
    history: Path | None = None


@dataclass(frozen=True, kw_only=True)
class KcidbRequest:
    """Runs for KCIDB. `origin`: the CI system's name there; `tree`: that of the kernel's tree. `files_url`: where the
    files of the run can be read. `token_file`: None: the token is in the environment, if there is one. `queue`: None:
    the usual directory."""

    runs: tuple[Path, ...]
    origin: str
    server: str
    token_file: Path | None = None
    tree: str = ""
    files_url: str = ""
    queue: Path | None = None


@dataclass(frozen=True, kw_only=True)
class NightRequest:
    """A night of the plan in the file `plan`. `out_dir`: for all nights of the plan (None: below out/). `new`: begin
    another night even if the last one may go on. The others are as for a run."""

    plan: Path
    out_dir: Path | None = None
    new: bool = False
    boards_file: Path | None = None
    expectations: tuple[Path, ...] = ()
    history: Path | None = None
    jobs: int | None = None
    allow_plain_ftrace: bool = False
    no_sandbox: bool = False


@dataclass(frozen=True, kw_only=True)
class NightMail:
    """Whom the summary of a night is mailed to. `sender`: empty: git's user. `smtp`: HOST:PORT."""

    to: tuple[str, ...]
    sender: str = ""
    smtp: str = "localhost:25"


@dataclass(frozen=True, kw_only=True)
class LabAccess:
    """How the machines of a lab find each other: HOST:PORT of a `scheduler` that runs, or where to run one (`listen`);
    both empty: this machine alone. Files in PEM format for TLS, all three or none."""

    scheduler: str = ""
    listen: str = ""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether other machines are to take part."""
        return bool(self.scheduler or self.listen)

    def checked(self) -> LabAccess:
        """Return it. Raises UserError if its parts contradict each other."""
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not all(files):
            raise UserError("--tls-ca, --tls-cert, --tls-key: expected all three of them, or none")
        if any(files) and not self.is_wanted:
            raise UserError("--tls-ca, --tls-cert, --tls-key: expected --scheduler or --listen, found neither")
        if self.scheduler and self.listen:
            raise UserError("--scheduler names a scheduler that runs, --listen runs one: expected one of them")
        return self


@dataclass(frozen=True, kw_only=True)
class WorkerRequest:
    """A worker that offers boards of this host: those that are named, or all of the file. `address`: HOST:PORT where it
    listens and is reached; empty: a free port of the interface through which the scheduler is reached."""

    boards_file: Path | None = None
    boards: tuple[str, ...] = ()
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class ReviewRequest:
    """A review of a series. `series`: a path, or a range of commits; `version`: of several in a thread, as ``v5``
    (empty: the newest); `against`: an older version, as a path, a range, or ``v4`` of the same thread. `kernel`: how
    kernels are built; `base`: their source, which the series applies to (empty: what it says, else the default kernel);
    `repository`: the git repository that knows a ``base-commit:``.

    `suites`, `keyword`: the whole set; `patch_suites`, `patch_keyword`: the tests for each patch (none: those that
    matter for its files). `rounds`: how often what differs is run again. `workers`: as for a run. `tester`: who would
    sign a Tested-by line."""

    series: str
    kernel: BuildOptions
    board_name: str
    out_dir: Path
    version: str = ""
    against: str = ""
    base: str = ""
    repository: Path = Path()
    suites: tuple[str, ...] = ()
    keyword: str = ""
    patch_suites: tuple[str, ...] = ()
    patch_keyword: str = ""
    rounds: int = 2
    tester: str = ""
    boards_file: Path | None = None
    timeout_factor: float = 1.0
    workers: int | None = 1
    history: Path | None = None
    no_history: bool = False


@dataclass(frozen=True, kw_only=True)
class BisectRequest:
    """A search for the change that made `test` fail. `kernel`: what is built, with the patches of the series if that is
    what is searched. One of these says between what: `good` and `bad` (commits of the repository that the kernel names;
    `first_parent`: of merges, only the branch that they were merged into), `changed` (the fragment whose symbols are
    changed one by one), `toolchains`, `qemus` (directories, in order, the good one first), or else the patches.

    `failure`: text that a failure must contain to be the one in question; empty: the first one seen at the bad end is.
    `any_failure`: each failure counts. `told`: the probability to stop at. `most`: repetitions of one state at an end
    that show nothing before the search gives up; `most_builds`: how many states may be built (0: as many as it takes).
    `out_dir`: where the search is kept (None: below out/)."""

    kernel: BuildOptions
    test: str
    board_name: str
    good: str = ""
    bad: str = ""
    first_parent: bool = False
    changed: Path | None = None
    toolchains: tuple[str, ...] = ()
    qemus: tuple[Path, ...] = ()
    boards_file: Path | None = None
    wait: float | None = None
    timeout_factor: float = 1.0
    failure: str = ""
    any_failure: bool = False
    build_failure: Blame = Blame.SKIP
    boot_failure: Blame = Blame.SKIP
    told: float = 0.997
    most: int = 300
    most_builds: int = 0
    out_dir: Path | None = None
