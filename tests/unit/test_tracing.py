"""A failure repeated under function_graph: what is traced, what is left of it, and what the trace becomes."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from harness.campaign.tracing import Tracing
from harness.parse.graphtime import functions_in, graph_events
from harness.report.graphtrace import trace_events
from harness.target.base import Terminal
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from tests.faketarget import HANG, FakeTarget
from tests.faults.catalogue import Blame, fault

TRACE = """\
target# stty -echo
#     TIME        CPU  TASK/PID         DURATION                  FUNCTION CALLS
 1234.567890 |   0)    cat-123    |               |  vfs_read() {
 1234.567891 |   1)  kworker/1:0-45   |   1.250 us    |  fput [ext4]();
 1234.567893 |   0)    cat-123    | + 12.500 us   |  } /* vfs_read */
CPU:1 [LOST 12 EVENTS]
 1234.567894 |   0)    cat-123    |               |  vfs_write() {
 1234.567895 |   0)    cat
"""
REPORT = (
    "[    1.000000] Unable to handle kernel paging request at virtual address 8",
    "[    1.000001] pc : klp_write+0x10/0x20 [klp_one]",
    "[    1.000002] Call trace:",
    "[    1.000003]  klp_write+0x10/0x20 [klp_one] (P)",
    "[    1.000004]  vfs_write+0x1c/0x300",
    "[    1.000005] Code: 00000000",
)


def test_the_calls_that_function_graph_prints() -> None:
    events = [*graph_events(TRACE.splitlines())]
    assert [(each.phase, each.function, each.at_us, each.task, each.pid, each.duration_us) for each in events] == [
        ("B", "vfs_read", 1234567890, "cat", 123, None),
        ("X", "fput", 1234567891, "kworker/1:0", 45, 1.25),
        ("E", "", 1234567893, "cat", 123, 12.5),
        ("B", "vfs_write", 1234567894, "cat", 123, None),
    ]


def test_a_trace_for_perfetto() -> None:
    events = json.loads(trace_events(graph_events(TRACE.splitlines())))["traceEvents"]
    assert {"ph": "M", "name": "thread_name", "pid": 0, "tid": 45, "args": {"name": "kworker/1:0"}} in events
    assert {
        "ph": "X", "ts": 1234567891, "dur": 1.25, "pid": 0, "tid": 45, "name": "fput", "args": {"cpu": 1},
    } in events  # fmt: skip
    assert [each["ph"] for each in events if each.get("tid") == 123] == ["M", "B", "E", "B"]


def test_the_functions_of_a_report() -> None:
    assert functions_in(REPORT) == ["klp_write:mod:klp_one", "vfs_write"]
    assert functions_in(["no frames; a + 0x1/0x2"]) == []
    assert len(functions_in(f"f{number}+0x1/0x2" for number in range(1000))) == 64


@fault(
    "a kernel report names a function that a shell would take for a command",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="commands with names alone",
)
def test_names_from_a_report_are_no_commands() -> None:
    told = functions_in(["$(reboot)+0x1/0x2 f;reboot+0x1/0x2 `g`+0x1/0x2 h+0x1/0x2 [m;reboot]"])
    assert told == ["reboot", "h:mod:m"]


class Traced(FakeTarget):
    """A target with a terminal on which its trace appears."""

    def __init__(self, answer: list[object]) -> None:
        super().__init__(lambda command: answer if "function_graph" in command else [])
        ours, self.far = socket.socketpair()
        self.tty = Console(SocketTransport(ours), log=None, name="tty")

    def terminal(self, *, rows: int, columns: int) -> Terminal:
        return Terminal(stream=self.tty, has_kernel_log=False)

    def shows(self, text: str) -> None:
        """Print on the terminal, and then nothing any more."""
        self.far.sendall(text.encode())
        self.far.shutdown(socket.SHUT_WR)
        assert self.tty.wait_closed(30)


@pytest.fixture
def told() -> list[str]:
    return []


def test_what_arrives_before_the_end_is_left(tmp_path: Path, told: list[str]) -> None:
    tracing = Tracing(["klp_write:mod:klp_one", "vfs_write"], tmp_path, say=told.append)
    first, second = Traced([]), Traced([])
    tracing.begin(first)
    first.shows("of a machine on which it did not fail\n")
    tracing.begin(second)
    (command,) = second.commands
    assert "for each in klp_write:mod:klp_one vfs_write; do echo $each >> set_ftrace_filter" in command
    assert b"exec cat trace_pipe\n" in second.far.recv(1000)
    second.shows(TRACE)
    tracing.keep(second, "Oops in klp_write")
    assert (tmp_path / "trace.txt").read_text() == TRACE
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) == 7
    assert told[0].startswith("Oops in klp_write: 4 traced calls of its 2 functions, in ")
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [(["none of its functions can be traced", "exit=1"], "none of its functions can be traced"), ([HANG], "fake")],
    ids=["refused", "hangs"],
)
def test_a_kernel_that_can_not_trace_is_told(
    answer: list[object], why: str, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.campaign.tracing._LIMIT_S", 0.1)
    tracing = Tracing(["f"], tmp_path, say=told.append)
    target = Traced(answer)
    tracing.begin(target)
    tracing.keep(target, "Oops in f")
    assert told[0].startswith("Oops in f: no trace: ")
    assert why in told[0] or answer == [HANG]
    assert not list(tmp_path.iterdir())
    target.close()
