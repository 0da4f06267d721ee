"""QEMU's arguments."""

from pathlib import Path

import pytest

from harness.model.board import Board, QemuBoot
from harness.target.base import Media
from harness.target.qemu import command_line


def _kernel_arguments(accel):
    board = Board(name="b", boot=QemuBoot(), cmdline="loglevel=8")
    args = command_line(board, Media(image=Path("Image"), root=Path("root")), fds={}, accel=accel)
    return args[args.index("-append") + 1].split()


@pytest.mark.parametrize(("accel", "fixed"), [("tcg", True), ("kvm", False)])
def test_programs_lie_at_fixed_addresses_only_where_code_is_translated(accel, fixed):
    arguments = _kernel_arguments(accel)
    assert "loglevel=8" in arguments
    assert ("norandmaps" in arguments) is fixed
