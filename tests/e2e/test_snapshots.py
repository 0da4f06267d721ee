"""Snapshots and workers on a booted kernel."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.boards.inventory import read_inventory
from harness.build.finished import load_build
from harness.campaign.machine import media_for
from harness.display import Display
from harness.errors import InfraError
from harness.target.base import Cpus, Media, Target
from harness.target.methods.snapshot import Snapshots
from tests.e2e.conftest import harness
from tests.faults.catalogue import Blame, fault

QUICK = "test_text or basic1 or basic3 or (test-state and taking)"


@pytest.fixture(scope="module")
def media(build: Path) -> Media:
    with Display() as display:
        return media_for(read_inventory(None).board("qemu-virt"), load_build(build), display)


@pytest.fixture(scope="module")
def saved(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    """A snapshot of a machine with a file in /run and a shell variable's worth of history."""
    directory, logs = tmp_path_factory.mktemp("snapshot, with comma"), tmp_path_factory.mktemp("logs")
    snapshots = Snapshots(read_inventory(None).board("qemu-virt"), media, directory, logs=logs)
    target = snapshots.boot()
    assert target.run("echo kept > /run/kept; echo kept > /root/kept; sync").ok
    snapshots.save(target)
    assert snapshots.is_saved
    return snapshots


@contextlib.contextmanager
def restored(snapshots: Snapshots) -> Iterator[Target]:
    target = snapshots.restore("a test of snapshots")
    try:
        yield target
    finally:
        target.close()


@pytest.mark.xdist_group("snapshot")
def test_memory_and_disks_are_as_they_were_kept_whatever_an_earlier_machine_did(saved: Snapshots) -> None:
    with restored(saved) as target:
        assert target.run("cat /run/kept /root/kept").output == "kept\nkept"
        assert target.run("rm /root/kept /run/kept; echo 1 > /proc/sys/kernel/ftrace_enabled; sync").ok
    with restored(saved) as target:
        assert target.run("cat /run/kept /root/kept").output == "kept\nkept"


@pytest.mark.xdist_group("snapshot")
def test_bash_can_substitute_processes(saved: Snapshots) -> None:
    """The livepatch scripts show what they expected and what came with it."""
    with restored(saved) as target:
        assert target.run("bash -c 'cat <(echo substituted)'").output == "substituted"


@pytest.mark.xdist_group("snapshot")
def test_machines_of_one_snapshot_run_at_the_same_time(saved: Snapshots) -> None:
    with restored(saved) as first, restored(saved) as second:
        first.run("echo first > /run/kept")
        second.run("echo second > /run/kept")
        assert first.run("cat /run/kept").output == "first"
        assert second.run("cat /run/kept").output == "second"


@pytest.mark.xdist_group("snapshot")
def test_the_clock_is_right(saved: Snapshots) -> None:
    time.sleep(2.1)  # a clock that went on where it was kept is seen
    with restored(saved) as target:
        before = time.time()
        told = float(target.run("date +%s.%N").output)
        assert before - 1.0 < told < time.time() + 1.0


@pytest.mark.xdist_group("snapshot")
def test_no_two_machines_have_the_same_random_numbers(saved: Snapshots) -> None:
    command = "dd if=/dev/urandom bs=16 count=1 2>/dev/null | od -An -tx1; cat /proc/sys/kernel/random/uuid"
    answers = set()
    for _ in range(3):
        with restored(saved) as target:
            answers.add(target.run(command).output)
    assert len(answers) == 3


@pytest.mark.xdist_group("snapshot")
def test_the_network_works(saved: Snapshots) -> None:
    with restored(saved) as target:
        assert target.run("ping -c 1 -W 5 127.0.0.1 >/dev/null").ok
        assert target.run("ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0").ok
        assert target.run("ping -c 1 -W 10 10.0.2.2", timeout=30).ok  # QEMU's own gateway


@pytest.mark.xdist_group("snapshot")
def test_code_that_is_patched_while_another_cpu_executes_it(saved: Snapshots) -> None:
    """With a thread for each CPU, QEMU 7.2 loses about every second such change."""
    for _ in range(4):
        target = saved.restore("busy code", cpus=Cpus.SEEING_PATCHES)
        try:
            done = target.run("cd /payload/selftests/livepatch && ./test-syscall.sh", timeout=60)
            assert done.ok, done.output
        finally:
            target.close()


@pytest.mark.xdist_group("snapshot")
def test_its_console_is_the_kernel_log(saved: Snapshots) -> None:
    with restored(saved) as target:
        target.run("echo a word of a restored kernel > /dev/kmsg")
        assert target.console.expect("a word of a restored kernel", timeout=10)


@pytest.mark.xdist_group("snapshot")
@fault(
    "a panic in a machine that was restored",
    where="kernel",
    blame=Blame.KERNEL,
    survives="its log: the machine went down by itself",
)
def test_a_panic_is_seen_and_ends_the_machine(saved: Snapshots) -> None:
    with restored(saved) as target:
        target.start("echo c > /proc/sysrq-trigger")
        assert target.console.wait_closed(30)
        assert any("Kernel panic" in line for line in target.console.tail(100))
        assert target.went_down


@pytest.mark.xdist_group("snapshot")
@fault(
    "the kernel of a snapshot is replaced",
    where="cache",
    blame=Blame.INFRA,
    survives="nothing is restored that does not match",
)
def test_a_snapshot_is_refused_with_another_kernel(media: Media, tmp_path: Path) -> None:
    image = tmp_path / "Image"
    image.write_bytes(media.image.read_bytes())
    mine = Media(image=image, root=media.root, payload=media.payload)
    (tmp_path / "kept").mkdir()
    snapshots = Snapshots(read_inventory(None).board("qemu-virt"), mine, tmp_path / "kept", logs=tmp_path)
    snapshots.save(snapshots.boot())
    os.utime(image, (1, 1))
    with pytest.raises(InfraError, match="another kernel"):
        snapshots.restore("a test")


def _verdicts(run_dir: Path) -> dict[str, str]:
    results = json.loads((run_dir / "results.json").read_text())["results"]
    return {result["test"]: result["verdict"] for result in results}


def _qemus_below(pid: int) -> list[int]:
    """The QEMU processes that `pid` or its workers have started."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            name, rest = (entry / "stat").read_text().rpartition(")")[::2]
            parents[int(entry.name)], names[int(entry.name)] = int(rest.split()[1]), name.partition("(")[2]

    def is_below(process: int) -> bool:
        while process > 1:
            process = parents.get(process, 0)
            if process == pid:
                return True
        return False

    return [process for process, name in names.items() if name.startswith("qemu-system") and is_below(process)]


@fault(
    "QEMU is killed again and again during a run",
    where="host",
    blame=Blame.NOBODY,
    survives="every verdict, PASS, from other machines",
)
def test_machines_that_are_killed_cost_no_result_and_no_verdict(build: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "run", "--build", str(build), "-k", QUICK, "-j", "2"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([*command, "--out", str(tmp_path / "run")], stdout=said, stderr=said, cwd=tmp_path)
    events = tmp_path / "run/events.jsonl"
    chance = random.Random(5)
    killed = seen = 0
    while process.poll() is None:
        # one for each test that ends, and the newest one: no test is to lose all its tries
        ended = events.read_bytes().count(b'"finished"') if events.is_file() else 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.0, 1.5) if ended > seen else 0.02)
        machines = _qemus_below(process.pid)
        if ended > seen and killed < 10 and machines:
            seen = ended
            with contextlib.suppress(ProcessLookupError):
                os.kill(max(machines), signal.SIGKILL)
                killed += 1
    assert process.wait(timeout=10) == 0, (tmp_path / "said").read_text()
    assert killed >= 5
    assert set(_verdicts(tmp_path / "run").values()) == {"PASS"}
    told = events.read_text()
    assert "run again" in told or "restoring the snapshot failed" in told  # as the moment was


def test_one_machine_and_several_give_the_same_verdicts_and_clean_up(build: Path, tmp_path: Path) -> None:
    for workers in ("1", "3"):
        arguments = ("--build", build, "-k", QUICK, "-j", workers, "--out", tmp_path / workers)
        done = harness("run", *arguments, cwd=tmp_path, environment={"XDG_CACHE_HOME": str(_cache_of(tmp_path))})
        assert done.returncode == 0, done.stdout + done.stderr
    assert _verdicts(tmp_path / "1") == _verdicts(tmp_path / "3")
    assert not list((_cache_of(tmp_path) / "arm64-ftrace-harness/snapshots").iterdir())


def _cache_of(tmp_path: Path) -> Path:
    """A cache of this test's own, in which the big things are the host's."""
    mine = tmp_path / "cache"
    if not mine.is_dir():
        (mine / "arm64-ftrace-harness").mkdir(parents=True)
        from harness.build.cache import cache_root

        for part in ("rootfs", "apt", "downloads"):
            (mine / "arm64-ftrace-harness" / part).symlink_to(cache_root() / part)
    return mine


@fault(
    "SIGKILL of a run with several workers",
    where="killed",
    blame=Blame.NOBODY,
    survives="its results; no worker and no machine is left",
)
def test_a_killed_run_leaves_no_worker_and_no_machine(build: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "run", "--build", str(build), "-k", QUICK, "-j", "2"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([*command, "--out", str(tmp_path / "run")], stdout=said, stderr=said, cwd=tmp_path)
    events = tmp_path / "run/events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.is_file() and b'"finished"' in events.read_bytes()):
        assert time.monotonic() < deadline, (tmp_path / "said").read_text()
        time.sleep(0.05)
    children = _tree_of(process.pid)
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    # what had ended before has no start time
    while left := [child for child, began in children.items() if began and _began(child) == began]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert harness("report", tmp_path / "run", cwd=tmp_path).returncode == 0


def _tree_of(pid: int) -> dict[int, str]:
    """The processes below `pid`, each with its start time, because numbers are given again."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child: _began(child), **_tree_of(child)}
    return found


def _began(pid: int) -> str:
    """When a process was started, in the kernel's ticks; empty where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
