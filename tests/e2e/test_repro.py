"""A kernel's oops: packed, repeated, traced, and stopped for gdb."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from tests.e2e.conftest import BUILD_LIMIT_S, PROJECT, harness
from tests.faults.catalogue import Blame, fault

OOPS = PROJECT / "tests/e2e/oops-in-wakeup-tracer.patch"
TEST = "selftests/ftrace/test.d/tracer/wakeup.tc"
FUNCTION = "wakeup_tracer_init"
LIMIT_S = 900.0

pytestmark = pytest.mark.xdist_group("builds")  # they compile in one workspace, one after the other


@pytest.fixture(scope="module")
def crashed(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a test in which the kernel oopses each time. `build` first: this kernel then compiles one file."""
    assert build.is_dir()
    directory = tmp_path_factory.mktemp("crashed")
    words = ("run", "--patches", OOPS, "--suite", "selftests/ftrace", "-k", "tracer and wakeup.tc", "--no-confirm")
    done = harness(*words, "--no-history", "--out", directory / "run", cwd=directory, limit=BUILD_LIMIT_S)
    assert done.returncode == 1, done.stdout + done.stderr
    return directory / "run"


def test_an_archive_repeats_the_oops(crashed: Path, tmp_path: Path) -> None:
    packed = harness("repro", crashed, TEST, "--out", tmp_path / "a.tar.gz", cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    with tarfile.open(tmp_path / "a.tar.gz") as tarball:
        tarball.extractall(tmp_path, filter="data")
    (top,) = (each for each in tmp_path.iterdir() if each.is_dir())
    recipe = json.loads((top / "repro.json").read_text())
    assert FUNCTION in recipe["failure"]
    assert {"Image", "vmlinux", "root image"} <= recipe["files"].keys()
    assert "-incoming defer" in recipe["qemu"]
    assert FUNCTION in (top / "console.log").read_text()
    # the command builds the same kernel from what the archive has: so it is found in the cache
    command = f"{sys.executable} -m harness"
    (tmp_path / "harness").write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(PROJECT))} exec {command} "$@"\n')
    (tmp_path / "harness").chmod(0o755)
    done = subprocess.run(
        [top / "repro.sh", "--times", "3", "--out", tmp_path / "again"],
        env={**os.environ, "HARNESS": str(tmp_path / "harness")},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("3 of 3 repetitions failed like that"), done.stdout
    assert "not the kernel of the run" not in done.stderr


def test_the_functions_of_the_oops_are_traced(crashed: Path, tmp_path: Path) -> None:
    done = harness("repro", crashed, TEST, "--trace", "--out", tmp_path / "traced", cwd=tmp_path, limit=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    events = json.loads((tmp_path / "traced/trace.json").read_text())["traceEvents"]
    assert [each["name"] for each in events if each["ph"] in "BX"], (tmp_path / "traced/trace.txt").read_text()


@fault(
    "a NULL pointer dereference, while somebody waits for it with a debugger",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the machine, stopped with the CPU in the report, until Ctrl-C",
)
@pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="needs gdb-multiarch (package gdb-multiarch)")
def test_gdb_sees_the_function_that_oopsed(crashed: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "harness", "repro", str(crashed), TEST, "--attach", "--out", str(tmp_path / "held")]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(LIMIT_S, process.kill)
    limit.start()
    try:
        assert process.stderr
        told = []
        for line in process.stderr:
            told.append(line)
            if "gdb-multiarch -q" in line:
                break
        assert "gdb-multiarch -q" in told[-1], "".join(told)
        command = shlex.split(told[-1].partition("in another terminal: ")[2])
        seen = subprocess.run(
            [*command, "-batch"], capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL
        )
        assert f" {FUNCTION}\n" in seen.stdout, seen.stdout + seen.stderr
        assert "no CPU stands in a kernel report" not in seen.stdout
        process.send_signal(signal.SIGTERM)  # like Ctrl-C, which a shell may have had ignored
        stdout, _ = process.communicate()
        assert (process.returncode, stdout) == (0, "")
    finally:
        limit.cancel()
        process.kill()
        process.wait()
