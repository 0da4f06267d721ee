"""The real thing: the command as a user calls it, a kernel built from source, QEMU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.build.cache import locked
from harness.build.host import ensure_host
from tests.twins import system as twin_system

PROJECT = Path(__file__).resolve().parents[2]
TWINS = PROJECT / "tests/twins"
TWIN = TWINS / "twin.py"
SERVED_BY = "tr '\\0' ' ' < /proc/$PPID/cmdline; echo"  # which program has started the shell
BUILD_LIMIT_S = 3000.0  # for a kernel of which nothing is compiled yet, beside other tests
_CABLE = (
    "ip link set lo up && ip tuntap add tap0 mode tap && ip address add 10.77.0.1/24 dev tap0 && ip link set tap0 up"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)
    items.sort(
        key=lambda item: item.get_closest_marker("kernel") is not None
    )  # what answers within a second comes first


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Path]) -> Path:
    """What `make` returns; of the processes that share the tests the first one makes it, and the others wait for it."""
    shared = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    answer = shared / f"{name}.made"
    with locked(shared / f"{name}.lock"):
        if not answer.exists():
            answer.write_text(str(make()))
    return Path(answer.read_text())


def harness(
    *arguments: str | Path, cwd: Path, limit: float = 600.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the harness command; returns what subprocess.run does, with text output."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=limit,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default kernel, built (or found built); its directory. HARNESS_TEST_BUILD names another finished build."""
    if finished := os.environ.get("HARNESS_TEST_BUILD"):
        return Path(finished)

    def make() -> Path:
        done = harness("build", cwd=tmp_path_factory.mktemp("build"), limit=BUILD_LIMIT_S)
        assert done.returncode == 0, done.stderr[-4000:]
        return Path(done.stdout.strip())

    return made_once(tmp_path_factory, "build", make)


# the harness, with the testcases that lie in the working directory
_ELSEWHERE = """
from pathlib import Path
import harness.layout
harness.layout.PROJECT = Path.cwd()
harness.layout.TESTCASES = Path.cwd() / "testcases"
from harness.cli.main import main
try:
    main()
finally:
    # not ru_maxrss, which begins with the size of the process that started this one: pytest's
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path("memory").write_text(status["VmHWM"].split()[0])  # KiB
"""


Boots = Callable[..., subprocess.CompletedProcess[str]]  # `harness boot` of a command on a board


class Twin:
    """A running twin, and the harness as a user calls it on a board that is one."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str], build: Path, cwd: Path) -> None:
        self.process, self.environment, self.build, self.cwd = process, environment, build, cwd

    def arguments(self, verb: str, board: str) -> list[str | Path]:
        return [verb, "--build", self.build, "--board", board]

    def harness(self, verb: str, board: str, *words: str) -> subprocess.CompletedProcess[str]:
        return harness(*self.arguments(verb, board), *words, cwd=self.cwd, environment=self.environment)

    def run_testcases(self, text: str, board: str) -> dict[str, dict[str, Any]]:
        """`harness run` of a test file of its own; the results by the tests' names."""
        (self.cwd / "testcases").mkdir()
        (self.cwd / "testcases/test_faults.py").write_text(text)
        run_dir = self.cwd / "run"
        words = [*self.arguments("run", board), "--suite", "testcases", "--out", run_dir]
        subprocess.run(
            [sys.executable, "-c", _ELSEWHERE, *map(str, words)],
            cwd=self.cwd,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        results = json.loads((run_dir / "results.json").read_text())["results"]
        return {result["test"].rpartition("::")[2]: result for result in results}

    def listed(self) -> str:
        """What `harness boards` prints."""
        return harness("boards", cwd=self.cwd, environment=self.environment).stdout

    def switch(self, what: str, name: str = "uboot") -> str:
        """What the power switch answers when it is told `what`."""
        environment = {**os.environ, **self.environment}
        return subprocess.run([TWIN, what, name], capture_output=True, text=True, check=True, env=environment).stdout

    def is_on(self, name: str = "uboot") -> bool:
        return '"ON"' in self.switch("status", name)


@pytest.fixture(scope="session")
def _u_boot() -> None:
    """What the twins themselves are made of; no user of the harness needs it."""
    ensure_host(needed_for={"qemu", "u-boot"})


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's own system, with the key that may log in."""

    def make() -> Path:
        ensure_host(needed_for={"rootfs", "build"})
        directory = tmp_path_factory.mktemp("system")
        twin_system.make(directory)
        return directory

    return made_once(tmp_path_factory, "system", make)


@pytest.fixture
def twin(_u_boot: None, build: Path, tmp_path: Path) -> Iterator[Callable[..., Twin]]:
    """Starts a twin with a fault, and what twin.py's command line says more of it; ends it after the test. A second one
    lives at the first one's address where that is its `host`."""
    started: list[subprocess.Popen[str]] = []

    def start(
        name: str = "uboot", *, fault: str = "none", boards: str = "", host: str = "auto", **options: object
    ) -> Twin:
        (tmp_path / "tftp").mkdir(exist_ok=True)
        (tmp_path / "other").mkdir(exist_ok=True)
        words: list[str | Path] = [TWIN, "serve", name, "--host", host, "--tftp", tmp_path / "tftp", "--fault", fault]
        words += ["--pty", tmp_path / "tty"]
        words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        told = re.match(rf"twin {name}: at ([\d.]+):", process.stdout.readline())
        assert told
        file = TWINS / "boards.yaml"
        if boards:
            file = tmp_path / "boards.yaml"
            file.write_text(boards)
        environment = {
            "HARNESS_BOARDS": str(file),
            "TWIN": str(TWIN),
            "TWIN_HOST": told[1],
            "TWIN_TFTP": str(tmp_path / "tftp"),
            "TWIN_TTY": str(tmp_path / "tty"),
            "TWIN_PASSWORD": "twin",
            "TWIN_KEY": f"{options.get('system', '')}/key",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "OTHER": str(tmp_path / "other"),
        }
        return Twin(process, environment, build, tmp_path)

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def inside() -> Iterator[list[str]]:
    """Words to put before a command, so that it runs in a network of its own: a twin's cable (tap0) leads to it."""
    if os.geteuid() or not Path("/dev/net/tun").exists():
        pytest.skip("needs root and /dev/net/tun to lay a cable to a virtual machine")
    script = f"{_CABLE} && echo laid && exec cat"
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin
    assert holder.stdout
    if holder.stdout.readline() != "laid\n":
        pytest.skip("may not make a network namespace here")
    yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    holder.stdin.close()
    holder.wait(timeout=10)


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory that users other than root may read, as whom dnsmasq runs."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def cabled(inside: list[str], build: Path, everybodys: Path, tmp_path: Path) -> Iterator[Callable[..., Boots]]:
    """Starts the twin `uboot` at the other end of the cable. What it returns is `harness boot` of a command on board
    `twin` of the given boards, in which ROOT is a directory; or another verb, with that board's name behind."""
    started: list[subprocess.Popen[str]] = []
    root, file = everybodys, tmp_path / "boards.yaml"

    def start(boards: str, *options: str | Path) -> Boots:
        (tmp_path / "tftp").symlink_to(root)
        file.write_text(boards.replace("ROOT", str(root)))
        words = [*inside, sys.executable, TWIN, "serve", "uboot", "--tftp", root, "--tap", "tap0", *options]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout
        assert started[-1].stdout.readline().startswith("twin uboot")
        return call

    def call(*command: str, verb: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        words = [*verb, "twin"] if verb else ["boot", "--build", build, "--board", "twin", "--", *command]
        return subprocess.run(
            [*inside, sys.executable, "-m", "harness", *words],
            cwd=tmp_path,
            # equal addresses in networks of their own are different boards, which only their locks do not know
            env={**os.environ, "HARNESS_BOARDS": str(file), "HARNESS_LOCKS": str(tmp_path / "locks")},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)
