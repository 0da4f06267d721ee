"""Faults: what the kernel reported on its console, or what the harness observed when the kernel can't report any more;
and signatures, which identify the same fault in several runs."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace

# The places that a title may end with. Two functions: KCSAN names both sides of a race.
_FUNCTION = r"[A-Za-z_$][\w.$:<>]*"
_PLACE = rf"(?: in (?P<function>{_FUNCTION}(?: / {_FUNCTION})?))?(?: \((?P<file>[^\s():]+\.[A-Za-z]+)\))?"
_LINE_NUMBER = re.compile(r":\d+\)$")
_PANIC = "panic: "


class FaultKind(enum.StrEnum):
    """The kind of kernel report that was recognised on the console. KASAN stands for all sanitizers."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "BUG"
    WARNING = "WARNING"
    SOFT_LOCKUP = "soft lockup"
    HARD_LOCKUP = "hard lockup"
    RCU_STALL = "RCU stall"
    HUNG_TASK = "hung task"
    KASAN = "KASAN"
    LOCKDEP = "lockdep"
    SILENCE = "silence"


def fault_title(what: str, *, function: str | None = None, file: str | None = None) -> str:
    """The title of a fault: `what` happened, in which function, in which file (``kernel/x.c:12``), where known."""
    return what + (f" in {function}" if function else "") + (f" ({file})" if file else "")


@dataclass(frozen=True, kw_only=True)
class FaultSignature:
    """What two reports of the same bug have in common.

    `title` is what happened (``panic: Unable to handle kernel paging request``); `function` and `file` are the frame
    that the report is attributed to, if known. `file` has no line number, because that shifts with every patch to the
    file. Nothing here depends on the process, its pid, an address, a CPU, a counter or the time.

    `is_whole` is False for a report that was cut short. It is part of the identity: a report that ends before its
    backtrace can't say where it happened, and as a key it must not stand for every report that begins alike. Use
    `matches`, not ``==``, to ask whether such a report may be the same bug as another one.

    The text form is one line, ``WARNING in f (kernel/x.c) [WARNING]`` or ``Oops in f [oops, cut short]``. `parse` reads
    it back, and equal signatures have equal texts, so it can be a database's key; most need quotes in YAML, because of
    their colons.
    """

    kind: FaultKind
    title: str
    function: str | None = None
    file: str | None = None
    is_whole: bool = True

    def __post_init__(self) -> None:
        text = str(self)
        fields = _fields_of(text)
        if not text.isprintable() or (self.title, self.function, self.file) != tuple(map(fields.get, _PARTS)):
            raise ValueError(f"a fault's signature: expected a title in one line, without its place, found {text!r}")

    def __str__(self) -> str:
        title = fault_title(self.title, function=self.function, file=self.file)
        return f"{title} [{self.kind}{'' if self.is_whole else ', cut short'}]"

    @classmethod
    def parse(cls, text: str) -> FaultSignature:
        """The signature with this text form. ValueError for any other text."""
        fields = _fields_of(text)
        if not fields:
            raise ValueError(f"a fault's signature: expected a title and a kind, as 'Oops in f [oops]', found {text!r}")
        return cls(
            kind=FaultKind(fields["kind"] or ""),
            title=fields["title"] or "",
            function=fields["function"],
            file=fields["file"],
            is_whole=fields["cut"] is None,
        )

    def matches(self, other: FaultSignature) -> bool:
        """Whether both may be of the same bug: they are equal, or one was cut short and the rest of it agrees.

        The rest must say where it happened, if the other one does; otherwise any report that ended early would match
        every bug that begins alike, and hide a new one. The missing part may be the panic that an oops ends in. Not
        transitive: never group by it."""
        if self.is_whole and other.is_whole:
            return self == other
        return any(_agree(*pair) for pair in ((self, other), (self._panicked(), other), (self, other._panicked())))

    def _panicked(self) -> FaultSignature:
        """The signature of the panic that may have followed what was cut short."""
        if self.is_whole or self.kind is FaultKind.PANIC:
            return self
        return replace(self, kind=FaultKind.PANIC, title=_PANIC + self.title)


_PARTS = ("title", "function", "file")
_KINDS = "|".join(re.escape(kind.value) for kind in FaultKind)
_SIGNATURE = re.compile(rf"(?P<title>\S(?:.*?\S)??){_PLACE} \[(?P<kind>{_KINDS})(?P<cut>, cut short)?\]")


def _fields_of(text: str) -> dict[str, str | None]:
    match = _SIGNATURE.fullmatch(text)
    return match.groupdict() if match else {}


def _agree(one: FaultSignature, other: FaultSignature) -> bool:
    """Whether both agree on everything that both say, and share a location if either names one."""
    if (one.kind, one.title) != (other.kind, other.title):
        return False
    places = ((one.function, other.function), (one.file, other.file))
    for mine, theirs in places:
        was_lost = (mine is None and not one.is_whole) or (theirs is None and not other.is_whole)
        if mine != theirs and not was_lost:
            return False
    is_nowhere = all(mine is None and theirs is None for mine, theirs in places)
    return is_nowhere or any(mine is not None and mine == theirs for mine, theirs in places)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kernel report: `title` is a line a person searches for, as
    ``panic: Unable to handle kernel paging request in wake_up_process``, made by `fault_title`; `lines` are its
    console lines. `is_whole` is False where the report broke off before its end."""

    kind: FaultKind
    title: str
    lines: tuple[str, ...] = ()
    is_whole: bool = True

    @property
    def is_fatal(self) -> bool:
        """Whether the kernel can't be expected to continue: true for a panic, false for an oops in a task."""
        return self.kind in (FaultKind.PANIC, FaultKind.HARD_LOCKUP, FaultKind.SILENCE)

    @property
    def signature(self) -> FaultSignature:
        """What this report has in common with others of the same bug. Titles are the target's text: characters that
        can't be printed or encoded become question marks."""
        words = " ".join(self.title.split())
        title = _LINE_NUMBER.sub(")", "".join(c if c.isprintable() else "?" for c in words)) or "?"
        cut = "" if self.is_whole else ", cut short"
        return FaultSignature.parse(f"{title} [{self.kind}{cut}]")
