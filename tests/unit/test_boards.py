"""boards.yaml: what is right becomes Boards, what is wrong one line each."""

import pytest

from harness.errors import UserError
from harness.layout import BOARDS
from harness.parse.boards import parse_boards


def test_the_projects_own_file():
    board = parse_boards(BOARDS.read_text(), place="boards.yaml")["qemu-virt"]
    assert board.boot.cpus >= 2
    assert board.boot.memory_mib <= 1024


def test_every_key_reaches_the_board():
    text = """
boards:
  b:
    description: d
    cmdline: quiet
    kconfigs: [x.config]
    limits: {boot: 7, silence: 2.5}
    boot: {method: qemu, machine: virt, cpu: max, cpus: 4, memory_mib: 512, accel: tcg, extra_args: [-s]}
"""
    board = parse_boards(text, place="f")["b"]
    assert (board.name, board.description, board.cmdline, board.kconfigs) == ("b", "d", "quiet", ("x.config",))
    assert (board.limits.boot, board.limits.silence) == (7.0, 2.5)
    boot = board.boot
    assert (boot.machine, boot.cpu, boot.cpus, boot.memory_mib, boot.accel) == ("virt", "max", 4, 512, "tcg")
    assert boot.extra_args == ("-s",)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "boards: {b: {consle: {}}}",
            ["f: boards.b.boot: expected this key, found none", "f: boards.b.consle: unknown key"],
        ),
        ("boards: {b: {boot: {method: qemu, cpus: two}}}", ["f: boards.b.boot.cpus: expected an integer, found 'two'"]),
        (
            "boards: {b: {boot: {method: qemu, memory_mib: 1}}}",
            ["f: boards.b.boot.memory_mib: expected greater than or"],
        ),
        ("boards: {b: {boot: {method: tftp}}}", ["f: boards.b.boot.method: expected 'qemu', found 'tftp'"]),
        ("boards: 3", ["f: boards: expected a mapping, found 3"]),
        ("- a", ["f: document: expected a mapping, found a list"]),
        (": [", ["f:1:1: expected a YAML document, found a syntax error"]),
        ("", ["f: expected a mapping with the key `boards`, found an empty document"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, lines):
    with pytest.raises(UserError) as caught:
        parse_boards(text, place="f")
    told = [caught.value.message, *caught.value.details]
    assert len(told) == len(lines)
    for line, start in zip(told, lines, strict=True):
        assert line.startswith(start)


def test_a_qemu_board_that_says_nothing_gets_the_drivers_it_needs():
    board = parse_boards("boards: {b: {boot: {method: qemu}}}", place="f")["b"]
    assert board.kconfigs == ("qemu-virt.config",)
