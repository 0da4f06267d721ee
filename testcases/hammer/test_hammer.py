"""Call sites change under CPUs that execute them, and nothing is lost, garbled or warned about.

Mark Rutland on v6: "patching two NOPs at runtime isn't safe, since a CPU might have executed the first NOP as a NOP
before another CPU patches both instructions". One kthread on each CPU calls functions of a module as fast as it can
and checks every result, while tracers, probes and livepatches of these functions come and go.
"""

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.run.api.guest import Guest
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Module, Modules
from harness.run.api.tracefs import ROOT, Tracefs
from harness.run.api.watch import Watches

_PROBES = "p:mix hammer_mix", "p:add hammer_add", "r:outer hammer_outer", "r:inner hammer_inner"


@dataclass(frozen=True)
class Hammered:
    """How often each function was called, and how many results were wrong."""

    calls: int
    wrong: int


class Hammer:
    """Runs the module ``hammer`` while shell loops toggle things."""

    def __init__(self, guest: Guest, module: Module, seconds: float) -> None:
        self._guest = guest
        self._module = module
        self._seconds = seconds

    def while_toggling(self, *bodies: str) -> Hammered:
        """Hammer for the set time, while each of `bodies` is run again and again in a loop of its own."""
        now = "${EPOCHREALTIME/./}"  # microseconds
        loops = " ".join(f"while [ {now} -lt $end ]; do {body}; echo; done | wc -l &" for body in bodies)
        script = f"end=$(({now} + {round(self._seconds * 1e6)})); {loops} wait"
        self._module.write("run", "start")
        try:
            rounds = self._guest.check(f"bash -c {shlex.quote(script)}", seconds=10 + self._seconds)
        finally:
            self._module.write("run", "stop")
        assert all(int(line) > 0 for line in rounds.split()), f"a loop did not run: {rounds.split()}"
        _, calls, _, wrong = self._module.read("status").split()
        return Hammered(int(calls), int(wrong))


@pytest.fixture(params=["near", "far"])
def hammer(request: pytest.FixtureRequest, guest: Guest, modules: Modules, hammer_seconds: float) -> Iterator[Hammer]:
    with modules.placed("hammer", request.param) as module:
        yield Hammer(guest, module, hammer_seconds)


def _toggled(file: str, on: str, off: str) -> str:
    return f"echo {on} > {file}; echo {off} > {file}"


def test_everything_at_once(
    hammer: Hammer, tracefs: Tracefs, modules: Modules, livepatches: Livepatches, watches: Watches
) -> None:
    """Function tracer, graph tracer, another ops, kprobes, kretprobes and a livepatch come and go, each in a loop of
    its own. Every result is right, and an ops that stays attached all the time counts every single call."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(tracefs.instance("other"))
        for instance in (tracefs, other):
            stack.enter_context(instance.filter("hammer_*"))
            stack.enter_context(instance.value("tracing_on", "0"))  # calls are traced, but not recorded
        stack.enter_context(tracefs.probe(*_PROBES))
        constant = [stack.enter_context(watches.attach(f"hammer_{name}")) for name in ("mix", "add", "inner")]
        toggles = [
            _toggled(f"{other.root}/current_tracer", "function", "nop"),
            _toggled(f"{ROOT}/current_tracer", "function_graph", "nop"),
            _toggled(f"{ROOT}/events/harness/enable", "1", "0"),
            watches.toggled("hammer_*", "args"),
        ]
        if modules.available("klp_hammer"):
            toggles.append(livepatches.toggled("klp_hammer"))
        done = hammer.while_toggling(*toggles)
        counted = [watch.seen().hits for watch in constant]
    assert done.wrong == 0
    assert counted == [done.calls] * 3


def test_first_call_and_last(hammer: Hammer, tracefs: Tracefs) -> None:
    """The tracer alone goes on and off as fast as it can: from no call at all to a call and back, where the first of
    the two instructions matters most."""
    with tracefs.filter("hammer_*"), tracefs.value("tracing_on", "0"):
        done = hammer.while_toggling(_toggled(f"{ROOT}/current_tracer", "function", "nop"))
    assert done.calls > 1000
    assert done.wrong == 0
