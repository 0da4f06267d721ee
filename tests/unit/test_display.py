"""What a CI log gets to see: plain lines, none of them markup."""

from __future__ import annotations

import errno
import io
import os
import threading
import time

import pytest
import rich.console
from rich.progress import TaskID

from harness import display
from harness.model.result import Result, Verdict
from tests.faults.catalogue import Blame, fault


def _shown() -> tuple[display.Display, io.StringIO]:
    text = io.StringIO()
    return display.Display(rich.console.Console(file=text, highlight=False, soft_wrap=True)), text


def test_results_are_lines_with_place_verdict_test_and_reason() -> None:
    shown, text = _shown()
    with shown:
        shown.planned(["a", "b"])
        shown.result(Result(test="a.tc[instance]", verdict=Verdict.PASS, seconds=1.25))
        shown.result(Result(test="b", verdict=Verdict.CRASH, reason="panic: [bold] in x", seconds=2))
    lines = text.getvalue().splitlines()
    assert lines[1] == "   1/2 PASS       a.tc[instance] (1.2 s)"
    assert lines[2] == "   2/2 CRASH      b (2.0 s)  panic: [bold] in x"


def test_short_work_says_nothing_long_work_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, text = _shown()
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for second in range(100):
        now = float(second)
        shown.advance("make", second, 200)
    assert len(text.getvalue().splitlines()) == 3
    assert "make: 30 (15 %)" in text.getvalue()


def test_news_from_another_thread_take_no_bar_away_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = display.Display(rich.console.Console(file=io.StringIO(), force_terminal=True))
    removed: list[TaskID] = []
    others: list[threading.Thread] = []

    def remove(task: TaskID) -> None:
        removed.append(task)
        if not others:  # in the middle of it somebody else has something to say
            others.append(threading.Thread(target=shown.say, args=("news",)))
            others[0].start()
            others[0].join(0.2)  # it waits for us, so this does not end sooner

    with shown:
        shown.advance("make", 1, 2)
        monkeypatch.setattr(shown._bars, "remove_task", remove)
        shown.say("made")
        others[0].join()
    assert len(removed) == 1


@fault(
    "a kernel's release, a test's name and a reason hold escape sequences, markup and line ends",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="the words, in lines that none of ours can be taken for",
)
def test_what_others_wrote_changes_nothing_on_the_terminal() -> None:
    odd = "7.3-\x1b[2J\x1b]0;t\x07x\r\nOK: 1 PASS\n   0.1s [bold]y\u202ez\x9b"
    shown, text = _shown()
    with shown:
        shown.say(f"kernel {odd}")
        shown.problem(odd)
        shown.planned([odd])
        shown.result(Result(test=odd, verdict=Verdict.FAIL, reason=odd))
    lines = text.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("OK")] == []
    assert lines[0].endswith("s kernel 7.3-x")
    assert lines[1:3] == ["         OK: 1 PASS", "            0.1s [bold]yz"]
    assert lines[-1].startswith("   1/1 FAIL       7.3-x OK: 1 PASS ")


def test_bars_show_no_escape_sequences() -> None:
    text = io.StringIO()
    shown = display.Display(rich.console.Console(file=text, force_terminal=True, color_system=None))
    with shown:
        shown.advance("make \x1b]0;title\x07 7.3", 1, 2)
        shown.planned(["a"])
        shown.started("a\x1b[5mb")
    assert "\x1b]0;" not in text.getvalue()
    assert "\x1b[5m" not in text.getvalue()


class Full(io.StringIO):
    """A file on a full disk."""

    refused = 0

    def write(self, _text: str) -> int:
        self.refused += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@fault(
    "the terminal is gone, or its file is on a full disk", where="disk", blame=Blame.NOBODY,
    survives="the run, which goes on",
)  # fmt: skip
def test_what_can_not_be_shown_ends_nothing() -> None:
    full = Full()
    shown = display.Display(rich.console.Console(file=full))
    with shown:
        shown.say("building")
        shown.planned(["a"])
        shown.result(Result(test="a", verdict=Verdict.FAIL))
        shown.problem("y")
    assert full.refused == 4
