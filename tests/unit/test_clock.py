"""The host's clock, or the target's, is set while the harness works."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import clock
from harness.model.result import RunResults, Verdict
from harness.parse.events import parse_events
from harness.run.timings import load
from harness.target.holding import lock
from tests.fakerun import fake_build, fake_run, fake_target, ftracetest
from tests.faketarget import HANG, FakeTarget, Kmsg, Step
from tests.faults.catalogue import Blame, fault
from tests.marked import marked
from tests.unit.test_build_disk_full import tools, toy  # noqa: F401
from tests.unit.test_make import Toy

DAY_S = 86400.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time of day by some seconds."""
    real, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + moved[0])

    def move(seconds: float) -> None:
        moved[0] += seconds

    return move


def _sane(results: RunResults, began: float) -> None:
    assert {result.verdict for result in results.results} == {Verdict.PASS}
    assert results.exit_code == 0
    assert 0 <= results.seconds < 600
    assert began - 1 <= results.started <= began + 600
    for result in results.results:
        assert 0 <= result.seconds < 600
        assert result.started is not None
        assert results.started <= result.started <= results.started + results.seconds


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(-DAY_S, marks=fault("the host's clock is set back by a day during each test", where="clock",
                                         blame=Blame.NOBODY, survives="verdicts; times and durations that make sense")),
        pytest.param(DAY_S, marks=fault("the host's clock is set forward by a day during each test", where="clock",
                                        blame=Blame.NOBODY, survives="verdicts; no time limit is reached")),
        pytest.param(-1.8e9, marks=fault("the host's clock falls back to 1970 during a run", where="clock",
                                         blame=Blame.NOBODY, survives="verdicts; times and durations that make sense")),
    ],
)  # fmt: skip
def test_a_clock_that_is_set_changes_no_result(
    tmp_path: Path, set_clock: Callable[[float], None], seconds: float
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    began = time.time()
    target = fake_target(on_verdict=lambda _: set_clock(seconds))
    results, code = fake_run(fake_build(tmp_path / "build"), run_dir, target=target)
    assert code == 0
    _sane(results, began)
    with (run_dir / "events.jsonl").open() as lines:
        times = [event.time for event in parse_events(lines)]
    assert times == sorted(times)
    learned = load(next((tmp_path / "cache").rglob("timings/*.json")))
    assert learned
    assert all(0 <= seconds < 600 for seconds in learned.values())


@fault(
    "the host's clock is set between a run and the start of its worker", where="clock", blame=Blame.NOBODY,
    survives="the order of events of all processes",
)  # fmt: skip
def test_a_worker_has_the_time_of_its_run(tmp_path: Path, set_clock: Callable[[float], None]) -> None:
    offset = clock.start()
    before = clock.now()
    set_clock(-DAY_S)
    assert clock.start() < offset - DAY_S + 60  # what a new process would take for the time
    clock.follow(offset)
    assert before <= clock.now() < before + 60


@pytest.mark.parametrize("seconds", [-DAY_S, DAY_S])
@fault(
    "the host's clock is set while two wait for a board", where="clock", blame=Blame.NOBODY,
    survives="the order in which they came",
)  # fmt: skip
def test_the_queue_for_a_board_has_its_order_whatever_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_clock: Callable[[float], None], seconds: float
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    path = lock._path("command x")
    mine = lock.Holder(user="me", host="here", process=os.getpid(), purpose="first", since=time.time())
    with lock._ticket(path, mine) as first:
        set_clock(seconds)
        with lock._ticket(path, mine) as second:
            assert first.name < second.name
            assert lock._first_in_line(path, second)
            assert lock._first_in_line(path, first) is None


@fault(
    "the host's clock is set back after a build", where="clock", blame=Blame.NOBODY,
    survives="the series: what was compiled without it is not taken for it",
)  # fmt: skip
def test_a_patch_that_is_older_than_the_objects_is_compiled(toy: Toy) -> None:  # noqa: F811
    toy.build()
    toy.calls()
    for path in (*toy.workspace.rglob("*"), toy.workspace):
        if not path.is_symlink() and "src" not in path.parts:
            os.utime(path, (path.stat().st_mtime + DAY_S,) * 2)
    toy.edits["kernel/sched.c"] = "int patched;\n"
    made = toy.build()
    assert "int patched" in (made.directory / "vmlinux").read_text()
    toy.calls()
    toy.edits["kernel/sched.c"] = "int patched_again;\n"
    toy.build()
    assert "configure" not in toy.calls()


WARNING = "[{}] WARNING: CPU: 0 PID: 1 at kernel/trace/ftrace.c:123 ftrace_bug+0x10/0x20"


@fault(
    "the target's clock goes backwards in the middle of a kernel report", where="clock", blame=Blame.KERNEL,
    survives="the report, whole, on the test that it belongs to",
)  # fmt: skip
def test_a_report_is_the_tests_though_the_targets_clock_goes_backwards(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    panic = Kmsg(
        "[  100.000000] Kernel panic - not syncing: tried to kill init\n"
        "[    0.000001] ---[ end Kernel panic - not syncing: x ]---"
    )

    def script(command: str) -> list[Step]:
        if "ftracetest" in command and "-l -" in command:
            files = [word for word in command.split() if word.endswith(".tc")]
            second = ftracetest(files[:2])[5:7]
            return marked(command, [Kmsg("[   99.0] before"), *ftracetest(files[:1]), *second, panic, HANG])
        return ["release 7.3.4"] if "echo release" in command else []

    targets = [FakeTarget(script), fake_target()]
    build = fake_build(tmp_path / "build")
    results, code = fake_run(build, run_dir, targets=targets)
    assert [str(result.verdict) for result in results.results] == ["PASS", "CRASH", "PASS"]
    assert results.results[1].reason == "panic: tried to kill init"
    assert code == 1
