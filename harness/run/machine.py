"""The one machine of a run: booted when needed, monitored while in use, replaced when no longer usable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from harness import interruption
from harness.errors import HarnessError
from harness.model.board import Limits
from harness.model.fault import Fault, FaultKind
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.run import limits as time_limits
from harness.run.monitor import Monitor
from harness.run.precheck import Findings
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.run.transcript import Transcript
from harness.shortage import Shortage
from harness.target.base import Completed, Cpus, LineSink, RunningCommand, Snapshotting, Target, TargetLost

Boot = Callable[[], tuple[Target, float]]
_BOOT_TRIES = 2
_RESTORE_TRIES = 5  # each costs a fraction of a second
_MOST_STRAIN = 8.0  # bounded, so that a hang is found on a busy host too
_OUT_OF_MEMORY = "Out of memory: Killed process"  # of the kernel, on its console
_POLL_S = 0.05  # seconds between two looks at what the console has printed


class Machine:
    """Owns the booted target. Every wait for it goes through `next_line` or `run`, which monitor the console meanwhile.
    Once the run is to end, they raise KeyboardInterrupt at once, and nothing is booted any more.

    With `snapshots` the first target can be saved; once `keep` has done so, every later target starts in that state. If
    no test's time is limited, the target's speed need not be measured (`measures_speed`). `on_report`: see Monitor."""

    def __init__(
        self,
        boot: Boot,
        *,
        limits: Limits,
        recorder: Recorder,
        timeout_factor: float = 1.0,
        snapshots: Snapshotting | None = None,
        measures_speed: bool = True,
        on_report: Callable[[Target], None] | None = None,
    ) -> None:
        self._boot = boot
        self._snapshots = snapshots
        self._what_for = "the first test"
        self._cpus = Cpus.SIDE_BY_SIDE
        self._limits = limits
        self._recorder = recorder
        self._user_factor = timeout_factor
        self._measures_speed = measures_speed
        self._on_report = on_report
        self._target: Target | None = None
        self._monitor: Monitor | None = None
        self._boots = 0
        self._boot_seconds = 0.0
        self._dead: HarnessError | None = None
        self.factor = 1.0
        self.findings = Findings()
        self.epoch = 0  # number of the target: what was started on an earlier one is gone
        self.remembered: dict[object, object] = {}  # properties of this target that are queried only once
        self.at_start: dict[object, object] = {}  # the same for targets that no earlier test has used
        # How much longer this restore took than the fastest one: on a busy host the tests are slower likewise.
        self._strain = 1.0
        self._quickest_restore = math.inf
        self._begun = 0  # tests that have begun
        self._first = 1  # the number of the first test on this target
        self.has_waiting_ftracetest = False  # in the snapshot
        self._waiting = False  # on this target

    @property
    def target(self) -> Target:
        """The booted target, booted now if there is none. Raises what booting raises; once that has failed twice in a
        row, every later call raises the same error immediately."""
        if self._target is None:
            interruption.check()
            if self._dead:
                raise self._dead
            self._target = self._started_with_patience()
            self._monitor = self._monitoring(self._target)
            for fault in self._monitor.take():
                self._recorder.note(f"the kernel reported while booting: {fault.title}")
            self.epoch += 1
            self._first = max(1, self._begun)
            self._waiting = self.restores and self.has_waiting_ftracetest
            self.remembered.clear()
            if self.restores:
                self._quickest_restore = min(self._quickest_restore, self._boot_seconds)
                self._strain = min(_MOST_STRAIN, self._boot_seconds / self._quickest_restore)
            else:
                self.at_start.clear()
                if self._boots == 1 and self._measures_speed:
                    self.factor = time_limits.measure_factor(self.run)
            self._recorder.booted(seconds=self._boot_seconds, factor=self.factor, restored=self.restores)
        return self._target

    def _monitoring(self, target: Target) -> Monitor:
        on_report = self._on_report
        return Monitor(target.console, on_report=(lambda: on_report(target)) if on_report else None)

    def record_to(self, recorder: Recorder) -> None:
        """From now on, record what becomes of its targets with `recorder`."""
        self._recorder = recorder

    @property
    def log_failure(self) -> tuple[OSError, Path] | None:
        """Why the target's console log has gaps, and the path of the log; None if it has none."""
        return self._target.console.log_failure if self._target else None

    @property
    def is_dead(self) -> bool:
        """Whether booting a target has failed for good."""
        return self._dead is not None

    @property
    def restores(self) -> bool:
        """Whether every new target is restored from a snapshot."""
        return self._snapshots is not None and self._snapshots.is_saved

    def _started_with_patience(self) -> Target:
        what, tries = ("restoring the snapshot", _RESTORE_TRIES) if self.restores else ("boot", _BOOT_TRIES)
        for attempt in range(1, tries + 1):
            try:
                target, seconds = self._started()
            except HarnessError as error:
                self._recorder.note(f"{what} failed (attempt {attempt}): {error.message}")
                # the first boot of a run is not retried: that gains nothing, and this way the error is reported at once
                if attempt == tries or isinstance(error, Shortage) or (self._boots == 0 and not self.restores):
                    self._dead = error
                    raise
                continue
            self._boots += 1
            self._boot_seconds = seconds
            return target
        raise AssertionError("unreachable")

    def _started(self) -> tuple[Target, float]:
        if self._snapshots is None:
            return self._boot()
        snapshots = self._snapshots
        target = snapshots.restore(self._what_for, cpus=self._cpus) if self.restores else snapshots.boot()
        return target, target.boot_seconds

    @property
    def can_keep(self) -> bool:
        """Whether the board has snapshots, and none has been saved yet."""
        return self._snapshots is not None and not self._snapshots.is_saved

    def keep(self) -> str:
        """Save the target's state for all later ones. Returns why that failed, empty if it was saved."""
        assert self._snapshots
        target = self.target
        fault = self.fault()
        if fault:
            self._snapshots = None
            return f"its kernel reported: {fault.title}"
        self._forget()
        try:
            self._snapshots.save(target)
        except HarnessError as error:
            self._snapshots = None
            return error.message
        return ""

    def was_lost(self, error: BaseException) -> bool:
        """Whether `error` means that the machine went away by itself, without any kernel report."""
        if isinstance(error, Stopped):
            return error.outcome.is_lost
        return isinstance(error, TargetLost) and not self.fault() and not (self._target and self._target.went_down)

    def begin(self, test: str, *, fresh: bool, cpus: Cpus = Cpus.SIDE_BY_SIDE) -> None:
        """Call before a test that uses the target. A kernel report since the end of the last test is blamed on no test.
        With `fresh` and a snapshot, the test gets a target that no other test has used; so does a test whose CPUs run
        in another mode than those of the test before."""
        self._what_for = test
        self.leave_faults_behind()
        fresh = fresh or cpus is not self._cpus
        self._cpus = cpus
        if fresh and self.restores and self._target:
            target = self._target
            self._forget()
            target.close()
        self._begun += 1

    @property
    def is_fresh(self) -> bool:
        """Whether the current test is the first one on its target."""
        return self._begun <= self._first

    def take_waiting_ftracetest(self) -> bool:
        """Whether an ftracetest is waiting on the target for its files (`warm_ftracetest`). If so, the caller must use
        it."""
        waiting, self._waiting = self._waiting, False
        return waiting and self.is_fresh  # the waiting one would not reset what an earlier test has left

    def _forget(self) -> None:
        if self._monitor:
            self._monitor.close()
        self._target = self._monitor = None
        self._recorder.gone()

    @property
    def is_up(self) -> bool:
        """Whether there is a booted target; does not boot one."""
        return self._target is not None

    def time_limit(self, test: str) -> float:
        """The time limit in seconds of the test with this id on this target."""
        return (time_limits.budget(test) * self.factor * self._strain + time_limits.UNSCALED_S) * self._user_factor

    def scaled(self, seconds: float) -> float:
        """`seconds` on reference hardware, scaled to this target."""
        return seconds * self.factor * self._strain * self._user_factor

    def discard(self, why: str) -> None:
        """Power the target off; the next use boots a fresh one."""
        if self._target is None:
            return
        self._recorder.note(f"target discarded: {why}")
        target = self._target
        self._forget()
        target.close()

    def close(self) -> None:
        """Power off at the end of the run."""
        if self._target:
            target = self._target
            self._forget()
            target.close()

    def fault(self) -> Fault | None:
        """The kernel report since the target was booted; waits for the end of a report that has begun."""
        if not self._monitor:
            return None
        if interruption.asked():
            return self._monitor.fault(at_once=True)
        if self._target and not self._monitor.begun:
            self._target.catch_up()
        return self._monitor.settle()

    def check(self) -> None:
        """Raise Stopped if the kernel has reported a fault since it was booted; see `fault`."""
        fault = self.fault()
        if fault:
            raise _crashed(fault)

    def fault_before(self, moment: float) -> Fault | None:
        """Like `fault`, for reports that had begun by `moment` (monotonic)."""
        return self.fault() if self._monitor and self._monitor.began_by(moment) else None

    def leave_faults_behind(self) -> None:
        """Replace a target whose kernel has reported a fault since the last test ended, so that no test is blamed for a
        report between two tests."""
        fault = self.fault()
        if fault:
            self.discard(f"between two tests the kernel reported: {fault.title}")

    def next_line(self, running: RunningCommand, *, deadline: float, what: str) -> str | None:
        """The next line of `running`, None if it has ended.

        Raises Stopped: CRASH for a kernel report or a kernel that no longer answers, TIMEOUT if `deadline` (monotonic)
        passes and the kernel is still alive, ERROR if the target is lost without any report on its console."""
        while not running.done:
            interruption.check()
            try:
                line = running.next_line(_POLL_S)
            except TargetLost as lost:
                raise self._stopped_by_loss(lost) from None
            # also while it keeps printing
            if time.monotonic() > deadline:
                raise self._stopped_by_time(what)
            if line is not None:
                return line  # lines before a fault come first: they may hold the verdict of the test before
            self._check(what)
        return None

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        """Target.run with monitoring: kernel reports and hangs raise Stopped; `timeout` is not scaled."""
        interruption.check()  # before a shell that is still busy with the last command complains
        started = time.monotonic()
        running = self.target.start(command)
        output = Transcript()
        while (line := self.next_line(running, deadline=started + timeout, what=f"`{command[:60]}`")) is not None:
            output.add(line)
            if on_line:
                on_line(line)
        return Completed(
            command=command,
            returncode=running.returncode or 0,
            output=output.text(),
            seconds=time.monotonic() - started,
        )

    def _check(self, what: str) -> None:
        monitor, target = self._monitor, self._target
        assert monitor is not None
        assert target is not None
        if monitor.begun:
            fault = monitor.fault()
            if fault:
                raise _crashed(fault)
            return
        quiet = time.monotonic() - max(target.console.last_activity, target.last_word)
        if quiet > self._limits.silence:
            if not self._answers(target):
                raise self._stopped_by_silence(what, quiet)
            self._check_connected(what, target)

    def _answers(self, target: Target) -> bool:
        try:
            return target.is_alive(timeout=max(self._limits.silence, self.factor))
        except TargetLost as lost:
            raise self._stopped_by_loss(lost) from None

    def _check_connected(self, what: str, target: Target) -> None:
        """For a kernel that answers: raises Stopped if the output of `what` can't arrive."""
        if not target.is_connected(timeout=max(self._limits.silence, self.factor)):
            reason = f"{what}: the network to the target was lost; its kernel still answers"
            raise Stopped(Outcome(Verdict.ERROR, reason))

    def _stopped_by_silence(self, what: str, quiet: float) -> Stopped:
        assert self._target is not None
        self._target.diagnose()
        fault = self.fault()  # a lockup may have been reported meanwhile
        if fault:
            return _crashed(fault)
        title = "hang: the kernel answers no more"
        lines = tuple(self._target.console.tail(60))
        reason = f"{title} ({what}; console silent for {quiet:.0f} s)"
        fault = Fault(kind=FaultKind.SILENCE, title=title, lines=lines)
        return Stopped(Outcome(Verdict.CRASH, reason, fault=fault))

    def _stopped_by_loss(self, lost: TargetLost) -> Stopped:
        """An oops on the console outranks a lost connection; the console may lag slightly behind the channel."""
        assert self._target is not None
        self._target.console.wait_closed(2.0)
        fault = self.fault()
        if fault:
            return _crashed(fault)
        if self._target.went_down:
            title = "reset: the machine reset or powered off by itself"
            lines = tuple(self._target.console.tail(40))
            return _crashed(Fault(kind=FaultKind.PANIC, title=title, lines=lines))
        killed = next((line for line in self._target.console.tail(60) if _OUT_OF_MEMORY in line), "")
        reason = f"{lost.message}; the target ran out of memory: {killed}" if killed else lost.message
        return Stopped(Outcome(Verdict.ERROR, reason, is_lost=True))

    def _stopped_by_time(self, what: str) -> Stopped:
        assert self._target is not None
        if not self._answers(self._target):
            return self._stopped_by_silence(what, 0.0)
        fault = self.fault()
        if fault:
            return _crashed(fault)
        self._check_connected(what, self._target)
        self._target.diagnose()
        reason = f"{what} did not end within its time limit; the kernel still answers"
        return Stopped(Outcome(Verdict.TIMEOUT, reason))


def _crashed(fault: Fault) -> Stopped:
    return Stopped(Outcome(Verdict.CRASH, fault.title, fault=fault))
