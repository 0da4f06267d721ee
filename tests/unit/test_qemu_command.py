"""QEMU's arguments."""

import subprocess
from pathlib import Path

import pytest

from harness.model.board import Board, QemuBoot
from harness.target.base import Media
from harness.target.qemu import command_line, own_storage


def _kernel_arguments(accel):
    board = Board(name="b", boot=QemuBoot(), cmdline="loglevel=8")
    media = Media(image=Path("Image"), root=Path("root"))
    args = command_line(board, media, own_storage(media), fds={}, accel=accel)
    return args[args.index("-append") + 1].split()


@pytest.mark.parametrize(("accel", "fixed"), [("tcg", True), ("kvm", False)])
def test_programs_lie_at_fixed_addresses_only_where_code_is_translated(accel, fixed):
    arguments = _kernel_arguments(accel)
    assert "loglevel=8" in arguments
    assert ("norandmaps" in arguments) is fixed


def test_it_does_not_start_where_whoever_started_it_has_died_meanwhile(tmp_path, monkeypatch):
    """The kernel tells a child of its parent's death only if that came after the child had asked for it."""
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\ntouch started\n")
    qemu.chmod(0o755)
    monkeypatch.setattr("harness.target.qemu.QEMU", str(qemu))
    media = Media(image=Path("Image"), root=Path("root"))
    args = command_line(Board(name="b", boot=QemuBoot()), media, own_storage(media), fds={}, accel="tcg")
    subprocess.run(
        ["sh", "-c", '"$@"; true', "sh", *args], cwd=tmp_path, timeout=10, check=False
    )  # somebody else's child
    assert not (tmp_path / "started").exists()
    subprocess.run(args, cwd=tmp_path, timeout=10, check=True)
    assert (tmp_path / "started").exists()
