"""Known outcomes that could be removed: no longer seen in runs that could have, or past their time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.campaign.history import add
from harness.campaign.stale import hint, stale_ones
from harness.cli.known import known as verb
from harness.model.event import Finished, Planned, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, KernelRecord, RunRecord, ToolchainRecord
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.parse.events import event_to_json

OOPS = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)")
PASS = Result(test="t", verdict=Verdict.PASS)
SKIP = Result(test="t", verdict=Verdict.SKIP)
MET = Result(test="t", verdict=Verdict.XFAIL, actual=Verdict.FAIL, reason="known FAIL: because (expected 1: found 2)")
CRASHED = Result(test="t", verdict=Verdict.CRASH, reason="it crashed", fault=OOPS)
OTHER = Result(test="t", verdict=Verdict.FAIL, reason="something else")


class Lab:
    """A history, and a file with one known issue."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self.file = directory / "known.yaml"
        self.history = directory / "history"

    def knows(self, *lines: str, message: str = "expected 1: found 2") -> None:
        words = ["test: t", "verdict: FAIL", f"message: '{message}'", "reason: because", *lines]
        self.file.write_text("expectations:\n  - " + "\n    ".join(words) + "\n")

    def knows_crash(self, pattern: str) -> None:
        lines = ("- test: t", "  verdict: CRASH", f"  fault: '{pattern}'", "  reason: because")
        self.file.write_text("expectations:\n" + "".join(f"  {line}\n" for line in lines))

    def ran(
        self,
        *results: Result,
        days_ago: float = 0,
        board: str = "virt",
        release: str = "7.3.4",
        compiler: str = "12.2.0",
        fragment: str = "",
    ) -> None:
        directories = []
        for result in results:
            self._count += 1
            kernel = KernelRecord(
                release=release,
                fragments=(fragment,),
                toolchain=ToolchainRecord(command="aarch64-linux-gnu-gcc", version=compiler),
            )
            record = RunRecord(id=f"run-{self._count:03}", kernel=kernel, board=BoardRecord(name=board))
            began = time.time() - 86400 * days_ago - 1000 + self._count
            directory = self._directory / f"run-{self._count}"
            directory.mkdir()
            events = [
                RunBegun(time=began, record=record),
                Planned(time=began, tests=("t",)),
                Finished(time=began, result=result),
                RunEnded(time=began, end=RunEnd(kind=EndKind.COMPLETE)),
            ]
            (directory / "events.jsonl").write_text("".join(f"{event_to_json(event)}\n" for event in events))
            directories.append(directory)
        add(self.history, directories)

    def told(self) -> list[str]:
        return stale_ones(files=(self.file,), history=self.history, days=30, runs=5)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path)
    made.knows()
    return made


@pytest.mark.parametrize(
    ("later", "days_ago", "is_stale"),
    [
        pytest.param([PASS] * 3, 0, False, id="too few"),
        pytest.param([PASS] * 5, 0, True, id="so many runs"),
        pytest.param([PASS] * 2, 40, True, id="so many days"),
        pytest.param([SKIP] * 9, 40, False, id="could not have been seen"),
        pytest.param([OTHER] * 5, 0, True, id="another failure"),
        pytest.param([*[PASS] * 5, MET], 0, False, id="seen in the last run"),
    ],
)
def test_what_is_no_longer_seen_is_named(lab: Lab, later: list[Result], days_ago: int, *, is_stale: bool) -> None:
    lab.ran(MET, *later, days_ago=days_ago)
    found = f"{lab.file}: expectations.0: t: not seen in {len(later)} runs that could have, last run-001; remove it"
    assert lab.told() == ([found] if is_stale else [])


def test_what_was_never_seen(lab: Lab) -> None:
    lab.ran(*[PASS] * 5)
    assert lab.told() == [f"{lab.file}: expectations.0: t: not seen in 5 runs that could have, last never; remove it"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"board": "pi"}, id="board"),
        pytest.param({"release": "7.2.9"}, id="older kernel"),
        pytest.param({"compiler": "13.1.0"}, id="compiler"),
        pytest.param({"compiler": ""}, id="unknown compiler"),
    ],
)
def test_what_is_out_of_scope_could_not_have_seen_it(lab: Lab, other: dict[str, str]) -> None:
    lab.knows("board: virt", "kernel: 7.3..", "toolchain: gcc 12.2..12")
    lab.ran(*[PASS] * 9, **other)  # type: ignore[arg-type]
    assert lab.told() == []
    lab.ran(*[PASS] * 5)
    assert len(lab.told()) == 1


def test_where_a_configuration_is_asked_for_only_cells_count_in_which_it_was_seen(lab: Lab) -> None:
    lab.knows("config: [CONFIG_KASAN=y]")
    lab.ran(*[PASS] * 9, fragment="plain")
    assert lab.told() == []
    lab.ran(MET, *[PASS] * 4, fragment="kasan")
    assert lab.told() == []
    lab.ran(PASS, fragment="kasan")
    assert len(lab.told()) == 1


def test_runs_from_before_it_was_written_down_say_nothing(lab: Lab) -> None:
    lab.knows(f"since: {time.strftime('%Y-%m-%d', time.gmtime(time.time() - 5 * 86400))}")
    lab.ran(*[PASS] * 9, days_ago=10)
    lab.ran(*[PASS] * 4)
    assert lab.told() == []
    lab.ran(PASS)
    assert "not seen in 5 runs" in lab.told()[0]


@pytest.mark.parametrize(("days", "is_over"), [(-1, True), (1, False)])
def test_a_day_that_has_passed(lab: Lab, days: int, *, is_over: bool) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86400))
    lab.knows(f"until: {day}")
    lab.ran(MET)
    assert lab.told() == ([f"{lab.file}: expectations.0: t: until {day} has passed; remove it"] if is_over else [])


def test_a_version_that_no_kernel_has_any_more(lab: Lab) -> None:
    lab.knows("until: '7.3'")
    lab.ran(MET, days_ago=40)
    lab.ran(*[PASS] * 9, release="7.4.1")
    assert lab.told() == [
        f"{lab.file}: expectations.0: t: until 7.3 has passed: all kernels that run are newer; remove it"
    ]
    lab.ran(MET, release="7.3.9")
    assert lab.told() == []


def test_a_message_that_the_history_has_cut_off_was_seen(lab: Lab) -> None:
    lab.knows(message="x" * 900)
    lab.ran(
        Result(test="t", verdict=Verdict.XFAIL, actual=Verdict.FAIL, reason=f"known FAIL: because ({'x' * 900})"),
        *[PASS] * 4,
    )
    assert lab.told() == []


@pytest.mark.parametrize(
    ("pattern", "is_seen"),
    [("Oops in f (kernel/x.c) [oops]", True), ("Oops in f*", True), ("Oops in g (kernel/x.c) [oops]", False)],
)
def test_a_crash_is_seen_by_its_signature_only(lab: Lab, pattern: str, *, is_seen: bool) -> None:
    lab.knows_crash(pattern)
    lab.ran(*[PASS] * 5, CRASHED)
    assert (lab.told() == []) == is_seen


def test_a_report_that_was_cut_short_was_seen_too(lab: Lab) -> None:
    lab.knows_crash("Oops in f (kernel/x.c) [oops]")
    cut = Fault(kind=FaultKind.OOPS, title="Oops in f", is_whole=False)
    lab.ran(*[PASS] * 5, Result(test="t", verdict=Verdict.CRASH, fault=cut))
    assert lab.told() == []


def test_the_end_of_a_run_says_that_there_are_some(lab: Lab) -> None:
    lab.ran(*[PASS] * 19)
    assert hint(files=(lab.file,), history=lab.history) == []
    lab.ran(PASS)
    assert hint(files=(lab.file,), history=lab.history) == [
        f"1 known outcomes could be removed: `harness known stale --file {lab.file}` names them"
    ]


def test_without_a_history_the_end_of_a_run_says_nothing(lab: Lab) -> None:
    assert hint(files=(lab.file,), history=lab.history) == []


def test_the_verb(lab: Lab) -> None:
    lab.ran(*[PASS] * 5)
    words = ["stale", "--file", str(lab.file), "--history", str(lab.history)]
    assert "not seen in 5 runs" in CliRunner().invoke(verb, [*words, "--runs", "5"]).output
    assert CliRunner().invoke(verb, words).output == "every known outcome was seen lately, or could not have been\n"
