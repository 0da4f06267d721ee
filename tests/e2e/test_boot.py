"""Booting: commands, failures at boot, and nothing left behind."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect

from tests.e2e.conftest import harness
from tests.faults.catalogue import Blame, fault

BOARDS = """
boards:
  named:
    boot: {method: qemu, extra_args: [-name, NAME]}
  no-root:
    boot: {method: qemu, extra_args: [-name, NAME]}
    cmdline: root=/dev/nowhere
  hangs:
    boot: {method: qemu}
    cmdline: init=/bin/cat
    limits: {boot: 15}
  bad-arguments:
    boot: {method: qemu, extra_args: [-no-such-option]}
  four:
    boot: {method: qemu, cpus: 4, memory_mib: 512}
"""


def _boards(tmp_path: Path) -> Path:
    path = tmp_path / "boards.yaml"
    path.write_text(BOARDS.replace("NAME", _name(tmp_path)))
    return path


def _name(tmp_path: Path) -> str:
    """What the QEMUs of one test are called, and those of no other that runs at the same time."""
    return hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]


def boot(build: Path, tmp_path: Path, board: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    return harness(
        "boot", "--build", build, "--boards", _boards(tmp_path), "--board", board, "--", command, cwd=tmp_path
    )


def _qemu_of(marker: str) -> list[str]:
    """The process ids of QEMUs with `marker` on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-system-aarch64") and any(marker.encode() in word for word in words):
            found.append(process.name)
    return found


def test_process_ids_look_like_nothing_else_in_a_trace(build: Path, tmp_path: Path) -> None:
    done = harness("boot", "--build", build, "--", "sh -c 'echo $$'", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 2_000_000 < int(done.stdout) < 2_100_000


def test_a_command_and_its_exit_code(build: Path, tmp_path: Path) -> None:
    done = harness("boot", "--build", build, "--", "uname -m; exit 7", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("aarch64\n", 7)
    console = next(tmp_path.glob("out/boot-*/console.log")).read_text()
    assert "Linux version" in console


def test_the_build_is_found_again_without_make(build: Path, tmp_path: Path) -> None:
    done = harness("build", cwd=tmp_path)
    assert done.returncode == 0
    assert "nothing changed" in done.stderr
    assert Path(done.stdout.strip()) == build


def test_cpus_and_memory_are_the_boards(build: Path, tmp_path: Path) -> None:
    command = "nproc; awk '/MemTotal/ {print ($2 < 524288)}' /proc/meminfo"
    done = harness(
        "boot", "--build", build, "--boards", _boards(tmp_path), "--board", "four", "--", command, cwd=tmp_path
    )
    assert done.stdout == "4\n1\n"


@fault("the kernel finds no root file system", where="boot", blame=Blame.KERNEL, survives="the last lines of its log")
def test_a_panic_at_boot_is_the_kernels_with_the_last_lines(build: Path, tmp_path: Path) -> None:
    done = boot(build, tmp_path, "no-root")
    assert done.returncode == 1
    assert "the kernel panicked at boot: Kernel panic - not syncing: VFS: Unable to mount root fs" in done.stderr
    assert len(done.stderr.splitlines()) > 20
    assert not _qemu_of(_name(tmp_path))


@fault(
    "the kernel starts a program that never becomes a shell",
    where="boot",
    blame=Blame.KERNEL,
    survives="the last lines of its log",
)
def test_a_hang_at_boot_is_told_within_its_limit(build: Path, tmp_path: Path) -> None:
    done = boot(build, tmp_path, "hangs")
    assert done.returncode == 1
    assert "no shell within 15 s" in done.stderr
    assert "Run /bin/cat as init process" in done.stderr


@fault("QEMU refuses an argument of boards.yaml", where="boot", blame=Blame.INFRA, survives="QEMU's own words")
def test_qemu_that_does_not_start_is_infrastructure(build: Path, tmp_path: Path) -> None:
    done = boot(build, tmp_path, "bad-arguments")
    assert done.returncode == 3
    assert "no-such-option" in done.stderr


@fault("SIGKILL while QEMU runs", where="killed", blame=Blame.NOBODY, survives="nothing: QEMU ends too")
def test_qemu_ends_with_a_harness_that_is_killed(build: Path, tmp_path: Path) -> None:
    marker = _name(tmp_path)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "harness",
        "boot",
        "--build",
        build,
        "--boards",
        _boards(tmp_path),
        "--board",
        "named",
    ]
    process = subprocess.Popen(
        [*command, "--", "echo up; sleep 600"],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert len(_qemu_of(marker)) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while _qemu_of(marker):
        assert time.monotonic() < deadline, "QEMU outlived the harness"
        time.sleep(0.05)


def test_a_person_at_the_console(build: Path, tmp_path: Path) -> None:
    """Type a command, see its answer and a kernel message, leave with Ctrl-]."""
    command = f"{sys.executable} -m harness boot --build {build} --boards {_boards(tmp_path)} --board named"
    console = pexpect.spawn(command, cwd=str(tmp_path), timeout=60, encoding="utf-8", dimensions=(30, 100))
    console.expect("Ctrl-] leaves")
    console.expect("target# ")
    console.sendline("uname -m; stty size; echo from-the-kernel > /dev/kmsg")
    console.expect("aarch64\r\n30 100\r\n")
    console.expect(r"\] from-the-kernel")
    console.send("\x1d")
    console.expect(pexpect.EOF)
    console.close()
    assert console.exitstatus == 0
    assert not _qemu_of(_name(tmp_path))


@fault(
    "a panic while `harness boot` runs a command",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the report with its call trace",
)
def test_a_command_that_kills_the_kernel_is_told_as_that(build: Path, tmp_path: Path) -> None:
    done = harness("boot", "--build", build, "--", "echo c > /proc/sysrq-trigger", cwd=tmp_path)
    assert done.returncode == 1
    assert "panic: sysrq triggered crash" in done.stderr
    assert "Call trace:" in done.stderr
