"""A report being read: its lines, and the parts of its title."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from harness.model.fault import Fault, FaultKind, fault_title
from harness.parse.oops.backtrace import Backtraces
from harness.parse.oops.functions import is_place, symbol
from harness.parse.oops.lines import PREFIX, Piece
from harness.parse.oops.rules import FILE, Place, Role, Rule
from harness.parse.oops.title import source_file, stable

HEAD_LINES = 250  # the start names the crash,
TAIL_LINES = 50  # the end shows the outcome; the middle is dropped
SPAN = 5000  # lines after which a report that never ends (an ftrace dump …) is closed
PATIENCE_TRACED = 5  # unrelated lines in a row that end a report whose backtrace was seen,
PATIENCE_BARE = 40  # or one whose backtrace has not come
PATIENCE_OTHERS = 300  # lines in a row that others have printed

_END = re.compile(r"---\[ end (?:trace\b|Kernel panic)|Rebooting in \d+ seconds")
_USAGE = re.compile(rf"{FILE} (?:suspicious |RCU|Illegal )")
# What reports consist of besides frames; anything else counts as unrelated.
_BODY = re.compile(
    r"\s*$|CPU: \d|Hardware name|Modules linked|pstate:|(?:sp|x\d+) ?:|pmr:|Code:|Tainted:|Workqueue:"
    r"|task:|(?:rcu: )?\t|rcu: |Sending NMI|Stopper:|---\[|\s+0x[0-9a-f]{8,}|Sched Debug|ref_tracker: |kmemleak: "
    r"|irq event stamp|(?:hard|soft)irqs last|Mem abort|Data abort|  |\[[0-9a-f]{16}\]|user pgtable|swapper pgtable"
    r"|\"echo 0 >|ESR:|FAR:|(?:Task|IRQ|Overflow) stack:|handlers:|\[<[0-9a-f]+>\]"
    r"|page:|flags: |raw: |page (?:last|dumped)|(?:Object|Redzone|Padding|Bytes b4|Slab|FIX)\b|0x[0-9a-f]+-0x"
    r"|(?:\d+ locks?|no locks) held by| #\d+: |Showing all locks|R[0-9A-Z]{2}: | \? "
)
_CAN_DIE = (None, FaultKind.OOPS, FaultKind.BUG, FaultKind.KASAN, FaultKind.WARNING)
_STALLS = (FaultKind.RCU_STALL, FaultKind.SOFT_LOCKUP, FaultKind.HARD_LOCKUP)
# Faults at an instruction itself: a helper that can't be executed is the place, whoever called it.
_AT_INSTRUCTION = re.compile(r"Oops - (?:BTI|FPAC|[Uu]ndefined|CFI)|.*\bBRK\b")

# What panics say that follow something else, and of which kinds that can be. Any other panic is its own cause.
_DIED = re.compile(r"Fatal exception|Attempted to kill |Aiee, killing|Oopsed too often|Oops failed to kill")
_FOLLOWS = (
    (re.compile(r"panic_on_warn|warned too often"), (FaultKind.WARNING, FaultKind.BUG, FaultKind.KASAN)),
    (re.compile(r"panic_on_taint"), (FaultKind.WARNING, FaultKind.BUG, FaultKind.KASAN, FaultKind.SOFT_LOCKUP)),
    (re.compile(r"k(?:asan|fence|msan)\b.* set"), (FaultKind.KASAN,)),
    (re.compile(r"scheduling while atomic"), (FaultKind.BUG,)),
    (re.compile(r"hung_task"), (FaultKind.HUNG_TASK,)),
    (re.compile(r"softlockup"), (FaultKind.SOFT_LOCKUP,)),
    (re.compile(r"[Hh]ard LOCKUP"), (FaultKind.HARD_LOCKUP,)),
    (re.compile(r"RCU Stall"), (FaultKind.RCU_STALL,)),
    (re.compile(r"[Ww]orkqueue"), (FaultKind.BUG,)),
)


@dataclass(frozen=True)
class Cause:
    """A report that may be the cause of a panic."""

    kind: FaultKind | None
    title: str
    dies: bool
    caller: str | None

    def explains(self, panic: str) -> bool:
        """Return whether the kernel panicked because of this, judging by the panic's message."""
        if not panic or self.kind is None:
            return True  # cut short: nothing speaks against it
        if _DIED.search(panic):
            return self.dies
        return any(self.kind in kinds for words, kinds in _FOLLOWS if words.search(panic))


class Report:
    """A report that is being read."""

    def __init__(self, caller: str | None) -> None:
        self.caller = caller
        self.kind: FaultKind | None = None  # None: nothing but "cut here" yet
        self.what = ""
        self._has_died = False  # "Internal error" was printed,
        self._may_die = False  # or may have been lost
        self.ended: int | None = None  # lines seen since the end marker
        self._rule: Rule | None = None  # of the line that `what` is from,
        self._match: re.Match[str] | None = None  # and what it found there
        self._said: tuple[Rule, re.Match[str]] | None = None  # a line that may be what WARN() was told to say
        self._named: str | None = None  # the function that the opening line names
        self._file: str | None = None
        self._is_own_file = False  # the file of the function that was executed, and of no other
        self._at: str | None = None
        self._stacks = Backtraces()
        self._awaits_more = False  # the next line says what it was
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._span = 0
        self._unrelated = 0  # lines in a row that are no part of a report,
        self._of_others = 0  # or were printed by others
        self._trailing = 0  # lines since the last one that is a part of it

    def turn(self, rule: Rule, match: re.Match[str]) -> None:
        """Take over what an opening line says."""
        self.ended = None
        self._awaits_more = False
        if self.kind is FaultKind.PANIC and rule.role is not Role.PANIC:
            return  # whatever fails during a panic, the cause came before
        if rule.role is Role.CUT:
            if self._may_announce and self._rule and self._match:
                self._said = (self._rule, self._match)
                self._rule, self.kind, self.what, self._may_die = None, None, "", False
            return
        if self.kind is None and not rule.follows_cut and self._span:
            self._said = (rule, match)
            return
        self._take(rule, match)

    def _take(self, rule: Rule, match: re.Match[str]) -> None:
        groups = match.groupdict("")
        had_detail = self._has_detail
        if not self.what or rule.role is Role.DETAIL:
            self._rule, self._match = rule, match
            words = {name: stable(value) for name, value in groups.items() if f"{{{name}}}" in rule.what}
            self.what = rule.what.format_map(words).rstrip(" :")
            self._awaits_more = rule.goes_on and not groups["what"]
            self._take_place(rule, groups)
        if self.kind is None or rule.kind is FaultKind.PANIC or (had_detail and rule.role is Role.START):
            self.kind = rule.kind
        self._has_died = self._has_died or rule.role is Role.DIE
        self._may_die = self._may_die or rule.dies

    def _take_place(self, rule: Rule, groups: dict[str, str]) -> None:
        self._named = " / ".join(symbol(groups[name]) for name in ("func", "other") if groups.get(name)) or None
        self._file = source_file(groups.get("file", "")) or None
        self._is_own_file = rule.names_own_file

    def follow(self, cause: Cause) -> None:
        """Take over what a panic is the end of."""
        self.what = cause.title

    @property
    def _may_announce(self) -> bool:
        """Whether "cut here" now would show that what was printed before is what WARN() or BUG() has found."""
        return self._span == 1 and self._rule is not None and self._rule.is_anything

    @property
    def _has_detail(self) -> bool:
        return self._rule is not None and self._rule.role is Role.DETAIL

    @property
    def _place(self) -> Place:
        return self._rule.place if self._rule is not None else Place.TRACE

    def cause(self, title: str | None = None) -> Cause:
        """What a panic may be the end of; `title` where it is known already."""
        return Cause(self.kind, self._title() if title is None else title, self._may_die, self.caller)

    def continues_with(self, rule: Rule) -> bool:
        """Whether an opening line that the same context prints belongs to this report. Panics are not asked about."""
        if self.kind is FaultKind.PANIC:
            return True
        if rule.role is Role.DIE:
            # A KASAN trap prints a complete report before it dies.
            alive = self.ended is None or self.kind is FaultKind.KASAN
            return alive and not self._has_died and self.kind in _CAN_DIE
        if self.ended is not None:
            return False
        if self.kind is None:  # "cut here" waits for its kind
            return rule.role is not Role.CUT and (rule.follows_cut or self._said is None)
        if self._stacks.traced:
            return False
        if self._rule is not None and self._rule.warns and rule.role in (Role.CUT, Role.START):
            return rule.follows_cut and rule.kind is FaultKind.WARNING
        if self.kind not in (FaultKind.WARNING, FaultKind.BUG):
            return False
        if rule.role is Role.CUT and self._may_announce:
            return True
        return rule.role is Role.DETAIL or (self._has_detail and rule.kind in (FaultKind.WARNING, FaultKind.BUG))

    def add(self, piece: Piece, *, opens: bool) -> None:
        """Keep a line and learn from it; `opens`: it is an opening line, so no unrelated one."""
        for line in piece.text.split("\n"):  # two, where a name has cut an opening line
            self._span += 1
            if len(self._head) < HEAD_LINES:
                self._head.append(line)
            else:
                self._tail.append(line)
        is_own = self.caller is None or piece.caller is None or piece.caller == self.caller
        if not is_own and not self._asks_others:
            self._of_others += 1
            self._trailing += 1
            return
        related = self._learn(piece.body, is_told=self._awaits_more and not opens) or opens
        self._of_others = 0
        self._unrelated = 0 if related else self._unrelated + 1
        self._trailing = 0 if related else self._trailing + 1

    @property
    def _asks_others(self) -> bool:
        """Whether other CPUs print their backtraces into the report."""
        return self.kind in _STALLS

    def pass_over(self) -> None:
        """A line came that belongs to another report."""
        self._of_others += 1

    def _learn(self, body: str, *, is_told: bool) -> bool:
        """Whether `body` is a part of reports; what it tells is kept."""
        if is_told:
            self.what += f": {stable(re.sub(r'[0-9]+', 'N', body))}"
            self._awaits_more = False
            return True
        at = self._rule.at if self._rule is not None else None
        if at is not None and self._at is None and (match := at.match(body)):
            self._at = symbol(match["func"])
        elif self.kind is FaultKind.LOCKDEP and self._file is None and (match := _USAGE.match(body)):
            self._file = source_file(match["file"])
        after_marker = self.kind is FaultKind.LOCKDEP or (self._rule is not None and self._rule.follows_stacks)
        return self._stacks.learn(body, after_marker=after_marker) or _BODY.match(body) is not None

    def ends_with(self, body: str) -> bool:
        """Return whether this line is the report's last."""
        if _END.match(body) is not None:
            return True
        return self._rule is not None and self._rule.ends is not None and self._rule.ends.match(body) is not None

    @property
    def is_stale(self) -> bool:
        """True where the report must have ended without a marker (soft lockups and the like have none)."""
        if self._span >= SPAN:
            return True
        if self.kind is FaultKind.PANIC:
            return False  # it has a marker, and whatever is printed before that belongs to it
        return self._of_others >= PATIENCE_OTHERS or self._unrelated >= (
            PATIENCE_TRACED if self._is_all_there else PATIENCE_BARE
        )

    @property
    def _is_all_there(self) -> bool:
        """Whether nothing has to come any more: there is no last line to wait for, and the backtrace was seen."""
        rule = self._rule
        if rule is None or rule.is_brief:
            return rule is not None
        return self._stacks.traced and rule.ends is None and not rule.is_marked and not rule.dies

    @property
    def is_whole(self) -> bool:
        """Return whether the report is complete, if its kind has an end marker."""
        if self.ended is not None:
            return True
        if self._rule is None or self._rule.is_marked or self.kind is FaultKind.PANIC:
            return False
        return self._rule.is_brief or self._stacks.has_place

    def _function(self) -> tuple[str | None, bool]:
        """The function that the report is booked on; whether that is the one that was executed, so that the file
        is its."""
        if self._place is Place.NOWHERE:
            return None, True
        if self._place is Place.LINE:
            return self._at, False
        memory = self._rule is not None and self._rule.spares_allocators
        if self._named and (" / " in self._named or is_place(self._named, skip_allocators=memory)):
            return self._named, True
        if self._place is Place.TRACE:
            helpers = _AT_INSTRUCTION.match(self.what) is None
            executed = self._stacks.executed(skip_helpers=helpers, skip_allocators=memory)
            if executed:
                return executed, executed == self._stacks.pc
        if self._at and is_place(self._at):
            return self._at, False
        stalls = self.kind in _STALLS
        caller = self._stacks.caller(in_any=stalls, interrupted=stalls, skip_allocators=memory)
        told = self._named or self._stacks.pc
        if caller is None and told is not None:
            return told, True  # the report was cut short: a reporter tells more than nothing
        return caller, caller in (None, told, self._stacks.innermost)

    def _title(self) -> str:
        function, is_executed = self._function()
        what = self.what
        if self.kind is FaultKind.PANIC:
            what = f"panic: {self.what or 'report cut short'}"
        elif self.kind is None:
            said = (PREFIX.sub("", line, count=1) for line in self._head[1:])  # what WARN() was told to say
            what = "WARNING" if function else f"WARNING: {stable(next(filter(None, said), 'report cut short'))}"
        has_file = self._place is not Place.NOWHERE and (is_executed or not self._is_own_file)
        return fault_title(what, function=function, file=self._file if has_file else None)

    def close(self) -> None:
        """Nothing more will come: what was taken for WARN()'s text is a report of its own, where no WARNING came."""
        if self.kind is None and self._said is not None:
            self._take(*self._said)

    def fault(self) -> Fault:
        """The fault as far as it was read; a few unrelated lines at the end of an unmarked report are left out."""
        lines = [*self._head]
        dropped = self._span - len(self._head) - len(self._tail)
        if dropped > 0:
            lines.append(f"[... {dropped} lines left out ...]")
        lines += self._tail
        if self.ended is None and self._is_all_there and 0 < self._trailing < len(lines):
            lines = lines[: -self._trailing]
        kind = self.kind or FaultKind.WARNING
        return Fault(kind=kind, title=self._title(), lines=tuple(lines), is_whole=self.is_whole)
