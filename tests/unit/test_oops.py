"""Kernel reports: golden logs in tests/data/oops (UPDATE_GOLDEN=1 rewrites what is expected), and their edges.

Logs named recorded-* come from real runs; the others were written after the kernel's source.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from harness.model.fault import Fault, FaultKind
from harness.parse.oops import MAX_FAULTS, FaultScanner, scan
from harness.parse.oops.lines import MAX_LINE, PREFIX
from harness.parse.oops.report import HEAD_LINES, PATIENCE_TRACED, SPAN, TAIL_LINES
from harness.parse.oops.rules import RULES, Rule
from harness.parse.oops.scanner import _TRIGGER, LINGER

DATA = Path(__file__).parents[1] / "data" / "oops"
LOGS = sorted(DATA.glob("*.log"))
WARNING = "[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/a.c:7 f+0x1/0x2"
END = "[    1.000001] ---[ end trace 0000000000000000 ]---"
NEED_PREFIXES = (
    "damaged-", "atomic-", "hung-tasks-odd-", "lockdep-goes-off", "printed-", "reporters", "rust-", "two-cpus-",
)  # fmt: skip
SINGLE = [
    ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
     "panic: Attempted to kill init! exitcode=0x0000000b"),
    ("Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f+0x1/0x2",
     "panic: stack-protector: Kernel stack is corrupted in: f"),
    ("Kernel panic - not syncing", "panic: report cut short"),
    ("WARNING: CPU: 3 PID: 99 at f+0x1/0x2", "WARNING in f"),
    ("WARNING: ../src/init/main.c:5 at f+0x1/0x2", "WARNING in f (init/main.c:5)"),
    ("WARNING: ../../other/linux/kernel/a.c:5 at f+0x1/0x2", "WARNING in f (other/linux/kernel/a.c:5)"),
    ("WARNING: /home/x/src/linux-7.3/lib/uuid.c:5 at f+0x1/0x2", "WARNING in f (lib/uuid.c:5)"),
    ("WARNING: /home/x/src/klp/a.c:5 at f+0x1/0x2", "WARNING in f (a.c:5)"),
    ("WARNING: klp/a.c:5 at f+0x1/0x2", "WARNING in f (klp/a.c:5)"),
    ("WARNING: ./include/linux/x.h:5 at f.isra.0+0x1/0x2 [mod], CPU#1: a b/12",
     "WARNING in f (include/linux/x.h:5)"),
    ("WARNING: inconsistent lock state", "lockdep: inconsistent lock state"),
    ("WARNING: possible recursive locking detected", "lockdep: possible recursive locking detected"),
    ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
     "lockdep: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
    ("WARNING: sh/12 still has locks held!", "lockdep: task still has locks held"),
    ("Bad mode in Error handler detected on CPU0, code 0xbf000000 -- SError", "panic: Bad mode in Error handler"),
    ("Unhandled fault at 0xffff800010000000", "Unhandled fault"),
    ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 0", "hard lockup"),
    ("INFO: rcu_preempt self-detected stall on CPU { 1}", "RCU stall"),
    ("INFO: task ksoftirqd/1:18 blocked for more than 120 seconds.", "hung task"),
    ("INFO: task sh:18 <writer> blocked for more than 120 seconds.", "hung task"),
    ("BUG: KASAN: null-ptr-deref in f+0x1/0x2", "KASAN: null-ptr-deref in f"),
    ("BUG: KASAN: invalid-access", "KASAN: invalid-access"),
    ("[    1.000000] BUG: spinlock bad magic on CPU#0, swapper/0/1", "BUG: spinlock bad magic"),
    ("BUG kmalloc-64 (Tainted: G    O): Right Redzone overwritten",
     "BUG in slab kmalloc-64: Right Redzone overwritten"),
    ("BUG: KASAN: double-free or invalid-free in f+0x1/0x2", "KASAN: double-free or invalid-free in f"),
    ("BUG: KCSAN: data-race in f [m] / g.isra.0 [n]", "KCSAN: data-race in f / g"),
    ("[    1.000000] BUG: Bad page map in process a b  pte:dead000000000100 pmd:800000010a8003", "BUG: Bad page map"),
    ("[    1.000000] BUG: non-zero pgtables_bytes on freeing mm: 4096",
     "BUG: non-zero pgtables_bytes on freeing mm: N"),
    ("[    1.000000] BUG: something at 12 of 34 (5), 64-bit, kmalloc-64, error -6",
     "BUG: something at N of N (N), 64-bit, kmalloc-64, error -6"),
    ("refcount_t: addition on 0; use-after-free.", "refcount_t: addition on 0; use-after-free"),
    ("NMI watchdog: BUG: soft lockup - CPU#1 stuck for 11s! [sh:16]", "soft lockup"),
    ("BUG kmalloc-part-03-64 (Not tainted): Wrong number of objects. Found 3 but should be 4",
     "BUG in slab kmalloc-part-64: Wrong number of objects. Found N but should be N"),
    ("[    1.000000] CFI failure at f+0x1/0x2 (no target information)", "CFI failure in f"),
    ("kernel BUG at f+0x1/0x2 [verbose debug info unavailable]", "kernel BUG in f"),
]  # fmt: skip


def _text(log: Path) -> str:
    return log.read_bytes().decode("utf-8", "replace")


def _render(faults: tuple[Fault, ...]) -> str:
    """The golden form: enough to see a report cut too early or too late."""
    blocks = [
        f"kind: {fault.kind}\ntitle: {fault.title}\nfatal: {'yes' if fault.is_fatal else 'no'}\n"
        f"signature: {fault.signature}\nlines: {len(fault.lines)}\nfirst: {fault.lines[0]}\nlast: {fault.lines[-1]}\n"
        for fault in faults
    ]
    return "\n".join(blocks) or "none\n"


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_golden(log: Path) -> None:
    found = _render(scan(_text(log).split("\n")))
    expected = log.with_suffix(".expected")
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")


def test_there_are_golden_logs() -> None:
    assert len(LOGS) >= 15
    assert {log.with_suffix(".expected") for log in LOGS} == set(DATA.glob("*.expected"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_one_character_chunks(log: Path) -> None:
    scanner = FaultScanner()
    for character in _text(log):
        scanner.feed_text(character)
    scanner.finish()
    assert scanner.take() == scan(_text(log).split("\n"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_in_one_block_among_other_lines(log: Path) -> None:
    """What passes over most text at once sees what is seen line by line."""
    noise = "".join(f"[    0.{number:06}] usb 1-1: new device\n" for number in range(500))
    text = noise + _text(log)
    block, lines, chunks = FaultScanner(), FaultScanner(), FaultScanner()
    block.feed_lines(text)
    for line in text.split("\n"):
        lines.feed(line)
    for start in range(0, len(text), 777):
        chunks.feed_text(text[start : start + 777])
    for scanner in (block, lines, chunks):
        scanner.finish()
    assert block.take() == lines.take() == chunks.take() == scan(_text(log).split("\n"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.pattern.pattern[:30])
def test_every_rule_has_a_word_that_triggers(rule: Rule) -> None:
    """The opening lines of the golden logs and titles that a rule matches are not passed over."""
    lines = [line for log in LOGS for line in _text(log).split("\n")] + [line for line, _ in SINGLE]
    bodies = [PREFIX.sub("", line, count=1) for line in lines]
    for body in bodies:
        if rule.pattern.match(body):
            assert _TRIGGER.search(f"[    1.000000] {body}" if rule.stamped else body), body


@pytest.mark.parametrize("cut", range(len(WARNING) + 2))
def test_a_report_in_two_pieces(cut: int) -> None:
    text = f"before\n{WARNING}\nafter"
    scanner = FaultScanner()
    scanner.feed_text(text[: 6 + cut])
    scanner.feed_text(text[6 + cut :])
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["WARNING in f (kernel/a.c:7)"]


def test_a_word_torn_by_an_escape_sequence_is_seen_in_a_block() -> None:
    scanner = FaultScanner()
    scanner.feed_lines("x\x1b]0;no end\nWAR\x1b[1mNI\x00NG: at f+0x1\ny\n")
    assert scanner.begun
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["WARNING in f"]


def test_a_new_boot_among_passed_over_lines_is_seen() -> None:
    """The panic of the next kernel is not the oops of the one before."""
    scanner = FaultScanner()
    scanner.feed_lines("[    1.000000] Internal error: Oops: 0000000096000007 [#1] SMP\n")
    scanner.finish()
    scanner.feed_lines("a\nb\nU-Boot 2023.01\nc\n[    1.000002] Kernel panic - not syncing: Oops: Fatal exception\n")
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["Oops", "panic: Oops: Fatal exception"]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_equal_crashes_have_equal_titles(log: Path) -> None:
    """The same crash with other addresses, tasks and a later time is the same crash."""
    other = _text(log).replace("ffff0000", "ffff5a5a").replace("insmod", "modprobe").replace("CPU#1", "CPU#3")
    faults, others = scan(_text(log).split("\n")), scan(other.split("\n"))
    titles = [fault.title.replace("insmod", "modprobe") for fault in faults]
    assert titles == [fault.title for fault in others]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_without_timestamps(log: Path) -> None:
    """A kernel with printk.time=0 reports the same, but for what anybody could have printed, or needs caller ids."""
    if log.stem.startswith(("none-", *NEED_PREFIXES)):
        pytest.skip("needs its timestamps or caller ids")
    bare = [PREFIX.sub("", line, count=1) for line in _text(log).split("\n")]
    assert [fault.title for fault in scan(bare)] == [fault.title for fault in scan(_text(log).split("\n"))]


def test_begins_at_once_and_is_fatal_at_once() -> None:
    scanner = FaultScanner()
    scanner.feed("[    1.000000] all is well")
    assert not scanner.begun
    scanner.feed("[    2.000000] Unable to handle kernel paging request at virtual address ffff800000000000")
    assert scanner.begun
    assert not scanner.fatal
    assert scanner.faults == ()
    scanner.feed("[    2.000001] Kernel panic - not syncing: Oops: Fatal exception")
    assert scanner.fatal
    assert scanner.faults == ()
    scanner.feed("[    2.000002] ---[ end Kernel panic - not syncing: Oops: Fatal exception ]---")
    assert not scanner.begun
    assert scanner.fatal
    (fault,) = scanner.take()
    assert fault.title == "panic: Unable to handle kernel paging request"
    assert scanner.take() == ()
    assert not scanner.fatal


def test_end_marker_leaves_room_for_the_panic_then_closes() -> None:
    scanner = FaultScanner()
    scanner.feed(WARNING)
    scanner.feed(END)
    assert scanner.begun
    for number in range(LINGER + 1):
        scanner.feed(f"[    2.{number:06}] usb 1-1: new device")
    assert not scanner.begun
    (fault,) = scanner.take()
    assert fault.lines == (WARNING, END)


def test_panic_after_the_oops_was_taken_still_names_it() -> None:
    scanner = FaultScanner()
    scanner.feed("[    1.000000] Internal error: Oops: 0000000096000007 [#1] SMP")
    scanner.feed("[    1.000000] pc : victim+0x1/0x2")
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["Oops in victim"]
    scanner.feed("[    1.000002] Kernel panic - not syncing: Oops: Fatal exception")
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["panic: Oops in victim"]


def test_two_reports_back_to_back() -> None:
    second = WARNING.replace("a.c:7 f", "b.c:8 g")
    assert [fault.title for fault in scan([WARNING, second])] == [
        "WARNING in f (kernel/a.c:7)",
        "WARNING in g (kernel/b.c:8)",
    ]


def test_warning_inside_a_panic_belongs_to_it() -> None:
    detail = "[    1.000000] refcount_t: underflow; use-after-free."
    faults = scan(["[    1.000000] Kernel panic - not syncing: sysrq triggered crash", WARNING, detail, END])
    assert [fault.title for fault in faults] == ["panic: sysrq triggered crash"]


def test_cut_here_alone() -> None:
    cut = "[    1.000000] ------------[ cut here ]------------"
    assert [fault.title for fault in scan([cut])] == ["WARNING: report cut short"]
    (fault,) = scan([cut, "[    1.000000] bad cookie 0xffff000012345678"])
    assert fault.title == "WARNING: bad cookie ADDR"


def test_an_opening_line_in_two_halves() -> None:
    """A process may have a line feed in its name; anything else between the halves makes them two other lines."""
    first, second = "[    1.000000] INFO: task a", "[    1.000000] b:99 blocked for more than 120 seconds."
    (fault,) = scan([first, second])
    assert fault.title == "hung task"
    assert fault.lines == (first, second)
    assert scan([first, "[    1.000000] usb 1-1: a new device", second]) == ()
    assert [fault.title for fault in scan([first, WARNING, END, second])] == ["WARNING in f (kernel/a.c:7)"]
    assert scan([first.partition("] ")[2], second.partition("] ")[2]]) == (), "a program's lines have no time stamp"
    assert len(scan([first, *["[    1.000000] c"] * 3, second])) == 1
    scanner = FaultScanner()
    scanner.feed(first)
    assert not scanner.begun, "there may be no second half"


def test_text_of_a_warning_that_never_came_is_a_report() -> None:
    cut = "[    1.000000] ------------[ cut here ]------------"
    bug = "[    1.000000] BUG: KASAN: use-after-free in f+0x1/0x2"
    assert [fault.title for fault in scan([cut, bug])] == ["KASAN: use-after-free in f"]
    assert [fault.title for fault in scan([cut, bug, bug])] == ["KASAN: use-after-free in f"] * 2
    announced = "[    1.000000] BUG: Dentry {i=2f,n=data} still in use"
    assert [fault.title for fault in scan([announced, cut])] == ["BUG: Dentry {i=2f,n=data} still in use"]
    assert [fault.kind for fault in scan([announced, cut, WARNING, END])] == [FaultKind.WARNING]
    assert len(scan([announced, "[    1.000000] Call trace:", cut, WARNING, END])) == 2


@pytest.mark.parametrize(
    ("before", "panic", "title"),
    [
        ("BUG: KASAN: invalid-access in f+0x1/0x2", "KASAN: panic_on_warn set ...", "KASAN: invalid-access in f"),
        ("BUG: KASAN: invalid-access in f+0x1/0x2", "kasan.fault=panic set ...", "KASAN: invalid-access in f"),
        ("WARNING: at f+0x1/0x2", "kernel: panic_on_warn set ...", "WARNING in f"),
        ("WARNING: at f+0x1/0x2", "kernel: system warned too often (kernel.warn_limit is 1)", "WARNING in f"),
        ("WARNING: at f+0x1/0x2", "Fatal exception", "Fatal exception"),
        ("WARNING: at f+0x1/0x2", "Out of memory: compulsory panic_on_oom is enabled", None),
        ("WARNING: inconsistent lock state", "kernel: panic_on_warn set ...", "kernel: panic_on_warn set"),
        ("kernel BUG at a/b.c:1!", "Oops - BUG: Fatal exception in interrupt", "kernel BUG (a/b.c:1)"),
        ("Internal error: Oops: 1 [#1]", "Attempted to kill init! exitcode=0x0000000b", "Oops"),
        ("Internal error: Oops: 1 [#1]", "sysrq triggered crash", "sysrq triggered crash"),
        ("INFO: task sh:7 blocked for more than 120 seconds.", "hung_task: blocked tasks", "hung task"),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [a:7]", "softlockup: hung tasks", "soft lockup"),
        ("watchdog: Watchdog detected hard LOCKUP on cpu 1", "Hard LOCKUP", "hard lockup"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "RCU Stall", "RCU stall"),
        ("BUG: workqueue lockup - pool cpus=1", "workqueue: stall lasted 43s, exceeding threshold 30s",
         "BUG: workqueue lockup"),
        ("BUG: scheduling while atomic: a/7/0x2", "scheduling while atomic", "BUG: scheduling while atomic"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("between", [(), ("[    1.000001] WARNING: inconsistent lock state",)], ids=["", "a splat"])
def test_what_a_panic_is_the_end_of(before: str, panic: str, title: str | None, between: tuple[str, ...]) -> None:
    """Another report that is printed on the way is not it."""
    lines = [f"[    1.000000] {before}", *between, f"[    1.000002] Kernel panic - not syncing: {panic}"]
    assert scan(lines)[-1].title == f"panic: {title or panic}"


def test_a_new_boot_ends_a_report() -> None:
    scanner = FaultScanner()
    scanner.feed("[    9.000000] Kernel panic - not syncing: Fatal")
    scanner.feed("[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x413fd0c1]")
    assert not scanner.begun
    assert len(scanner.take()[0].lines) == 1


def test_unrelated_lines_end_an_unmarked_report_and_are_left_out() -> None:
    lines = ["[    1.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]", "[    1.000000] Call trace:",
             "[    1.000000]  spin+0x1/0x2"]  # fmt: skip
    scanner = FaultScanner()
    for line in [*lines, *(f"[    2.000000] message {n}" for n in range(PATIENCE_TRACED))]:
        scanner.feed(line)
    assert not scanner.begun
    assert scanner.take() == (Fault(kind=FaultKind.SOFT_LOCKUP, title="soft lockup in spin", lines=tuple(lines)),)


def test_memory_is_bounded() -> None:
    scanner = FaultScanner()
    scanner.feed("[    1.000000] Kernel panic - not syncing: first")
    for number in range(SPAN):
        scanner.feed(f"[    2.000000] Dumping {number} " + "x" * (2 * MAX_LINE if number < 3 else 1))
    assert not scanner.begun
    (fault,) = scanner.take()
    assert len(fault.lines) == HEAD_LINES + 1 + TAIL_LINES
    assert max(map(len, fault.lines)) <= MAX_LINE
    assert "lines left out" in fault.lines[HEAD_LINES]


def test_a_panic_need_not_follow_at_once() -> None:
    oops_line = "[    1.000000] Internal error: Oops: 0000000096000007 [#1] SMP"
    other = "[    1.000002] usb 1-1: new device"
    (fault,) = scan([oops_line, END, other, "[    1.000003] Kernel panic - not syncing: Oops: Fatal exception"])
    assert fault.title == "panic: Oops"
    assert other not in fault.lines


def test_a_carriage_return_begins_a_line() -> None:
    assert [fault.title for fault in scan(["# echo\rKernel panic - not syncing: x"])] == ["panic: x"]


def test_a_kasan_trap_is_one_fault() -> None:
    faults = scan([
        "[    1.000000] BUG: KASAN: invalid-access in f+0x1/0x2",
        "[    1.000001] " + "=" * 66,
        "[    1.000002] Internal error: Oops - KASAN: 00000000f2000900 [#1] SMP",
        END,
    ])  # fmt: skip
    assert [(fault.title, len(fault.lines)) for fault in faults] == [("KASAN: invalid-access in f", 4)]


def test_a_second_oops_is_a_second_fault() -> None:
    first = "[    1.000000] Internal error: Oops: 0000000096000007 [#1] SMP"
    assert len(scan([first, first.replace("#1", "#2")])) == 2


def test_unfinished_terminal_strings_hide_nothing() -> None:
    assert len(scan(["\x1b]0;title " + WARNING])) == 1


def test_a_flood_of_faults_is_bounded() -> None:
    scanner = FaultScanner()
    for _ in range(MAX_FAULTS + 50):
        scanner.feed(WARNING)
        scanner.feed(END)
    scanner.finish()
    assert len(scanner.faults) == MAX_FAULTS
    assert scanner.dropped == 50
    assert not scanner.fatal
    scanner.feed("[    9.000000] Kernel panic - not syncing: at last")
    scanner.finish()
    assert scanner.fatal
    assert len(scanner.faults) == MAX_FAULTS
    assert scanner.take()[-1].title == "panic: at last"


def test_an_endless_line_is_bounded_and_read() -> None:
    scanner = FaultScanner()
    scanner.feed_text("x" * 100_000 + WARNING)
    assert scanner.begun, "without waiting for a line end that never comes"
    scanner.finish()
    assert [fault.title for fault in scanner.take()] == ["WARNING in f (kernel/a.c:7)"]


def test_garbage_breaks_nothing() -> None:
    source = random.Random(4711)
    noise = ["\x1b[", "\x1b]0;", "\x00", "\r", "[    1.0", "00000]", "\n", "WARNING: ", "at ", "Kernel panic - ",
             "\udc80", "é", "BUG: ", "pc : ", "---[ end ", "Call trace:", "INFO: ", "{what}", "%s"]  # fmt: skip
    scanner = FaultScanner()
    for _ in range(20_000):
        scanner.feed_text(source.choice(noise))
    scanner.finish()
    assert all(fault.title and "\x1b" not in fault.title for fault in scanner.take())


@pytest.mark.parametrize(("line", "title"), SINGLE)
def test_titles_of_single_lines(line: str, title: str) -> None:
    assert [fault.title for fault in scan([line])] == [title]
