"""The wheel, installed in an environment of its own, does away from the checkout what the checkout does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import __version__
from harness.layout import MUTANTS, PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]  # one worker, which makes it once

RECORD = {"key": "k", "release": "7.3.4", "without": {}, "test_modules_left_out": {}}
WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")  # root then heeds permissions too


@dataclass(frozen=True)
class Installed:
    """`place`: an empty directory to work in; home and caches are below it."""

    program: Path
    package: Path
    place: Path

    def harness(self, *arguments: str | Path, prefix: tuple[str, ...] = (), **more: str) -> str:
        """What the installed command prints; it has to succeed."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.place / "home"), **more}
        done = subprocess.run(
            [*prefix, self.program, *arguments],
            cwd=self.place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> set[Path]:
        """All that is installed of the harness, but Python's own caches of what it has compiled."""
        return {path for path in self.package.rglob("*") if "__pycache__" not in path.parts}


def _call(*words: str | Path) -> None:
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel that is made from the source archive that is made from this checkout, and what it depends on."""
    made, venv, place = (tmp_path_factory.mktemp(name) for name in ("made", "venv", "place"))
    _call(sys.executable, "-m", "build", "--no-isolation", "--outdir", made, ".")
    [wheel] = made.glob("*.whl")
    _call(sys.executable, "-m", "venv", venv)
    _call(venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    [package] = venv.glob("lib/python*/site-packages/harness")
    (place / "home").mkdir()
    return Installed(venv / "bin/harness", package, place)


@pytest.fixture(scope="module")
def build(installed: Installed) -> Path:
    """What stands for a finished kernel: enough to say which tests there are."""
    directory = installed.place / "build"
    tests = directory / "selftests/ftrace/test.d/basic"
    tests.mkdir(parents=True)
    (tests / "a.tc").write_text("# description: a\n# flags: instance\n")
    (directory / "build.json").write_text(json.dumps(RECORD))
    (directory / ".config").write_text("CONFIG_LIVEPATCH=y\n")
    return directory


@pytest.fixture(scope="module")
def listed(build: Path) -> str:
    """What the checkout says that a run of `build` would run."""
    command: list[str | Path] = [sys.executable, "-m", "harness", "run", "--build", build, "--list"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_version(installed: Installed) -> None:
    assert installed.harness("--version").split()[-1] == __version__


def test_nothing_comes_from_the_checkout(installed: Installed) -> None:
    python = installed.program.with_name("python")
    program = (
        "import harness.layout as l; print(*(path for name, path in vars(l).items() if name.isupper()), sep='\\n')"
    )
    command: list[str | Path] = [python, "-c", program]
    told = subprocess.run(command, cwd=installed.place, capture_output=True, text=True, check=True).stdout
    paths = [Path(line) for line in told.splitlines()]
    assert len(paths) > 6
    for path in paths:
        assert path.exists(), f"the wheel lacks {path}"
        assert path.is_relative_to(installed.package)


def test_boards_and_their_schema(installed: Installed) -> None:
    names = [line.split()[0] for line in installed.harness("boards").splitlines() if line[0] != " "]
    assert {"qemu-virt", "rpi4", "labgrid-board"} <= set(names)
    assert installed.harness("boards", "--schema") == (PROJECT / "docs/boards.schema.json").read_text()


def test_mutants(installed: Installed) -> None:
    names = {line.partition(":")[0] for line in installed.harness("mutants", "--list").splitlines()}
    assert names == {path.stem for path in MUTANTS.glob("*.patch")}


def test_a_directory_of_ones_own(installed: Installed) -> None:
    installed.harness("init", "lab")
    own = str(installed.place / "lab/boards.yaml")
    assert installed.harness("boards", HARNESS_BOARDS=own).splitlines()[0].startswith("qemu-virt ")


def test_every_test_is_found(installed: Installed, build: Path, listed: str) -> None:
    assert "testcases/regs/test_ops.py::" in listed
    assert "selftests/ftrace/test.d/basic/a.tc[instance]" in listed
    assert installed.harness("run", "--build", build, "--list") == listed


def test_nothing_is_written_beside_what_is_installed(installed: Installed, build: Path) -> None:
    before = installed.files()
    installed.harness("run", "--build", build, "--list")
    installed.harness("completion", "bash")
    assert installed.files() == before


def test_what_is_installed_may_be_read_only(installed: Installed, build: Path, listed: str) -> None:
    venv = installed.program.parents[1]
    _call("chmod", "-R", "a-w", venv)
    try:
        prefix = WITHOUT_PRIVILEGES if os.geteuid() == 0 else ()
        command: list[str | Path] = [*prefix, "touch", installed.package / "x"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0, "it is not read-only"
        assert installed.harness("run", "--build", build, "--list", prefix=prefix) == listed
    finally:
        _call("chmod", "-R", "u+w", venv)
