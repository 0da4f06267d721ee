"""function_graph paused, stopped and started anew in the middle of calls: what was entered has to return, each call
that is recorded is whole, and afterwards it traces as before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.parse.trace import GraphCall, graph_calls
from harness.run.api.guest import Guest
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.modules import Modules
from harness.run.api.sleepers import Sleepers
from harness.run.api.tracefs import Tracefs

_CALLS = ["pause_outer", ["pause_inner"]]
_SLEEPS = ["pause_sleep_outer", ["pause_sleep_inner"]]
_SLEPT = "111 211"  # what a sleeper prints whose calls all returned right


@pytest.fixture
def pause(guest: Guest, modules: Modules, tracefs: Tracefs) -> Iterator[Sleepers]:
    """The module pause; its functions are those that are traced."""
    with modules.load("pause"), tracefs.filter("pause_inner", "pause_outer", "pause_sleep_*"):
        yield Sleepers(guest, "pause")


def _shape(call: GraphCall) -> list[object]:
    return [call.function, *(_shape(callee) for callee in call.calls)]


def _now(tracefs: Tracefs) -> list[list[object]]:
    """The calls recorded since this was asked last. Recording goes on afterwards."""
    text = tracefs.read("trace")
    tracefs.write("trace", "")
    return [_shape(call) for call in graph_calls(text)]


def test_recording_paused_inside(pause: Sleepers, tracefs: Tracefs) -> None:
    """Recording is switched off while a task is in traced functions, and on again after it has left them: the values
    come back, and the task's next calls are recorded at the right depth (tracing_on; kernel/trace/fgraph.c)."""
    with tracefs.tracer("function_graph"), pause.sleeper() as sleeper:
        tracefs.write("tracing_on", "0")
        tracefs.write("trace", "")
        pause.wake()
        assert sleeper.wait() == _SLEPT
        assert _now(tracefs) == []
        tracefs.write("tracing_on", "1")
        assert pause.read("calls") == "111"
        assert _now(tracefs) == [_CALLS]


def test_recording_resumed_inside(pause: Sleepers, tracefs: Tracefs) -> None:
    """The other way round: a task enters functions unrecorded; those that it enters after recording was switched on are
    whole."""
    with tracefs.tracer("function_graph"):
        tracefs.write("tracing_on", "0")
        with pause.sleeper() as sleeper:
            tracefs.write("tracing_on", "1")
            pause.wake()
            assert sleeper.wait() == _SLEPT
            assert [call for call in _now(tracefs) if call[0] == "pause_outer"] == [_CALLS]


@pytest.mark.parametrize("again", [False, True], ids=["stopped", "stopped and started"])
def test_tracer_stopped_inside(pause: Sleepers, tracefs: Tracefs, kernel_files: KernelFiles, again: bool) -> None:
    """The tracer is taken away while a task is in traced functions, whose return addresses are replaced: it returns all
    the same. Where another begins before that, the returns are none of its own, and only what was entered under it is
    recorded (unregister_ftrace_graph; fgraph_lru_alloc_index: an index is not used again at once)."""
    if again and kernel_files.version < (6, 11):
        pytest.skip("before 6.11 there is one graph tracer at most, and its returns are not told from the next one's")
    with pause.sleeper() as early, contextlib.ExitStack() as stack:
        with tracefs.tracer("function_graph"):
            late = stack.enter_context(pause.sleeper())
        if again:
            stack.enter_context(tracefs.tracer("function_graph"))
        pause.wake()
        assert early.wait() == _SLEPT
        assert late.wait() == _SLEPT
        if again:
            assert tracefs.read("trace").count("pause_sleep") == 0
            assert sorted(_now(tracefs)) == [_CALLS, _CALLS]
    with tracefs.tracer("function_graph"):
        assert pause.read("calls") == "111"
        assert _now(tracefs) == [_CALLS]


@pytest.mark.parametrize("instance", [False, True], ids=["alone", "beside another"])
def test_task_paused(pause: Sleepers, tracefs: Tracefs, instance: bool) -> None:
    """A task that pauses the graph tracer for itself is not traced until it resumes it, with one user of it or with
    several (pause_graph_tracing; arch/arm64/kernel/ftrace.c: ftrace_graph_func, prepare_ftrace_return)."""
    with contextlib.ExitStack() as stack:
        if instance:
            other = stack.enter_context(tracefs.instance("other"))
            if "function_graph" not in other.read("available_tracers").split():
                pytest.skip("this kernel has no function_graph in instances")
            stack.enter_context(other.filter("pause_inner"))
            stack.enter_context(other.tracer("function_graph"))
        stack.enter_context(tracefs.tracer("function_graph"))
        assert pause.read("paused") == "111 211 311"
        assert _now(tracefs) == [_CALLS, _CALLS]
        if instance:
            assert _now(other) == [["pause_inner"], ["pause_inner"]]


def test_task_paused_while_it_starts(pause: Sleepers, tracefs: Tracefs) -> None:
    """The tracer is started while a task has paused it for itself; once the pause has ended, the task is traced
    (commit 7e0a9220467d, "fgraph: Initialize tracing_graph_pause at task creation": the count of pauses was reset when
    the tracer started, and then fell below 0)."""
    with pause.sleeper("sleep_paused") as sleeper, tracefs.tracer("function_graph"):
        pause.wake()
        assert sleeper.wait() == _SLEPT
        assert _now(tracefs) == [_CALLS]


def test_depth_limited_inside(pause: Sleepers, tracefs: Tracefs) -> None:
    """The depth is limited, and no longer limited, while tasks are in calls deeper than that: what was entered returns,
    and what comes then is cut as it should be (max_graph_depth)."""
    with tracefs.tracer("function_graph"), contextlib.ExitStack() as stack:
        sleeper = stack.enter_context(pause.sleeper())
        with tracefs.value("max_graph_depth", "1"):
            pause.wake()
            assert sleeper.wait() == _SLEPT
            assert [call for call in _now(tracefs) if call[0] == "pause_outer"] == [["pause_outer"]]
            limited = stack.enter_context(pause.sleeper())
        pause.wake()
        assert limited.wait() == _SLEPT
        assert _now(tracefs) == [["pause_sleep_outer"], _CALLS]


def test_left_out_inside(pause: Sleepers, tracefs: Tracefs) -> None:
    """set_graph_notrace is given and taken while tasks are in the function that it names: that one is left out to its
    end, with what it calls, and the task's next calls are recorded (TRACE_GRAPH_NOTRACE)."""
    with tracefs.tracer("function_graph"), contextlib.ExitStack() as stack:
        with tracefs.filter("pause_sleep_outer", file="set_graph_notrace"):
            sleeper = stack.enter_context(pause.sleeper())
        pause.wake()
        assert sleeper.wait() == _SLEPT
        assert _now(tracefs) == [_CALLS]
        sleeper = stack.enter_context(pause.sleeper())
        with tracefs.filter("pause_sleep_outer", file="set_graph_notrace"):
            pause.wake()
            assert sleeper.wait() == _SLEPT
            assert _now(tracefs) == [_SLEEPS, _CALLS]


_RESTARTS = 16  # so many users of the graph tracer are told apart (FGRAPH_ARRAY_SIZE)


def test_left_out_when_it_stops(guest: Guest, pause: Sleepers, tracefs: Tracefs) -> None:
    """The tracer is stopped while a task is in a function of set_graph_notrace. That the task is to be left out until
    it returns is remembered with the task, and must be forgotten with the tracer: however often it is started anew, it
    traces the task (kernel/trace/fgraph.c: init_task_vars)."""
    with contextlib.ExitStack() as stack:
        with tracefs.filter("pause_sleep_outer", file="set_graph_notrace"), tracefs.tracer("function_graph"):
            sleeper = stack.enter_context(pause.sleeper("sleep_twice"))
        pause.wake()
        guest.wait_until(lambda: pause.asleep == 1 and sleeper.asleep, "it left the function, and sleeps again")
        for _ in range(_RESTARTS - 1):
            tracefs.write("current_tracer", "function_graph")
            tracefs.write("current_tracer", "nop")
        with tracefs.tracer("function_graph"):
            pause.wake()
            assert sleeper.wait() == _SLEPT
            assert _now(tracefs) == [_CALLS], "the task is left out by another tracer"
