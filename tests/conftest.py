"""What all tests share: a cache of their own, and a shell on this host that stands in for a target's."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.target.line.transport import SocketTransport
from harness.target.shells.serial import Shell
from tests.faults.catalogue import COLLECT_TO, write_json

DATA = Path(__file__).parent / "data"
_SLOW_FILES = 15


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays until the end. So the garbage collector neither looks for garbage in it meanwhile, nor
    goes through it later, each time that a test (or a pytest in this process) asks for a collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_finish(session: pytest.Session) -> None:
    if COLLECT_TO in os.environ:
        write_json(session.items, Path(os.environ[COLLECT_TO]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the time goes: seconds of each kind of test, and of the files that take longest, over all workers."""
    kinds: dict[str, float] = defaultdict(float)
    files: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.partition("::")[0]
                files[file] += report.duration
                kinds[file.rpartition("/")[0]] += report.duration
    if sum(kinds.values()) < 60:
        return  # somebody runs a few tests
    terminalreporter.section("where the time goes (seconds of all workers together)")
    for name, seconds in (*_longest_first(kinds), *_longest_first(files)[:_SLOW_FILES]):
        terminalreporter.write_line(f"{seconds:8.1f}  {name}")


def _longest_first(seconds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: item[1], reverse=True)


@pytest.fixture(autouse=True, scope="session")
def own_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests run is nothing that the user's history should know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HISTORY", str(tmp_path_factory.mktemp("history") / "history.sqlite"))
        yield


@pytest.fixture
def local_shell() -> Iterator[Shell]:
    """A Shell whose far end is this host's sh, reached over a socket pair as QEMU's channels are."""
    ours, theirs = socket.socketpair()
    far = theirs.fileno()
    process = subprocess.Popen(["sh", "-s"], stdin=far, stdout=far, stderr=far, start_new_session=True)
    theirs.close()
    shell = Shell.over(SocketTransport(ours), name="local")
    yield shell
    process.kill()
    process.wait()
    shell.console.close()
