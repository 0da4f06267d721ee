"""What kernel reports begin with: one rule for each kind of opening line.

Taken from arch/arm64/kernel/traps.c, arch/arm64/mm/fault.c, kernel/panic.c, lib/bug.c, lib/refcount.c,
lib/list_debug.c, lib/smp_processor_id.c, lib/kobject.c, kernel/watchdog.c, kernel/hung_task.c, kernel/smp.c,
kernel/irq/spurious.c, kernel/rcu/tree_stall.h, kernel/locking/lockdep.c, kernel/locking/spinlock_debug.c,
kernel/kcsan/report.c, kernel/cfi.c, kernel/trace/ftrace.c, mm/k*san/report.c, mm/kmemleak.c, mm/slub.c,
mm/page_alloc.c, mm/memory.c, net/core/dev.c and rust/kernel/lib.rs of 5.10 to 7.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from harness.model.fault import FaultKind
from harness.parse.oops.backtrace import FUNC, SYMBOL

FILE = r"(?P<file>[^\s:]+:\d+)"
_COMM = r".{0,20}?"  # a process's name: 15 characters of any kind


class Role(Enum):
    """What a matching line does to a report that is already open."""

    CUT = "cut"  # "cut here": a report begins, its kind comes later
    DETAIL = "detail"  # names the trouble ahead of, or inside, a WARNING or BUG
    START = "start"
    DIE = "die"  # "Internal error": goes on with what "Unable to handle" or "kernel BUG" began
    PANIC = "panic"  # swallows what it is the end of


class Place(Enum):
    """What tells where it happened."""

    TRACE = "trace"  # what was executed, else the backtrace
    BACKTRACE = "backtrace"  # the backtrace alone: what was executed is the victim, or asks for others
    LINE = "line"  # only the line that `Rule.at` matches: the backtrace is an accidental one
    NOWHERE = "nowhere"  # the title names none


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A line that begins (or turns) a report. `what`, the title so far, is formatted with the named groups."""

    pattern: re.Pattern[str]
    kind: FaultKind
    what: str
    role: Role = Role.START
    place: Place = Place.TRACE
    at: re.Pattern[str] | None = None  # a later line that names the place
    stamped: bool = False  # only on lines that carry a printk timestamp: user space could print the like
    follows_cut: bool = False  # comes behind "cut here" of its own accord; what else stands there is WARN()'s text
    dies: bool = False  # ends in die() or panic(), whose own line may be lost
    names_own_file: bool = False  # the file is that of the function which was executed
    goes_on: bool = False  # the next line says what it was
    spares_allocators: bool = False  # they were asked for memory or given it, and are not the place
    follows_stacks: bool = False  # other backtraces come before the report's own
    warns: bool = False  # WARN_ON(1) comes behind, for its backtrace
    is_anything: bool = False  # any other text: may be what WARN() or BUG() is about to report
    ends: re.Pattern[str] | None = None  # its last line, besides those that end all reports
    is_marked: bool = True  # has a last line; else it ends with its backtrace,
    is_brief: bool = False  # or has none to wait for


def _rule(
    pattern: str,
    kind: FaultKind,
    what: str,
    *,
    role: Role = Role.START,
    place: Place = Place.TRACE,
    at: re.Pattern[str] | None = None,
    stamped: bool = False,
    spares_allocators: bool = False,
) -> Rule:
    """A report without a last line of its own, or one that another rule's line goes on with."""
    return Rule(
        pattern=re.compile(pattern),
        kind=kind,
        what=what,
        role=role,
        place=place,
        at=at,
        stamped=stamped,
        follows_cut=role is not Role.START,
        spares_allocators=spares_allocators,
        is_marked=role is not Role.START,
    )


def _warn(pattern: str, kind: FaultKind, what: str) -> Rule:
    """WARN() and BUG(): "cut here" before, "end trace" behind."""
    return Rule(
        pattern=re.compile(pattern),
        kind=kind,
        what=what,
        follows_cut=True,
        dies=kind is FaultKind.BUG,
        names_own_file=True,
    )


def _dies(pattern: str, kind: FaultKind, what: str, *, role: Role = Role.START, stamped: bool = False) -> Rule:
    """What ends in die() or panic()."""
    return Rule(
        pattern=re.compile(pattern),
        kind=kind,
        what=what,
        role=role,
        stamped=stamped,
        follows_cut=role is Role.DIE,
        dies=True,
    )


def _sanitizer(pattern: str, what: str) -> Rule:
    """A report between two lines of ====."""
    return Rule(pattern=re.compile(pattern), kind=FaultKind.KASAN, what=what, spares_allocators=True, ends=_BAR)


def _lockdep(pattern: str, what: str) -> Rule:
    """Booked on whoever takes or gives back the lock."""
    return _rule(pattern, FaultKind.LOCKDEP, what, at=_LOCK_AT)


def _lockdep_context(pattern: str, what: str, *, place: Place = Place.BACKTRACE) -> Rule:
    """Booked on whoever does what is reported: the locks that the report lists are those that are held meanwhile."""
    return Rule(
        pattern=re.compile(pattern),
        kind=FaultKind.LOCKDEP,
        what=what,
        place=place,
        spares_allocators=True,
        warns=True,
        is_marked=False,
    )


def _printed(pattern: str, what: str, *, place: Place = Place.TRACE, kind: FaultKind = FaultKind.WARNING) -> Rule:
    """What is printed without a word that all reports have: only behind a timestamp."""
    return _rule(pattern, kind, what, place=place, stamped=True)


def _memory(pattern: str, what: str, *, stamped: bool = False) -> Rule:
    """A memory allocator's report."""
    return Rule(
        pattern=re.compile(pattern),
        kind=FaultKind.BUG,
        what=what,
        stamped=stamped,
        place=Place.BACKTRACE,
        spares_allocators=True,
        follows_stacks=True,
        warns=True,
        is_marked=False,
    )


def _brief(pattern: str, what: str, *, kind: FaultKind = FaultKind.WARNING) -> Rule:
    """One line, or a few without a backtrace of the report's own."""
    return Rule(
        pattern=re.compile(pattern),
        kind=kind,
        what=what,
        place=Place.NOWHERE,
        stamped=True,
        is_marked=False,
        is_brief=True,
    )


_BAR = re.compile(r"={40,}$")
_FTRACE_AT = re.compile(rf"\s*\[<[0-9a-f]+>\] {FUNC}")
_LOCK_AT = re.compile(rf"(?:.*\bat:|\s*\[<[0-9a-f]+>\]) {FUNC}")  # "…, at: f+0x1/0x2": where the lock is taken
_HANDLER_AT = re.compile(rf"\[<[^>]{{1,40}}>\] (?P<func>{SYMBOL})")
_WORK_AT = re.compile(rf"\s*(?:last function: |preempt=.{{0,80}}\bworkfn=)(?P<func>{SYMBOL})")

_CHECKS = (
    r"possible \w[\w ]*? (?:dependency|locking) detected|possible recursive locking detected|inconsistent lock state"
    r"|\S+-safe -> \S+-unsafe lock order detected|bad (?:unlock balance|contention) detected"
    r"|lock held when returning to user space|Nested lock was not taken|chain_key collision"
)
_OFF = r"trying to register non-static key|looking up invalid subclass"
_RACE = r"(?P<what>(?:assert: )?[\w -]+)"
_KMEMLEAK = (
    r"unreferenced object|Cannot insert|Found object by alias|Scan area larger|[A-Z][a-z][\w ]{1,60}? unknown object"
)
_KOBJECT = r"init an initialized|add an uninitialized"
_ATOMIC = (
    r"scheduling while atomic|scheduling in a non-blocking section|sleeping function called from invalid context"
    r"|assuming (?:atomic|non migratable) context"
)

_K = FaultKind
RULES = (
    _rule(r"Kernel panic - not(?: syncing: (?P<what>.*))?", _K.PANIC, "{what}", role=Role.PANIC, place=Place.NOWHERE),
    _rule(r"-+\[ cut here \]-+", _K.WARNING, "", role=Role.CUT),
    _dies(r"Internal error: (?P<what>.+?): [0-9a-f]{1,16} \[#\d+\]", _K.OOPS, "{what}", role=Role.DIE),
    _dies(r"Internal error: (?P<what>[\w -]+)", _K.OOPS, "{what}", role=Role.DIE, stamped=True),  # cut in half
    _dies(r"(?P<what>Unable to handle kernel .+?)(?: at virtual address.*)?$", _K.OOPS, "{what}"),
    _dies(r"Unhandled fault at 0x", _K.OOPS, "Unhandled fault"),
    _dies(r"Unexpected kernel (?P<what>[\w-]+) exception at EL1", _K.OOPS, "Unexpected kernel {what} exception"),
    # These four always end in panic(); not waiting for it saves the fault where the panic itself gets lost.
    _dies(r"Insufficient stack space to handle exception!", _K.PANIC, "kernel stack overflow"),
    _dies(r"SError Interrupt on CPU\d+", _K.PANIC, "SError Interrupt"),
    _dies(r"Unhandled (?P<what>.+?) exception on CPU\d+", _K.PANIC, "Unhandled {what} exception"),
    _dies(r"Bad mode in (?P<what>.+?) handler detected", _K.PANIC, "Bad mode in {what} handler"),
    _warn(rf"[Kk]ernel BUG at (?:{FILE}|{FUNC})", _K.BUG, "kernel BUG"),
    _warn(rf"WARNING: CPU: \d+ PID: \d+(?: at (?:{FILE} )?(?:{FUNC})?)?", _K.WARNING, "WARNING"),
    _warn(rf"WARNING: {FILE} at\b ?(?:{FUNC})?", _K.WARNING, "WARNING"),
    _warn(rf"WARNING: at {FUNC}", _K.WARNING, "WARNING"),
    _lockdep(rf"WARNING: (?P<what>{_CHECKS})", "lockdep: {what}"),
    _lockdep_context(r"WARNING: (?P<what>suspicious RCU usage|held lock freed)", "lockdep: {what}"),
    _lockdep(rf"(?:WARNING|\[ BUG): {_COMM}/\d+ still has locks held!", "lockdep: task still has locks held"),
    _lockdep(r"\[ BUG: (?P<what>[^\]]{1,80}?)!? \]", "lockdep: {what}"),
    # After these lockdep checks nothing any more.
    _lockdep(rf"(?:INFO|BUG): (?P<what>{_OFF})", "lockdep: {what}"),
    _lockdep_context(r"BUG: key \S+ (?P<what>not in \.data|has not been registered)", "lockdep: key {what}"),
    _lockdep_context(r"BUG: (?P<what>MAX_\w+) too low", "lockdep: {what} too low", place=Place.NOWHERE),
    _rule(r"-+\[ ftrace bug \]-+", _K.WARNING, "ftrace bug", role=Role.DETAIL, place=Place.LINE, at=_FTRACE_AT),
    _rule(r"refcount_t: (?P<what>[^.]+)", _K.WARNING, "refcount_t: {what}", role=Role.DETAIL),
    _rule(r"(?P<what>list_(?:add|del)) (?:corruption|double add)", _K.WARNING, "{what} corruption", role=Role.DETAIL),
    _rule(
        rf"CFI failure (?:at {FUNC}|\(target: )", _K.BUG, "CFI failure", role=Role.DETAIL, stamped=True
    ),
    _rule(
        r"ODEBUG: (?P<what>\w+ [a-z ]+?) \(active state",
        _K.WARNING,
        "ODEBUG: {what}",
        role=Role.DETAIL,
        spares_allocators=True,
    ),
    Rule(
        pattern=re.compile(rf"rust_kernel: panicked at (?:'(?P<what>.*)', )?{FILE}"),
        kind=_K.BUG,
        what="Rust panicked: {what}",
        role=Role.DETAIL,
        follows_cut=True,
        goes_on=True,
    ),
    Rule(
        pattern=re.compile(rf"UBSAN: (?P<what>[\w -]+) in {FILE}"),
        kind=_K.WARNING,
        what="UBSAN: {what}",
        place=Place.BACKTRACE,
        follows_cut=True,
        ends=_BAR,
    ),
    _sanitizer(rf"BUG: KASAN: (?P<what>[\w-]+(?: or [\w-]+)?)(?: in {FUNC})?", "KASAN: {what}"),
    _sanitizer(rf"BUG: KCSAN: {_RACE} in (?P<func>{SYMBOL})(?: \[\S+\])? / (?P<other>{SYMBOL})", "KCSAN: {what}"),
    _sanitizer(rf"BUG: (?P<tool>K[A-Z]+): (?P<what>(?:assert: )?[\w -]+?) in {FUNC}", "{tool}: {what}"),
    _rule(r"(?:(?:NMI )?watchdog: )?BUG: soft lockup - CPU#\d+", _K.SOFT_LOCKUP, "soft lockup"),
    _rule(r"(?:(?:NMI )?watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP", _K.HARD_LOCKUP, "hard lockup"),
    _rule(r"(?:rcu: )?INFO: rcu\w* detected expedited stalls?", _K.RCU_STALL, "RCU stall (expedited)"),
    _rule(r"(?:rcu: )?INFO: (?P<what>rcu_tasks\w*) detected stalls? on tasks", _K.RCU_STALL, "RCU stall ({what})"),
    _rule(r"(?:rcu: )?INFO: rcu\w* (?:self-)?detected stalls?\b", _K.RCU_STALL, "RCU stall"),
    _rule(
        rf"INFO: task {_COMM}:\d+(?: <[^>]{{0,40}}>)? (?:blocked(?: in I/O wait)?|can't die) for more than \d+ seconds",
        _K.HUNG_TASK,
        "hung task",
        place=Place.BACKTRACE,
    ),
    _brief(
        rf"INFO: The task {_COMM}:\d+ has been waiting for writeback completion for more than \d+ seconds",
        "hung task: waits for writeback",
        kind=_K.HUNG_TASK,
    ),
    _rule(
        rf"BUG: (?P<what>{_ATOMIC})(?: at {FILE})?",
        _K.BUG,
        "BUG: {what}",
        place=Place.BACKTRACE,
        spares_allocators=True,
    ),
    _rule(r"BUG: (?P<what>workqueue lockup)", _K.BUG, "BUG: {what}", place=Place.BACKTRACE),
    _rule(r"BUG: (?P<what>workqueue leaked [a-zA-Z, ]+):", _K.BUG, "BUG: {what}", place=Place.LINE, at=_WORK_AT),
    _rule(
        r"BUG: using (?P<what>\w+\(\)) in preemptible",
        _K.BUG,
        "BUG: using {what} in preemptible code",
        place=Place.BACKTRACE,
    ),
    _rule(
        r"BUG: (?P<what>(?:spinlock|rwlock)[\w -]+?) on CPU#\d", _K.BUG, "BUG: {what}", place=Place.BACKTRACE
    ),
    _memory(r"BUG: (?P<what>Bad page (?:state|map|cache)) in process", "BUG: {what}"),
    _memory(r"BUG (?P<cache>\S+) \((?:Not tainted|Tainted)[^)]*\): (?P<what>.*)", "BUG in slab {cache}: {what}"),
    _memory(r"pagealloc: (?P<what>memory corruption|single bit error)", "pagealloc: {what}", stamped=True),
    _memory(r"kmem_cache_destroy \S+: (?P<what>Slab cache still has objects)", "{what}", stamped=True),
    _rule(
        r"BUG: (?P<what>Bad rss-counter state) mm:\S+ (?P<type>type:\w+)",
        _K.BUG,
        "BUG: {what} {type}",
        place=Place.NOWHERE,
    ),
    Rule(
        pattern=re.compile(r"BUG: (?P<what>.+)"),
        kind=_K.BUG,
        what="BUG: {what}",
        stamped=True,
        dies=True,
        is_anything=True,
        is_marked=False,
    ),
    # No word tells that these are reports. They are of the same weight: something is lost, hangs, or is corrupted.
    _brief(r"(?P<what>unregister_netdevice: waiting for) \S+ to become free", "{what} DEV to become free"),
    _brief(r"kmemleak: \d+ new suspected memory leaks?", "kmemleak: new suspected memory leaks"),
    Rule(
        pattern=re.compile(rf"kmemleak: (?P<what>{_KMEMLEAK})"),
        kind=_K.WARNING,
        what="kmemleak: {what}",
        place=Place.BACKTRACE,
        stamped=True,
        spares_allocators=True,
        is_marked=False,
    ),
    Rule(
        pattern=re.compile(r"irq (?:event )?\d+: (?P<what>nobody cared|bogus return value)"),
        kind=_K.WARNING,
        what="irq: {what}",
        place=Place.LINE,
        at=_HANDLER_AT,
        stamped=True,
        ends=re.compile(r"Disabling IRQ #\d"),
        is_marked=False,
    ),
    _brief(r"unexpected IRQ trap at vector", "unexpected IRQ trap"),
    _printed(
        r"(?:smp: )?csd: Detected non-responsive CSD lock", "CSD lock not answered", kind=_K.SOFT_LOCKUP
    ),
    _printed(
        r"sched: CPU \d+ need_resched set for >", "need_resched set without schedule", kind=_K.SOFT_LOCKUP
    ),
    _printed(r"bad: scheduling from the idle thread!", "scheduling from the idle thread"),
    _brief(r"huh, entered softirq \d+ (?P<what>\w+)", "softirq {what} changed preempt_count"),
    _brief(r"VFS: Busy inodes after unmount", "VFS: Busy inodes after unmount"),
    _brief(r"VFS: Close: file count is (?:0|zero)", "VFS: Close: file count is 0"),
    _printed(rf"kobject .{{1,200}}?: tried to (?P<what>{_KOBJECT}) object", "kobject: tried to {what} object"),
    _printed(r"sysfs: cannot create duplicate filename", "sysfs: cannot create duplicate filename"),
    _brief(rf"{FILE}: (?P<what>bad p[4gmu]d) [0-9a-f]", "{what}"),
)  # fmt: skip

# One cheap test first: nearly all console lines are none of the above. Each alternative begins with a character that is
# rare in logs and traces, which makes the search several times faster than with any other word of those lines.
HINT = re.compile(
    r"Kernel panic -|\[ (?:cut here|ftrace bug)|Internal e|Unable to h|Unhandled|Unexpected k|Insufficient s|SError"
    r"|Bad mode|BUG|WARNING: |UBSAN|ODEBUG: |LOCKUP|INFO: |_(?:t: |add |del |kernel: p)|: bad p[4gmu]d "
    r"|\] (?:unregister_netdevice: w|kmemleak: |irq |unexpected I|(?:smp: )?csd: |sched: C|bad: s|huh, |VFS: |kobject "
    r"|sysfs: c|pagealloc: |kmem_cache_d|CFI f)"
)
# Half of an opening line, where a process has a line feed in its name.
HALF = re.compile(r"(?:INFO: (?:The )?task|WARNING:)(?: .{0,15})?$")
