"""Reports of several contexts at the same time, told apart by who prints each line (CONFIG_PRINTK_CALLER)."""

from __future__ import annotations

from harness.model.fault import FaultKind
from harness.parse.oops import FaultScanner, scan
from harness.parse.oops.report import PATIENCE_OTHERS, PATIENCE_TRACED
from harness.parse.oops.scanner import LINGER, MAX_OPEN


def _by(caller: str, *bodies: str) -> list[str]:
    return [f"[    1.000000][{caller:>6}] {body}" for body in bodies]


def _oops(caller: str, function: str) -> list[str]:
    return _by(
        caller,
        "Unable to handle kernel paging request at virtual address ffff80007a000000",
        "Internal error: Oops: 0000000086000007 [#1]  SMP",
        f"pc : {function}+0x8/0x28",
        "Call trace:",
        f" {function}+0x8/0x28 (P)",
        "---[ end trace 0000000000000000 ]---",
    )


def _woven(*reports: list[str]) -> list[str]:
    """A line of each report in turn."""
    longest = max(map(len, reports))
    return [report[row] for row in range(longest) for report in reports if row < len(report)]


def test_lines_that_alternate_are_two_reports() -> None:
    faults = scan(_woven(_oops("T12", "left"), _oops("C1", "right")))
    assert [(fault.title, len(fault.lines), fault.is_whole) for fault in faults] == [
        ("Unable to handle kernel paging request in left", 6, True),
        ("Unable to handle kernel paging request in right", 6, True),
    ]


def test_without_caller_ids_nobody_can_tell() -> None:
    """What is left is at least one fault that names no wrong place for both."""
    lines = [
        line.replace("[   T12]", "").replace("[    C1]", "") for line in _woven(_oops("T12", "f"), _oops("C1", "f"))
    ]
    assert {fault.title for fault in scan(lines)} <= {
        "Unable to handle kernel paging request in f",
        "Unable to handle kernel paging request",
        "Oops in f",
    }


def test_each_panic_takes_its_own_cause() -> None:
    """The other CPU's oops was printed later, and is not what this one died of."""
    panic = _by("T12", "Kernel panic - not syncing: Oops: Fatal exception",
                "---[ end Kernel panic - not syncing: Oops: Fatal exception ]---")  # fmt: skip
    faults = scan([*_oops("T12", "left"), *_oops("T13", "right"), *panic])
    assert [fault.title for fault in faults] == [
        "panic: Unable to handle kernel paging request in left",
        "Unable to handle kernel paging request in right",
    ]
    assert [fault.is_fatal for fault in faults] == [True, False]


def test_a_panic_whose_oops_was_taken_finds_it_by_who_panics() -> None:
    scanner = FaultScanner()
    scanner.feed_lines("\n".join([*_oops("T12", "left"), *_oops("T13", "right")]))
    scanner.finish()
    assert len(scanner.take()) == 2
    scanner.feed_lines("\n".join(_by("T12", "Kernel panic - not syncing: Oops: Fatal exception")))
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["panic: Unable to handle kernel paging request in left"]


def test_a_panic_in_another_context_than_its_oops_finds_it_too() -> None:
    faults = scan([*_oops("T12", "left")[:-1], *_by("C0", "Kernel panic - not syncing: Oops: Fatal exception")])
    assert {fault.title for fault in faults} == {
        "Unable to handle kernel paging request in left",
        "panic: Unable to handle kernel paging request in left",
    }


def test_other_cpus_print_their_backtraces_into_a_stall() -> None:
    lines = [
        *_by("C0", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "Sending NMI from CPU 0 to CPUs 1:"),
        *_by("C1", "NMI backtrace for cpu 1", "pc : hog+0x8/0x28", "Call trace:", " hog+0x8/0x28 (P)"),
    ]
    (fault,) = scan(lines)
    assert fault.title == "RCU stall in hog"
    assert fault.lines == tuple(lines)


def test_registers_of_others_are_not_an_oops_ones() -> None:
    oops = _oops("T12", "left")
    (fault,) = scan([*oops[:2], *_by("C1", "pc : idle+0x8/0x28", " idle+0x8/0x28"), *oops[2:]])
    assert fault.title == "Unable to handle kernel paging request in left"


def test_what_others_print_ends_no_report() -> None:
    """However much of it comes before the next line of the report."""
    others = _by("T99", *(f"audit: line {number}" for number in range(PATIENCE_OTHERS - 1)))
    oops = _oops("T12", "left")
    (fault,) = scan([*oops[:2], *others, *oops[2:]])
    assert fault.title == "Unable to handle kernel paging request in left"


def test_a_report_of_a_context_that_falls_silent_ends() -> None:
    scanner = FaultScanner()
    for line in [*_oops("T12", "left")[:-1], *_by("T99", *["audit: x"] * PATIENCE_OTHERS)]:
        scanner.feed(line)
    assert not scanner.begun
    assert [fault.is_whole for fault in scanner.take()] == [False]


def test_an_ended_report_is_closed_by_what_others_print_too() -> None:
    scanner = FaultScanner()
    for line in [*_oops("T12", "left"), *_by("T99", *["audit: x"] * (LINGER + 1))]:
        scanner.feed(line)
    assert not scanner.begun


def test_a_lockup_ends_where_others_go_on() -> None:
    lines = _by("C1", "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [sh:1]", "Call trace:", " spin+0x1/0x2")
    (fault,) = scan([*lines, *_by("C1", *["usb 1-1: new device"] * PATIENCE_TRACED), *_by("T9", "x")])
    assert fault.kind is FaultKind.SOFT_LOCKUP
    assert fault.lines == tuple(lines)


def test_a_torn_prefix_is_made_good_by_the_next_line() -> None:
    """The first line lost its caller id; the second one's report is the same."""
    oops = _oops("T12", "left")
    torn = oops[0].replace("[   T12] ", "")
    assert [fault.title for fault in scan([torn, *oops[1:]])] == ["Unable to handle kernel paging request in left"]
    middle = [line.replace("[    1.000000][   T12] ", "") if row == 3 else line for row, line in enumerate(oops)]
    assert [len(fault.lines) for fault in scan(middle)] == [6]


def test_a_warning_on_the_way_is_its_own() -> None:
    warning = _by("C1", "------------[ cut here ]------------", "WARNING: kernel/t.c:4 at tick+0x3/0x4, CPU#1: x/0",
                  "pc : tick+0x3/0x4", "---[ end trace 0000000000000000 ]---")  # fmt: skip
    faults = scan(_woven(_oops("T12", "left"), warning))
    assert {(fault.title, len(fault.lines)) for fault in faults} == {
        ("Unable to handle kernel paging request in left", 6),
        ("WARNING in tick (kernel/t.c:4)", 4),
    }


def test_a_panic_waits_for_its_end_whatever_others_print() -> None:
    panic = _by("T1", "Kernel panic - not syncing: no root", "---[ end Kernel panic - not syncing: no root ]---")
    (fault,) = scan([panic[0], *_by("C1", *["CPU1: stopping"] * (2 * PATIENCE_OTHERS)), panic[1]])
    assert fault.is_whole


def test_a_panic_ends_all() -> None:
    scanner = FaultScanner()
    panic = _by("T1", "Kernel panic - not syncing: no root", "---[ end Kernel panic - not syncing: no root ]---")
    for line in [*_oops("C1", "right")[:3], panic[0]]:
        scanner.feed(line)
    assert scanner.fatal
    assert scanner.faults == ()
    scanner.feed(panic[1])
    assert not scanner.begun
    assert [fault.title for fault in scanner.take()] == [
        "Unable to handle kernel paging request in right",
        "panic: no root",
    ]


def test_as_many_contexts_as_somebody_invents() -> None:
    scanner = FaultScanner()
    for number in range(5 * MAX_OPEN):
        scanner.feed(_by(f"T{number}", "WARNING: at f+0x1")[0])
        assert len(scanner._open) <= MAX_OPEN
    scanner.finish()
    assert len(scanner.take()) == 5 * MAX_OPEN
