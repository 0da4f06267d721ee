"""Failures are repeated: often enough to tell solid from flaky, on restored machines and on booted ones, within limits,
and without any effect on verdicts."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BootError
from harness.model.bisect import Wanted
from harness.model.boot import QemuBoot
from harness.model.comparison import Tally
from harness.model.fault import Fault, FaultKind
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import Attempt, Condition, Repeat, Result, RunResults, Verdict
from harness.report.confirming import MOST, since, told
from harness.run import inprocess, session
from harness.run.repeating import Budget, _Tally, worth_repeating
from harness.run.units import Isolation
from harness.target.base import Media
from tests.boards import held, spec
from tests.fakesnapshots import FakeSnapshots
from tests.faketarget import FakeTarget
from tests.faults.catalogue import Blame, fault
from tests.records import build_json

TEST = "testcases/test_it.py::test_one"
CASES = "def test_one(guest):\n    assert guest.run('one').output == 'fine'\n\ndef test_two(guest):\n    pass\n"
Repeats = Callable[..., tuple[RunResults, list[dict[str, Any]]]]


@pytest.fixture
def repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repeats:
    """A run in which test_one gets the answers of `restored`, one for each machine that is restored, of `booted` and of
    `one_cpu`; at the end of each, the last one again. On a machine that it has used it gets `used`."""
    sys.modules.pop("testcases.test_it", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "testcases"
    directory.mkdir()
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", directory)
    build_json(tmp_path / "build")
    build = Build(directory=tmp_path / "build", release="7.3.4", key="k", config={})
    (directory / "test_it.py").write_text(CASES)

    def machine(answer: str, used: str = "") -> FakeTarget:
        answers = iter([answer])

        def says(command: str) -> list[object]:
            if command == "one":
                return [next(answers, used or answer)]
            return ["release 7.3.4"] if "echo release" in command else []

        return FakeTarget(says)

    def run(
        restored: str,
        booted: str = ".",
        *,
        used: str = "",
        one_cpu: str = "",
        budget: Budget | None = None,
        boot_error: BootError | None = None,
    ) -> tuple[RunResults, list[dict[str, Any]]]:
        words = {".": "fine", "F": "not fine", "": ""}

        def each(letters: str) -> Iterator[FakeTarget]:
            for letter in letters:
                yield machine(words[letter], words[used])
            while True:
                yield machine(words[letters[-1]], words[used])

        restoring, booting = each(restored), each(booted)
        snapshots = FakeSnapshots(booted_as=lambda: machine("fine"), restored_as=lambda: next(restoring))
        monkeypatch.setattr(session, "_snapshots", lambda *_: snapshots)

        def boot() -> tuple[FakeTarget, float]:
            if boot_error:
                raise boot_error
            return next(booting), 1.0

        budget = budget or Budget()
        if one_cpu:
            single = each(one_cpu)
            budget = dataclasses.replace(budget, one_cpu=lambda: (next(single), 1.0))
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        results, _code = session.run(
            build,
            session.Selection(
                suites=frozenset({"testcases"}),
                isolation=Isolation.TEST,
                keyword="not test_two",
                repeating=budget,
            ),
            board=held(spec("fake", boot=QemuBoot())),
            boot=boot,
            keeping=session.Keeping(media=Media(image=Path("Image"), root=Path("root")), directory=tmp_path),
            run_dir=run_dir,
            command="harness run",
            display=NoDisplay(),
        )
        return results, [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]

    return run


def ends(results: RunResults, condition: Condition = Condition.RESTORED) -> str:
    (result,) = results.results
    here = [repeat for repeat in result.repeats if repeat.condition is condition]
    return "".join("." if repeat.verdict is Verdict.PASS else "F" for repeat in here)


def test_a_solid_failure_needs_few_repetitions(repeats: Repeats) -> None:
    results, events = repeats("F", "F", budget=Budget(before=lambda _result: Tally(passes=60)))
    assert 1 <= len(ends(results)) <= 3
    assert ends(results, Condition.BOOTED) == "FFFFF"
    assert told(results.results[0]).startswith("solid: failed ")
    assert results.results[0].verdict is Verdict.FAIL
    assert [event["kind"] for event in events].count("started") == 1


def test_a_flaky_test_is_repeated_until_the_evidence_decides(repeats: Repeats) -> None:
    results, _ = repeats("F....F....", budget=Budget(before=lambda _result: Tally(passes=80, failures=20)))
    assert 7 <= len(ends(results)) < MOST
    assert told(results.results[0]).startswith("flaky: failed 1 of ")


def test_a_failure_that_does_not_come_back_stays_a_failure(repeats: Repeats) -> None:
    results, _ = repeats("F.")
    assert set(ends(results)) == {"."}
    assert told(results.results[0]).startswith("not repeatable: failed 0 of ")
    assert (results.results[0].verdict, results.exit_code) == (Verdict.FAIL, 1)


def test_a_wanted_test_is_repeated_as_long_as_wanted_whatever_it_says(repeats: Repeats) -> None:
    asked: list[str] = []

    def enough(result: Result) -> bool:
        asked.append("".join("." if each.verdict is Verdict.PASS else "F" for each in (result, *result.repeats)))
        return len(result.repeats) == 4

    results, _ = repeats("..F.FFFFF", "FFFFF", budget=Budget(wanted=Wanted(test=TEST, enough=enough), test_s=0.0))
    assert ends(results) == ".F.F"
    assert set(asked) >= {".", "..", "..F", "..F.", "..F.F"}
    assert ends(results, Condition.BOOTED) == ""


def test_without_an_answer_it_ends_after_so_many(repeats: Repeats) -> None:
    results, _ = repeats("FF......F......F.....F......F......F........F......F", budget=Budget(test_s=1e6))
    assert len(ends(results)) <= MOST


def test_every_repetition_has_a_machine_of_its_own_and_a_log(repeats: Repeats, tmp_path: Path) -> None:
    results, _ = repeats("F")
    repetitions = results.results[0].repeats
    machines = [repeat.machine for repeat in repetitions]
    assert len(set(machines)) == len(machines) > 3
    assert all(repeat.log and "not fine" in (tmp_path / "run" / repeat.log).read_text() for repeat in repetitions[:3])


def test_one_that_fails_on_booted_machines_only(repeats: Repeats) -> None:
    results, _ = repeats("F" + "." * 40, "F", budget=Budget(before=lambda _result: Tally(passes=20, failures=20)))
    assert ends(results, Condition.BOOTED) == "FFFFF"
    assert "mostly on machines that have just booted (5 of 5; restored ones 0 of " in told(results.results[0])


def test_one_that_fails_on_used_machines_only(repeats: Repeats) -> None:
    results, _ = repeats("F" + "." * 60, used="F")
    assert (ends(results, Condition.USED), set(ends(results))) == ("FFFFF", {"."})
    (used, *others) = {repeat.machine for repeat in results.results[0].repeats if repeat.condition is Condition.USED}
    assert used
    assert not others
    assert told(results.results[0]).startswith("not repeatable: failed 0 of ")
    assert ", mostly on machines on which it has run before (5 of 5; restored ones 0 of " in told(results.results[0])


def test_one_that_fails_on_every_machine_is_not_repeated_on_used_ones(repeats: Repeats) -> None:
    results, _ = repeats("F", "F", budget=Budget(before=lambda _result: Tally(passes=60)))
    assert ends(results, Condition.USED) == ""


def test_one_that_does_not_fail_with_one_cpu(repeats: Repeats) -> None:
    results, _ = repeats("F", "F", one_cpu=".")
    assert ends(results, Condition.ONE_CPU) == "....."
    assert told(results.results[0]).endswith(", only with more than one CPU (5 of 5; with one 0 of 5)")


def test_one_that_fails_with_one_cpu_more_often(repeats: Repeats) -> None:
    results, _ = repeats(
        "F..F......", ".", one_cpu="F", budget=Budget(before=lambda _result: Tally(failures=2, passes=9))
    )
    assert ", mostly with one CPU (5 of 5; with more 0 of 5)" in told(results.results[0])


def test_what_never_fails_again_is_not_tried_with_one_cpu(repeats: Repeats) -> None:
    results, _ = repeats("F.", one_cpu="F")
    assert ends(results, Condition.ONE_CPU) == ""


def test_unusual_machines_are_no_evidence_about_the_kernel() -> None:
    """Nothing ran with one CPU before, so that it fails there does not show that it became worse."""
    unusual = [
        Repeat(verdict=verdict, condition=condition)
        for condition in (Condition.ONE_CPU, Condition.USED)
        for verdict in (Verdict.FAIL, Verdict.PASS)
    ]
    result = dataclasses.replace(failure("a"), repeats=(*unusual, Repeat(verdict=Verdict.PASS)))
    assert since(result) == Tally(passes=1, failures=1)


def failure(test: str, verdict: Verdict = Verdict.FAIL, *, title: str = "", reason: str = "") -> Result:
    return Result(
        test=test, verdict=verdict, reason=reason, fault=Fault(kind=FaultKind.OOPS, title=title) if title else None
    )


def repeated(first: Result, *groups: tuple[Condition, int, Result]) -> str:
    """What is told of a failure after so many repetitions that ended like these."""
    repeats = [
        Repeat(verdict=how.verdict, reason=how.reason, fault=how.fault, condition=condition)
        for condition, count, how in groups
        for _ in range(count)
    ]
    return told(dataclasses.replace(first, repeats=tuple(repeats)))


PASSED = Result(test="a", verdict=Verdict.PASS)
NO_CPU = failure("a", reason="cpu1: no such directory")


def test_one_that_can_not_run_with_one_cpu_does_not_fail_there_in_the_same_way() -> None:
    """It wrote to a second CPU's files; that this fails says nothing about how often the test does."""
    text = repeated(
        failure("a", reason="lost 3 of 100"),
        (Condition.RESTORED, 3, failure("a", reason="lost 4 of 100")), (Condition.RESTORED, 7, PASSED),
        (Condition.BOOTED, 4, PASSED), (Condition.ONE_CPU, 5, NO_CPU),
    )  # fmt: skip
    assert text.startswith("flaky: failed 3 of 14 repetitions")
    assert "mostly" not in text
    assert text.endswith("; with one CPU 5 of 5 failed in another way: FAIL, cpu1: no such directory")


def test_one_that_fails_with_several_cpus_and_can_not_run_with_one() -> None:
    wrong = failure("a", reason="lost 3 of 100")
    text = repeated(wrong, (Condition.BOOTED, 5, wrong), (Condition.ONE_CPU, 5, NO_CPU))
    assert "more than one CPU" not in text  # with one it says nothing about this failure
    assert "with one CPU 5 of 5 failed in another way" in text


@pytest.mark.parametrize("condition", [Condition.RESTORED, Condition.BOOTED])
def test_a_failure_that_says_something_else_is_one_and_told_as_another(condition: Condition) -> None:
    first, other = failure("a", reason="took 3 s"), failure("a", Verdict.TIMEOUT, reason="took 60 s")
    text = repeated(first, (condition, 2, other), (condition, 3, failure("a", reason="took 4 s")))
    assert text.startswith("solid: failed 5 of 5 repetitions")
    assert " 2 of 5 failed in another way: TIMEOUT, took 60 s" in text


def test_one_that_fails_otherwise_on_used_machines() -> None:
    other = failure("a", reason="it exists already")
    text = repeated(failure("a", reason="no"), (Condition.RESTORED, 9, PASSED), (Condition.USED, 5, other))
    assert "mostly on machines on which it has run before (5 of 5; restored ones 0 of 9)" in text
    assert text.endswith("on machines on which it has run before 5 of 5 failed in another way: FAIL, it exists already")


def test_crashes_are_told_apart_by_their_signature() -> None:
    first = failure("a", Verdict.CRASH, title="Oops in f (kernel/x.c:12)", reason="Oops in f at 0xffff0000")
    same = failure("a", Verdict.CRASH, title="Oops in f (kernel/x.c:13)", reason="Oops in f at 0xffff1234")
    assert "another way" not in repeated(first, (Condition.RESTORED, 3, same))
    other = failure("a", Verdict.CRASH, title="Oops in g (kernel/x.c:12)")
    text = repeated(first, (Condition.RESTORED, 3, same), (Condition.RESTORED, 1, other))
    assert text.endswith("; on restored machines 1 of 4 failed in another way: CRASH, Oops in g (kernel/x.c:12)")


def test_a_result_of_several_attempts_is_compared_by_what_they_said() -> None:
    attempts = (Attempt(verdict=Verdict.FAIL, reason="no"), Attempt(verdict=Verdict.PASS))
    first = dataclasses.replace(failure("a", reason="no [attempt 1 of 2; attempt 2: PASS]"), attempts=attempts)
    assert "another way" not in repeated(first, (Condition.RESTORED, 3, failure("a", reason="no")))


def test_one_that_fails_while_the_host_is_busy() -> None:
    busy = [Repeat(verdict=Verdict.FAIL, load=4.0)] * 6
    idle = [Repeat(verdict=Verdict.PASS, load=0.5)] * 9
    flaky = dataclasses.replace(failure("a"), repeats=(*busy, *idle))
    assert told(flaky).endswith(", mostly while the host is busy (6 of 6; else 0 of 9)")
    unknown = tuple(dataclasses.replace(repeat, load=None) for repeat in flaky.repeats)
    assert "busy" not in told(dataclasses.replace(flaky, repeats=unknown))


def test_how_busy_the_host_is_is_recorded(repeats: Repeats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (6.0, 1.0, 1.0))
    monkeypatch.setattr("harness.available.cpus", lambda: 4)
    results, events = repeats("F")
    assert {repeat.load for repeat in results.results[0].repeats} == {1.5}
    assert {event["data"]["load"] for event in events if event["kind"] == "repeated"} == {1.5}


def test_collecting_costs_a_stage_none_of_its_time() -> None:
    """On a busy host it takes longer than the few seconds of some stages."""
    tally = _Tally([failure("a")], Budget(test_s=1e-9))
    assert tally.is_due("a", Condition.BOOTED)
    assert tally.is_due("a", Condition.BOOTED)
    tally.is_enough("a", Condition.BOOTED)
    assert tally.is_enough("a", Condition.BOOTED)
    assert not _Tally([failure("a")], Budget(run_s=0.0)).is_due("a", Condition.BOOTED)


def test_no_time_no_repetition(repeats: Repeats) -> None:
    results, _ = repeats("F", budget=Budget(run_s=0.0))
    assert results.results[0].repeats == ()
    assert told(results.results[0]) == ""


def test_what_passes_is_not_repeated(repeats: Repeats) -> None:
    results, _ = repeats(".")
    assert results.results[0].repeats == ()


@fault("the kernel does not boot again while a failure is repeated", where="boot", blame=Blame.NOBODY,
       survives="the verdicts, and the repetitions on restored machines")  # fmt: skip
def test_a_kernel_that_does_not_boot_again_costs_only_those_repetitions(repeats: Repeats) -> None:
    results, _ = repeats("F", boot_error=BootError("silent"))
    assert ends(results).startswith("F")
    assert set(ends(results, Condition.BOOTED)) <= {"F"}
    assert told(results.results[0]).startswith("solid: ")
    assert results.is_complete


def test_each_cause_comes_first_once() -> None:
    crashes = [failure(f"c{number}", Verdict.CRASH, title="Oops in f") for number in range(30)]
    others = [failure("x", reason="so"), failure("y", Verdict.TIMEOUT, reason="slow")]
    passes = [Result(test="p", verdict=Verdict.PASS), Result(test="e", verdict=Verdict.ERROR)]
    chosen = worth_repeating([*crashes, *passes, *others])
    assert [result.test for result in chosen[:4]] == ["c0", "x", "y", "c1"]
    assert len(chosen) == 20


def test_repetitions_without_an_answer() -> None:
    repeat = Repeat(verdict=Verdict.ERROR)
    assert told(dataclasses.replace(failure("a"), repeats=(repeat, repeat))) == "repeated 2 times without an answer"
