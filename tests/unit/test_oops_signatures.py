"""Two reports of one bug have one signature: whatever the process, its pid, addresses, CPUs, counters and the time."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from harness.model.fault import Fault, FaultSignature
from harness.parse.oops import scan

DATA = Path(__file__).parents[1] / "data" / "oops"
LOGS = [log for log in sorted(DATA.glob("*.log")) if not log.stem.startswith(("none-", "recorded-7.3.4-whole"))]
# Processes in the logs, which are nothing else there, and what another one may be called.
PROCESSES = ("insmod", "modprobe", "rmmod", "cat", "sh", "my worker, x")
NAMES = ("x", "kworker/u8:3", "ksoftirqd/1", "a b", "my worker, x", "jbd2/vda-8", "7", "in f", "(x.c:1)", "syz.2.327")
_PROCESS = re.compile(rf"(?<![\w./'_-])(?:{'|'.join(PROCESSES)})(?=[/:\[.\] ]|$)")
_PID = re.compile(r"(?P<before>(?:PID: |[pt]g?id:? ?|task )\s*)\d+|(?P<comm>@)(?P<sep>[/:\[])\d+")
_COUNTER = re.compile(
    r"((?:stuck for|more than|Usage count =|val:|starved for|happen for|t=|age=|g=|q=|\(t=|set for >|waiting) ?)\d+"
    r"|(?<=kmemleak: )\d+(?= new)|(?<=irq )\d+(?=:)|(?<=event )\d+(?=:)|(?<=IRQ #)\d+|(?<=vector )\d+"
    r"|(?<=len is )\d+|(?<=index is )\d+|(?<=subclass: )\d+|(?<=use \()\d+(?=\))"
)
_CPU = re.compile(r"((?:CPUs?[:# ]|cpus?[= ]|CPU#) ?)\d+\b(?! [a-z])")
_OFFSET = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+")
_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{10,16}\b(?! \[#)")
_CALLER = re.compile(r"\[ *([CT])(\d+)\]")
_STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d{6}\]", re.MULTILINE)


def _varied(text: str, source: random.Random) -> str:
    """The same crash at another time: other processes, pids, callers, CPUs, addresses, offsets, counters, time stamps,
    and more of the log before it."""
    name, start = source.choice(NAMES), source.randrange(10_000)
    callers = {number: source.randrange(1, 99_999) for number in set(_CALLER.findall(text))}
    text = _PROCESS.sub("@", text)
    text = _PID.sub(lambda m: f"{m['before'] or '@' + m['sep']}{source.randrange(1, 4_000_000)}", text)
    text = text.replace("@", name)
    text = _COUNTER.sub(lambda m: f"{m[1] or ''}{source.randrange(1, 100_000)}", text)
    text = _CPU.sub(lambda m: f"{m[1]}{source.randrange(256)}", text)
    text = _OFFSET.sub(lambda _: f"+{source.randrange(1, 1 << 16):#x}/{source.randrange(1 << 16, 1 << 17):#x}", text)
    text = _ADDRESS.sub(lambda m: f"{'0x' * m[0].startswith('0x')}{source.randrange(1 << 60, 1 << 64):016x}", text)
    text = _CALLER.sub(lambda m: f"[{m[1] + str(callers[m[1], m[2]]):>6}]", text)
    text = _STAMP.sub(lambda m: f"{m[1] or ''}[{start + source.randrange(1000):5}.{source.randrange(10**6):06}]", text)
    before = "".join(f"[{start:5}.{n:06}] usb 1-{n}: new device\n" for n in range(source.randrange(300)))
    return before + text


def _signatures(text: str) -> list[FaultSignature]:
    return [fault.signature for fault in scan(text.split("\n"))]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_the_same_crash_at_another_time(log: Path, seed: int) -> None:
    text = log.read_bytes().decode("utf-8", "replace")
    other = _varied(text, random.Random(f"{log.stem} {seed}"))
    assert other != text
    assert _signatures(other) == _signatures(text)


def test_what_is_varied_is_in_the_logs() -> None:
    """The patterns above find what they mean to change."""
    text = "\n".join(log.read_bytes().decode("utf-8", "replace") for log in LOGS)
    for pattern in (_PROCESS, _COUNTER, _CPU, _OFFSET, _ADDRESS, _CALLER, _STAMP):
        assert len(pattern.findall(text)) > 20, pattern.pattern
    assert len(_PID.findall(_PROCESS.sub("@", text))) > 100


def test_other_bugs_have_other_signatures() -> None:
    """Within a log every report is of another bug, but where the log means to repeat one."""
    repeated = {"soft-lockup", "printed-without-a-word", "rcu-stalls", "hung-tasks", "hung-tasks-odd-names"}
    for log in LOGS:
        found = _signatures(log.read_bytes().decode("utf-8", "replace"))
        if log.stem not in repeated:
            assert len(set(found)) == len(found), f"{log.stem}: {sorted(map(str, found))}"


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_signatures_are_read_back(log: Path) -> None:
    found = _signatures(log.read_bytes().decode("utf-8", "replace"))
    assert found
    assert [FaultSignature.parse(str(signature)) for signature in found] == found


OOPS = """\
[    5.000000] Unable to handle kernel paging request at virtual address ffff80007a000000
[    5.000001] Mem abort info:
[    5.000002] Internal error: Oops: 0000000086000007 [#1]  SMP
[    5.000003] pc : klp_broken+0x8/0x28
[    5.000004] lr : klp_caller+0x8/0x28
[    5.000005] Call trace:
[    5.000006]  klp_broken+0x8/0x28 (P)
[    5.000007] ---[ end trace 0000000000000000 ]---
[    5.000008] Kernel panic - not syncing: Oops: Fatal exception
[    5.000009] ---[ end Kernel panic - not syncing: Oops: Fatal exception ]---
"""


def _cut_after(lines: int) -> Fault:
    (fault,) = scan(OOPS.split("\n")[:lines])
    return fault


def test_a_report_is_whole_when_its_last_line_came() -> None:
    assert [_cut_after(lines).is_whole for lines in range(1, 11)] == [*[False] * 7, True, False, True]


def test_a_cut_report_matches_as_soon_as_it_has_told_where() -> None:
    """Before that it could be of any bug that begins alike."""
    whole = _cut_after(10).signature
    assert str(whole) == "panic: Unable to handle kernel paging request in klp_broken [panic]"
    assert [_cut_after(lines).signature.matches(whole) for lines in range(1, 8)] == [False] * 3 + [True] * 4
    other = _signatures(OOPS.replace("klp_broken", "klp_other"))
    assert not any(_cut_after(lines).signature.matches(other[0]) for lines in range(1, 11))


@pytest.mark.parametrize(
    ("lines", "is_whole"),
    [
        (["watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]"], False),
        (["watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]", "Call trace:", " spin+0x1/0x2"], True),
        (["BUG: KASAN: use-after-free in f+0x1/0x2", "Call trace:", " f+0x1/0x2"], False),
        (["BUG: KASAN: use-after-free in f+0x1/0x2", "=" * 66], True),
        (["[    1.000000] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"], True),
        (["------------[ cut here ]------------"], False),
        (["WARNING: at f+0x1/0x2"], False),
        (["WARNING: at f+0x1/0x2", "---[ end trace 0000000000000000 ]---"], True),
    ],
)
def test_what_makes_a_report_whole(lines: list[str], is_whole: bool) -> None:
    """Its last line where it has one, else its backtrace, else nothing."""
    assert [fault.is_whole for fault in scan(lines)] == [is_whole]
