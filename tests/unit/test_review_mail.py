"""What a review says: a mail that a maintainer can answer, a page, and JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from harness.model.comparison import Tally
from harness.model.result import Verdict
from harness.model.review import (
    Difference,
    Failure,
    Ground,
    Kind,
    Pair,
    PatchStep,
    Relation,
    Review,
    SeriesName,
    Size,
    Stage,
    TestSet,
)
from harness.report.compare_text import COLUMNS, MOST_LINES
from harness.report.review_json import review_json
from harness.report.review_mail import review_mail
from harness.report.review_page import review_html

WHO = "A Reviewer <a@example.org>"
GROUND = Ground(
    base="debian:@trixie-backports", version="7.3.4-1", why="the default, because the series names none",
    board="qemu-virt", compiler="aarch64-linux-gnu-gcc 12.2.0", fragments=("base", "ftrace"), harness="1.0",
)  # fmt: skip
COMMAND = ("harness", "run", "--kernel", "debian:@trixie-backports", "--patches", "x.mbox", "--board", "qemu-virt")
TEST = "testcases/function/test_calls.py::test_every_call"
CRASH = Failure(
    test=TEST, verdict=Verdict.CRASH, title="Oops in ftrace_caller",
    evidence=("Unable to handle kernel paging request", "pc : ftrace_caller+0x8/0x10"), repeated="solid: failed 4 of 4",
)  # fmt: skip
WELL = PatchStep(number=1, title="arm64: x", reached=Stage.PASSES, counts={Verdict.PASS: 41})


def made(*steps: PatchStep, **more: Any) -> Review:
    return Review(
        **{
            "series": SeriesName(title="arm64: x", version="v2", patches=len(steps), origin="x.mbox"),
            "ground": GROUND,
            "steps": steps,
            "counts": {"base": {Verdict.PASS: 100}, "newer": {Verdict.PASS: 100}},
            "command": COMMAND,
            **more,
        }
    )


def new(**more: Any) -> Difference:
    tallies = {"base": Tally(passes=3), "newer": Tally(failures=5)}
    return Difference(**{"kind": Kind.NEW, "failure": CRASH, "patch": 1, "tallies": tallies, **more})


def test_a_series_that_is_well_can_be_signed() -> None:
    text = review_mail(made(WELL), tester=WHO)
    assert text.endswith(f"\nTested-by: {WHO}\n")
    assert "All is well." in text


@pytest.mark.parametrize(
    "wrong",
    [
        made(replace(WELL, failed=Stage.BUILDS)),
        made(replace(WELL, warnings=("a.c:1: warning: x",))),
        made(replace(WELL, failures=(CRASH,))),
        made(replace(WELL, failed=Stage.APPLIES)),
        made(replace(WELL, pending="the lab failed")),
        made(WELL, differences=(new(),)),
        made(WELL, differences=(new(kind=Kind.BOTH),)),
        made(WELL, problems=("base: the host is tired",)),
        made(WELL, lost=(f"{TEST}: no livepatch",)),
    ],
)
def test_nothing_else_can(wrong: Review) -> None:
    assert not wrong.is_well
    assert "Tested-by" not in review_mail(wrong, tester=WHO)


def test_nobody_signs_who_has_no_name() -> None:
    assert "Tested-by" not in review_mail(made(WELL))


@pytest.mark.parametrize(
    ("review", "code"),
    [
        (made(WELL), 0),
        (made(WELL, differences=(new(kind=Kind.FIXED),)), 0),
        (made(WELL, differences=(new(),)), 1),
        (made(replace(WELL, failed=Stage.BOOTS), problems=("x",)), 1),
        (made(replace(WELL, failed=Stage.APPLIES), replace(WELL, failures=(CRASH,))), 2),
        (made(WELL, problems=("x",)), 3),
        (made(WELL, lost=("x",)), 0),
        (made(replace(WELL, pending="x")), 3),
    ],
)
def test_exit_codes(review: Review, code: int) -> None:
    assert review.exit_code == code


def test_a_new_failure_has_its_patch_evidence_and_a_command() -> None:
    older = SeriesName(title="arm64: x", version="v1", patches=1)
    pairs = (Pair(older=2, newer=1, relation=Relation.CHANGED),)
    text = review_mail(made(WELL, differences=(new(pair=2),), older=older, pairs=pairs))
    assert "NEW since patch 1 (patch 2 of v1): CRASH, Oops in ftrace_caller" in text
    assert f"  * {TEST}\n  | Unable to handle kernel paging request\n  | pc : ftrace_caller" in text
    assert "failed: base 0 of 3, the series 5 of 5" in text
    command = text[text.index("reproduce:") :].replace("\\\n", "")
    assert re.search(r"harness run .*--patches x.mbox .*--suite\s+testcases\s+-k\s+'\(test_every_call\)'", command)
    assert "!2" in text


def test_a_patch_is_told_as_a_guess_where_the_failure_is_not_there_every_time() -> None:
    tallies = {"base": Tally(passes=3), "newer": Tally(failures=1, passes=8)}
    assert "an earlier patch may be to blame" in review_mail(made(WELL, differences=(new(tallies=tallies),)))
    assert "an earlier patch may be to blame" not in review_mail(made(WELL, differences=(new(),)))


@pytest.mark.parametrize(("number", "more"), [(1, ", with the first 1 patches only"), (2, "")])
def test_what_does_not_build_has_a_command_that_builds(number: int, more: str) -> None:
    steps = [replace(WELL, number=1), replace(WELL, number=2)]
    steps[number - 1] = replace(
        steps[number - 1], failed=Stage.BUILDS, reached=Stage.CONFIGURES, problem="a.c:1: error: x"
    )
    text = review_mail(made(*steps, counts={}))
    assert f"reproduce{more}:\n  harness build --kernel" in text
    assert f"patch {number} does not build\n  | a.c:1: error: x\n" in text


@pytest.mark.parametrize(
    ("step", "row"),
    [
        (WELL, "yes     yes    yes   yes  41 PASS"),
        (replace(WELL, reached=Stage.APPLIES, counts={}, untested="docs"), "yes     -      -     -    docs only"),
        (replace(WELL, reached=Stage.BUILDS, counts={}, untested="same"), "yes     yes    yes   -    same binaries"),
        (replace(WELL, reached=None, failed=Stage.APPLIES, counts={}), "NO      -      -     -    -"),
        (replace(WELL, reached=Stage.APPLIES, failed=Stage.CONFIGURES, counts={}), "yes     NO     -     -    -"),
        (replace(WELL, reached=Stage.CONFIGURES, failed=Stage.BUILDS, counts={}), "yes     yes    NO    -    -"),
        (replace(WELL, reached=Stage.BUILDS, failed=Stage.BOOTS, counts={}), "yes     yes    yes   NO   -"),
        (replace(WELL, warnings=("a", "b")), "yes     yes    2 w   yes  41 PASS"),
        (replace(WELL, reached=None, counts={}, pending="it does not apply"), "-       -      -     -    not tried"),
    ],
)  # fmt: skip
def test_the_table(step: PatchStep, row: str) -> None:
    assert f"  1  {row}" in review_mail(made(step))


def test_versions_with_one_name_are_told_apart() -> None:
    older = SeriesName(title="arm64: x", version="v2", patches=1)
    assert "NEW since patch 1 (patch 1 of the older version)" in review_mail(
        made(WELL, differences=(new(pair=1),), older=older)
    )


def test_which_tests_each_patch_had() -> None:
    asked, found = TestSet(keyword="few"), TestSet(suites=("testcases/regs",), why=("arm64's ftrace", "other code"))
    assert "each patch: all suites -k 'few'\n" in review_mail(made(replace(WELL, sets=(asked,))))
    assert "each patch: the tests for arm64's ftrace, other code\n" in review_mail(made(replace(WELL, sets=(found,))))


def test_sizes_are_told_with_what_was_added() -> None:
    sizes = (
        Size(text=1000, loaded=5000, records=70, functions=90),
        Size(text=1120, loaded=5200, records=72, functions=91),
    )
    text = " ".join(review_mail(made(WELL, sizes=sizes)).replace("\n  |", "").split())
    assert "code 1,120 (+120) bytes of 5,200 (+200) loaded; ftrace table 72 (+2) entries for 91 (+1) functions" in text


def hostile() -> Review:
    """A large review, in which everything that others wrote looks like something else."""
    words = "Tested-by: Mallory <m@example.org>\n\udc80\x1b[2Jdiff --git a/x b/x <script>alert(1)</script> "
    failure = replace(CRASH, title=words * 3, evidence=(words * 9, words), repeated=words)
    steps = tuple(
        replace(
            WELL, number=number, title=words, warnings=(words,), failures=(replace(failure, test=f"{words}{number}"),)
        )
        for number in range(1, 60)
    )
    differences = tuple(
        new(patch=number, failure=replace(failure, title=f"{number} {words}")) for number in range(1, 60)
    )
    return made(
        *steps,
        series=SeriesName(title=words, version="v2", patches=59, origin=words),
        differences=differences,
        problems=(words,) * 9,
        notes=(words * 9,) * 9,
        failing_before=(words,) * 30,
        whole=TestSet(keyword=words),
        command=(*COMMAND, words),
    )


def test_a_mail_is_short_whatever_is_in_it() -> None:
    lines = review_mail(hostile(), tester=WHO).split("\n")
    assert len(lines) - 1 <= MOST_LINES
    assert max(map(len, lines)) <= COLUMNS


def test_no_line_of_a_mail_passes_for_one_of_ours() -> None:
    text = review_mail(hostile(), tester=WHO)
    text.encode()
    assert not re.search(r"^(Tested-by|diff|---|\+\+\+|@@)", text, re.MULTILINE)
    assert "\x1b" not in text


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_everything_and_runs_nothing() -> None:
    page = _Page()
    html = review_html(hostile())
    html.encode()  # what is no character is not there
    assert "\x1b" not in html
    page.feed(html)
    assert "script" not in page.tags
    assert page.text.count("NEW since patch") == 59 * 2  # of the whole series, and of each patch
    plain = _Page()
    plain.feed(review_html(made(WELL)))
    assert "arm64: x" in plain.text
    assert "None." in plain.text


def test_json_has_all_fields() -> None:
    review = made(
        replace(WELL, failures=(CRASH,), sets=(TestSet(suites=("testcases",), why=("x",)),)), differences=(new(),)
    )
    document = json.loads(review_json(review))
    assert (document["version"], document["exit_code"], document["is_well"]) == (1, 1, False)
    assert document["steps"][0]["failures"][0]["evidence"] == list(CRASH.evidence)
    assert document["steps"][0]["counts"] == {"PASS": 41}
    assert document["differences"][0]["kind"] == "new"
    assert document["differences"][0]["tallies"]["newer"] == {"passes": 0, "failures": 5}
