"""Progress for people: bars on a terminal, plain lines in a CI log.

Much of the text was written by others (`cli/output.py` says by whom): none of it is markup, and none of it is an escape
sequence."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from harness.model.result import Result, Verdict
from harness.report.text import clean

_PLAIN_EVERY_S = 30.0  # seconds between two plain lines about one piece of work
_NEXT_LINE = "\n" + " " * 9  # between the lines of a message
_STYLES = {
    Verdict.PASS: "green",
    Verdict.SKIP: "yellow",
    Verdict.XFAIL: "yellow",
    Verdict.FAIL: "red",
    Verdict.UNRESOLVED: "magenta",
    Verdict.CRASH: "bold red",
    Verdict.TIMEOUT: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.NOTRUN: "magenta",
}


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the program, with the exit code that blames a kernel."""
        raise BrokenPipeError


class Display:
    """Shows the stages of a command (a Progress) and the tests of a run (a RunDisplay); both are in model.progress.

    Use it as a context manager, which restores the terminal at the end. Everything goes to standard error; standard
    output is for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _Screen(stderr=True, highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=self.console, transient=True) if self.live else None
        self._lock = threading.Lock()  # callers report from their own threads
        self._work: dict[str, TaskID] = {}
        self._shown_at: dict[str, float] = {}
        self._total = 0
        self._done = 0
        self._counts: Counter[Verdict] = Counter()
        self._tests: TaskID | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Display:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def _print(self, text: str) -> None:
        """Print a line. A terminal that is gone, or a file on a full disk, must not end the work that is shown."""
        with contextlib.suppress(OSError):
            self.console.print(text)

    def say(self, text: str) -> None:
        self._drop_finished_work()
        # No line of `text` begins where ours do, so none can pass for one of them.
        self._print(f"[dim]{time.monotonic() - self._began:7.1f}s[/dim] {_plain(text, between=_NEXT_LINE)}")

    def advance(self, label: str, done: float, total: float | None) -> None:
        if self._bars:
            if label not in self._work:
                self._drop_finished_work()
            with self._lock:
                if label not in self._work:
                    self._work[label] = self._bars.add_task(_plain(label), total=total)
                self._bars.update(self._work[label], completed=done, total=total)
            return
        now = time.monotonic()
        # the first call starts the clock, so short work shows nothing
        if now - self._shown_at.setdefault(label, now) >= _PLAIN_EVERY_S:
            self._shown_at[label] = now
            share = f" ({100 * done / total:.0f} %)" if total else ""
            self._print(f"{now - self._began:7.1f}s {_plain(label)}: {done:.0f}{share}")

    def _drop_finished_work(self) -> None:
        with self._lock:
            if self._bars:
                for task in self._work.values():
                    self._bars.remove_task(task)
            self._work.clear()

    # -- the tests of a run -------------------------------------------------------------------------------------

    def planned(self, tests: Sequence[str]) -> None:
        self._total = len(tests)
        self.say(f"{self._total} tests planned")
        if self._bars and self._total:
            self._tests = self._bars.add_task("tests", total=self._total)

    def started(self, test: str) -> None:
        if self._bars and self._tests is not None:
            self._bars.update(self._tests, description=_plain(f"{self._summary()} {test[-70:]}"))

    def result(self, result: Result) -> None:
        self._done += 1
        self._counts[result.verdict] += 1
        if self._bars and self._tests is not None:
            self._bars.update(self._tests, completed=self._done)
            if result.verdict is Verdict.PASS:
                return  # the bar shows it; lines are for results that somebody may want to look at
        style = _STYLES[result.verdict]
        reason = f"  [dim]{_plain(result.reason)}[/dim]" if result.reason else ""
        place = f"[dim]{self._done:>4}/{self._total}[/dim]"
        self._print(
            f"{place} [{style}]{result.verdict:<10}[/{style}] {_plain(result.test)} ({result.seconds:.1f} s){reason}"
        )

    def problem(self, text: str) -> None:
        self.say(f"note: {text}")

    def _summary(self) -> str:
        return " ".join(f"{verdict}:{count}" for verdict, count in sorted(self._counts.items()))


def _plain(text: str, *, between: str = " ") -> str:
    """`text` as markup that shows just this text, without control characters; `between` stands between its lines."""
    return escape(between.join(clean(text).split("\n")))
