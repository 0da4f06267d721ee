"""Kernel reports in a stream of console lines: panics, oopses, warnings, lockups, stalls, sanitizer findings.

Written for arm64, kernels 5.10 to 7.x (arch/arm64/kernel/traps.c, mm/fault.c, kernel/panic.c, lib/bug.c,
kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/locking/lockdep.c and their like).

A title holds nothing that differs between two equal crashes (addresses, pids, CPU numbers): syzkaller's rule.
The stream is the target's: it may be cut, interleaved, repeated or hostile. Memory stays bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from harness.model.result import Fault, FaultKind
from harness.parse.oops_rules import FILE, FUNC, HINT, RULES, Role, Rule

HEAD_LINES = 250  # the start names the crash,
TAIL_LINES = 50  # the end tells how it went out; what lies between is dropped
SPAN = 5000  # lines after which a report that never ends (an ftrace dump …) is closed
LINGER = 16  # lines after an end marker in which a panic still belongs to the report
PATIENCE_TRACED = 5  # unrelated lines in a row that end a report whose backtrace was seen,
PATIENCE_BARE = 40  # or one whose backtrace has not come
MAX_FAULTS = 100  # kept until taken; a warning that floods the console is told often enough
MAX_LINE = 1000

_STAMP = re.compile(r"(?:<\d{1,3}>)?\[ {0,7}\d+\.\d{6}\]")
_PREFIX = re.compile(r"(?:<\d{1,3}>)?(?P<stamp>\[ {0,7}\d+\.\d{6}\])?\s?(?:\[ {0,7}[CT]\d+\]\s?)?(?:<\d{1,3}>)?")
# Control characters and escape sequences. They hold no line end, so whole blocks of lines can be cleaned at once.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(
    _CONTROL.pattern + r"(?:(?<=\x1b)(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[@-Z\\-_]))?"
)

_END = re.compile(r"---\[ end (?:trace\b|Kernel panic)|Rebooting in \d+ seconds")
_BAR = re.compile(r"={40,}$")
_NEW_BOOT = re.compile(r"Booting Linux on physical CPU|U-Boot \d{4}\.")
# What must be in a line that does anything while no report is open: nearly all text is passed over by this alone.
_TRIGGER = re.compile(rf"{HINT.pattern}|Booting Linux on|U-Boot ")
_TRACE = re.compile(r"[Cc]all trace:")
_LOCKDEP_TRACE = re.compile(r"stack backtrace:")
_FRAME = re.compile(rf"\s*(?:\[<[0-9a-f]+>\] )?{FUNC}[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]*\])?(?: \([A-Z]+\))?$")
_PC_LR = re.compile(rf"(?P<reg>pc|lr) ?: (?:{FUNC})?")
_AT = re.compile(rf"(?:.*\bat:|\s*\[<[0-9a-f]+>\]) {FUNC}")  # lockdep's "…, at: f+0x1/0x2"; what ftrace failed on
_USAGE = re.compile(rf"{FILE} (?:suspicious |RCU|Illegal )")
# What reports consist of besides frames; anything else counts as unrelated.
_BODY = re.compile(
    r"\s*$|CPU: \d|Hardware name|Modules linked|pstate:|(?:pc|lr|sp|x\d+) ?:|pmr:|Call trace|Code:|Tainted:|Workqueue:"
    r"|task:|Task dump|(?:rcu: )?\t|rcu: |NMI backtrace|Sending NMI|Stopper:|---\[|\s+0x[0-9a-f]{8,}|Sched Debug"
    r"|irq event stamp|(?:hard|soft)irqs last|Mem abort|Data abort|  |\[[0-9a-f]{16}\]|user pgtable|swapper pgtable"
    r"|\"echo 0 >|ESR:|FAR:|(?:Task|IRQ|Overflow) stack:"
)

_MAY_DIE = (None, FaultKind.OOPS, FaultKind.BUG, FaultKind.KASAN, FaultKind.WARNING)

# Functions that report, and so are never the place where it went wrong.
_REPORTERS = re.compile(
    r"(?:__)?dump_(?:backtrace|stack|cpu_task)|show_(?:stack|regs)|__switch_to$|__schedule|schedule$|schedule_|preempt_sch"
    r"|__might_|___might_|print_|lockdep_|__lock_acquire|lock_acquire|sched_show_task|(?:__)?rcu_|nmi_|trigger_|panic"
    r"|(?:__)?kasan_|(?:__)?ubsan_|__ubsan|check_preemption|debug_smp_|__warn|warn_|report_bug|bug_handler|(?:bug_)?brk_"
    r"|refcount_warn_saturate|__list_(?:add|del)|__schedule_bug|ftrace_bug|kfence_|kcsan_|(?:el1h?|do_el1|el1)_"
    r"|watchdog_timer_fn|tick_|update_process_times|__hrtimer_run|hrtimer_int|handle_percpu_|generic_handle_|gic_handle"
)


class _Piece(NamedTuple):
    text: str  # as printed, cleaned: what a fault keeps
    body: str  # without level, timestamp and caller id
    stamped: bool


def _pieces(line: str) -> Iterator[_Piece]:
    """One clean console line, cut where a carriage return or another printk prefix shows that two lines ran
    together."""
    for clean in line.split("\r"):
        cuts = [0, *(match.start() for match in _STAMP.finditer(clean) if match.start()), len(clean)]
        for begin, end in pairwise(cuts):
            text = clean[begin:end].rstrip()
            prefix = _PREFIX.match(text)
            if prefix is not None and text:
                yield _Piece(text[:MAX_LINE], text[prefix.end() :][:MAX_LINE], prefix["stamp"] is not None)


def _symbol(name: str) -> str:
    """Without the compiler's suffixes, which differ between builds of one source."""
    return re.sub(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)\b.*", "", name)


def _file(place: str) -> str:
    """``kernel/x.c:12`` of whatever __FILE__ was: an out-of-tree module's is a path of the build machine."""
    place = re.sub(r"^(?:\.{1,2}/)+", "", place)
    return place.rpartition("/")[2] if place.startswith("/") else place


_VARYING = (
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),
    (re.compile(r"(?<!exitcode=)\b(?:0x)?[0-9a-f]{8,}\b"), "ADDR"),
    (re.compile(r"\b(kworker|ksoftirqd|migration|cpuhp|swapper|irq)/[^\s/:]+(?::\d+\S*)?"), r"\1"),
    (re.compile(r"\[\S+:\d+\]|[, ]*\b(?:[Pp]id|PID|[Cc]omm): ?\S+|\bCPU[# ]?\d+\b|\bpfn:\S+"), ""),
    (re.compile(r"(?<=[ :])[\w.-]+/\d+(?:/\w+)*(?![\w,)])"), ""),  # comm/pid
    (re.compile(r"\s+"), " "),
)


def _stable(text: str) -> str:
    """`text` without what differs between two equal crashes."""
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text.strip(" :,.!")[:200]


class _Report:
    """A report that is being read: its lines, and what its title is made from."""

    def __init__(self) -> None:
        self.kind: FaultKind | None = None  # None: nothing but "cut here" yet
        self.what = ""
        self.locate = True
        self.detail = False  # `what` came from a DETAIL line: the function that complained is a mere helper
        self.func: str | None = None
        self.file: str | None = None
        self.died = False
        self.ended: int | None = None  # lines seen since the end marker
        self.traced = False
        self._regs: dict[str, str | None] = {}
        self._at: str | None = None
        self._caller: str | None = None
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._span = 0
        self._unrelated = 0

    def turn(self, rule: Rule, match: re.Match[str]) -> None:
        """Take over what an opening line says."""
        self.ended = None
        if rule.role is Role.CUT or (self.kind is FaultKind.PANIC and rule.role is not Role.PANIC):
            return  # whatever breaks in a panic, its cause came before
        groups = match.groupdict("")
        if not self.what or rule.role is Role.DETAIL:
            self.what = rule.what.format_map({name: _stable(value) for name, value in groups.items()})
            self.locate = rule.locate
        if self.kind is None or rule.kind is FaultKind.PANIC or (self.detail and rule.role is Role.START):
            self.kind = rule.kind
        self.detail = self.detail or rule.role is Role.DETAIL
        self.died = self.died or rule.role is Role.DIE
        self.func = self.func or _symbol(groups.get("func", "")) or None
        self.file = self.file or _file(groups.get("file", "")) or None

    def add(self, piece: _Piece, *, opens: bool) -> None:
        """Keep a line and learn from it; `opens`: it is an opening line, so no unrelated one."""
        self._span += 1
        if len(self._head) < HEAD_LINES:
            self._head.append(piece.text)
        else:
            self._tail.append(piece.text)
        frame = _FRAME.match(piece.body)
        if frame and self._caller is None and not _REPORTERS.match(frame["func"]):
            self._caller = _symbol(frame["func"])
        self._learn(piece.body)
        related = opens or frame or _BODY.match(piece.body) or _LOCKDEP_TRACE.match(piece.body)
        self._unrelated = 0 if related else self._unrelated + 1

    def _learn(self, body: str) -> None:
        if match := _PC_LR.match(body):
            self._regs.setdefault(match["reg"], _symbol(match["func"]) if match["func"] else None)
        elif self.kind is FaultKind.LOCKDEP or self.what == "ftrace bug":
            if self._at is None and (match := _AT.match(body)):
                self._at = _symbol(match["func"])
            elif self.file is None and self._at is None and (match := _USAGE.match(body)):
                self.file = _file(match["file"])
        marker = _LOCKDEP_TRACE if self.kind is FaultKind.LOCKDEP else _TRACE
        self.traced = self.traced or marker.match(body) is not None

    @property
    def _is_barred(self) -> bool:
        """True where a line of ==== ends the report, and prose follows the first backtrace."""
        return self.kind is FaultKind.KASAN or self.what.startswith("UBSAN")

    def ends_with(self, body: str) -> bool:
        """True where this line is the report's last."""
        return _END.match(body) is not None or (self._is_barred and _BAR.match(body) is not None)

    @property
    def is_stale(self) -> bool:
        """True where the report must have ended without a marker (soft lockups and the like have none)."""
        if self._span >= SPAN:
            return True
        if self.kind is FaultKind.PANIC:
            return False  # it has a marker, and whatever is printed before that belongs to it
        brief = self.traced and not self._is_barred
        return self._unrelated >= (PATIENCE_TRACED if brief else PATIENCE_BARE)

    def _function(self) -> str | None:
        if self.what == "ftrace bug":
            return self._at
        if self.detail:
            return self._caller
        if self.file is not None and self.kind is FaultKind.LOCKDEP:
            return None  # suspicious RCU usage tells its place itself
        return self.func or self._regs.get("pc") or self._regs.get("lr") or self._at or self._caller

    def _title(self) -> str:
        title = self.what if self.kind is not FaultKind.PANIC else f"panic: {self.what or 'report cut short'}"
        function = self._function() if self.locate else None
        if self.kind is None:
            said = (_PREFIX.sub("", line, count=1) for line in self._head[1:])  # what WARN() was told to say
            title = "WARNING" if function else f"WARNING: {_stable(next(filter(None, said), 'report cut short'))}"
        if function:
            title += f" in {function}"
        if self.file and self.locate and not self.detail:
            title += f" ({self.file})"
        return title

    def fault(self) -> Fault:
        """The fault as far as it was read; a few unrelated lines at the end of an unmarked report are left out."""
        lines = [*self._head]
        dropped = self._span - len(self._head) - len(self._tail)
        if dropped > 0:
            lines.append(f"[... {dropped} lines left out ...]")
        lines += self._tail
        if self.ended is None and self.traced and 0 < self._unrelated < len(lines):
            lines = lines[: -self._unrelated]
        return Fault(kind=self.kind or FaultKind.WARNING, title=self._title(), lines=tuple(lines))


class FaultScanner:
    """Feed it the console; take the faults.

    A report is `begun` with its first line and stays so until it is over: by its end marker and a few more
    lines (a panic that follows an oops belongs to it), by another report, by unrelated lines, or by `finish()`,
    which the owner calls when the console fell silent or the test is over.
    """

    def __init__(self) -> None:
        self._open: _Report | None = None
        self._faults: list[Fault] = []
        self._cause = ""  # title of the last report closed, for a panic that comes late
        self._partial = ""
        self.dropped = 0  # faults beyond MAX_FAULTS that nobody took in time

    @property
    def begun(self) -> bool:
        """True from the first line of a report until it is finished."""
        return self._open is not None

    @property
    def fatal(self) -> bool:
        """True as soon as the open report, or a finished one not yet taken, means that the kernel is gone."""
        kind = self._open.kind if self._open is not None else None
        gone = kind is not None and Fault(kind=kind, title="").is_fatal
        return gone or any(fault.is_fatal for fault in self._faults)

    @property
    def current(self) -> Fault | None:
        """The report that is being read, as far as it is known; its title may still change."""
        return self._open.fault() if self._open is not None else None

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The finished faults that were not taken yet, oldest first."""
        return tuple(self._faults)

    def take(self) -> tuple[Fault, ...]:
        """The finished faults, which the scanner then forgets."""
        taken, self._faults = tuple(self._faults), []
        return taken

    def feed(self, line: str) -> None:
        """One console line without its line end."""
        self.feed_lines(line)

    def feed_lines(self, block: str) -> None:
        """Whole console lines, with line feeds between them; the last one may have one too."""
        if _CONTROL.search(block):
            block = _ESCAPE.sub("", block)
        begin = 0
        while begin < len(block):
            if self._open is None:
                found = _TRIGGER.search(block, begin)
                if found is None:
                    return
                begin = max(begin, block.rfind("\n", begin, found.start()) + 1)
            end = block.find("\n", begin)
            end = end if end >= 0 else len(block)
            for piece in _pieces(block[begin:end]):
                self._feed_piece(piece)
            begin = end + 1

    def feed_text(self, text: str) -> None:
        """Any piece of the stream, cut anywhere; an unfinished line waits for its rest (or for `finish`)."""
        lines, _, self._partial = (self._partial + text).rpartition("\n")
        self.feed_lines(lines)
        if len(self._partial) > 4 * MAX_LINE:
            self.feed(self._partial)
            self._partial = ""

    def finish(self) -> None:
        """Nothing more will come (for now): what is open becomes a fault."""
        if self._partial:
            self.feed(self._partial)
            self._partial = ""
        self._close()

    def _feed_piece(self, piece: _Piece) -> None:
        if _NEW_BOOT.match(piece.body):
            self._close()
            self._cause = ""
            return
        found = _find(piece)
        if found is not None and not self._continues(found[0]):
            self._close()
        report = self._open
        if report is None:
            if found is None:
                return
            report = self._open = _Report()
        if found is not None:
            self._turn(report, *found)
        elif report.ended is not None:
            report.ended += 1
            if report.ended > LINGER:
                self._close()
            return
        report.add(piece, opens=found is not None)
        if report.ends_with(piece.body):
            report.ended = 0
        if (report.ended == 0 and report.kind is FaultKind.PANIC) or report.is_stale:
            self._close()

    def _turn(self, report: _Report, rule: Rule, match: re.Match[str]) -> None:
        report.turn(rule, match)
        if rule.role is Role.PANIC and self._cause and re.search(r"Fatal exception|panic_on_warn", report.what):
            report.what = self._cause  # its oops was taken before the panic came

    def _continues(self, rule: Rule) -> bool:
        """True where a report is open that this opening line belongs to."""
        report = self._open
        if report is None or rule.role is Role.PANIC or report.kind is FaultKind.PANIC:
            return True
        if rule.role is Role.DIE:
            # A KASAN trap prints a complete report before it dies.
            alive = report.ended is None or report.kind is FaultKind.KASAN
            return alive and not report.died and report.kind in _MAY_DIE
        if report.ended is not None:
            return False
        if report.kind is None:  # "cut here" waits for its kind
            return rule.role is not Role.CUT
        if rule.role is Role.DETAIL:
            return report.kind in (FaultKind.WARNING, FaultKind.BUG) and not report.traced
        return report.detail and not report.traced and rule.kind in (FaultKind.WARNING, FaultKind.BUG)

    def _close(self) -> None:
        if self._open is None:
            return
        fault, self._open = self._open.fault(), None
        self._cause = fault.title
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(fault)
            return
        self.dropped += 1
        if fault.is_fatal:  # whatever came before, this one has to be known
            self._faults[-1] = fault


def _find(piece: _Piece) -> tuple[Rule, re.Match[str]] | None:
    if not HINT.search(piece.body):
        return None
    for rule in RULES:
        if (match := rule.pattern.match(piece.body)) and (piece.stamped or not rule.stamped):
            return rule, match
    return None


def scan(lines: Iterable[str]) -> tuple[Fault, ...]:
    """Every fault in a whole log."""
    scanner = FaultScanner()
    for line in lines:
        scanner.feed(line)
    scanner.finish()
    return scanner.take()
