"""The scanner: finds reports in a stream of console lines, and separates those that are printed at the same time.

The stream is the target's: it may be cut, interleaved, repeated or hostile. Memory stays bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from harness.model.fault import Fault, FaultKind
from harness.parse.oops.lines import MAX_LINE, Piece, clean, pieces
from harness.parse.oops.report import Cause, Report
from harness.parse.oops.rules import HALF, HINT, RULES, Role, Rule

LINGER = 16  # lines after an end marker in which a panic still belongs to the report
MAX_FAULTS = 100  # kept until taken; a warning that floods the console need not be kept each time
MAX_OPEN = 8  # reports of different contexts that are read at the same time
_MAX_CAUSES = 8
_MAX_NAME = 15  # characters of a process's name

_Found = tuple[Rule, re.Match[str]]

_NEW_BOOT = re.compile(r"Booting Linux on physical CPU|U-Boot \d{4}\.")
# What must be in a line that does anything while no report is open: nearly all text is passed over by this alone.
_TRIGGER = re.compile(rf"{HINT.pattern}|Booting Linux on|U-Boot ")


class FaultScanner:
    """Feed it the console; take the faults.

    A report is `begun` with its first line and stays so until it is over: by its end marker and a few more
    lines (a panic that follows an oops belongs to it), by another report, by unrelated lines, or by `finish()`,
    which the owner calls when the console fell silent or the test is over.

    If the kernel says who prints a line (CONFIG_PRINTK_CALLER), reports of several contexts are read in parallel;
    otherwise one at a time."""

    def __init__(self) -> None:
        self._open: dict[str | None, Report] = {}  # by who prints it, oldest first
        self._faults: list[Fault] = []
        self._causes: deque[Cause] = deque(maxlen=_MAX_CAUSES)  # reports closed, for a panic that comes late
        self._half: Piece | None = None
        self._partial = ""
        self.dropped = 0  # faults beyond MAX_FAULTS that nobody took in time

    @property
    def begun(self) -> bool:
        """True from the first line of a report until it is finished."""
        return bool(self._open)

    @property
    def fatal(self) -> bool:
        """True as soon as an open report, or a finished one not yet taken, shows that the kernel is dead."""
        kinds = (report.kind for report in self._open.values())
        gone = any(kind is not None and Fault(kind=kind, title="").is_fatal for kind in kinds)
        return gone or any(fault.is_fatal for fault in self._faults)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The finished faults that were not taken yet, oldest first."""
        return tuple(self._faults)

    def take(self) -> tuple[Fault, ...]:
        """Return the finished faults and remove them from the scanner."""
        taken, self._faults = tuple(self._faults), []
        return taken

    def feed(self, line: str) -> None:
        """Process one console line without its line end."""
        self.feed_lines(line)

    def feed_lines(self, block: str) -> None:
        """Whole console lines, with line feeds between them; the last one may have one too."""
        block = clean(block)
        begin = 0
        while begin < len(block):
            if not self._open and self._half is None:
                found = _TRIGGER.search(block, begin)
                if found is None:
                    return
                begin = max(begin, block.rfind("\n", begin, found.start()) + 1)
            end = block.find("\n", begin)
            end = end if end >= 0 else len(block)
            for piece in pieces(block[begin:end]):
                self._feed_piece(piece)
            begin = end + 1

    def feed_text(self, text: str) -> None:
        """Process any piece of the stream; an unfinished line waits for its rest (or for `finish`)."""
        lines, _, self._partial = (self._partial + text).rpartition("\n")
        self.feed_lines(lines)
        if len(self._partial) > 4 * MAX_LINE:
            self.feed(self._partial)
            self._partial = ""

    def finish(self) -> None:
        """Turn open reports into faults, because nothing more will come for now."""
        if self._partial:
            self.feed(self._partial)
            self._partial = ""
        self._half = None
        self._close_all()

    def _feed_piece(self, piece: Piece) -> None:
        if _NEW_BOOT.match(piece.body):
            self._close_all()
            self._causes.clear()
            self._half = None
            return
        found = _find(piece)
        if found is None:
            found, piece = self._rejoined(piece)
        else:
            self._half = None
        report = self._report_of(piece.caller, opens=found is not None)
        if found is not None:
            report = self._turned(report, piece.caller, found)
        elif report is None:
            return
        elif report.ended is not None:
            report.ended += 1
        if report.ended is None:
            report.add(piece, opens=found is not None)
            if report.ends_with(piece.body):
                report.ended = 0
        self._close_what_is_over(report)

    def _rejoined(self, piece: Piece) -> tuple[_Found | None, Piece]:
        """An opening line that a line feed in a process's name has cut in two, found with its second half."""
        half, self._half = self._half, None
        if half is not None and half.caller == piece.caller:
            whole = piece._replace(text=f"{half.text}\n{piece.text}", body=f"{half.body} {piece.body}")
            if found := _find(whole):
                return found, whole
            if len(piece.body) <= _MAX_NAME:
                self._half = whole if len(whole.body) <= MAX_LINE else None
        elif piece.stamped and HALF.match(piece.body):
            self._half = piece
        return None, piece

    def _report_of(self, caller: str | None, *, opens: bool) -> Report | None:
        """The open report that a line of `caller` belongs to. What nobody's report claims goes to the latest one,
        unless it opens another."""
        if not self._open:
            return None
        own = self._open.get(caller)
        if own is not None:
            return own
        latest = next(reversed(self._open.values()))
        if caller is None or not opens:
            return latest
        nobody = self._open.pop(None, None)  # begun by a line whose prefix was torn: this may tell whose it is
        if nobody is not None:
            nobody.caller = caller
            self._open[caller] = nobody
        return nobody

    def _turned(self, report: Report | None, caller: str | None, found: _Found) -> Report:
        """The report that an opening line begins or turns."""
        rule, match = found
        if rule.role is Role.PANIC:
            return self._panicked(report, caller, found)
        if report is not None and not report.continues_with(rule):
            self._close(report)
            report = None
        if report is None:
            report = self._begin(caller)
        report.turn(rule, match)
        return report

    def _panicked(self, report: Report | None, caller: str | None, found: _Found) -> Report:
        words = found[1]["what"] or ""
        cause = None
        if report is not None and report.kind is not FaultKind.PANIC and not report.cause("").explains(words):
            self._close(report)
            report = None
        if report is None:
            cause = self._cause_of(words, caller)
            report = self._begin(caller)
        report.turn(*found)
        if cause is not None:
            report.follow(cause)
        return report

    def _cause_of(self, panic: str, caller: str | None) -> Cause | None:
        """What the kernel panicked for, where that was reported earlier: best of all by whoever panics."""
        if not panic:
            return None
        causes = [*self._causes, *(report.cause() for report in self._open.values())]
        fitting = [cause for cause in reversed(causes) if cause.kind is not None and cause.explains(panic)]
        own = (cause for cause in fitting if cause.caller == caller)
        return next(own, fitting[0] if fitting else None)

    def _begin(self, caller: str | None) -> Report:
        if len(self._open) == MAX_OPEN:
            self._close(next(iter(self._open.values())))
        report = self._open[caller] = Report(caller)
        return report

    def _close_what_is_over(self, report: Report) -> None:
        """After a line of `report`."""
        if report.ended == 0 and report.kind is FaultKind.PANIC:
            self._close_all()
            return
        for other in [*self._open.values()]:
            if other is not report:
                other.pass_over()
            if other.is_stale or (other.ended or 0) > LINGER:
                self._close(other)

    def _close_all(self) -> None:
        for report in [*self._open.values()]:
            self._close(report)

    def _close(self, report: Report) -> None:
        del self._open[report.caller]
        report.close()
        fault = report.fault()
        self._causes.append(report.cause(fault.title))
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(fault)
            return
        self.dropped += 1
        if fault.is_fatal:  # whatever came before, this one has to be known
            self._faults[-1] = fault


def _find(piece: Piece) -> _Found | None:
    if not HINT.search(piece.text):
        return None
    for rule in RULES:
        if (match := rule.pattern.match(piece.body)) and (piece.stamped or not rule.stamped):
            return rule, match
    return None


def scan(lines: Iterable[str]) -> tuple[Fault, ...]:
    """Return every fault in a whole log."""
    scanner = FaultScanner()
    for line in lines:
        scanner.feed(line)
    scanner.finish()
    return scanner.take()
