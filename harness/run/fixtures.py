"""The fixtures of testcases/, which a test requests by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.model.kernel import Build
from harness.parse.instrumentation import Instrumentation
from harness.run.api import leftovers
from harness.run.api.bpf import Bpf
from harness.run.api.guest import Guest
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules
from harness.run.api.text import Text
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches
from harness.run.rig import RIG, Rig

_PATCHABLE = ("DYNAMIC_FTRACE_WITH_ARGS", "DYNAMIC_FTRACE_WITH_REGS")  # gcc's -fpatchable-function-entry


def _rig(request: pytest.FixtureRequest) -> Rig:
    return request.config.stash[RIG]


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Build:
    """The build under test: its files, its configuration."""
    return _rig(request).build


@pytest.fixture(scope="session")
def kernel_files(request: pytest.FixtureRequest) -> KernelFiles:
    """The files of the build under test, parsed once. Tests that use only these run before any boot."""
    return KernelFiles(_rig(request).build)


@pytest.fixture
def vmlinux(kernel_files: KernelFiles) -> Instrumentation:
    """The kernel proper: its functions and its table of entries."""
    return kernel_files.vmlinux


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """The booted kernel. A test that leaves something enabled or loaded fails, and the next one gets a fresh target."""
    machine = _rig(request).machine
    assert machine.target
    lacking = machine.findings.reason_to_skip("testcases", frozenset())
    if lacking:
        pytest.skip(lacking)
    guest = Guest(machine)
    before = guest.once_at_start(leftovers.state, lambda: leftovers.state(guest))
    yield guest
    if machine.is_up and not machine.fault():
        if guest.used_up:
            machine.discard(f"{request.node.name} used it up: {guest.used_up}")
            return
        leftover = leftovers.left_behind(before, leftovers.state(guest))
        if leftover:
            machine.discard(f"{request.node.name} left something behind")
            pytest.fail(leftover, pytrace=False)


@pytest.fixture
def tracefs(guest: Guest) -> Tracefs:
    """The kernel's top tracing directory."""
    return Tracefs(guest)


@pytest.fixture
def modules(guest: Guest, build: Build) -> Modules:
    """Our own kernel modules."""
    return Modules(guest, build)


@pytest.fixture
def livepatches(guest: Guest, modules: Modules) -> Livepatches:
    """Our own livepatches."""
    return Livepatches(guest, modules)


@pytest.fixture
def patchable(build: Build) -> None:
    """Skips the test if functions call _mcount (gcc before 8), which passes no registers to tracers."""
    if not any(build.config.get(symbol) == "y" for symbol in _PATCHABLE):
        pytest.skip(f"this kernel has none of CONFIG_{', CONFIG_'.join(_PATCHABLE)}: its functions call _mcount")


@pytest.fixture
def text(patchable: None, modules: Modules) -> Iterator[Text]:
    """The kernel's current instructions."""
    with modules.load("text") as module:
        yield Text(module)


@pytest.fixture
def watches(modules: Modules) -> Iterator[Watches]:
    """Our own ftrace_ops, and what they received."""
    with modules.load("watch") as module:
        yield Watches(module)


@pytest.fixture
def bpf(guest: Guest, build: Build, needs: Callable[..., None]) -> Bpf:
    """BPF programs at functions of the kernel."""
    needs("BPF_SYSCALL", "BPF_EVENTS")
    return Bpf(guest, build)


@pytest.fixture
def hammer_seconds(request: pytest.FixtureRequest) -> float:
    """For how long a hammer test runs (``--hammer-seconds``), in real time."""
    return _rig(request).hammer_seconds


@pytest.fixture
def needs(build: Build) -> Callable[..., None]:
    """``needs("FUNCTION_GRAPH_RETVAL")`` skips the test if the kernel was built without that option, and says why."""

    def check(*symbols: str) -> None:
        for symbol in symbols:
            if build.config.get(symbol) not in ("y", "m"):
                pytest.skip(f"this kernel has no CONFIG_{symbol}: {build.without.get(symbol, 'not configured')}")

    return check
