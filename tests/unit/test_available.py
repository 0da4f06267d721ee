"""What this process may use of its host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import available


def _host(
    root: Path, *, group: str = "/", free_mib: int = 8000, own: dict[str, str] | None = None, **groups: dict[str, str]
) -> Path:
    """A root directory with /proc and control groups; `groups`: files by directory below /sys/fs/cgroup,
    `own`: those in it."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal:  99999999 kB\nMemAvailable:   {free_mib * 1024} kB\n")
    (root / "proc/self/cgroup").write_text(f"4:memory:/elsewhere\n0::{group}\n")
    for name, files in (groups | ({"": own} if own is not None else {})).items():
        directory = root / "sys/fs/cgroup" / name.replace("_", "/")
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (directory / file).write_text(text + "\n")
    return root


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def test_without_control_groups_the_host_is_ours(tmp_path: Path) -> None:
    root = _host(tmp_path)
    assert (available.cpus(root), available.memory_mib(root)) == (8, 8000)


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    assert (available.cpus(tmp_path), available.memory_mib(tmp_path)) == (8, 0)


@pytest.mark.parametrize(("quota", "cpus"), [("max 100000", 8), ("150000 100000", 2), ("10000 100000", 1), ("", 8)])
def test_a_containers_cpus(tmp_path: Path, quota: str, cpus: int) -> None:
    """It sees its own control group as the root of all."""
    assert available.cpus(_host(tmp_path, own={"cpu.max": quota})) == cpus


def test_a_services_cpus_are_limited_further_up_too(tmp_path: Path) -> None:
    root = _host(tmp_path, group="/a/b", a={"cpu.max": "300000 100000"}, a_b={"cpu.max": "max 100000"})
    assert available.cpus(root) == 3


def test_a_containers_memory_is_what_it_has_not_used_and_its_cache(tmp_path: Path) -> None:
    stat = f"anon 1\ninactive_file {500 << 20}\n"
    files = {"memory.max": str(4000 << 20), "memory.current": str(1500 << 20), "memory.stat": stat}
    assert available.memory_mib(_host(tmp_path, own=files)) == 3000
    assert available.memory_mib(_host(tmp_path / "small", free_mib=100, own=files)) == 100
