"""Modules caught in every phase of their life while tracers come and go: what is traced must be there, and what has
gone must be forgotten."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from harness.parse.trace import function_calls, graph_calls
from harness.run.api.guest import Guest
from harness.run.api.hold import Hold
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.modules import DIRECTORY, Module, Modules
from harness.run.api.process import background
from harness.run.api.tracefs import Tracefs

_INIT = ["phases_init_outer", "phases_init_inner"]
_STAYS = "phases_stays"

# where insmod and rmmod are held: the module is complete, its initialisation has not begun; it is in it, in functions
# that will be freed; it has ended, its text is about to be freed; the module is in its exit function
_COMING = "do_one_initcall", "insmod"
_INSIDE = "debugfs_create_dir", "insmod"
_FREEING = "async_synchronize_full", "insmod"
_GOING = "debugfs_remove", "rmmod"

# with function_graph far away, where calls go by trampolines, one of them in the text that is freed
_TRACERS = pytest.mark.parametrize(
    ("caught", "tracer"), [("near", "function"), ("far", "function_graph")], indirect=["caught"]
)
_FAR = pytest.mark.parametrize("caught", ["far"], indirect=True)


class Caught:
    """The module phases, whose insmod or rmmod can be held."""

    def __init__(self, guest: Guest, hold: Hold) -> None:
        self._guest = guest
        self._hold = hold
        self.module = Module(guest, "phases")

    @property
    def state(self) -> str:
        """The phase it is in: coming, live or going."""
        return self._guest.line("/sys/module/phases/initstate")

    @contextlib.contextmanager
    def held(self, where: tuple[str, str], *, end: str = "") -> Iterator[None]:
        """Insert or remove the module, held at `where` while the body runs; then insmod or rmmod has to end with the
        message `end`."""
        function, comm = where
        command = f"insmod {DIRECTORY}/phases.ko" if comm == "insmod" else "rmmod phases"
        with self._hold.at(function, comm=comm), background(self._guest, command) as process:
            try:
                self._hold.wait()
                yield
            finally:
                self._hold.release()
            assert process.wait() == end


@pytest.fixture
def caught(request: pytest.FixtureRequest, patchable: None, guest: Guest, modules: Modules) -> Iterator[Caught]:
    modules.require("phases")
    with contextlib.ExitStack() as stack:
        stack.enter_context(modules.load("hold"))
        if getattr(request, "param", "near") == "far":
            # first once, for the proof that it is where it should be; it will be there again
            with modules.placed("phases", "far"):
                pass
            filler = stack.enter_context(modules.load("near_filler"))
            filler.prepare("fill", "and far away", what="leave no room near the kernel")
        stack.callback(lambda: guest.check("[ ! -e /sys/module/phases ] || rmmod phases"))
        yield Caught(guest, Hold(guest))


def _seen(tracefs: Tracefs, tracer: str) -> list[str]:
    """The functions of the module in the trace, in the order in which they were called; the trace is emptied."""
    text = tracefs.read("trace")
    tracefs.write("trace", "")
    if tracer == "function":
        names = [call.function for call in function_calls(text)]
    else:
        names = [name for top in graph_calls(text) for name in (top.function, *top.callees)]
    return [name for name in names if name.startswith("phases_")]


def _enabled(tracefs: Tracefs) -> list[str]:
    """The functions of the module that are enabled."""
    names = (line.split()[0] for line in tracefs.read("enabled_functions").splitlines() if line)
    return sorted(name for name in names if name.startswith("phases_"))


def _goes_on(tracefs: Tracefs) -> bool:
    """Whether the tracer still sees vfs_read(); it records nothing more."""
    tracefs.write("trace", "")
    tracefs.read("enabled_functions")
    tracefs.write("tracing_on", "0")  # reading the trace would go on for ever, being traced itself
    return "vfs_read" in tracefs.read("trace")


def _only_what_stays(tracefs: Tracefs, caught: Caught, tracer: str) -> None:
    """Of the module, now live, only what stays is traced, can be traced, and can be named in a filter."""
    assert caught.module.read("call") == "101"
    assert _seen(tracefs, tracer) == [_STAYS]
    assert _enabled(tracefs) == [_STAYS]
    listed = tracefs._guest.check(f"grep phases_ {tracefs.root}/available_filter_functions")
    assert [line.split()[0] for line in listed.splitlines()] == [_STAYS]
    assert not tracefs.accepts("set_ftrace_filter", _INIT[0])


@_TRACERS
def test_started_while_it_is_coming(caught: Caught, tracefs: Tracefs, tracer: str) -> None:
    """Tracing begins after the module was put together and before its initialisation, of which it sees all."""
    with caught.held(_COMING):
        stack = contextlib.ExitStack()
        stack.enter_context(tracefs.filter("phases_*"))
        stack.enter_context(tracefs.tracer(tracer))
        assert _enabled(tracefs) == sorted([*_INIT, _STAYS])
    with stack:
        assert _seen(tracefs, tracer) == _INIT
        _only_what_stays(tracefs, caught, tracer)
    assert _enabled(tracefs) == []


@_FAR
def test_stopped_inside_the_initialisation(caught: Caught, tracefs: Tracefs) -> None:
    """function_graph is stopped while insmod sleeps inside functions that it traces: they return to where they were
    called from, in text that is about to be freed."""
    with tracefs.filter("phases_*:mod:phases"):
        with contextlib.ExitStack() as stack:
            stack.enter_context(tracefs.tracer("function_graph"))
            with caught.held(_INSIDE):
                stack.close()
                assert _enabled(tracefs) == []
        with tracefs.tracer("function_graph"):
            _only_what_stays(tracefs, caught, "function_graph")


@_TRACERS
def test_started_while_its_text_is_about_to_go(
    caught: Caught, tracefs: Tracefs, kernel_files: KernelFiles, tracer: str
) -> None:
    """Tracing begins when the initialisation is over, its functions still there: they are enabled, freed, and
    forgotten, by the tracer, by its filter and by the next one (ftrace_free_mem)."""
    if kernel_files.version < (5, 17):
        pytest.skip("before 5.17 insmod seldom calls async_synchronize_full(): it can't be held there")
    with contextlib.ExitStack() as stack:
        with caught.held(_FREEING):
            assert caught.state == "live"
            stack.enter_context(tracefs.filter("phases_*"))
            stack.enter_context(tracefs.tracer(tracer))
            assert _enabled(tracefs) == sorted([*_INIT, _STAYS])
        _only_what_stays(tracefs, caught, tracer)
        assert tracefs.read("set_ftrace_filter").split() == [_STAYS, "[phases]"]
    with tracefs.instance("next") as instance, instance.tracer("function"):
        assert caught.module.read("call") == "101"


def test_filter_of_freed_functions_does_not_hold_for_others(
    guest: Guest, modules: Modules, tracefs: Tracefs, caught: Caught
) -> None:
    """A filter names functions of the initialisation, which it sees; they are freed. When the module comes again, to
    the same addresses, there are functions again where the filter had some: it must not take them for those
    (clear_func_from_hashes: "Do not allow this rec to match again")."""
    places = []
    with tracefs.filter("phases_init_*:mod:phases"), tracefs.tracer("function"):
        seen = []
        for _ in range(2):
            with modules.load("phases"):
                places.append(guest.read("/sys/module/phases/sections/.init.text"))
                seen.append(_seen(tracefs, "function"))
            guest.check("sync")
    if places[0] != places[1]:
        pytest.skip("the module's initialisation was not loaded to the same address again")
    assert seen == [_INIT, []]


def test_initialisation_fails(guest: Guest, modules: Modules, tracefs: Tracefs, caught: Caught) -> None:
    """A module whose initialisation fails is traced until then, and leaves nothing; what has traced it goes on."""
    with tracefs.filter("phases_*:mod:phases"), tracefs.tracer("function"):
        assert modules.refused("phases", fail=1) == "Numerical argument out of domain"
        # by now they have no names
        assert len(re.findall(r": 0x\w+ <-", tracefs.read("trace"))) == len(_INIT)
        assert _enabled(tracefs) == []
        assert not guest.run(f"grep phases_ {tracefs.root}/available_filter_functions").ok
        tracefs.write("set_ftrace_filter", "vfs_read", append=True)
        assert _goes_on(tracefs)


def test_started_and_stopped_while_it_is_going(caught: Caught, tracefs: Tracefs, kernel_files: KernelFiles) -> None:
    """Tracing begins while the module goes, its functions still being listed, and ends when it has gone."""
    if kernel_files.version < (5, 6):
        pytest.skip("before 5.6 a module's exit function calls no debugfs_remove(): it can't be held there")
    caught.module.insert()
    with contextlib.ExitStack() as stack:
        with caught.held(_GOING):
            stack.enter_context(tracefs.filter("phases_*", "vfs_read"))
            stack.enter_context(tracefs.tracer("function"))
            assert _enabled(tracefs) == [_STAYS]
        assert _enabled(tracefs) == []
        assert _goes_on(tracefs)
    caught.module.insert()
    with tracefs.filter("phases_*"), tracefs.tracer("function"):
        _only_what_stays(tracefs, caught, "function")


def test_names_go_with_the_module(guest: Guest, tracefs: Tracefs, caught: Caught) -> None:
    """The names of freed functions are kept for the trace that has them as long as the module is there, and no longer
    (ftrace_mod_address_lookup; ftrace_release_mod)."""
    listed = "grep -c 'phases_init_' /proc/kallsyms; :"
    with tracefs.filter("phases_*:mod:phases"), tracefs.tracer("function"):
        caught.module.insert()
        assert [call.function for call in function_calls(tracefs.read("trace"))] == _INIT
        assert int(guest.check(listed)) == len(_INIT)
        caught.module.remove()
        text = tracefs.read("trace")
        assert "phases_" not in text
        assert text.count("0x") >= len(_INIT)
        assert int(guest.check(listed)) == 0
