"""`harness.build.host` and `harness.build.doctor`: what this host lacks and how it gets it, with scripted programs
instead of real ones."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.build import command, host
from harness.build.command import Finished
from harness.build.doctor import disk_row, doctor_rows
from harness.build.host import (
    STAGES,
    Tool,
    check_host,
    ensure_host,
    host_tools,
    toolchain_tools,
)
from harness.campaign import kernel
from harness.errors import InfraError, UserError
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import Recorder, write_script

APT_GET = """
echo "$DEBIAN_FRONTEND $*" >> "$FAKE/calls"
if [ -e "$FAKE/$1-fails" ]; then
  cat "$FAKE/$1-fails"; rm "$FAKE/$1-fails"; exit 100
fi
if [ "$1" = install ]; then
  [ -e "$FAKE/useless" ] && exit 0
  for word; do package=$word; done
  printf '#!/bin/sh\\necho tool 2.5\\n' > "$FAKE/bin/wanted"
  chmod +x "$FAKE/bin/wanted"
  echo; echo "Setting up $package"
fi
"""


class Machine:
    """A host with nothing but what its `bin` holds, and one tool that it may lack."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.bin = root / "bin"
        self.lists = root / "lists"
        (self.lists / "partial").mkdir(parents=True)
        (self.lists / "x_Packages").touch()
        for name in ("sh", "cat", "rm", "chmod", "env", "true", "sleep"):
            self.bin.mkdir(exist_ok=True)
            (self.bin / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
        write_script(self.bin / "apt-get", APT_GET)
        monkeypatch.setenv("FAKE", str(root))
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        monkeypatch.setattr(host, "SYSTEM_PATH", str(root / "sbin"))
        monkeypatch.setattr(host, "LISTS", self.lists)
        monkeypatch.setattr(host, "LOCK_POLL_S", 0.0)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(host, "_COMMON", (wanted(), wanted("other", stages="qemu", package="other-package")))
        monkeypatch.setattr(host, "_CROSS", ())
        write_script(self.bin / "other", "echo other 1.0")

    def calls(self) -> list[str]:
        log = self.root / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def fail(self, verb: str, said: str) -> None:
        (self.root / f"{verb}-fails").write_text(said)


def wanted(name: str = "wanted", *, stages: str = "build", package: str = "wanted-package") -> Tool:
    return Tool(name=name, command=name, package=package, needed_for=frozenset(stages.split()), minimum_version="2.0")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


INSTALL = "noninteractive install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 wanted-package"
UPDATE = "noninteractive update"


def test_a_complete_host_is_left_alone_and_costs_no_time(machine: Machine) -> None:
    write_script(machine.bin / "wanted", f"touch {machine.bin}/was-run")
    progress = Recorder()
    ensure_host(progress=progress)
    assert progress.said == machine.calls() == []
    assert not (machine.bin / "was-run").exists()


def test_what_is_missing_is_told_in_one_line_and_installed(machine: Machine) -> None:
    progress = Recorder()
    ensure_host(progress=progress)
    assert progress.said[0] == "missing on this host: wanted (wanted-package)"
    assert machine.calls() == [INSTALL]
    log = machine.root / "cache/arm64-ftrace-harness/logs/host-install.log"
    assert "Setting up wanted-package" in log.read_text()
    assert str(log) in progress.said[1]
    ensure_host()
    assert len(machine.calls()) == 1


def test_what_another_harness_installed_meanwhile_is_not_installed_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def wait(_: Path) -> Iterator[None]:
        write_script(machine.bin / "wanted", "")
        yield

    monkeypatch.setattr(host, "locked", wait)
    ensure_host()
    assert machine.calls() == []


def test_an_interrupt_does_not_stop_dpkg_half_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []

    def run(*args: Any, finishes: bool = False, **more: Any) -> Finished:
        started.append(finishes)
        return command.run(*args, finishes=finishes, **more)

    monkeypatch.setattr(host, "run", run)
    ensure_host()
    assert started == [True]


def test_only_what_the_stage_needs_is_installed(machine: Machine) -> None:
    ensure_host(needed_for={"qemu", "rootfs"})
    assert machine.calls() == []
    (machine.bin / "other").unlink()
    with pytest.raises(InfraError, match=r"missing on this host: other \(other-package\); install them"):
        ensure_host(needed_for={"qemu"}, install=False)


@pytest.mark.parametrize(
    ("name", "machine", "packages"),
    [
        (None, "x86_64", {}),
        ("gcc", "x86_64", {}),
        ("gcc-11", "x86_64", {"aarch64-linux-gnu-gcc-11": "gcc-11-aarch64-linux-gnu"}),
        ("gcc-11", "aarch64", {"gcc-11": "gcc-11"}),
        ("clang", "x86_64", {"clang": "clang", "ld.lld": "lld", "llvm-ar": "llvm"}),
        ("clang-19", "aarch64", {"clang-19": "clang-19", "ld.lld-19": "lld-19", "llvm-ar-19": "llvm-19"}),
        ("/opt/cross/bin/aarch64-linux-gnu-", "x86_64", {}),
        ("aarch64-none-linux-gnu-", "x86_64", {}),
    ],
)
def test_what_a_toolchain_needs_of_debian(name: str | None, machine: str, packages: dict[str, str]) -> None:
    assert {tool.command: tool.package for tool in toolchain_tools(name, machine=machine)} == packages


def test_a_toolchain_is_installed_when_it_is_asked_for(machine: Machine) -> None:
    ensure_host(needed_for={"qemu"}, also=[wanted(package="wanted-19")])
    assert machine.calls() == [INSTALL.replace("wanted-package", "wanted-19")]
    ensure_host(needed_for={"qemu"}, also=[wanted(package="wanted-19")])
    assert len(machine.calls()) == 1


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        (["forky", "sid"], "which is in forky, sid"),
        ([], "which no suite has that this host can ask"),
    ],
)
@fault("apt-get knows no package of that name", where="host", blame=Blame.USER, survives="what is installed")
def test_a_toolchain_that_there_is_not_is_the_users_mistake(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, offered: list[str], told: str
) -> None:
    for _ in range(2):  # apt-get is asked again after an update
        machine.fail("install", "E: Unable to locate package clang-99\n")
    progress = Recorder()
    asked: list[list[str]] = []

    def suites_with(packages: list[str], **_: object) -> list[str]:
        asked.append(packages)
        return offered

    monkeypatch.setattr(kernel, "suites_with", suites_with)
    with pytest.raises(UserError) as caught:
        kernel._toolchain("clang-99", progress)
    assert caught.value.message == (
        "--toolchain: expected the command clang-99, found none on PATH; its package in Debian is clang-99, "
        f"{told}; use a host of such a suite, or a compiler by its prefix"
    )
    assert asked == [["clang-99", "lld-99", "llvm-99"]]
    assert progress.said[-1].startswith("installing failed") or "there is still no clang-99" in progress.said[-1]


def test_an_unknown_stage_is_a_mistake_of_the_caller(machine: Machine) -> None:
    with pytest.raises(ValueError, match=r"unknown stages \['boot'\]; known: .*qemu"):
        ensure_host(needed_for={"boot"})


def test_programs_are_also_found_where_a_users_path_does_not_lead(machine: Machine) -> None:
    write_script(machine.root / "sbin/wanted", "")
    ensure_host()
    assert machine.calls() == []


@pytest.mark.parametrize("state", ["absent", "old"])
def test_absent_or_old_package_lists_are_fetched_first(machine: Machine, state: str) -> None:
    if state == "absent":
        (machine.lists / "x_Packages").unlink()
    else:
        then = time.time() - 8 * 86400
        for path in (machine.lists / "partial", machine.lists):
            os.utime(path, (then, then))
    ensure_host()
    assert machine.calls() == [UPDATE, INSTALL]


def test_a_failed_install_is_tried_again_with_new_lists(machine: Machine) -> None:
    machine.fail("install", "E: Unable to fetch some archives: 404\n")
    ensure_host()
    assert machine.calls() == [INSTALL, UPDATE, INSTALL]


@fault(
    "installing a host package fails",
    where="host",
    blame=Blame.INFRA,
    survives="apt's own words; the command to try",
)
def test_an_install_that_keeps_failing_tells_apts_words_and_the_command(machine: Machine) -> None:
    (machine.lists / "x_Packages").unlink()
    machine.fail("install", "Reading...\nE: Unable to locate package wanted-package\n")
    with pytest.raises(
        InfraError, match="by hand: apt-get install --yes --no-install-recommends wanted-pack"
    ) as caught:
        ensure_host()
    assert caught.value.details == ("E: Unable to locate package wanted-package",)


@fault("another apt is at work", where="two users", blame=Blame.NOBODY, survives="both installations")
def test_another_apt_at_work_is_waited_for(machine: Machine) -> None:
    (machine.lists / "x_Packages").unlink()
    machine.fail("update", "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)\n")
    ensure_host()
    assert machine.calls() == [UPDATE, UPDATE, INSTALL]


def test_an_install_that_helped_nothing_is_not_believed(machine: Machine) -> None:
    (machine.root / "useless").touch()
    with pytest.raises(InfraError, match="installed wanted-package, yet there is still no wanted"):
        ensure_host()


def test_without_the_right_to_install_the_command_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    message = r"install them: sudo apt-get install --yes --no-install-recommends wanted-package$"
    with pytest.raises(InfraError, match=message):
        ensure_host()
    write_script(machine.bin / "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(InfraError, match=message):
        ensure_host()
    assert machine.calls() == []


def test_a_sudo_that_asks_for_no_password_is_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    write_script(machine.bin / "sudo", 'echo "sudo $*" >> "$FAKE/calls"; shift; unset DEBIAN_FRONTEND; exec "$@"')
    ensure_host()
    assert machine.calls()[0] == "sudo -n true"
    assert machine.calls()[-1] == INSTALL


def test_installing_can_be_forbidden(machine: Machine) -> None:
    with pytest.raises(InfraError, match=r"apt-get install .* wanted-package$"):
        ensure_host(install=False)
    assert machine.calls() == []


def test_a_system_without_apt_is_told_the_packages(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    with pytest.raises(InfraError, match="install your system's equivalents of these Debian packages: wanted-package"):
        ensure_host()


# doctor


def test_doctor_tells_versions_and_what_is_too_old(machine: Machine) -> None:
    write_script(machine.bin / "wanted", "echo 'wanted (Debian 1:9) 1.9.12'; echo 3.0 >&2")
    (machine.bin / "other").unlink()
    found = {status.tool.name: status for status in check_host()}
    assert found["wanted"].version == "1.9.12"
    assert found["wanted"].outdated
    rows = {row.name: row for row in doctor_rows()}
    assert not rows["wanted"].ok
    assert rows["wanted"].remedy == "needs 2.0 or later"
    assert rows["other"].found == "missing"
    assert rows["other"].remedy == "apt-get install --yes --no-install-recommends other-package"
    assert rows["other"].needed_for == "qemu"


def test_versions_are_compared_as_numbers(machine: Machine) -> None:
    write_script(machine.bin / "wanted", "echo wanted 2.10")
    assert not {status.tool.name: status for status in check_host()}["wanted"].outdated


def test_a_program_that_hangs_does_not_hang_doctor(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "VERSION_TIMEOUT_S", 0.2)
    write_script(machine.bin / "wanted", "sleep 30")
    status = check_host()[0]
    assert status.found
    assert status.version is None


def test_doctor_tells_which_mirror_is_used(machine: Machine) -> None:
    """A host without a security mirror can still do the main job."""
    write_script(machine.bin / "apt-get", 'echo "http://mirror.example/debian|bookworm|main|Debian"')
    row = {row.name: row for row in doctor_rows()}["Debian mirror"]
    assert row.ok
    assert row.found == "http://mirror.example/debian (none for security suites)"


def test_doctor_tells_what_to_add_where_there_is_no_mirror(machine: Machine) -> None:
    write_script(machine.bin / "apt-get", "exit 0")
    row = {row.name: row for row in doctor_rows()}["Debian mirror"]
    assert not row.ok
    assert "/etc/apt/sources.list" in row.remedy


def test_a_full_disk_is_told(machine: Machine) -> None:
    assert disk_row(needed_gb=0).ok
    row = disk_row(needed_gb=10**9)
    assert not row.ok
    assert "XDG_CACHE_HOME" in row.remedy
    assert str(machine.root / "cache") in row.found


# the table


def test_every_tool_can_be_found_and_serves_a_stage() -> None:
    tools = host_tools(machine="x86_64")
    assert all(bool(tool.command) != bool(tool.probe) for tool in tools)
    assert all(tool.needed_for and tool.needed_for <= set(STAGES) for tool in tools)
    assert len({tool.name for tool in tools}) == len(tools)


def test_an_arm64_host_needs_no_cross_compiler() -> None:
    packages = {tool.package for tool in host_tools(machine="aarch64")}
    assert "gcc" in packages
    assert not {"gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"} & packages
    assert {"gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"} <= {tool.package for tool in host_tools(machine="x86_64")}
