"""A command's lines: found in blocks of any size, kept within bounds until they are taken."""

from __future__ import annotations

import contextlib
import queue

import pytest

from harness.target.shells import serial as shell_module
from harness.target.shells.serial import Running, Shell, _Waiting

STREAM = ["late", "", "@@b", "a", "", "", "b @@e 3", "@@e", "@@b 3", "", "", "@@e 7", "later", ""]
OUTPUT = ["a", "", "", "b @@e 3", "@@e", "@@b 3", ""]


def _block(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("first", range(len(STREAM) + 1))
@pytest.mark.parametrize("second", range(0, len(STREAM) + 1, 2))
def test_lines_of_a_command_however_they_are_cut(local_shell: Shell, first: int, second: int) -> None:
    running = Running(local_shell, "x", begin="@@b", end="@@e")
    for part in (STREAM[:first], STREAM[first : first + second], STREAM[first + second :]):
        if part:
            local_shell._arrived(0.0, _block(part))
    output = [running.next_line(0.0) for _ in range(len(STREAM))]
    assert [line for line in output if line is not None] == OUTPUT
    assert running.done
    assert running.returncode == 7


def test_an_empty_line_waits_for_what_follows(local_shell: Shell) -> None:
    running = Running(local_shell, "x", begin="@@b", end="@@e")
    local_shell._arrived(0.0, "@@b\none\n\n")
    assert [running.next_line(0.0) for _ in range(2)] == ["one", None]
    local_shell._arrived(0.0, "\n")
    assert [running.next_line(0.0) for _ in range(2)] == ["", None]
    local_shell._arrived(0.0, "@@e 0\n")
    assert running.next_line(0.0) is None
    assert running.done


@pytest.mark.parametrize("block", ["\n", "a line\n", "x" * 65_535 + "\n"])
def test_what_waits_is_bounded_by_what_it_takes(block: str) -> None:
    waiting = _Waiting(maxsize=1 << 20)
    put = 0
    with contextlib.suppress(queue.Full):
        for _ in range(1 << 20):
            waiting.put_nowait(block)
            put += 1
    assert put * len(block) <= (1 << 20) + len(block)
    assert put <= (1 << 20) // shell_module._STRING + 1
    assert [waiting.get_nowait() for _ in range(put)] == [block] * put
    assert waiting.empty()


def test_a_slow_reader_gets_everything(local_shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than may wait: the far end is held up, nothing is lost."""
    monkeypatch.setattr(local_shell._waiting, "maxsize", 10_000)
    running = local_shell.start("seq 200000")
    lines, most = [], 0
    while not running.done:
        line = running.next_line(5.0)
        if line is not None:
            lines.append(line)
        most = max(most, local_shell._waiting.qsize())
    assert lines == [str(number) for number in range(1, 200_001)]
    assert most < 10_000 + (1 << 17)
