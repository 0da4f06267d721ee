"""A machine in QEMU whose host has no room for what it writes: small file systems that are mounted for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import PROJECT
from tests.faults.catalogue import Blame, fault

BOARDS = """
boards:
  small: {boot: {method: qemu}, limits: {boot: 60, silence: 5}}
"""
_ON = 'mount -t tmpfs -o "size=$0" none "$1" && TMPDIR="$1" exec "${@:2}"'


def boot(build: Path, tmp_path: Path, command: str, *, room: str) -> subprocess.CompletedProcess[str]:
    """`harness boot` with so much room for temporary files, in which QEMU keeps what a machine writes."""
    small = tmp_path / "small"
    small.mkdir()
    mounting = ["unshare", "-Urm", "bash", "-c", _ON, room, str(small)]
    if subprocess.run([*mounting, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs user namespaces, which this host does not allow")
    (tmp_path / "boards.yaml").write_text(BOARDS)
    words = [*mounting, sys.executable, "-m", "harness", "boot", "--build", str(build), "--boards", "boards.yaml"]
    return subprocess.run(
        [*words, "--board", "small", "--", command],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        check=False,
    )


@fault(
    "no room for QEMU's temporary files when a machine starts", where="disk", blame=Blame.INFRA,
    survives="QEMU's own words",
)  # fmt: skip
def test_a_machine_that_can_not_start(build: Path, tmp_path: Path) -> None:
    done = boot(build, tmp_path, "true", room="300k")
    assert done.returncode == 3, done.stderr
    assert "qemu-system-aarch64: no space left on device (file system " in done.stderr
    assert "Could not" in done.stderr


@fault(
    "a machine writes more than its host has room for", where="disk", blame=Blame.INFRA,
    survives="the kernel's good name; the console log",
)  # fmt: skip
def test_a_machine_that_writes_too_much_does_not_hang(build: Path, tmp_path: Path) -> None:
    done = boot(build, tmp_path, "dd if=/dev/zero of=/root/x bs=1M count=100; sync", room="8m")
    assert done.returncode == 3, done.stderr
    assert "QEMU has stopped the machine: it can't write to the machine's disk" in done.stderr
    assert "Linux version" in next(tmp_path.glob("out/boot-*/console.log")).read_text()
