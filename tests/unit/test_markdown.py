"""The page of Markdown for job pages: what is new first, and nothing that a target said is markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import html
from markdown_it import MarkdownIt

from harness.model.fault import Fault, FaultKind
from harness.model.past import Past
from harness.model.record import BoardRecord, KernelRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.report.markdown import MOST_LINES, summary_markdown
from harness.report.text import one_line
from tests.faults.catalogue import Blame, fault
from tests.unit.test_past import ERROR, FAIL, known, night, one, said
from tests.unit.test_past import history as history  # the fixture


def markdown(found: Past | None, *results: Result, **more: object) -> str:
    fields: dict[str, object] = {"ended": RunEnd(kind=EndKind.COMPLETE)} | more
    return summary_markdown(RunResults(results=results, **fields), past=found)  # type: ignore[arg-type]


def shown(text: str) -> html.HtmlElement:
    """As a site shows it that takes no HTML in Markdown away."""
    return html.document_fromstring(MarkdownIt("gfm-like", {"linkify": False}).render(text))


def test_a_job_page_says_what_is_new_first_and_each_cause_once(history: Path, tmp_path: Path) -> None:
    oops = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)")
    tests = [f"t{number}" for number in range(6)]
    before = [one(test=test) for test in tests]
    nights = [
        night(tmp_path, number, one(FAIL, "old"), *before, one(test="gone"), kernel=f"k{number}") for number in range(9)
    ]
    now = (one(FAIL, "old", reason="as ever"), *(one(Verdict.CRASH, test, fault=oops) for test in tests[1:]), one())
    found = known(*nights, night(tmp_path, 9, *now, kernel="new"), history=history)
    lines = markdown(found, *now).splitlines()
    assert lines[0] == "## FAILED: 5 CRASH, 1 FAIL, 1 PASS in 0.0s"
    start = lines.index("### The kernel failed")
    first, names, figures, ends, second = lines[start + 2 : start + 7]
    assert first == "- **new failure**, CRASH: `Oops in f (kernel/x.c:12)`"
    assert names == "  - `t1`, `t2`, `t3`, `t4` and 1 more"
    assert figures.startswith("  - the first: `failed 0 of 9 before, 1 of 1 since; worse with a probability of")
    assert ends == "  - the first: `last good run-0008-virt, first bad run-0009-virt`"
    assert second == "- **still failing**, FAIL: `as ever`"
    assert "**Vanished**: `t0`, `gone`" in lines


def test_tests_that_say_the_same_and_changed_in_different_ways_stand_apart(history: Path, tmp_path: Path) -> None:
    nights = [night(tmp_path, number, one(FAIL), one(test="u"), kernel=f"k{number}") for number in range(9)]
    now = (one(FAIL, reason="so"), one(FAIL, "u", reason="so"))
    lines = markdown(known(*nights, night(tmp_path, 9, *now, kernel="new"), history=history), *now).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        "- **new failure**, FAIL: `so`",
        "- **still failing**, FAIL: `so`",
    ]


def test_a_job_page_without_a_history() -> None:
    text = markdown(None, one(FAIL, reason="so"), one(ERROR, "u", reason="line lost"), one(test="v"))
    assert [line for line in text.splitlines() if line] == [
        "## FAILED: 1 FAIL, 1 ERROR, 1 PASS in 0.0s",
        "The run left no record.",
        "### The kernel failed",
        "- FAIL: `so`",
        "  - `t`",
        "### The harness or the lab failed",
        "- ERROR: `line lost`",
        "  - `u`",
        "All tests, with their logs: report.html in the run's directory.",
    ]
    headings = shown(text).xpath("//h2 | //h3")
    assert len(headings) == 3
    assert [said(item) for item in shown(text).xpath("//li/ul/li/code")] == ["t", "u"]


def test_a_job_page_says_how_a_run_ended_early() -> None:
    assert "The run ended early: `it was killed`" in markdown(None, one(), ended=None)
    ended = RunEnd(kind=EndKind.NOT_BOOTED, reason="it `panicked`")
    assert "ended early: `` the target could not be booted: it `panicked` ``" in markdown(None, one(), ended=ended)


def test_a_job_page_has_at_most_sixty_lines(history: Path, tmp_path: Path) -> None:
    now = [one(FAIL, f"t{number}", reason=f"because of {number}") for number in range(99)]
    before = night(tmp_path, 1, *(one(test=result.test) for result in now))
    lines = markdown(known(before, night(tmp_path, 2, *now, kernel="new"), history=history), *now).splitlines()
    assert MOST_LINES - 4 <= len(lines) <= MOST_LINES
    count = sum(line.startswith("- ") for line in lines)
    assert f"{99 - count} more causes or groups of tests are left out here." in lines


@fault("Markdown, HTML and mentions in everything that a target says", where="hostile target", blame=Blame.NOBODY,
       survives="the job page: all of it is in code spans")  # fmt: skip
@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)> </code>",
        "`<b>x</b>` ``two`` @everyone #1 ![](http://x.example/)",
        "``` \n\n# heading\n\n[a](javascript:alert(1))",
        "`",
        "a ` b | c \\` d",
        "https://x.example/ www.x.example a@x.example :tada: $`x`$ ~~x~~",
        "\x1b[31mred\x1b[0m\r\n\n/assign @me",
    ],
)
def test_nothing_from_a_target_is_markdown(text: str) -> None:
    record = RunRecord(id=text, kernel=KernelRecord(release=text), board=BoardRecord(name=text))
    fault = Fault(kind=FaultKind.OOPS, title=text)
    results = (one(FAIL, f"1{text}", reason=text), one(ERROR, text), one(Verdict.CRASH, f"2{text}", fault=fault))
    ended = RunEnd(kind=EndKind.OTHER, reason=text)
    root = shown(markdown(None, *results, record=record, ended=ended))
    assert {element.tag for element in root.iter()} <= {"html", "body", "h2", "h3", "p", "ul", "li", "code"}
    codes = [element.text for element in root.iter("code")]
    assert codes.count(one_line(text)) == 7
    for element in root.iter("code"):
        element.text = ""
    assert not set(root.text_content()) & set("@#<>`|~[]$\\")
