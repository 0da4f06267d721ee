"""The fixtures of testcases/: what a test asks for by name."""

from __future__ import annotations

import pytest

from harness.model.kernel import Build
from harness.parse.instrumentation import Instrumentation

from .api.guest import Guest
from .api.kernelfiles import KernelFiles
from .api.modules import Livepatches, Modules
from .api.tracefs import Tracefs
from .plugin import Plugin


def _plugin(request: pytest.FixtureRequest) -> Plugin:
    plugin = request.config.pluginmanager.get_plugin("harness-run")
    assert isinstance(plugin, Plugin)
    return plugin


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Build:
    """The build under test: its files, its configuration."""
    return _plugin(request).build


@pytest.fixture(scope="session")
def kernel_files(request: pytest.FixtureRequest) -> KernelFiles:
    """The files of the build under test, parsed once. Tests that use only these run before any boot."""
    return KernelFiles(_plugin(request).build)


@pytest.fixture
def vmlinux(kernel_files: KernelFiles) -> Instrumentation:
    """The kernel proper: its functions and its table of entries."""
    return kernel_files.vmlinux


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
