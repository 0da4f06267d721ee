"""QEMU's arguments."""

import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.campaign.machine import with_one_cpu
from harness.model.board import BoardSpec
from harness.model.boot import QemuBoot
from harness.target.base import Media
from harness.target.methods.qemu import QemuTarget, command_line, own_storage
from harness.target.methods.qemugdb import halt
from harness.target.methods.sysrq import ANSWER
from tests.boards import held


def _kernel_arguments(accel: str) -> list[str]:
    board = BoardSpec(name="b", boot=QemuBoot(), cmdline="loglevel=8")
    media = Media(image=Path("Image"), root=Path("root"))
    args = command_line(board, media, own_storage(media), fds={}, accel=accel)
    return args[args.index("-append") + 1].split()


def test_drivers_of_disks_come_in_an_initramfs_if_the_kernel_has_them_as_modules() -> None:
    board = BoardSpec(name="b", boot=QemuBoot())
    without = Media(image=Path("Image"), root=Path("root"))
    media = Media(image=Path("Image"), root=Path("root"), initramfs=Path("drivers.cpio.gz"))
    args = command_line(board, media, own_storage(media), fds={}, accel="tcg")
    assert args[args.index("-initrd") + 1] == "drivers.cpio.gz"
    assert "-initrd" not in command_line(board, without, own_storage(without), fds={}, accel="tcg")


@pytest.mark.parametrize(("accel", "fixed"), [("tcg", True), ("kvm", False)])
def test_programs_lie_at_fixed_addresses_only_where_code_is_translated(accel: str, fixed: bool) -> None:
    arguments = _kernel_arguments(accel)
    assert "loglevel=8" in arguments
    assert ("norandmaps" in arguments) is fixed


def test_a_kernel_that_restricts_it_answers_when_it_is_asked_what_it_does() -> None:
    assert "sysrq_always_enabled=1" in _kernel_arguments("tcg")
    told = "[    0.00] sysrq: sysrq always enabled.\n[   99.00] sysrq: Show Blocked State\n"
    found = re.search(ANSWER, told)
    assert found is not None
    assert found[0] == "sysrq: Show Blocked State\n"


@pytest.mark.parametrize(
    ("accel", "threads", "in_turns", "argument"),
    [
        ("tcg", "multi", False, "tcg,thread=multi"),
        ("tcg", "multi", True, "tcg,thread=single"),
        ("tcg", "single", False, "tcg,thread=single"),
        ("kvm", "multi", True, "kvm"),
    ],
)
def test_emulated_cpus_run_side_by_side_or_in_turns(accel: str, threads: str, in_turns: bool, argument: str) -> None:
    board = BoardSpec(name="b", boot=QemuBoot(threads=threads))
    media = Media(image=Path("Image"), root=Path("root"))
    args = command_line(board, media, own_storage(media), fds={}, accel=accel, in_turns=in_turns)
    assert args[args.index("-accel") + 1] == argument


def test_a_machine_with_one_cpu() -> None:
    board = with_one_cpu(held(BoardSpec(name="b", boot=QemuBoot(cpus=4))))
    assert board
    media = Media(image=Path("Image"), root=Path("root"))
    args = command_line(board.spec, media, own_storage(media), fds={}, accel="tcg")
    assert args[args.index("-smp") + 1] == "1"


@pytest.mark.parametrize("boot", [QemuBoot(cpus=1), QemuBoot(machine="raspi3b", cpus=4)])
def test_a_machine_that_has_one_cpu_or_can_not(boot: QemuBoot) -> None:
    assert with_one_cpu(held(BoardSpec(name="b", boot=boot))) is None


def test_two_threads_may_ask_qemus_monitor() -> None:
    """A console's thread stops the machine while the main thread asks something else."""
    sent: list[dict[str, str]] = []
    second = threading.Event()

    def send(data: bytes) -> None:
        sent.append(json.loads(data))
        other.start() if len(sent) == 1 else second.set()

    def expect(pattern: str, *, timeout: float) -> re.Match[str] | None:
        waits = len(sent) == 1
        assert not (waits and second.wait(1.0)), "the other one asked before this one had its answer"
        return re.search(pattern, json.dumps({"return": {}, "id": sent[-1]["id"]}) + "\n")

    target = object.__new__(QemuTarget)
    qmp = SimpleNamespace(send=send, expect=expect, closed=False)
    target.__dict__.update(_qmp=qmp, _asked=0, _asking=threading.Lock())
    other = threading.Thread(target=halt, args=(target,))
    assert target.monitor("query-status") == {}
    other.join(30)
    assert [each["execute"] for each in sent] == ["query-status", "stop"]
