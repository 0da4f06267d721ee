"""What bin/test installs before the tests."""

from __future__ import annotations

import pytest

from harness.build.host import STAGES, host_tools
from harness.errors import InfraError
from tests import hostneeds
from tests.compilers import BINUTILS, COMPILERS


def test_what_is_missing_and_can_not_be_installed_is_named_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise InfraError("missing on this host: sshd (openssh-server); install them: sudo apt-get install x")

    monkeypatch.setattr(hostneeds, "ensure_host", refuse)
    hostneeds.main("fast")
    said = capsys.readouterr().err
    assert "sshd (openssh-server)" in said
    assert "sudo apt-get install x" in said
    assert "the tests that need them are skipped" in said


def test_fast_tests_get_the_programs_that_they_talk_to() -> None:
    assert set(STAGES) >= hostneeds.FAST
    packages = {tool.package for tool in host_tools(machine="x86_64") if tool.needed_for & hostneeds.FAST}
    assert {"openssh-server", "grub-common", "ser2net", "dnsmasq-base", "gcc-aarch64-linux-gnu", "git"} <= packages
    assert not {"qemu-system-arm", "mmdebstrap"} & packages


def test_compilers_that_this_debian_lacks_keep_nothing_else_from_being_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[set[str]] = []

    def ensure(*, needed_for: set[str], **_: object) -> None:
        asked.append(needed_for)
        if "compilers" in needed_for:
            raise InfraError("missing on this host: clang-14 (clang-14)")

    monkeypatch.setattr(hostneeds, "ensure_host", ensure)
    hostneeds.main("all")
    assert asked == [set(STAGES) - {"compilers"}, {"compilers"}]
    assert "clang-14 (clang-14); the tests that need them are skipped" in capsys.readouterr().err
    packages = {tool.package for tool in host_tools(machine="x86_64") if "compilers" in tool.needed_for}
    ours = {package for compiler in COMPILERS if not compiler.suite for package in compiler.packages} - {BINUTILS}
    assert packages == ours  # the cross compiler of the build brings the GNU tools
