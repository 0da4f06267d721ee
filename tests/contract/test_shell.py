"""What every Shell does, whatever carries it: here this host's sh, whole and one byte at a time."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.target.base import CommandTimeout, TargetLost
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.shells.serial import Shell
from tests.faults.catalogue import Blame, fault


@pytest.fixture(params=["whole", "byte by byte"])
def shell(request: pytest.FixtureRequest, local_shell: Shell) -> Iterator[Shell]:
    if request.param == "whole":
        yield local_shell
        return
    near, middle_near = socket.socketpair()
    middle_far, far = socket.socketpair()
    end = far.fileno()
    process = subprocess.Popen(["sh", "-s"], stdin=end, stdout=end, stderr=end, start_new_session=True)
    far.close()

    def forward(source: socket.socket, goal: socket.socket, size: int) -> None:
        try:
            while data := source.recv(size):
                goal.sendall(data)
            goal.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    for source, goal, size in ((middle_near, middle_far, 4096), (middle_far, middle_near, 1)):
        threading.Thread(target=forward, args=(source, goal, size), daemon=True).start()
    console = Console(SocketTransport(near), log=None, name="slow")
    yield Shell(console)
    process.kill()
    process.wait()
    console.close()
    for middle in (middle_near, middle_far):
        middle.close()


@pytest.mark.parametrize(
    ("command", "returncode", "output"),
    [
        ("echo hello", 0, "hello"),
        ("printf 'no line end'", 0, "no line end"),
        ("echo a; echo; echo", 0, "a\n\n"),
        ("true", 0, ""),
        ("exit 7", 7, ""),
        ("echo out; echo err >&2; false", 1, "out\nerr"),
        ("cat <<'X'\ntwo\nlines\nX", 0, "two\nlines"),
        ('echo "it\'s"', 0, "it's"),
        ("cat", 0, ""),  # nothing on standard input
    ],
)
def test_output_and_exit_code(shell: Shell, command: str, returncode: int, output: str) -> None:
    done = shell.run(command, timeout=10)
    assert (done.returncode, done.output) == (returncode, output)


def test_a_syntax_error_ends_the_command_not_the_shell(shell: Shell) -> None:
    assert shell.run("echo (((", timeout=10).returncode != 0
    assert shell.run("echo alive", timeout=10).output == "alive"


def test_output_that_looks_like_a_marker_is_output(shell: Shell) -> None:
    assert shell.run("echo '@@0123456789abcdef end 0'", timeout=10).output == "@@0123456789abcdef end 0"


def test_a_line_of_three_megabytes_is_whole(local_shell: Shell) -> None:
    done = local_shell.run("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo next", timeout=60)
    assert [len(line) for line in done.output.split("\n")] == [3_000_000, 4]


def test_a_line_arrives_before_the_command_goes_on(shell: Shell, tmp_path: Path) -> None:
    """Nothing is held back: the command waits for what we do after we saw its line."""
    gate = tmp_path / "gate"
    running = shell.start(f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo; echo second")
    assert running.next_line(10) == "first"
    assert not running.done
    gate.touch()
    assert running.next_line(10) == ""
    assert running.next_line(10) == "second"
    while not running.done:
        assert running.next_line(0.05) is None
    assert running.returncode == 0


def test_a_command_over_its_limit_raises_and_keeps_the_shell_busy(shell: Shell) -> None:
    with pytest.raises(CommandTimeout, match=r"sleep 30"):
        shell.run("sleep 30", timeout=0.2)
    with pytest.raises(TargetLost, match="still busy"):
        shell.run("echo no", timeout=5)


@fault(
    "the target's shell dies during a command",
    where="console",
    blame=Blame.INFRA,
    survives="nothing is taken for a result",
)
def test_a_far_end_that_dies_is_lost(shell: Shell) -> None:
    with pytest.raises(TargetLost, match="closed"):
        shell.run("kill -9 $$", timeout=10)


def test_files_go_there_and_back(shell: Shell, tmp_path: Path) -> None:
    content = bytes(range(256)) * 400  # more than one piece
    path = str(tmp_path / "a file")
    shell.put(content, path, mode=0o750)
    assert shell.get(path) == content
    assert (tmp_path / "a file").stat().st_mode & 0o777 == 0o750
    shell.put(b"", path)
    assert shell.get(path) == b""


def test_a_file_that_is_not_there_is_told(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        shell.get(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere"):
        shell.put(b"x", str(tmp_path / "nowhere" / "x"))
