"""The pages over the history, asked for as a browser does, but without a server."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from werkzeug.test import Client, TestResponse

from harness.model.fault import Fault, FaultKind
from harness.model.history import Cell
from harness.model.record import PatchRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.store import pages
from harness.store.database import opened
from harness.store.ingest import add_run, cell_of
from harness.web import gather
from harness.web.app import LOOPBACK, App
from tests import simulated
from tests.faults.catalogue import Blame, fault

OLD, NEW = "20261120T010000.000Z-00000000", "20261130T010000.000Z-00000000"
MARKUP = "</title></text><script>alert(1)</script><a href='javascript:x' onclick=\"x\">&amp;\x1b[31m\u202e"
EVERYWHERE = Fault(kind=FaultKind.WARNING, title=f"WARNING {MARKUP} in f (kernel/x.c:12)")


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated lab."""
    path = tmp_path_factory.mktemp("web") / "history"
    simulated.write(path)
    return path


@pytest.fixture
def client(history: Path) -> Client:
    return Client(App(history))


def found(response: TestResponse, path: str) -> list[Any]:
    """What is at an XPath: elements, or the values of attributes."""
    assert response.status_code == 200, response.text
    document: Any = html.fromstring(response.text)
    return list(document.xpath(path))


def texts(response: TestResponse, path: str) -> list[str]:
    """The texts of all elements at an XPath, with single spaces."""
    return [" ".join(" ".join(element.itertext()).split()) for element in found(response, path)]


def test_nights_and_cells(client: Client) -> None:
    response = client.get("/?days=13")
    assert texts(response, "//thead[1]//th")[:3] == ["cell", "Mon 30 Nov", "Sun 29 Nov"]
    assert texts(response, "//table[@class='matrix']/tbody//th") == [
        "qemu-virt (tcg) · base+ftrace+livepatch · clang 19",
        "qemu-virt (tcg) · base+ftrace+livepatch · gcc 12",
        "rpi4 · base+ftrace+rpi4 · gcc 12",
    ]
    labels = found(response, "//table[@class='matrix']//a/@aria-label")
    assert "rpi4 · base+ftrace+rpi4 · gcc 12, 2026-11-22: 18 NOTRUN, 13 PASS, workers lost" in labels
    killed = "qemu-virt (tcg) · base+ftrace+livepatch · clang 19, 2026-11-18: 1 SKIP, 14 PASS, killed"
    assert killed in labels
    squares = dict(zip(labels, texts(response, "//table[@class='matrix']//a[@aria-label]"), strict=True))
    assert squares[killed] == "!"
    failing = "qemu-virt (tcg) · base+ftrace+livepatch · clang 19, 2026-11-28: 1 FAIL, 1 SKIP, 29 PASS"
    assert squares[failing] == "1"


def test_what_fails_in_the_newest_runs(client: Client) -> None:
    response = client.get("/")
    rows = [text for text in texts(response, "//table[@class='list']/tbody/tr") if simulated.BROKEN in text]
    assert len(rows) == 1
    assert rows[0].startswith(f"FAIL {simulated.BROKEN} set_graph_function: expected schedule alone")
    assert rows[0].count("·") == 6  # in three cells


def test_a_filter_shows_one_cell_and_stays_in_the_links(client: Client) -> None:
    response = client.get("/?board=rpi4&days=5&until=2026-11-20&kernel=7.3.5")
    assert texts(response, "//table[@class='matrix']/tbody//th") == ["rpi4 · base+ftrace+rpi4 · gcc 12"]
    assert len(texts(response, "//table[@class='matrix']/tbody//td[a]")) == 5
    (tests,) = found(response, "//nav/a[.='Tests']/@href")
    assert tests == "tests?board=rpi4&kernel=7.3.5&days=5&until=2026-11-20"
    assert texts(client.get(f"/{tests}"), "//tbody/tr/td[3]")[0] == "5"


def test_a_link_to_todays_state_says_which_day(client: Client) -> None:
    (link,) = found(client.get("/?board=rpi4"), "//footer//a/@href")
    assert link == "?board=rpi4&until=2026-11-30"


def test_a_wall_loads_the_page_again_and_nobody_else(client: Client) -> None:
    response = client.get("/?refresh=300&days=3")
    assert found(response, "//meta[@http-equiv='refresh']/@content") == ["300"]
    assert not [href for href in found(response, "//a/@href") if "refresh" in href and not href.startswith("?")]
    assert found(client.get("/"), "//meta[@http-equiv='refresh']") == []


def test_a_filter_that_fits_nothing_is_an_empty_page(client: Client) -> None:
    for page in ("/", "/runs", "/tests", "/faults", "/boards"):
        response = client.get(f"{page}?board=none")
        assert response.status_code == 200
        assert " here" in response.text


def test_a_test_has_its_history_with_plots(client: Client) -> None:
    response = client.get("/test", query_string={"name": simulated.BROKEN, "days": "60", "board": "rpi4"})
    assert texts(response, "//h1") == [simulated.BROKEN]
    strip, flakiness, durations = found(response, "//svg")
    bars = strip.xpath(".//rect[not(@class='kernel')]")
    assert len(bars) == 28
    assert {bar.get("class") for bar in bars} == {"bar PASS", "bar FAIL", "bar NOTRUN"}
    marks = [" ".join(mark.itertext()) for mark in strip.xpath(".//rect[@class='kernel']")]
    assert marks == ["7.3.5-1 from here on", "7.3.6-1 from here on"]
    assert "FAIL, 2026-11-" in strip.text_content()
    assert len(flakiness.xpath(".//rect[@class='band']")) == len(
        [bar for bar in bars if "NOTRUN" not in bar.get("class")]
    )
    assert len(durations.xpath(".//circle")) == len(flakiness.xpath(".//rect[@class='band']"))
    assert len(texts(response, "//table/tbody/tr")) == 28


def patched(series: str) -> RunResults:
    kernel = replace(next(simulated.runs()).record.kernel, patches=(PatchRecord(name="0001.patch", sha256=series),))
    return RunResults(record=RunRecord(kernel=kernel), results=PASSED.results, ended=COMPLETE)


def test_a_kernel_of_the_same_name_is_marked_as_another_one(tmp_path: Path) -> None:
    client = written(tmp_path / "h", patched("v1"), patched("v1"), patched("v2"))
    marks = found(client.get("/test?name=a"), "//svg//rect[@class='kernel']")
    assert [" ".join(mark.itertext()) for mark in marks] == ["7.3.4-1 + 1 patch from here on"]


def test_a_list_and_a_page_of_a_fault_count_the_same_kernels(tmp_path: Path) -> None:
    """Two series of patches are two kernels, one kernel that was built in two ways is one."""
    crash = (Result(test="a", verdict=Verdict.CRASH, fault=simulated.CRASH),)
    first, second = patched("v1"), patched("v2")
    other = replace(second, record=replace(second.record, kernel=replace(second.record.kernel, key="another build")))
    client = written(tmp_path / "h", *(replace(each, results=crash) for each in (first, second, other)))
    assert texts(client.get("/faults"), "//td[@data-name='kernels']") == ["2"]
    response = client.get("/fault", query_string={"signature": str(simulated.CRASH.signature)})
    assert [row.split("  ")[0] for row in texts(response, "//table[3]/tbody/tr/td[1]")] == ["7.3.4-1 + 1 patch"] * 2


def test_the_share_of_failures_counts_what_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_SHOWN", 5)
    failed = replace(PASSED, results=(Result(test="a", verdict=Verdict.FAIL),))
    client = written(tmp_path / "h", *[PASSED] * 20, *[failed] * 10)
    response = client.get("/test?name=a&days=60")
    bands = [" ".join(band.itertext()) for band in found(response, "//svg//rect[@class='band']")]
    assert [re.findall(r"failed (\d+ of \d+)", band)[0] for band in bands] == [f"{n} of 20" for n in range(6, 11)]
    assert "since it began to behave differently, 2026-11-21 01:00" in response.text
    assert found(response, "//svg//line[@class='mark']") == []  # that is before what is shown


def test_a_test_that_broke_says_since_when(client: Client) -> None:
    response = client.get("/test", query_string={"name": simulated.BROKEN, "days": "60", "toolchain": "clang 19"})
    assert texts(response, "//section/p[1]") == [
        "Failed 6 of 6 since it began to behave differently, 2026-11-25 02:00."
    ]
    assert "behaves differently since 2026-11-25 02:00" in response.text


def test_a_flaky_test_in_three_cells_says_how_flaky_in_each(client: Client) -> None:
    response = client.get("/test", query_string={"name": simulated.FLAKY, "days": "60"})
    assert len(texts(response, "//section/h2")) == 3
    for said in texts(response, "//section/p[1]"):
        assert re.fullmatch(r"Failed \d+ of \d+.*It fails \d+ to \d+ % of the time\.", said)


def test_tests_are_found_by_words_of_their_names(client: Client) -> None:
    assert texts(client.get("/tests?q=FGRAPH+multi"), "//tbody/tr/td[1]") == [simulated.CRASHING]
    assert texts(client.get("/tests"), "//tbody/tr/td[1]")[0] in (simulated.FLAKY, simulated.BROKEN)
    assert len(texts(client.get("/tests"), "//tbody/tr")) == len(simulated.TESTS)


def test_tests_of_more_runs_than_are_counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is more than this page shows" not in client.get("/tests?days=2").text
    monkeypatch.setattr(gather, "_RUNS_OF_TESTS", 5)
    assert "There is more than this page shows" in client.get("/tests?days=2").text
    assert set(texts(client.get("/tests?days=2"), "//td[@data-name='of']")) == {"5"}


def test_runs_are_listed_and_two_can_be_chosen(client: Client) -> None:
    response = client.get("/runs?days=2")
    assert len(found(response, "//tbody/tr")) == 6
    assert found(response, "//form[@action='compare']//input[@name='old']/@value")[0].startswith("20261130T03")
    assert texts(response, "//tbody/tr[1]/td[4]")[0].endswith("PASS")


def test_a_run_has_its_results_and_leads_to_comparisons(client: Client) -> None:
    response = client.get("/run", query_string={"id": NEW})
    assert texts(response, "//h1") == [f"Run {NEW}"]
    assert texts(response, "//tbody/tr[1]/td[1]") == ["FAIL"]
    assert len(texts(response, "//tbody/tr")) == len(simulated.TESTS)
    hrefs = found(response, "//dd/a[contains(@href, 'compare')]/@href")
    assert hrefs[0] == f"compare?old={NEW.replace('1130T', '1129T')}&new={NEW}"
    assert texts(client.get(f"/{hrefs[1]}"), "//h1") == ["What changed"]


def test_the_results_of_one_verdict(client: Client) -> None:
    response = client.get("/run", query_string={"id": NEW, "verdict": "SKIP"})
    assert texts(response, "//tbody/tr/td[1]") == ["SKIP"]


def test_two_runs_compared(client: Client) -> None:
    response = client.get("/compare", query_string={"old": OLD, "new": NEW})
    rows = texts(response, "//h2[@id='new-failure']/following-sibling::table/tbody/tr")
    broken = next(row for row in rows if simulated.BROKEN in row)
    assert broken.startswith("PASS FAIL")
    assert "failed 0 of 20 before, 6 of 10 since; worse with a probability of 9" in broken
    assert f"last good {OLD} , first bad 20261125T010000" in broken


def test_a_faults_history_over_tests_cells_and_kernels(client: Client) -> None:
    listed = client.get("/faults?days=30")
    (name,) = texts(listed, "//tbody/tr/td[1]")
    assert name == f"{simulated.CRASH.signature}"
    (href,) = found(listed, "//tbody/tr/td[1]/a/@href")
    response = client.get(f"/{href}")
    tests, cells, kernels, results = (texts(response, f"//table[{n}]/tbody/tr") for n in (1, 2, 3, 4))
    assert [row.split()[0] for row in tests] == [simulated.CRASHING]
    assert {row.split()[0] for row in cells} == {"qemu-virt", "rpi4"}
    assert {row.split()[0] for row in kernels} == {"7.3.6-1"}
    count = int(tests[0].split()[1])
    assert sum(1 for _ in results) == count
    assert texts(listed, "//tbody/tr/td[@data-name='results']") == [str(count)]


def test_boards_and_what_failed_on_them(client: Client) -> None:
    response = client.get("/boards?days=30")
    rows = [text.split() for text in texts(response, "//tbody/tr")]
    assert rows[0][:4] == ["qemu-virt", "(tcg)", "60", "1"]
    assert rows[0][-1] == "0"
    name, runs, not_ended, not_booted, boot, _, results, _, errors, *_ = rows[1]
    assert (name, runs, not_ended, not_booted, results) == ("rpi4", "28", "2", "0", "868")
    assert float(boot) == pytest.approx(25.0, abs=2.0)
    points = texts(response, "//section[2]//circle/title")
    assert len(points) == 26  # of 28 nights, the power failed on two
    assert points[0].startswith("2026-11-01: 2")
    assert points[0].endswith(" s, the median of 1 runs")
    assert int(errors) > 20
    assert len(found(response, "//section[2]//rect[@class='bar ERROR']")) == 2


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/?bord=x", "'bord': expected one of board, config, toolchain, kernel, days, until, refresh as a parameter"),
        ("/?days=0", "days: expected a number from 1 to 3660, found '0'"),
        ("/?days=%D9%A3", "days: expected a number from 1 to 3660, found '٣'"),
        ("/?until=2026-13-01", "until: expected a day from 1970 on, as 2026-11-28, found '2026-13-01'"),
        ("/?until=20261101", "until: expected a day from 1970 on, as 2026-11-28, found '20261101'"),
        ("/?board=a&board=b", "board: expected once, found twice"),
        (f"/?board={'x' * 2001}", "board: expected at most 2000 characters, found 2001"),
        ("/?refresh=1", "refresh: expected a number from 30 to 86400, found '1'"),
        ("/test", "name: expected a value, found none; test needs it"),
        ("/run?id=x&verdict=GOOD", "verdict: expected one of PASS, FAIL,"),
        ("/run?id=x&board=b", "'board': expected one of id, verdict as a parameter of run"),
        ("/compare?old=x", "new: expected a value, found none; compare needs it"),
        (f"/compare?old={OLD}&new={OLD}", f"new: expected another run than old, found the same one, '{OLD}'"),
    ],
)
def test_a_bad_filter_is_400_and_one_clear_line(client: Client, address: str, told: str) -> None:
    response = client.get(address)
    assert response.status_code == 400
    document: Any = html.fromstring(response.text)
    (line,) = document.xpath("//main/p")
    assert line.text.startswith(told)


@pytest.mark.parametrize(
    "address",
    [
        "/test?name=x",
        "/run?id=x",
        f"/compare?old={OLD}&new=x",
        "/fault?signature=x",
        "/favicon.ico",
        "/../etc/passwd",
        "/error",
        "/index/",
        "/templates/index.html.j2",
    ],
)
def test_what_is_not_there_is_404(client: Client, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 404
    assert "expected" in response.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_nothing_but_reading_is_405(client: Client, method: str) -> None:
    response = client.open("/", method=method)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


def test_head_has_no_body_and_an_unchanged_page_is_not_sent_again(client: Client) -> None:
    head = client.head("/")
    assert (head.status_code, head.data) == (200, b"")
    assert client.get("/", headers={"If-None-Match": head.headers["ETag"]}).status_code == 304
    assert client.get("/?days=3", headers={"If-None-Match": head.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize("address", ["/", "/style.css", "/nope", "/?days=x", "/run?id=x"])
def test_every_answer_forbids_scripts_and_what_is_elsewhere(client: Client, address: str) -> None:
    policy = client.get(address).headers["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not [each for each in policy if "unsafe" in each or "script" in each]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000"])
def test_loopback_answers_to_its_own_names(history: Path, host: str) -> None:
    assert Client(App(history, hosts=LOOPBACK)).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["rebound.example:8000", "127.0.0.1.example", "localhost.example", "10.0.0.1"])
def test_loopback_answers_to_no_other_name(history: Path, host: str) -> None:
    response = Client(App(history, hosts=LOOPBACK)).get("/", headers={"Host": host})
    assert response.status_code == 400
    assert "Host: expected one of 127.0.0.1, ::1, localhost" in response.text


@fault("names, reasons and reports hold markup, escape sequences and marks that turn the direction of writing",
       where="hostile target", blame=Blame.NOBODY, survives="every page, with the text as text")  # fmt: skip
def test_what_a_target_wrote_is_text(tmp_path: Path) -> None:
    results = (
        Result(test=f"t/{MARKUP}", verdict=Verdict.FAIL, reason=MARKUP, seconds=1.0, board=MARKUP),
        Result(test=f"u/{MARKUP}", verdict=Verdict.CRASH, reason=MARKUP, fault=EVERYWHERE, seconds=1.0),
    )
    with opened(tmp_path / "h", writable=True) as connection:
        for night, each in enumerate(list(simulated.runs())[:6:3]):
            board = replace(each.record.board, name=MARKUP)
            kernel = replace(each.record.kernel, release=MARKUP, fragments=(MARKUP,))
            record = replace(each.record, id=f"{night}{MARKUP}", board=board, kernel=kernel, host=MARKUP)
            add_run(connection, replace(each, record=record, results=results), directory=Path("/x"))
    client = Client(App(tmp_path / "h"))
    seen = set(_crawled(client, "/"))
    assert {address.partition("?")[0] for address in seen} >= {
        *("/./", "/runs", "/tests", "/test", "/faults", "/fault", "/run", "/compare", "/boards"),
    }


def _crawled(client: Client, start: str) -> Iterator[str]:
    """Follow all links, and check that each page has only elements and attributes of ours."""
    waiting, seen = [start], {start}
    while waiting:
        address = waiting.pop()
        response = client.get(address.replace("/./", "/"))
        assert response.status_code == 200, (address, response.text)
        document: Any = html.fromstring(response.text)
        assert document.xpath("//script") == []
        assert [name for element in document.iter() for name in element.attrib if name.startswith("on")] == []
        shown = [text for element in document.iter() for name, text in element.attrib.items() if name != "value"]
        assert not [text for text in (document.text_content(), *shown) if "\x1b" in text or "\u202e" in text]
        for href in document.xpath("//a/@href"):
            assert not href.startswith(("javascript", "http", "//")), href
            following = f"/{href}"
            if not href.startswith(("?", "#")) and following not in seen:
                seen.add(following)
                waiting.append(following)
        yield address


def test_several_runs_in_one_night_show_the_worst_and_lead_to_all(tmp_path: Path) -> None:
    (first, *_) = simulated.runs()
    with opened(tmp_path / "h", writable=True) as connection:
        for number, verdict in enumerate((Verdict.PASS, Verdict.FAIL, Verdict.ERROR)):
            results = (Result(test="a", verdict=verdict),)
            record = replace(first.record, id=f"r{number}")
            run = RunResults(record=record, results=results, started=first.started + number, ended=COMPLETE)
            add_run(connection, run, directory=Path("/x"))
    client = Client(App(tmp_path / "h"))
    ((label, href),) = (
        (a.get("aria-label"), a.get("href")) for a in found(client.get("/"), "//table[@class='matrix']//td/a")
    )
    assert label.endswith("2026-11-01: 1 FAIL (the worst of 3 runs)")
    assert len(texts(client.get(f"/{href}"), "//tbody/tr")) == 3


COMPLETE = RunEnd(kind=EndKind.COMPLETE)


def written(path: Path, *runs: RunResults) -> Client:
    """A client of a history with these runs, which get the ids r0, r1 and so on, a day apart."""
    first = next(simulated.runs())
    with opened(path, writable=True) as connection:
        for number, run in enumerate(runs):
            record = replace(first.record if run.record == RunRecord() else run.record, id=f"r{number}")
            started = run.started or first.started + 86400 * number
            add_run(connection, replace(run, record=record, started=started), directory=Path("/x"))
    return Client(App(path))


PASSED = RunResults(results=(Result(test="a", verdict=Verdict.PASS),), ended=COMPLETE)
NOT_BOOTED = RunResults(
    results=(Result(test="a", verdict=Verdict.NOTRUN, reason="it panicked"),),
    ended=RunEnd(kind=EndKind.NOT_BOOTED, blames_kernel=True),
)


def test_a_kernel_that_does_not_boot_is_no_fault_of_the_lab(tmp_path: Path) -> None:
    client = written(tmp_path / "h", PASSED, NOT_BOOTED)
    matrix = texts(client.get("/"), "//table[@class='matrix']//td/a")
    assert matrix == ["✗", "✓"]
    assert texts(client.get("/"), "//table[@class='list']/tbody/tr") == [
        "CRASH boot it panicked qemu-virt (tcg) · base+ftrace+livepatch · gcc 12"
    ]
    assert texts(client.get("/boards"), "//tbody/tr") == ["qemu-virt (tcg) 2 0 1 2 0 0"]
    assert texts(client.get("/compare?old=r0&new=r1"), "//h2")[0] == "new failure 1"
    assert "/test?name=boot" not in set(_crawled(client, "/compare?old=r0&new=r1"))


def test_a_lab_that_does_not_boot_a_kernel_is_no_fault_of_the_kernel(tmp_path: Path) -> None:
    end = RunEnd(kind=EndKind.NOT_BOOTED)
    client = written(tmp_path / "h", PASSED, replace(NOT_BOOTED, ended=end))
    assert texts(client.get("/"), "//table[@class='matrix']//td/a") == ["!", "✓"]
    assert texts(client.get("/"), "//table[@class='list']/tbody/tr") == []
    assert texts(client.get("/boards"), "//tbody/tr") == ["qemu-virt (tcg) 2 0 1 2 0 1 50 %"]


def test_a_run_without_results_can_not_be_compared(tmp_path: Path) -> None:
    client = written(tmp_path / "h", PASSED, RunResults(results=()))
    response = client.get("/compare?old=r0&new=r1")
    assert response.status_code == 404
    assert "r1: expected a run with results, it has none (killed); compare another one" in response.text


@fault("a machine whose clock is a year ahead adds a run", where="clock", blame=Blame.NOBODY,
       survives="the pages of the latest runs")  # fmt: skip
def test_a_run_of_the_future_hides_no_others(tmp_path: Path) -> None:
    ahead = replace(PASSED, started=time.time() + 365 * 86400)
    client = written(tmp_path / "h", replace(PASSED, started=time.time()), ahead)
    assert texts(client.get("/runs"), "//tbody/tr/td[3]/a") == ["r0"]
    (tmp_path / "h").unlink()
    client = written(tmp_path / "h", ahead)
    assert texts(client.get("/runs"), "//tbody/tr/td[3]/a") == ["r0"]  # it is all there is


def test_a_history_without_runs(tmp_path: Path) -> None:
    with opened(tmp_path / "h", writable=True):
        pass
    for page in ("/", "/runs", "/tests", "/faults", "/boards"):
        assert "The history has no runs yet." in Client(App(tmp_path / "h")).get(page).text


def test_a_history_of_one_cell_of_which_little_is_known(tmp_path: Path) -> None:
    results = RunResults(results=(Result(test="a", verdict=Verdict.PASS),), started=0.0)
    with opened(tmp_path / "h", writable=True) as connection:
        add_run(connection, results, directory=Path("/x"))
    assert cell_of(results.record) == Cell()
    client = Client(App(tmp_path / "h"))
    assert texts(client.get("/"), "//table[@class='matrix']/tbody//th") == ["unknown"]
    assert len(list(_crawled(client, "/"))) >= 7


@pytest.mark.parametrize("content", [b"", b"my notes\n" * 1000])
@fault("the history's file is gone or is another file while its pages are served", where="disk", blame=Blame.INFRA,
       survives="the server: 503 and one line that says so")  # fmt: skip
def test_a_file_that_is_no_history_is_503(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "h").write_bytes(content)
    response = Client(App(tmp_path / "h")).get("/")
    assert response.status_code == 503
    assert "h: expected a history" in response.text
    (tmp_path / "h").unlink()
    assert Client(App(tmp_path / "h")).get("/").status_code == 503


@pytest.mark.parametrize(
    ("change", "told"),
    [("UPDATE results SET verdict = 99", "the verdict 99"), ("UPDATE texts SET text = 'Oops'", "the fault 'Oops'")],
)
def test_what_only_a_newer_harness_knows_is_503(tmp_path: Path, change: str, told: str) -> None:
    results = RunResults(results=(Result(test="a", verdict=Verdict.CRASH, fault=simulated.CRASH),), started=1.0)
    with opened(tmp_path / "h", writable=True) as connection:
        add_run(connection, results, directory=Path("/x"))
        connection.execute(change)
    response = Client(App(tmp_path / "h")).get("/")
    assert response.status_code == 503
    document: Any = html.fromstring(response.text)
    assert document.xpath("//main/p")[0].text.startswith(f"the history has {told}, which this harness does not know")


def test_a_page_that_takes_too_long_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_LIMIT_S", -1.0)
    monkeypatch.setattr(pages, "_STEPS", 1)
    response = client.get("/tests")
    assert response.status_code == 503
    assert "expected an answer within the time limit, it takes longer; ask for fewer runs" in response.text


def test_no_page_reads_all_results(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of each statement that pages execute: results are found by run or by an index."""
    asked: list[str] = []
    connect: Any = sqlite3.connect

    def watched(*words: object, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*words, **named)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    addresses = ["/", "/runs", "/tests", "/faults", "/boards", f"/run?id={NEW}", f"/compare?old={OLD}&new={NEW}",
             f"/test?name={simulated.FLAKY}", f"/fault?signature={simulated.CRASH.signature}"]  # fmt: skip
    assert {Client(App(history)).get(page).status_code for page in addresses} == {200}
    monkeypatch.undo()
    queries = {query for query in asked if query.lstrip().startswith(("SELECT", "WITH"))}
    assert len(queries) > 15
    by_signature = 0
    with opened(history) as connection:
        for query in queries:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert not [step for step in plan if re.fullmatch("SCAN (results|repeats)", step)], (query, plan)
            if "count(DISTINCT" in query or f"signatures.text = '{simulated.CRASH.signature}'" in query:
                assert any("results_by_signature" in step for step in plan), (query, plan)
                by_signature += 1
    assert by_signature == 2


def test_boards_of_a_pool_are_told_apart(tmp_path: Path) -> None:
    (first, *_) = simulated.runs()
    results = tuple(
        Result(test=f"{board}{number}", verdict=verdict, board=board)
        for board, verdict in (("rpi4-a", Verdict.PASS), ("rpi4-b", Verdict.ERROR))
        for number in range(4)
    )
    with opened(tmp_path / "h", writable=True) as connection:
        for hour, toolchain in enumerate(("gcc", "clang")):  # two cells of one pool
            kernel = replace(first.record.kernel, toolchain=replace(first.record.kernel.toolchain, name=toolchain))
            record = replace(first.record, id=toolchain, kernel=kernel, board=replace(first.record.board, name="rpi4"))
            run = RunResults(record=record, results=results, started=first.started + 3600 * hour, ended=COMPLETE)
            add_run(connection, run, directory=Path("/x"))
    response = Client(App(tmp_path / "h")).get("/boards")
    assert texts(response, "//tbody/tr") == [
        "rpi4 (tcg) 2 0 0 0 0 0",
        "rpi4 (tcg): rpi4-a 8 0 0",
        "rpi4 (tcg): rpi4-b 8 0 8 100 %",
    ]
    assert len(found(response, "//section[3]//rect[@class='bar ERROR']")) == 1
