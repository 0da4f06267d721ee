"""The fixtures of testcases/: what a test asks for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.model.kernel import Build

from .api.guest import Guest
from .api.modules import Livepatches, Modules
from .api.text import Text
from .api.tracefs import Tracefs
from .api.watch import Watches
from .plugin import Plugin


def _plugin(request: pytest.FixtureRequest) -> Plugin:
    plugin = request.config.pluginmanager.get_plugin("harness-run")
    assert isinstance(plugin, Plugin)
    return plugin


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Build:
    """The build under test: its files, its configuration."""
    return _plugin(request).build


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Guest:
    """The booted kernel."""
    lab = _plugin(request).lab
    assert lab.target
    return Guest(lab)


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
def text(guest: Guest, modules: Modules) -> Iterator[Text]:
    """The kernel's instructions as they are now."""
    with modules.load("text") as module:
        yield Text(guest, module)


@pytest.fixture
def watches(modules: Modules) -> Iterator[Watches]:
    """ftrace_ops of our own, and what they were handed."""
    with modules.load("watch") as module:
        yield Watches(module)


@pytest.fixture
def hammer_seconds(request: pytest.FixtureRequest) -> float:
    """For how long a test that hammers shall do so (``--hammer-seconds``), on the clock."""
    return _plugin(request).hammer_seconds


@pytest.fixture
def needs(build: Build) -> Callable[..., None]:
    """``needs("FUNCTION_GRAPH_RETVAL")`` skips the test where the kernel was built without, and says why."""

    def check(*symbols: str) -> None:
        for symbol in symbols:
            if build.config.get(symbol) not in ("y", "m"):
                pytest.skip(f"this kernel has no CONFIG_{symbol}: {build.without.get(symbol, 'not configured')}")

    return check
