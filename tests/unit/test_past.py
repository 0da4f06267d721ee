"""What the documents of a run say of earlier runs: strips, classes of change, usual durations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import etree, html

from harness.campaign.history import add
from harness.campaign.past import past, recalling, report_again
from harness.cli.report import report
from harness.errors import UserError
from harness.model.comparison import Change
from harness.model.event import Finished, Planned, Repeated, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.past import Past, Seen
from harness.model.record import BoardRecord, KernelRecord, PatchRecord, RunRecord
from harness.model.result import EndKind, Repeat, Result, RunEnd, RunResults, Verdict
from harness.parse.events import event_to_json
from harness.report.html import report_html
from harness.report.junit import junit_xml
from harness.report.results_json import results_json
from harness.report.strip import strip
from harness.run.documents import read_results, write_documents
from tests.fakerun import fake_build, fake_run
from tests.faults.catalogue import Blame, fault
from tests.unit.test_history import called
from tests.unit.test_junit import SCHEMA

PASS, FAIL, SKIP, ERROR, XFAIL = (Verdict[name] for name in ("PASS", "FAIL", "SKIP", "ERROR", "XFAIL"))
MARK = "<b>x</b>\"' \x1b[31m\ud800"


def night(parent: Path, number: int, *results: Result, kernel: str = "stock", patch: str = "", board: str = "virt",
          suites: tuple[str, ...] = ()) -> Path:  # fmt: skip
    """The directory of a run that began `number` days after another epoch."""
    directory = parent / f"run-{number}-{board}"
    directory.mkdir(parents=True)
    patches = (PatchRecord(sha256=patch),) if patch else ()
    record = RunRecord(
        id=f"run-{number:04}-{board}",
        kernel=KernelRecord(release="7.3.4", key=f"{kernel}{patch}", patches=patches),
        board=BoardRecord(name=board),
        suites=suites,
    )
    time = 1e9 + 86400 * number
    events = [
        RunBegun(time=time, record=record),
        Planned(time=time, tests=tuple(result.test for result in results)),
        *(Finished(time=time + 1, result=result) for result in results),
        *(Repeated(time=time + 2, test=each.test, repeat=repeat) for each in results for repeat in each.repeats),
        RunEnded(time=time + 2, end=RunEnd(kind=EndKind.COMPLETE)),
    ]
    (directory / "events.jsonl").write_text("".join(event_to_json(event) + "\n" for event in events))
    return directory


def one(verdict: Verdict = PASS, test: str = "t", seconds: float = 1.0, **more: object) -> Result:
    return Result(test=test, verdict=verdict, seconds=seconds, **more)  # type: ignore[arg-type]


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path / "history"))
    return tmp_path / "history"


def asked(directory: Path, history: Path | None = None) -> Past | None:
    def unexpected(text: str) -> None:
        raise AssertionError(text)

    return past(read_results(directory), history=history, say=unexpected)


def known(*directories: Path, history: Path) -> Past:
    """What the history says about the last one of these."""
    add(history, directories)
    found = asked(directories[-1])
    assert found
    return found


def test_a_failure_with_a_new_kernel_is_compared_with_the_kernels_before(history: Path, tmp_path: Path) -> None:
    nights = [night(tmp_path, number, one(), kernel=f"k{number}") for number in range(40)]
    found = known(*nights, night(tmp_path, 40, one(FAIL, seconds=9.0), kernel="new"), history=history)
    track = found.tracks["t"]
    assert (track.changed.change, track.changed.before.passes, track.usual) == (Change.NEW_FAILURE, 40, 1.0)
    assert (found.comparison.old.id, track.changed.is_likely_regression) == ("run-0039-virt", True)
    assert [seen.verdict for seen in track.seen] == [PASS] * 29 + [FAIL]
    assert track.seen[-1].run == "run-0040-virt"


def test_the_class_of_change_is_in_results_json(history: Path, tmp_path: Path) -> None:
    first = night(tmp_path, 1, one(), one(FAIL, "fixed"), one(test="gone"))
    repeated = one(FAIL, repeats=(Repeat(verdict=PASS), Repeat(verdict=FAIL), Repeat(verdict=PASS)))
    second = night(tmp_path, 2, repeated, one(test="fixed"), one(test="added"), kernel="new")
    found = json.loads(results_json(read_results(second), past=known(first, second, history=history)))
    by_name = {result["test"]: result for result in found["results"]}
    assert {name: result["change"]["class"] for name, result in by_name.items()} == {
        "t": "new failure",
        "fixed": "fixed",
        "added": "appeared",
    }
    assert by_name["t"]["change"]["before"] == {"passes": 1, "failures": 0}
    assert by_name["t"]["change"]["last_good"] == "run-0001-virt"
    assert by_name["t"]["confirmed"] == {"class": "flaky", "passes": 2, "failures": 1}
    assert by_name["fixed"]["confirmed"] is None
    assert (found["compared_with"], found["vanished"]) == ("run-0001-virt", ["gone"])
    alone = json.loads(results_json(read_results(second)))
    assert (alone["compared_with"], alone["vanished"], alone["results"][0]["change"]) == (None, [], None)


def test_a_repetition_is_no_run_of_its_own(history: Path, tmp_path: Path) -> None:
    repeated = one(FAIL, repeats=(Repeat(verdict=PASS, seconds=1.0), Repeat(verdict=PASS, seconds=2.0)))
    found = known(night(tmp_path, 1, one()), night(tmp_path, 2, repeated, kernel="new"), history=history)
    assert [seen.verdict for seen in found.tracks["t"].seen] == [PASS, FAIL]
    assert found.tracks["t"].changed.since.passes == 2


def test_runs_of_other_cells_and_later_ones_are_not_in_the_strip(history: Path, tmp_path: Path) -> None:
    other = night(tmp_path, 2, one(FAIL), board="other")
    later = night(tmp_path, 5, one(FAIL))
    add(history, [other, later])
    found = known(night(tmp_path, 1, one()), night(tmp_path, 3, one()), history=history)
    assert [seen.run for seen in found.tracks["t"].seen] == ["run-0001-virt", "run-0003-virt"]


def test_a_run_with_patches_is_compared_with_one_without_and_not_with_another_series(
    history: Path, tmp_path: Path
) -> None:
    nights = [night(tmp_path, 1, one()), night(tmp_path, 2, one(FAIL), patch="other"), night(tmp_path, 3, one(),
              patch="mine")]  # fmt: skip
    assert known(*nights, history=history).comparison.old.id == "run-0001-virt"


def test_a_kernel_that_was_never_changed_is_compared_with_its_own_runs(history: Path, tmp_path: Path) -> None:
    nights = [night(tmp_path, number, one()) for number in range(3)]
    assert known(*nights, history=history).comparison.old.id == "run-0001-virt"


def test_a_run_that_was_asked_for_the_same_tests_is_preferred(history: Path, tmp_path: Path) -> None:
    whole = night(tmp_path, 1, one(), one(test="gone"), suites=("all",))
    few = night(tmp_path, 2, one(), suites=("few",))
    found = known(whole, few, night(tmp_path, 3, one(), kernel="new", suites=("all",)), history=history)
    assert found.comparison.old.id == "run-0001-virt"
    assert [changed.test for changed in found.comparison.of(Change.VANISHED)] == ["gone"]
    assert set(found.tracks) == {"t"}


def test_the_first_run_of_a_cell_and_one_that_is_not_there_have_no_past(history: Path, tmp_path: Path) -> None:
    first = night(tmp_path, 1, one())
    assert asked(first) is None  # there is no history at all,
    add(history, [night(tmp_path, 2, one(), board="other")])
    assert asked(first) is None  # the run is not in it,
    add(history, [first])
    assert asked(first) is None  # it is the only one


def test_a_run_is_in_the_history_before_its_documents_are_written(history: Path, tmp_path: Path) -> None:
    build = fake_build(tmp_path / "build")
    for name in ("first", "second"):
        said = list[str]()
        run_dir = tmp_path / name
        run_dir.mkdir()
        fake_run(build, run_dir, recall=recalling(run_dir, history=history, say=said.append))
        (line,) = said
        assert line.startswith("in the history as ")
    assert 'class="strip"' not in (tmp_path / "first/report.html").read_text()
    assert (tmp_path / "second/report.html").read_text().count("last 2 runs: 2 PASS") == 3


@fault("Ctrl-C while a run waits for others that write to the history", where="killed", blame=Blame.INFRA,
       survives="the documents, which say nothing of earlier runs")  # fmt: skip
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_ctrl_c_while_the_history_is_busy_costs_no_document(tmp_path: Path, error: type[BaseException]) -> None:
    directory = night(tmp_path, 1, one())

    def wait(_results: RunResults) -> Past | None:
        raise error

    with pytest.raises(error):
        write_documents(directory, recall=wait)
    assert "OK: 1 PASS" in (directory / "report.html").read_text()
    assert (directory / "junit.xml").is_file()


def test_a_run_of_no_tests_is_not_remembered(history: Path, tmp_path: Path) -> None:
    assert recalling(tmp_path, history=history, say=print)(RunResults(results=())) is None
    assert not history.exists()


def test_a_report_is_written_again_with_what_the_history_says_now(history: Path, tmp_path: Path) -> None:
    nights = [night(tmp_path, 1, one()), night(tmp_path, 2, one(FAIL), kernel="new")]
    page = nights[-1] / "report.html"
    called(report, nights[-1])  # without a history
    assert "new failure" not in page.read_text()
    add(history, nights)
    called(report, nights[-1])
    assert "new failure" in page.read_text()
    assert json.loads((nights[-1] / "results.json").read_text())["results"][0]["change"]["class"] == "new failure"
    called(report, nights[-1], "--no-history")
    assert "new failure" not in page.read_text()


@fault("the history is damaged when a report is written", where="disk", blame=Blame.NOBODY,
       survives="the report, which says nothing of earlier runs")  # fmt: skip
def test_a_history_that_cannot_be_read_costs_only_what_it_says(history: Path, tmp_path: Path) -> None:
    directory = night(tmp_path, 1, one())
    history.write_text("my notes\n" * 1000)
    said = list[str]()
    results = report_again(directory, history=None, say=said.append)
    assert results.exit_code == 0
    assert "OK: 1 PASS" in (directory / "report.html").read_text()
    (line,) = said
    assert line.startswith(f"the documents say nothing of earlier runs: {history}: expected a history of this harness")


def test_a_history_that_was_named_and_is_not_there_is_told(tmp_path: Path) -> None:
    code, told = called(report, night(tmp_path, 1, one()), "--history", tmp_path / "typo")
    assert code == 0
    assert f"the documents say nothing of earlier runs: {tmp_path / 'typo'}: expected a history, found none" in told


def test_a_directory_that_is_no_run_is_an_error_as_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the directory of a run"):
        report_again(tmp_path, history=None, say=print)


# The page.


def page(found: Past | None, *results: Result) -> html.HtmlElement:
    run = RunResults(results=results, ended=RunEnd(kind=EndKind.COMPLETE))
    text = report_html(run, logs=lambda _path: "", past=found)
    text.encode()
    return html.document_fromstring(text)


def said(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def test_each_test_shows_its_strip_its_class_and_its_usual_duration(history: Path, tmp_path: Path) -> None:
    tests = (one(), one(test="u"), one(test="s", seconds=2.0))
    nights = [night(tmp_path, number, *tests, kernel=f"k{number}") for number in range(30)]
    now = (one(FAIL, reason="so"), one(test="u"), one(test="s", seconds=20.0))
    root = page(known(*nights, night(tmp_path, 30, *now, kernel="new"), history=history), *now)
    failed, same, slower = root.xpath("//tbody/tr")
    assert said(failed) == "FAIL t new failure so 1.0susually 1.0s"
    assert failed.xpath(".//*[@role='img']/@title") == ["last 30 runs: 29 PASS, 1 FAIL"]
    assert said(same) == "PASS u 1.0susually 1.0s"
    assert said(slower) == "PASS s slower 20susually 2.0s"
    (card,) = root.xpath("//article")
    assert "failed 0 of 30 before, 1 of 1 since; worse with a probability of" in said(card)
    assert "last good run-0029-virt, first bad run-0030-virt" in said(card)
    assert "1 new failure, 1 slower, 1 same since 7.3.4 on virt" in said(root.xpath("//header")[0])


def test_what_is_new_comes_before_what_failed_before(history: Path, tmp_path: Path) -> None:
    nights = [night(tmp_path, number, one(FAIL), one(test="u"), kernel=f"k{number}") for number in range(9)]
    now = (one(FAIL), one(FAIL, "u"))
    root = page(known(*nights, night(tmp_path, 9, *now, kernel="new"), history=history), *now)
    assert [said(card).split()[:4] for card in root.xpath("//article")] == [
        ["FAIL", "u", "1.0s", "new"],
        ["FAIL", "t", "1.0s", "still"],
    ]


def test_a_test_that_vanished_is_listed(history: Path, tmp_path: Path) -> None:
    nights = (night(tmp_path, 1, one(), one(test="gone/t")), night(tmp_path, 2, one(), kernel="new"))
    root = page(known(*nights, history=history), one())
    assert [said(item) for item in root.xpath("//h2[.='Vanished']/following-sibling::ul[1]/li")] == ["gone/t"]


def test_without_a_history_the_page_says_nothing_of_one() -> None:
    root = page(None, one(FAIL))
    assert not root.xpath("//*[@role='img'] | //svg")
    assert "strips" not in said(root)


def test_a_repeated_failure_says_what_that_showed() -> None:
    repeated = one(FAIL, repeats=(Repeat(verdict=FAIL),) * 5)
    assert said(page(None, repeated)).count("solid: failed 5 of 5 repetitions") == 2  # in its card, and in the table


@fault("HTML and control characters in what the history has of earlier runs", where="hostile target",
       blame=Blame.NOBODY, survives="the page: nothing of it is markup")  # fmt: skip
def test_nothing_from_the_history_is_markup(history: Path, tmp_path: Path) -> None:
    before = night(tmp_path, 1, one(SKIP, reason=MARK), one(test=f"gone {MARK}"))
    now = (one(SKIP, reason=MARK), one(FAIL, f"added {MARK}", reason=MARK))
    found = known(before, night(tmp_path, 2, *now, kernel="new", board="virt"), history=history)
    root = page(found, *now)
    assert "gone <b>x</b>" in said(root)
    assert not root.xpath("//b[.='x'] | //*[@onload]")
    assert "\x1b" not in html.tostring(root, encoding="unicode")


# The strip.


def seen(*verdicts: Verdict) -> list[Seen]:
    return [Seen(run=f"r{number}", started=float(number), verdict=verdict) for number, verdict in enumerate(verdicts)]


def test_a_strip_can_be_told_without_colours() -> None:
    picture = strip(seen(PASS, FAIL, XFAIL, SKIP, ERROR))
    assert picture
    shapes = {path.partition("v")[2].partition("h")[0] + path.count("z") * "z" for path in picture.paths.values()}
    assert len(shapes) == len(picture.paths) == 5  # each kind has a height or a shape of its own
    assert (picture.width, picture.last) == (25, 20)


def test_the_words_of_a_strip() -> None:
    picture = strip(seen(FAIL, Verdict.CRASH, PASS, FAIL, SKIP, PASS, FAIL))
    assert picture
    assert picture.words == (
        "last 7 runs: 2 PASS, 3 FAIL, 1 SKIP, 1 CRASH; SKIP in r4; FAIL in r3; CRASH in r1; 1 earlier"
    )


def test_a_first_run_and_none() -> None:
    first = strip(seen(PASS))
    assert first
    assert first.words == "first run: 1 PASS"
    assert strip([]) is None


# JUnit.


def test_junit_tells_changes_signatures_and_repetitions_by_case(history: Path, tmp_path: Path) -> None:
    oops = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)")
    names = [f"testcases/a.py::{name}" for name in ("crashes", "fails", "passes")]
    nights = [night(tmp_path, number, *(one(test=name) for name in names), kernel=f"k{number}") for number in range(9)]
    now = (
        one(Verdict.CRASH, names[0], fault=oops),
        one(FAIL, names[1], repeats=tuple(Repeat(verdict=FAIL, seconds=number) for number in range(4))),
        one(PASS, names[2]),
    )
    found = known(*nights, night(tmp_path, 9, *now, kernel="new"), history=history)
    run = RunResults(results=now, ended=RunEnd(kind=EndKind.COMPLETE))
    root = etree.fromstring(junit_xml(run, logs=lambda _path: "", past=found).encode())
    if SCHEMA.exists():
        etree.XMLSchema(etree.parse(SCHEMA)).assertValid(root)
    told = {item.get("name"): item.get("value") for item in root.iter("property")}
    assert {name: value for name, value in told.items() if ":" in str(name) or name == "compared_with"} == {
        "compared_with": "run-0008-virt",
        "change:testcases.a.crashes": "new failure",
        "signature:testcases.a.crashes": "Oops in f (kernel/x.c) [oops]",
        "change:testcases.a.fails": "new failure",
        "repetitions:testcases.a.fails": "solid: failed 4 of 4 repetitions",
    }
    crashed, failed = (out.text or "" for out in root.iter("system-out"))
    assert crashed.startswith("new failure: failed 0 of 9 before, 1 of 1 since; worse with a probability of")
    assert failed.splitlines()[1] == "repetitions: solid: failed 4 of 4 repetitions"


def test_junit_has_no_changes_without_a_history() -> None:
    run = RunResults(results=(one(FAIL),), ended=RunEnd(kind=EndKind.COMPLETE))
    text = junit_xml(run, logs=lambda _path: "")
    assert "compared_with" not in text
    assert "change:" not in text
