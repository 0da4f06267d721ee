"""The page of a comparison, and where `harness compare` writes what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from lxml import html

from harness.cli.compare import compare as verb
from harness.errors import UserError
from harness.model.history import Cell, StoredKernel, StoredRun
from harness.report.compare import Side, compare
from harness.report.compare_html import comparison_html
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault
from tests.unit.test_compare import ERROR, FAIL, NEW, OLD, PASS, crashed, did, side
from tests.unit.test_history import called
from tests.unit.test_history import nights as nights  # the fixture

HOSTILE = "</style><script>alert(1)</script>\"' onload=x {{ 7*7 }} \x00\x1b[31mred\x1b[0m \ud800"


def page(old: Side, new: Side) -> html.HtmlElement:
    text = comparison_html(compare(old, new))
    text.encode()  # lone surrogates would fail here, when the page is written
    return html.document_fromstring(text)


def said(element: html.HtmlElement) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_each_class_has_a_section_with_its_causes_and_their_figures() -> None:
    old = side(OLD, *[[did(PASS, test) for test in ("a", "b", "c", "gone", "same")]] * 20)
    new = side(NEW, [crashed(test="a"), crashed(test="b"), did(ERROR, "c", reason="line lost"), did(PASS, "same")])
    root = page(old, new)
    assert [said(item) for item in root.xpath("//h2")] == ["New failure", "Vanished", "Infrastructure", "Same"]
    assert said(root.xpath("//h1")[0]) == "WORSE Two runs compared"
    crash, gone, lab, same = root.xpath("//article")
    assert said(crash.xpath("./h3")[0]) == "CRASH: Oops in f (kernel/x.c) [oops]"
    first, second = (said(item) for item in crash.xpath(".//li"))
    assert first.startswith("a PASS → CRASH likely a regression failed 0 of 20 before, 1 of 1 since; worse with")
    assert first.endswith("last good old-19, first bad new-0")
    assert second.startswith("b PASS → CRASH")
    assert said(gone) == "gone PASS → none"
    assert said(lab) == "ERROR: line lost c PASS → ERROR"
    assert said(same) == "same PASS"
    assert [said(link) for link in root.xpath("//nav/a")] == [
        "2 new failure",
        "1 vanished",
        "1 infrastructure",
        "1 same",
    ]
    assert [link[1:] for link in root.xpath("//nav/a/@href")] == root.xpath("//h2/@id")


def test_what_nobody_has_to_act_on_is_folded() -> None:
    root = page(side(OLD, [did(PASS)]), side(NEW, [did(PASS)]))
    assert said(root.xpath("//h1")[0]) == "OK Two runs compared"
    (details,) = root.xpath("//main/details")
    assert details.get("open") is None
    assert said(details) == "1 test t PASS"


def test_the_page_is_one_file_without_scripts() -> None:
    root = page(side(OLD, [did(PASS)]), side(NEW, [did(FAIL)]))
    assert not root.xpath("//script | //link | //img | //*[@src]")
    assert all(link.startswith("#") for link in root.xpath("//a/@href"))


def test_runs_without_tests() -> None:
    assert "No tests." in said(page(side(OLD, []), side(NEW, [])))


@fault("HTML and control characters in the results that are compared", where="hostile target", blame=Blame.NOBODY,
       survives="the page: nothing of it is markup")  # fmt: skip
def test_nothing_from_a_target_is_markup() -> None:
    kernel = StoredKernel(key=HOSTILE, release=HOSTILE, source=HOSTILE, commit=HOSTILE, patches=(HOSTILE,))
    run = StoredRun(
        id=HOSTILE, kernel=kernel, cell=Cell(board=HOSTILE, config=HOSTILE), end=HOSTILE, host=HOSTILE, harness=HOSTILE
    )
    old = Side(run=StoredRun(id="old", kernel=OLD), runs=[])
    new = Side(run=run, runs=[(run, {HOSTILE: [did(FAIL, HOSTILE, reason=HOSTILE)]})])
    root = page(old, new)
    assert not root.xpath("//script | //*[@onload]")
    text = root.text_content()
    assert "<script>alert(1)</script>" in text
    assert "{{ 7*7 }}" in text
    assert not set("\x00\x1b\ud800") & set(html.tostring(root, encoding="unicode"))


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["--format", "html"], "<!DOCTYPE html>"),
        (["--format", "json"], "{"),
        (["--json"], "{"),
        (["--format", "text"], "old  "),
        ([], "old  "),
    ],
)
def test_each_format_is_printed_or_written(nights: Path, words: list[str], begins: str) -> None:
    code, printed = called(verb, "run-0019", "run-0020", *words)
    assert (code, printed.startswith(begins)) == (1, True)
    code, nothing = called(verb, "run-0019", "run-0020", *words, "--out", nights / "written")
    assert (code, nothing) == (1, "")
    assert (nights / "written").read_text() == printed


def test_what_is_written_for_programs_can_be_read(nights: Path) -> None:
    called(verb, "run-0019", "run-0020", "--json", "--out", nights / "c.json")
    assert json.loads((nights / "c.json").read_text())["likely_regressions"] == ["two"]


@fault("the file that a comparison is written to is full", where="disk", blame=Blame.INFRA,
       survives="the history, and an exit code that is not that of a regression")  # fmt: skip
@pytest.mark.usefixtures("nights")
def test_a_full_disk() -> None:
    done = CliRunner().invoke(verb, ["run-0019", "run-0020", "--out", "/dev/full"], standalone_mode=False)
    assert isinstance(done.exception, Shortage)
    assert "/dev/full: no space left" in done.exception.message
    assert called(verb, "run-0019", "run-0020")[0] == 1


@pytest.mark.usefixtures("nights")
def test_a_file_that_cannot_be_written() -> None:
    with pytest.raises(UserError, match=r"--out: expected a file to write to, found /nowhere/c\.html: No such file"):
        called(verb, "run-0019", "run-0020", "--out", "/nowhere/c.html")
