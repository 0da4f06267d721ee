"""The HTML page: what a reviewer must see comes first, and nothing that the target printed is markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from lxml import html

from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, KernelRecord, PatchRecord, RunRecord
from harness.model.result import Attempt, EndKind, Expectation, Result, RunEnd, RunResults, Standing, Verdict
from harness.report.html import LOG_LIMIT, PAGE_LIMIT, report_html
from tests.faults.catalogue import Blame, fault

HOSTILE = "</script></pre><script>alert(1)</script>\"' onload=x {{ 7*7 }} ]]> \x00\x1b[31mred\x1b[0m \ud800\ufffe é"
PANIC = Fault(kind=FaultKind.PANIC, title="panic: boom in f", lines=("Unable to handle kernel boom", "pc : f+0x1/0x2"))
KNOWN = Expectation(
    verdicts=(Verdict.FAIL,), reason="fixed in 7.4", test="t*", issue="https://bugs.example.org/1", place="e: 0"
)
OTHER = replace(KNOWN, standing=Standing.OTHER)
OLD = replace(KNOWN, standing=Standing.EXPIRED, until="7.2", place="e: 1")
WRONG = replace(OTHER, messages=("*no*",), issue="", place="e: 2")


def run(*results: Result, **changes: object) -> RunResults:
    fields: dict[str, object] = {"started": 1_700_000_000.0, "ended": RunEnd(kind=EndKind.COMPLETE)} | changes
    return RunResults(results=results, **fields)  # type: ignore[arg-type]


def one(test: str = "testcases/a.py::t", verdict: Verdict = Verdict.PASS, **more: object) -> Result:
    return Result(test=test, verdict=verdict, **more)  # type: ignore[arg-type]


def no_logs(path: str) -> str:
    raise FileNotFoundError(path)


def page(results: RunResults, logs: Callable[[str], str] = no_logs) -> html.HtmlElement:
    text = report_html(results, logs=logs)
    text.encode()  # lone surrogates would fail here, when the page is written
    return html.document_fromstring(text)


def said(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def test_header() -> None:
    results = run(
        one(),
        record=RunRecord(
            kernel=KernelRecord(
                release="7.3.4",
                patches=(PatchRecord(name="1.patch", sha256="a"), PatchRecord(name="2.patch", sha256="b")),
            ),
            board=BoardRecord(name="qemu-virt", details={"accelerator": "tcg"}),
        ),
        seconds=683.0,
    )
    (header,) = page(results).xpath("//header")
    names = [said(item) for item in header.xpath("./dl/dt")]
    values = [said(item) for item in header.xpath("./dl/dd")]
    told = dict(zip(names, values, strict=True))
    assert (told["kernel"], told["board"]) == ("7.3.4", "qemu-virt")
    assert told["patches"] == "name: 1.patch, sha256: aname: 2.patch, sha256: b"
    assert "acceleratortcg" in said(header.xpath("./details")[0])
    assert "OK: 1 PASS in 11m23s · started 2023-11-14 22:13:20 UTC" in said(header)


@pytest.mark.parametrize(
    ("verdict", "word"), [(Verdict.PASS, "OK"), (Verdict.FAIL, "FAILED"), (Verdict.NOTRUN, "BROKEN")]
)
def test_state(verdict: Verdict, word: str) -> None:
    assert said(page(run(one(verdict=verdict))).xpath("//h1/span")[0]) == word


def test_a_killed_run_says_so() -> None:
    assert "the run was killed" in said(page(run(one(), ended=None)))


def test_sections_and_their_order() -> None:
    results = run(
        one("t/pass"),
        one("t/surprise", expectations=(OTHER,)),
        one("t/known", Verdict.XFAIL, expectations=(KNOWN,)),
        one("t/error", Verdict.ERROR, reason="lab"),
        one("t/never", Verdict.NOTRUN, reason="interrupted"),
        one("t/fail", Verdict.FAIL, reason="expected 1, found 2", log="logs/f", expectations=(OLD, WRONG)),
        one("t/crash", Verdict.CRASH, fault=PANIC),
        one("t/crash2", Verdict.CRASH, fault=PANIC),
        notes=("rebooted",),
    )
    root = page(results, lambda _path: "".join(f"line {n}\n" for n in range(100)))
    assert [said(item) for item in root.xpath("//h2")] == [
        "The kernel failed",
        "The harness or the lab failed",
        "Passed unexpectedly",
        "Known outcomes that have expired",
        "Known outcomes that no test matched",
        "Known failures",
        "Notes",
        "All tests",
    ]
    crash, fail, error, never = root.xpath("//article")
    assert said(crash).startswith(
        "CRASH panic: boom in f in 2 tests; the lines are those of the first: t/crash t/crash2"
    )
    assert crash.xpath("./pre")[0].text == "Unable to handle kernel boom\npc : f+0x1/0x2"
    assert said(fail).startswith("FAIL t/fail expected 1, found 2 line 85 line 86")
    assert said(fail).endswith("line 99")
    assert said(error) == "ERROR t/error lab"
    assert said(never) == "NOTRUN 1 test: interrupted which t/never"
    assert [said(item) for item in root.xpath("//main/ul/li")] == [
        "t/surprise FAIL: fixed in 7.4 https://bugs.example.org/1",
        "t*, until 7.2 FAIL: fixed in 7.4 https://bugs.example.org/1",
        "t* FAIL with the message '*no*': fixed in 7.4",
        "t/known FAIL: fixed in 7.4 https://bugs.example.org/1",
        "rebooted",
    ]
    assert set(root.xpath("//main/ul/li/a[starts-with(@href, 'http')]/@href")) == {"https://bugs.example.org/1"}
    tiles = [said(item) for item in root.xpath("//button")]
    assert tiles == ["2CRASH", "1FAIL", "1ERROR", "1NOTRUN", "1XFAIL", "2PASS"]


def test_all_tests_are_in_the_tables_and_every_link_leads_somewhere() -> None:
    results = run(*(one(f"{suite}/t{n}", verdict) for suite in ("testcases", "selftests/ftrace") for n, verdict in
                    enumerate(Verdict)))  # fmt: skip
    root = page(results)
    assert len(root.xpath("//tbody/tr")) == 2 * len(Verdict)
    assert [said(item) for item in root.xpath("//section//h3")] == ["testcases", "selftests/ftrace"]
    anchors = set(root.xpath("//@id"))
    assert len(root.xpath("//@id")) == len(anchors)
    links = [link[1:] for link in root.xpath("//a/@href") if link.startswith("#")]
    assert links
    assert set(links) <= anchors


@fault(
    "HTML in the target's log, reasons and names",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="the page: nothing of it is markup",
)
def test_nothing_from_the_target_is_markup() -> None:
    fault = Fault(kind=FaultKind.PANIC, title=HOSTILE, lines=(HOSTILE,))
    expected = Expectation(
        verdicts=(Verdict.FAIL,), reason=HOSTILE, test=HOSTILE, messages=(HOSTILE,), issue=HOSTILE, until=HOSTILE
    )
    old = replace(expected, standing=Standing.EXPIRED)
    wrong = replace(expected, standing=Standing.OTHER, issue="javascript:alert(1)", place="e: 1")
    results = run(
        one(HOSTILE, Verdict.FAIL, expectations=(old, wrong)),
        *(
            one(HOSTILE + verdict, verdict, reason=HOSTILE, log=HOSTILE, expectations=(expected,))
            for verdict in Verdict
        ),
        one(HOSTILE, Verdict.CRASH, fault=fault),
        record=RunRecord(
            kernel=KernelRecord(release=HOSTILE, patches=(PatchRecord(name=HOSTILE),), without={HOSTILE: HOSTILE})
        ),
        notes=(HOSTILE,),
        ended=RunEnd(kind=EndKind.OTHER, reason=HOSTILE),
    )
    text = report_html(results, logs=lambda _path: HOSTILE)
    assert not re.search(r"[\x00\x1b\ud800\ufffe]", text)
    assert "49" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)
    root = page(results, lambda _path: HOSTILE)
    assert len(root.xpath("//script")) == 1
    assert "alert" not in root.xpath("//script")[0].text
    assert not root.xpath("//*[@onload]")
    assert "<script>alert(1)</script>" in root.text_content()


@pytest.mark.parametrize(
    ("log", "href"),
    [
        ("logs/a b.log", "logs/a%20b.log"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("/etc/passwd", None),
        ("logs/../../x", None),
    ],
)
def test_log_links_stay_in_the_run_directory(log: str, href: str | None) -> None:
    assert page(run(one(log=log))).xpath("//td//a/@href") == ([href] if href else [])


def test_logs_are_collapsed_and_not_read_for_passes() -> None:
    texts = {"logs/s": "text"}
    root = page(run(one(log="logs/p"), one("b", Verdict.SKIP, log="logs/s")), texts.__getitem__)
    (details,) = root.xpath("//td//details")
    assert details.get("open") is None
    assert said(details) == "log open the file text"


def test_a_missing_log_is_told() -> None:
    assert "[the log is not there: logs/1]" in said(page(run(one(verdict=Verdict.FAIL, log="logs/1"))))


def test_a_huge_log_is_bounded() -> None:
    text = report_html(run(one(verdict=Verdict.FAIL, log="x")), logs=lambda _path: "0123456789abcde\n" * 330_000)
    assert len(text) < LOG_LIMIT + 40_000
    assert "of 5280000 characters left out" in text


def test_ten_thousand_results_make_a_page_that_opens() -> None:
    verdicts = list(Verdict)
    results = run(*(one(f"testcases/a.py::t{n}", verdicts[n % 9], log=f"logs/{n}") for n in range(10_000)))
    text = report_html(results, logs=lambda _path: "some line of a log\n" * 1000)
    assert text.count("<tr id=") == 10_000
    assert len(text) < 2 * PAGE_LIMIT


def test_self_contained_and_readable_without_scripts() -> None:
    root = page(run(one(verdict=Verdict.FAIL)))
    assert not root.xpath("//link | //img | //iframe | //*[@src]")
    assert root.xpath("//*[@id='filter']/@hidden") == [""]
    assert not root.xpath("//tr[@hidden]")


def test_an_empty_run() -> None:
    assert "no tests" in said(page(run()))


def test_every_attempt_is_shown_with_its_log() -> None:
    attempts = (
        Attempt(verdict=Verdict.ERROR, reason=HOSTILE, board="b1", log="logs/0"),
        Attempt(verdict=Verdict.FAIL, reason="no", board="b2", log="javascript:alert(1)"),
    )
    failed = one(verdict=Verdict.FAIL, reason="no", attempts=attempts, choice="attempt 2 of 2 counts")
    root = page(run(failed, one("b")))
    card, table = root.xpath("//ol[@class='attempts']")
    for shown in (card, table):
        first, second = shown.xpath("./li")
        assert said(first).startswith("ERROR attempt 1: ERROR of board b1 after 0.0 s: </script>")
        assert said(second).startswith("FAIL attempt 2: FAIL of board b2 after 0.0 s: no")
        assert [link.get("href") for link in shown.xpath(".//a")] == ["logs/0", "javascript%3Aalert%281%29"]
        assert said(shown.getnext()) == "attempt 2 of 2 counts"
