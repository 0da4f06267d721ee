"""SIGTERM ends a run within seconds, wherever it waits: nothing is undone on the target, booted or repeated any more,
the target is switched off, and the documents are written."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import interruption
from harness.model.board import CommandSwitch, Power
from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import EndKind, Verdict
from harness.run import inprocess, session
from harness.run.documents import read_results
from harness.run.repeating import Budget
from harness.run.units import Isolation
from harness.target.base import Media
from harness.target.methods import hardware
from tests.boards import held, spec
from tests.fakerun import DOCUMENTS
from tests.fakesnapshots import FakeSnapshots
from tests.faketarget import HANG, FakeTarget, Step
from tests.faults.catalogue import Blame, fault
from tests.records import build_json

CASES = """\
import contextlib
import pytest

@pytest.fixture
def changed(guest):
    yield
    guest.run("undo what the fixture did")

def test_one(guest, changed):
    with contextlib.ExitStack() as stack:
        stack.callback(guest.run, "undo what the test did")
        stack.callback(guest.run, "at the end")
        guest.run("in the middle")
        guest.wait_until(lambda: guest.run("state").output != "waits", "it is over", seconds=600)
        assert guest.run("answer").output == "fine"

def test_two(guest):
    guest.run("the second test")
"""


@pytest.fixture
def sent() -> Iterator[Callable[[], None]]:
    """Sends SIGTERM to this process, once, a moment later, when the run waits."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    interruption.watch()
    timers: list[threading.Timer] = []

    def send() -> None:
        if timers:
            return
        timers.append(threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)))
        timers[-1].start()

    yield send
    for timer in timers:
        timer.join()
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._asked, interruption._terminated = False, -interruption._SAME_S


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    sys.modules.pop("testcases.test_it", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "testcases").mkdir()
    (tmp_path / "testcases/test_it.py").write_text(CASES)
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", tmp_path / "testcases")
    build_json(tmp_path / "build")
    return Build(directory=tmp_path / "build", release="7.3.4", key="k", config={})


class Targets:
    """Targets that answer all commands but the one that has `waits_at` in it: when that comes SIGTERM is `sent`, and no
    answer comes any more."""

    def __init__(self, waits_at: str, sent: Callable[[], None], *, answer: str = "fine") -> None:
        self.booted: list[FakeTarget] = []
        self._waits_at = waits_at
        self._sent = sent
        self._answer = answer

    def boot(self) -> FakeTarget:
        if self._waits_at == "boot":
            self._sent()
            threading.Event().wait(60)
        self.booted.append(FakeTarget(self._script))
        return self.booted[-1]

    def _script(self, command: str) -> Iterator[Step] | list[Step]:
        if self._waits_at in command:
            return self._hang()
        if command == "state" and self._waits_at == "a state":
            self._sent()
            return ["waits"]
        if command == "answer":
            return [self._answer]
        return ["release 7.3.4"] if "echo release" in command else []

    def _hang(self) -> Iterator[Step]:
        self._sent()
        yield HANG

    @property
    def commands(self) -> list[str]:
        return [command for target in self.booted for command in target.commands]


def _run(build: Build, targets: Targets, tmp_path: Path, *, repeating: Budget | None = None) -> tuple[Path, int]:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    keeping = session.Keeping(media=Media(image=Path("Image"), root=Path("root")), directory=tmp_path)
    started = time.monotonic()
    _, code = session.run(
        build,
        session.Selection(
            suites=frozenset({"testcases"}),
            isolation=Isolation.TEST,
            timeout_factor=24.0,
            repeating=repeating,
        ),
        board=held(spec("fake", boot=QemuBoot())),
        boot=lambda: (targets.boot(), 1.0),
        keeping=keeping if repeating else None,
        run_dir=run_dir,
        command="harness run",
        display=NoDisplay(),
    )
    assert time.monotonic() - started < 30.0
    assert all((run_dir / name).stat().st_size for name in DOCUMENTS)
    assert all(target.closed for target in targets.booted)
    return run_dir, code


@pytest.mark.parametrize(
    ("waits_at", "left"),
    [
        ("boot", []),
        ("echo release", []),
        ("in the middle", ["in the middle"]),
        ("a state", ["in the middle", "state"]),
        ("at the end", ["in the middle", "state", "answer", "at the end"]),
        ("undo what the test did", ["in the middle", "state", "answer", "at the end", "undo what the test did"]),
    ],
)
@fault(
    "SIGTERM while the kernel hangs: at its boot, in a test, or while a test's changes are undone",
    where="killed",
    blame=Blame.INFRA,
    survives="the verdicts until then; the rest as NOTRUN; the documents; the target is off",
)
def test_wherever_it_waits(
    build: Build, tmp_path: Path, sent: Callable[[], None], waits_at: str, left: list[str]
) -> None:
    targets = Targets(waits_at, sent)
    run_dir, code = _run(build, targets, tmp_path)
    results = read_results(run_dir)
    assert code == 3
    assert results.ended
    assert results.ended.kind is EndKind.INTERRUPTED
    assert {result.verdict for result in results.results} <= {Verdict.NOTRUN, Verdict.ERROR}
    assert len(results.results) == 2
    asked = [each for each in targets.commands if each in CASES]
    assert list(dict.fromkeys(asked)) == left
    assert len(targets.booted) == (waits_at != "boot")


@pytest.mark.parametrize("waits_at", ["the second test", "in a repetition"])
@fault(
    "SIGTERM in a run whose failures are to be repeated, or while they are",
    where="killed",
    blame=Blame.INFRA,
    survives="the verdicts until then; the documents; no repetition begins any more",
)
def test_nothing_is_repeated(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: Callable[[], None], waits_at: str
) -> None:
    targets = Targets(waits_at, sent, answer="not fine")

    def restored() -> FakeTarget:
        if len(targets.booted) == 3 and waits_at == "in a repetition":  # one booted, one for each test
            targets._waits_at = "in the middle"
        return targets.boot()

    snapshots = FakeSnapshots(booted_as=targets.boot, restored_as=restored)
    monkeypatch.setattr(session, "_snapshots", lambda *_: snapshots)
    run_dir, code = _run(build, targets, tmp_path, repeating=Budget(test_s=10.0, run_s=10.0))
    results = {result.test.rpartition("_")[2]: result for result in read_results(run_dir).results}
    assert results["one"].verdict is Verdict.FAIL
    assert code == 3
    assert len(targets.booted) == (3 if waits_at == "the second test" else 4)


@fault(
    "SIGTERM while a board is switched off",
    where="killed",
    blame=Blame.NOBODY,
    survives="the board: its guard switches it off when the harness has ended",
)
def test_a_board_whose_switching_off_is_interrupted_is_left_to_its_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Part:
        def release(self) -> None:
            done.append("released")

        def close(self) -> None:
            done.append("closed")

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    part, board = Part(), held(spec("b", power=Power(switch=CommandSwitch(on=("true",), off=("true",)))))
    monkeypatch.setattr(hardware, "leave", lambda *_: None)
    hardware._end(board, part, part, part, [part])  # type: ignore[arg-type,list-item]
    assert done == ["released", "closed", "closed"]
    done.clear()
    monkeypatch.setattr(hardware, "leave", leave)
    with pytest.raises(KeyboardInterrupt):
        hardware._end(board, part, part, part, [part])  # type: ignore[arg-type,list-item]
    assert done == ["closed", "closed"]


def test_a_second_sigterm_at_once_is_no_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of a process with threads gets one for each of them, when that process is killed; what it does to end
    would be interrupted by the next one."""
    now = [100.0]
    monkeypatch.setattr(interruption, "_asked", False)
    monkeypatch.setattr(interruption, "_terminated", -interruption._SAME_S)
    monkeypatch.setattr("harness.interruption.time.monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt):
        interruption._interrupt(signal.SIGTERM, None)
    now[0] += 1.5
    interruption._interrupt(signal.SIGTERM, None)
    now[0] += 1.5
    interruption._interrupt(signal.SIGTERM, None)
    assert interruption.asked()
    with pytest.raises(KeyboardInterrupt):
        interruption._interrupt(signal.SIGINT, None)  # a person's
    now[0] += 2.5
    with pytest.raises(KeyboardInterrupt):
        interruption._interrupt(signal.SIGTERM, None)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As a shell has SIGINT ignored for what it starts in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interruption.watch()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interruption.watch()
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
