"""Prepares a machine once, before its first test."""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import HarnessError
from harness.model.suite import FTRACE
from harness.run import precheck, warmup
from harness.run.coverage import learn_addresses
from harness.run.rig import Rig
from harness.run.stopped import Stopped
from harness.run.units import Isolation
from harness.target.base import TargetLost


class Preparation:
    """Boots a rig's machine, checks it and, if the board supports that, saves a snapshot. `say` receives what people
    should know. Once `is_done`, `failure` is the error, or None if there was none."""

    def __init__(self, rig: Rig, *, say: Callable[[str], None]) -> None:
        self._rig = rig
        self._say = say
        self.is_done = False
        self.failure: HarnessError | None = None

    def prepare(self) -> None:
        """Prepare the machine, or set `failure`."""
        self.is_done = True
        rig, machine = self._rig, self._rig.machine
        try:
            assert machine.target
            machine.findings = precheck.check(machine.run, rig.build, suites=rig.suites)
            if machine.can_keep:
                self._warm_up()
                self._learn_addresses()
                self._keep()
        except HarnessError as error:
            self.failure = error
        except Stopped as stopped:
            self.failure = stopped.as_error(when="before the first test")
        for problem in machine.findings.problems:
            self._say(problem)

    def _warm_up(self) -> None:
        """If the kernel fails during the warm-up, the tests are to find that out, on a machine without the failure."""
        rig = self._rig
        try:
            why_not = warmup.warm_up(rig.machine, rig.build, with_ftracetest=FTRACE.name in rig.suites)
        except (Stopped, TargetLost) as error:
            why_not = f"warming up failed, so every test does it itself: {error}"
            rig.machine.discard(why_not)
        if why_not:
            self._say(why_not)

    def _learn_addresses(self) -> None:
        rig = self._rig
        if rig.probing and (why_not := learn_addresses(rig.machine, rig.probing)):
            self._say(f"coverage: not known: {why_not}")

    def _keep(self) -> None:
        why_not = self._rig.machine.keep()
        if why_not:
            self._say(f"no snapshot, so the target is booted again only after a crash: {why_not}")
            self._rig.recorder.changed(isolation=str(Isolation.CRASH))  # the actual isolation
