"""bin/venv.sh: which packages it installs. pip is a script here that says and does what a test wants."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.lockfile import locked_file
from tests.faults.catalogue import Blame, fault
from tests.locks import wait_for_a_waiter

ROOT = Path(__file__).parents[2]
# Fails for the locked set with what is in the file `refuses`; tells the file `asked` what it was asked for.
PIP = """#!/bin/sh
[ "$1" = -c ] && exit 0
echo "$*" >>"{asked}"
case "$*" in *--require-hashes*) [ ! -f "{refuses}" ] || {{ cat "{refuses}"; exit 1; }} ;; esac
"""


class Checkout:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.refuses = directory / "refuses"
        self._asked = directory / "asked"
        (directory / ".venv/bin").mkdir(parents=True)
        (directory / "requirements").mkdir()
        for name in ("pyproject.toml", "requirements/run.lock", "requirements/test.lock"):
            (directory / name).write_text(name)
        python = directory / ".venv/bin/python"
        python.write_text(PIP.format(asked=self._asked, refuses=self.refuses))
        python.chmod(0o755)

    def ensure(self, kind: str) -> subprocess.CompletedProcess[str]:
        script = f'. "{ROOT}/bin/venv.sh"; ensure_venv "{self.directory}" {kind}'
        return subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=60, check=False)

    def asked(self) -> list[str]:
        """What pip was asked for since the last call."""
        lines = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        return [line.removeprefix("-m pip install -q --disable-pip-version-check ") for line in lines]

    def is_locked(self) -> bool:
        return (self.directory / ".venv/.locked").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


def test_the_locked_set_is_installed_once_and_again_when_it_changes(checkout: Checkout) -> None:
    assert checkout.ensure("run").returncode == 0
    lock = checkout.directory / "requirements/run.lock"
    locked = [f"--require-hashes -r {lock}", f"--no-deps --no-build-isolation -e {checkout.directory}"]
    assert checkout.asked() == locked
    assert checkout.is_locked()
    assert checkout.ensure("run").returncode == 0
    assert checkout.asked() == []
    lock.write_text("another")
    assert checkout.ensure("run").returncode == 0
    assert checkout.asked() == locked


def test_what_the_tests_need_is_enough_for_the_harness(checkout: Checkout) -> None:
    assert checkout.ensure("test").returncode == 0
    assert "requirements/test.lock" in checkout.asked()[0]
    assert checkout.ensure("run").returncode == 0
    assert checkout.asked() == []


@fault(
    "`git clean` removes the lock file of .venv while a command waits for it, and a third one locks a new file",
    where="two users",
    blame=Blame.NOBODY,
    survives="one installation at a time",
)
def test_who_waits_locks_the_file_that_is_there_now(checkout: Checkout) -> None:
    path = checkout.directory / ".venv.lock"
    first = locked_file(path, wait=False)
    assert first is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(checkout.ensure, "run")
        wait_for_a_waiter(first)
        path.unlink()
        second = locked_file(path, wait=False)
        assert second is not None
        os.close(first)
        wait_for_a_waiter(second)
        assert checkout.asked() == []
        os.close(second)
        assert waiting.result().returncode == 0
    assert checkout.asked()


@fault(
    "a package index lacks a version of the lock file",
    where="host",
    blame=Blame.NOBODY,
    survives="an installation of what pyproject.toml allows, which is told",
)
def test_versions_that_do_not_fit_here_are_replaced_by_what_is_allowed(checkout: Checkout) -> None:
    checkout.refuses.write_text("ERROR: No matching distribution found for click==99\n")
    done = checkout.ensure("test")
    assert done.returncode == 0
    assert "installing what pyproject.toml allows" in done.stderr
    assert checkout.asked()[-1] == f"-e {checkout.directory}[test]"
    assert not checkout.is_locked()


@fault(
    "a package index delivers another file under a locked version",
    where="hostile input",
    blame=Blame.INFRA,
    survives="nothing of it is installed",
)
def test_other_files_than_those_with_the_hashes_are_never_installed(checkout: Checkout) -> None:
    checkout.refuses.write_text("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n")
    done = checkout.ensure("run")
    assert done.returncode == 3
    assert "other files than requirements/run.lock has hashes of" in done.stderr
    assert len(checkout.asked()) == 1
    assert checkout.ensure("run").returncode == 3
