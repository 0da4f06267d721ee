"""Stack traces that probes take of the function they are at: its callers are all there, each once."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from harness.run.api.bpf import Bpf, BpfSeen
from harness.run.api.modules import Module, Modules
from harness.run.api.tracefs import Tracefs

PROBED = "calls_stack_middle"  # called by calls_stack_outer(), called by show_stack()

_tracers = pytest.mark.parametrize("tracer", ["untraced", "function_graph"])


def _names(stack: str) -> list[str]:
    return [line.partition("+")[0].strip() for line in stack.splitlines()]


def _callers(calls: Module) -> list[str]:
    """The probed function and its callers, down to the system call, by a trace that it takes when nothing is probed."""
    names = _names(calls.read("stack"))
    assert names[:4] == ["calls_stack_inner", PROBED, "calls_stack_outer", "show_stack"]
    return names[1:]


@contextlib.contextmanager
def _traced(tracefs: Tracefs, tracer: str) -> Iterator[None]:
    """The probed function traced along."""
    if tracer == "untraced":
        yield
    else:
        with tracefs.filter(PROBED), tracefs.tracer(tracer):
            yield


def _taken(calls: Module, probed: Module, kind: str) -> dict[str, list[str]]:
    """The traces that a probe of this kind takes in one call, by where it takes them."""
    probed.write("attach", f"{kind} {PROBED}")
    calls.read("stack")
    names = _names(probed.read("stacks"))
    probed.write("detach")
    found: dict[str, list[str]] = {}
    for name in names:
        if name in ("entry", "return"):
            found[name] = []
        else:
            found[list(found)[-1]].append(name)
    return found


@_tracers
@pytest.mark.parametrize("kind", ["entry", "fprobe"])
def test_at_the_entry(tracefs: Tracefs, modules: Modules, needs: Callable[..., None], kind: str, tracer: str) -> None:
    """The handler of an fprobe sees, behind its own, the probed function and all of its callers, as ftrace_caller made
    a frame record for each; be it reached as an ftrace_ops or, with an exit handler, by fgraph."""
    needs("FPROBE")
    with modules.load("calls") as calls, modules.load("probed") as probed:
        callers = _callers(calls)
        with _traced(tracefs, tracer):
            stack = _taken(calls, probed, kind)["entry"]
    assert stack[-len(callers) :] == callers
    assert stack.count(PROBED) == 1
    assert "return_to_handler" not in stack


@_tracers
@pytest.mark.parametrize("kind", ["fprobe", "kretprobe"])
def test_at_the_return(tracefs: Tracefs, modules: Modules, needs: Callable[..., None], kind: str, tracer: str) -> None:
    """A handler at the function's return sees, behind its own, the caller and all of its callers: the function itself
    has gone, and what called the handler is not between them."""
    if kind == "fprobe":
        needs("FPROBE")
    with modules.load("calls") as calls, modules.load("probed") as probed:
        callers = _callers(calls)[1:]
        with _traced(tracefs, tracer):
            stack = _taken(calls, probed, kind)["return"]
    assert stack[-len(callers) :] == callers, f"expected {' <- '.join(callers[:2])}, found {' <- '.join(stack[:8])}"
    assert PROBED not in stack


def _multi(bpf: Bpf, calls: Module, probed: Module, kind: str) -> tuple[BpfSeen, list[str]]:
    """What a BPF program at kprobe.multi saw in one call, and the names of its stack."""
    with bpf.attach((kind, PROBED)) as programs:
        calls.read("stack")
        (seen,) = programs.seen()
    probed.write("names", " ".join(f"{address:x}" for address in seen.stack))
    return seen, _names(probed.read("names"))


@_tracers
def test_at_the_entry_by_bpf(
    tracefs: Tracefs, modules: Modules, bpf: Bpf, needs: Callable[..., None], tracer: str
) -> None:
    """bpf_get_stack() at a function's entry (kprobe.multi) begins with the function, and its callers follow."""
    needs("FPROBE")
    with modules.load("calls") as calls, modules.load("probed") as probed:
        callers = _callers(calls)
        with _traced(tracefs, tracer):
            seen, stack = _multi(bpf, calls, probed, "multi")
    assert seen.calls == 1
    assert stack == callers, f"expected {' <- '.join(callers[:3])}, found {' <- '.join(stack[:3])}"


@_tracers
def test_at_the_return_by_bpf(
    tracefs: Tracefs, modules: Modules, bpf: Bpf, needs: Callable[..., None], tracer: str
) -> None:
    """bpf_get_stack() at a function's return (kretprobe.multi) begins with the caller, and its callers follow."""
    needs("FPROBE")
    with modules.load("calls") as calls, modules.load("probed") as probed:
        callers = _callers(calls)[1:]
        with _traced(tracefs, tracer):
            seen, stack = _multi(bpf, calls, probed, "multiret")
    assert seen.calls == 1
    assert stack == callers
