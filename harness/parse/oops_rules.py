"""What kernel reports begin with: one rule for each kind of opening line; the scanner is parse/oops.py.

Taken from arch/arm64/kernel/traps.c, arch/arm64/mm/fault.c, kernel/panic.c, lib/bug.c, lib/refcount.c,
lib/list_debug.c, kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, kernel/locking/lockdep.c,
kernel/trace/ftrace.c and mm/k*san/report.c of 5.10 to 7.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from harness.model.result import FaultKind

SYMBOL = r"[A-Za-z_$][\w.$]*"
FILE = r"(?P<file>[^\s:]+:\d+)"
FUNC = rf"(?P<func>{SYMBOL})\+0x"


class Role(Enum):
    """What a matching line does to a report that is already open."""

    CUT = "cut"  # "cut here": a report begins, its kind comes later
    DETAIL = "detail"  # names the trouble ahead of, or inside, a WARNING or BUG
    START = "start"
    DIE = "die"  # "Internal error": goes on with what "Unable to handle" or "kernel BUG" began
    PANIC = "panic"  # swallows whatever is open


@dataclass(frozen=True)
class Rule:
    """A line that begins (or turns) a report. `what`, the title so far, is formatted with the named groups."""

    pattern: re.Pattern[str]
    kind: FaultKind
    what: str
    role: Role = Role.START
    locate: bool = True  # the title names the function
    stamped: bool = False  # only on lines that carry a printk timestamp: user space could print the like


def _rule(
    pattern: str, kind: FaultKind, what: str, *, role: Role = Role.START, locate: bool = True, stamped: bool = False
) -> Rule:
    return Rule(re.compile(pattern), kind, what, role, locate, stamped)


_LOCKDEP = (
    r"possible \w[\w ]*? (?:dependency|locking) detected|possible recursive locking detected|inconsistent lock state"
    r"|suspicious RCU usage|\S+-safe -> \S+-unsafe lock order detected|bad (?:unlock balance|contention) detected"
    r"|held lock freed|lock held when returning to user space|Nested lock was not taken|chain_key collision"
)

_K = FaultKind
RULES = (
    _rule(r"Kernel panic - not(?: syncing: (?P<what>.*))?", _K.PANIC, "{what}", role=Role.PANIC, locate=False),
    _rule(r"-+\[ cut here \]-+", _K.WARNING, "", role=Role.CUT),
    _rule(r"Internal error: (?P<what>.+?): [0-9a-f]+ \[#\d+\]", _K.OOPS, "{what}", role=Role.DIE),
    _rule(r"Internal error: (?P<what>[\w -]+)", _K.OOPS, "{what}", role=Role.DIE, stamped=True),  # cut in half
    _rule(r"(?P<what>Unable to handle kernel .+?)(?: at virtual address.*)?$", _K.OOPS, "{what}"),
    _rule(r"Unhandled fault at 0x", _K.OOPS, "Unhandled fault"),
    _rule(r"Unexpected kernel (?P<what>[\w-]+) exception at EL1", _K.OOPS, "Unexpected kernel {what} exception"),
    # These four always end in panic(); not waiting for it saves the fault where the panic itself gets lost.
    _rule(r"Insufficient stack space to handle exception!", _K.PANIC, "kernel stack overflow"),
    _rule(r"SError Interrupt on CPU\d+", _K.PANIC, "SError Interrupt"),
    _rule(r"Unhandled (?P<what>.+?) exception on CPU\d+", _K.PANIC, "Unhandled {what} exception"),
    _rule(r"Bad mode in (?P<what>.+?) handler detected", _K.PANIC, "Bad mode in {what} handler"),
    _rule(rf"[Kk]ernel BUG at (?:{FILE}|{FUNC})", _K.BUG, "kernel BUG"),
    _rule(rf"WARNING: CPU: \d+ PID: \d+(?: at (?:{FILE} )?(?:{FUNC})?)?", _K.WARNING, "WARNING"),
    _rule(rf"WARNING: {FILE} at\b ?(?:{FUNC})?", _K.WARNING, "WARNING"),
    _rule(rf"WARNING: at {FUNC}", _K.WARNING, "WARNING"),
    _rule(rf"WARNING: (?P<what>{_LOCKDEP})", _K.LOCKDEP, "lockdep: {what}"),
    _rule(r"WARNING: .+/\d+ still has locks held!", _K.LOCKDEP, "lockdep: task still has locks held", locate=False),
    _rule(r"\[ BUG: (?P<what>[^\]]+?)!? \]", _K.LOCKDEP, "lockdep: {what}"),
    _rule(r"-+\[ ftrace bug \]-+", _K.WARNING, "ftrace bug", role=Role.DETAIL),
    _rule(r"refcount_t: (?P<what>[^.]+)", _K.WARNING, "refcount_t: {what}", role=Role.DETAIL),
    _rule(r"(?P<what>list_(?:add|del)) (?:corruption|double add)", _K.WARNING, "{what} corruption", role=Role.DETAIL),
    _rule(rf"UBSAN: (?P<what>[\w-]+) in {FILE}", _K.WARNING, "UBSAN: {what}"),
    _rule(rf"BUG: KASAN: (?P<what>[\w-]+)(?: in {FUNC})?", _K.KASAN, "KASAN: {what}"),
    _rule(rf"BUG: (?P<tool>K[A-Z]+): (?P<what>[\w -]+?) in {FUNC}", _K.KASAN, "{tool}: {what}"),
    _rule(r"(?:watchdog: )?BUG: soft lockup - CPU#\d+", _K.SOFT_LOCKUP, "soft lockup"),
    _rule(r"(?:(?:NMI )?watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP", _K.HARD_LOCKUP, "hard lockup"),
    _rule(r"(?:rcu: )?INFO: rcu\w* detected expedited stalls?", _K.RCU_STALL, "RCU stall (expedited)"),
    _rule(r"(?:rcu: )?INFO: (?P<what>rcu_tasks\w*) detected stalls? on tasks", _K.RCU_STALL, "RCU stall ({what})"),
    _rule(r"(?:rcu: )?INFO: rcu\w* (?:self-)?detected stalls?\b", _K.RCU_STALL, "RCU stall"),
    _rule(
        r"INFO: task (?P<what>.+?):\d+(?: <[^>]*>)? blocked(?: in I/O wait)? for more than \d+ seconds",
        _K.HUNG_TASK,
        "hung task: {what}",
        locate=False,
    ),
    _rule(r"BUG: (?P<what>scheduling while atomic|workqueue l\w+|sleeping function called from invalid context)"
          rf"(?: at {FILE})?", _K.BUG, "BUG: {what}"),
    _rule(r"BUG: using (?P<what>\w+\(\)) in preemptible", _K.BUG, "BUG: using {what} in preemptible code"),
    _rule(r"BUG (?P<cache>\S+) \((?:Not tainted|Tainted)[^)]*\): (?P<what>.*)", _K.BUG, "BUG in slab {cache}: {what}"),
    _rule(r"BUG: (?P<what>.+)", _K.BUG, "BUG: {what}", stamped=True),
)  # fmt: skip

# One cheap test first: nearly all console lines are none of the above.
HINT = re.compile(
    r"panic -|cut here|ftrace bug|Internal e|Unable to h|Unhandled|Unexpected k|Insufficient s|SError|Bad mode"
    r"|BUG|WARNING: |refcount_t|list_|UBSAN|LOCKUP|INFO: "
)
