"""The monitor: reports are found wherever the console's stream is cut, and what is kept of them is bounded."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from harness.parse.oops import MAX_FAULTS
from harness.run.monitor import Monitor
from harness.target.line.console import Console
from tests.faults.catalogue import Blame, fault
from tests.unit.pieces import Pieces

REPORT = (
    b"[    1.000000] usb 1-1: \xff\xfe new\r\n"
    b"[    2.000000] Unable to handle kernel paging request at virtual address 8\r\n"
    b"[    2.000001] pc : f+0x1/0x2\r\n[    2.000002] ---[ end trace 0000000000000000 ]---\r\n"
)
WARNING = b"[    3.000000] WARNING: at f+0x1/0x2\n[    3.000001] ---[ end trace 0000000000000000 ]---\n"


def _watched(pieces: Iterable[bytes]) -> Monitor:
    """A monitor whose console has brought `pieces` and has ended."""
    transport = Pieces(pieces)
    console = Console(transport, log=None, name="test")
    monitor = Monitor(console)
    transport.begin.set()
    assert console.wait_closed(30)
    console.close()
    return monitor


@pytest.mark.parametrize("cut", range(len(REPORT)))
def test_a_report_cut_anywhere(cut: int) -> None:
    monitor = _watched(piece for piece in (REPORT[:cut], REPORT[cut:]) if piece)
    (fault,) = monitor.take()
    assert fault.title == "Unable to handle kernel paging request in f"
    assert len(fault.lines) == 3
    assert not monitor.begun


def test_a_report_amid_megabytes() -> None:
    noise = b"[    1.500000] nothing to see here, of eighty characters or so, again and again\n" * 800
    monitor = _watched([noise] * 20 + [noise[:-30], b"\n" + REPORT] + [noise] * 20)
    assert [fault.title for fault in monitor.take()] == ["Unable to handle kernel paging request in f"]


@fault(
    "a kernel report follows two megabytes without a line end",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the report",
)
def test_a_report_behind_an_endless_line() -> None:
    """Also where the report itself comes in pieces."""
    monitor = _watched([b"#" * 65_536] * 30 + [REPORT[start : start + 1] for start in range(len(REPORT))])
    assert [fault.title for fault in monitor.take()] == ["Unable to handle kernel paging request in f"]


@fault(
    "a flood of warnings comes before a panic",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the panic; bounded memory",
)
def test_a_flood_of_warnings_is_bounded_and_hides_no_panic() -> None:
    monitor = _watched([WARNING * 3 * MAX_FAULTS, b"[    4.000000] Kernel panic - not syncing: at last\n"])
    fault = monitor.fault()
    assert fault is not None
    assert fault.is_fatal
    assert len(monitor.take()) == MAX_FAULTS


def test_somebody_is_told_as_a_report_begins() -> None:
    """Before it is complete, once for each, and not of what was printed while booting."""
    seen: list[int] = []
    lines = REPORT.splitlines(keepends=True)
    transport = Pieces([*lines, WARNING])
    console = Console(transport, log=None, name="test")
    count: list[str] = []
    console.listen(lambda _time, line: count.append(line))
    monitor = Monitor(console, on_report=lambda: seen.append(len(count)))
    transport.begin.set()
    assert console.wait_closed(30)
    assert seen == [2]
    monitor.take()
    again = Monitor(console, on_report=lambda: seen.append(0))
    assert again.begun
    assert seen == [2]
    console.close()
