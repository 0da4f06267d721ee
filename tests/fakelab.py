"""A lab on this host: real workers, whose runs are stand-ins (`tests/labprograms.py`). In its directory:

journal      what happened, one line each: time, board, what, number of the process
powered/     a file for each board that is switched on
hold         as long as it is there, runs go on
seconds      how long a run takes besides
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from harness.build.finished import load_build
from harness.build.seal import seal_directory
from harness.campaign.lab.addresses import Address, Credentials
from harness.campaign.lab.engine import Lab, scheduling
from harness.campaign.lab.executor import LabExecutor
from harness.campaign.nightly import night
from harness.campaign.nightly.place import NightPlace
from harness.model.kernel import Build
from harness.model.night import Cell, Morning
from tests import fakenight
from tests.records import build_json

ROOT = Path(__file__).parents[1]
LIMIT_S = 120.0  # for anything that happens at once on an idle host
ANY = Address(host="127.0.0.1", port=0)
_BOARDS = """
defaults:
  twin:
    console: {kind: command, run: [cat]}
    boot: {method: uboot, tftp_root: /t}
    pool: twins
boards:
"""
_BOARD = """
  {name}:
    like: twin
    console: {{kind: command, run: [cat, /dev/null, {name}]}}
    power: {{kind: command, on: [sh, {switch}, {name}, "on"], off: [sh, {switch}, {name}, "off"], off_seconds: 0.01}}
"""
_SWITCH = """
cd "$FAKE_LAB" || exit 1
if [ "$2" = on ]; then : >"powered/$1"; else rm -f "powered/$1"; fi
echo "$(date +%s.%N) $1 $2 $$" >>journal
"""


class FakeLab:
    """The directory of a lab. `boards`: their names."""

    def __init__(self, root: Path, boards: tuple[str, ...] = ("a", "b")) -> None:
        self.root = root
        self.boards = boards
        self.workers: list[subprocess.Popen[bytes]] = []
        (root / "powered").mkdir(parents=True)
        (root / "switch.sh").write_text(_SWITCH)
        (root / "journal").touch()

    @property
    def hold(self) -> Path:
        return self.root / "hold"

    def boards_file(self, *names: str) -> Path:
        """Write a file that describes some of the boards."""
        path = self.root / f"boards-{'-'.join(names)}.yaml"
        entries = (_BOARD.format(name=name, switch=self.root / "switch.sh") for name in names)
        path.write_text(_BOARDS + "".join(entries))
        return path

    def worker(
        self, scheduler: Address, *boards: str, host: str = "host", tls: Credentials | None = None,
        before: tuple[str, ...] = (), address: str = "",
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start a worker; those of the same `host` share a cache and locks, as on one machine. `before`: words before
        its own, such as those that start it in a network of its own."""
        home = self.root / host
        (home / "locks").mkdir(parents=True, exist_ok=True)
        words = [*before, sys.executable, "-m", "tests.labprograms", "worker", "--scheduler", str(scheduler)]
        words += ["--boards", str(self.boards_file(*boards))]
        words += ["--address", address] if address else []
        if tls:
            words += ["--tls-ca", str(tls.ca), "--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]
        environment = {
            **os.environ,
            "FAKE_LAB": str(self.root),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HARNESS_LOCKS": str(home / "locks"),
            "PYTHONPATH": str(ROOT),
        }
        with (self.root / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                words, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    def end(self) -> None:
        """End all workers, and wait until no board is powered."""
        self.hold.unlink(missing_ok=True)
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            process.wait(LIMIT_S)

    def powered(self) -> list[str]:
        return sorted(path.name for path in (self.root / "powered").iterdir())

    def journal(self) -> list[tuple[float, str, str, int]]:
        """What happened: time, board, what, process."""
        lines = (line.split() for line in (self.root / "journal").read_text().splitlines())
        return [(float(when), board, what, int(process)) for when, board, what, process in lines]

    def did(self, what: str) -> list[str]:
        """The boards to which something happened, in order."""
        return [board for _, board, happened, _ in self.journal() if happened == what]

    def wait_for(self, what: str, *, count: int = 1, board: str = "") -> None:
        """Wait until something has happened so many times."""
        deadline = time.monotonic() + LIMIT_S
        while sum(not board or board == each for each in self.did(what)) < count:
            assert time.monotonic() < deadline, f"{what} did not happen: {self.told()}"
            time.sleep(0.05)

    def told(self) -> str:
        """What the workers said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.root.glob("worker-*.log")))

    def used_at_once(self) -> list[str]:
        """The boards that were switched on while they were."""
        wrong, are_on = [], set[str]()
        for _, board, what, _ in self.journal():
            if what == "on":
                wrong += [board] if board in are_on else []
                are_on.add(board)
            elif what == "off":
                are_on.discard(board)
        return wrong


@contextlib.contextmanager
def playing(tls: Credentials | None = None, *, address: Address = ANY, say: list[str]) -> Iterator[tuple[Address, Lab]]:
    """A scheduler in this process, and the plan's end of it."""
    with scheduling(address, tls) as scheduler, Lab(scheduler, tls, say=say.append) as lab:
        yield scheduler, lab


def make_credentials(directory: Path) -> Credentials:
    """Make an authority, and a certificate of it."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    directory.mkdir()
    now = datetime.datetime.now(datetime.UTC)
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {directory.name}")])
    for name, key, is_authority in (("ca", authority, True), ("own", own, False)):
        subject = issuer if is_authority else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host")])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )
        (directory / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "own.key").write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Credentials(ca=directory / "ca.pem", certificate=directory / "own.pem", key=directory / "own.key")


class Builds:
    """Builds that take no time: finished directories with a few files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.released: list[str] = []

    def build(self, cell: Cell) -> float | None:
        directory = self.directory(cell.build)
        if not directory.exists():
            build_json(directory)
            (directory / ".config").write_text("CONFIG_ARM64=y\n")
            (directory / "Image").write_bytes(cell.build.encode() * 1000)
            (directory / "modules").mkdir()
            (directory / "modules/link").symlink_to("../Image")
            seal_directory(directory, final=directory)
        return 1.0

    def directory(self, key: str) -> Path:
        return self._root / key.replace("/", "-")

    def built(self, key: str) -> Build:
        return load_build(self.directory(key))

    def release(self, build: str) -> None:
        self.released.append(build)

    def stop(self) -> None:
        """Nothing runs."""


class Plays:
    """A night in a thread of its own."""

    def __init__(self, fake: FakeLab, root: Path, plan: str, lab: Lab, said: list[str]) -> None:
        scripted = fakenight.Lab(root, plan=plan)
        (root / "boards.yaml").write_text(fake.boards_file(*fake.boards).read_text())
        (root / "scratch").mkdir()
        self._made: list[tuple[Morning, NightPlace]] = []
        self.executor = LabExecutor(
            Builds(root), lab, expectations=(), history=root / "history.sqlite", scratch=root / "scratch",
            say=said.append,
        )  # fmt: skip

        checked = scripted.checked()

        def play() -> None:
            self._made.append(
                night.play(
                    checked, executor=lambda _: self.executor, resolver=scripted.resolve,
                    progress=scripted.lines, clock=lambda: scripted.now,
                )
            )  # fmt: skip

        self._thread = threading.Thread(target=play)
        self._thread.start()

    def made(self, limit: float = LIMIT_S) -> tuple[Morning, NightPlace]:
        self._thread.join(limit)
        assert not self._thread.is_alive()
        return self._made[0]
