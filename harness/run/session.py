"""A run: one build, one board, some suites, from the first boot to the documents."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import __version__
from harness.errors import EXIT_INFRA, InfraError, UserError
from harness.layout import EXPECTATIONS, PROJECT, TESTCASES
from harness.model.board import Board
from harness.model.kernel import Build
from harness.model.progress import NoDisplay, RunDisplay
from harness.model.result import EventKind, RunResults
from harness.parse.expectations import parse_expectations
from harness.target.base import Target

from .documents import EVENTS, write_documents
from .eventlog import EventLog
from .lab import Lab
from .plugin import Plugin
from .selftests import FTRACE, LIVEPATCH

SUITES = (FTRACE, LIVEPATCH, "testcases")
NOT_BOOTED = "the target could not be booted"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which tests run: suites, pytest's -k expression and --maxfail (0: no limit), a factor on time limits, and for how
    many seconds the tests in hammer/ hammer."""

    suites: frozenset[str] = frozenset(SUITES)
    keyword: str = ""
    maxfail: int = 0
    timeout_factor: float = 1.0
    hammer_seconds: float = 5.0


def choose_suites(names: tuple[str, ...]) -> frozenset[str]:
    """The suites that --suite names: all without any; ``selftests`` is both of them; a directory below testcases/
    is a suite too. UserError for what is none."""
    chosen: set[str] = set()
    for name in (name.strip("/") for name in names):
        if name == "selftests":
            chosen |= {FTRACE, LIVEPATCH}
        elif name in SUITES or (name.startswith("testcases/") and (PROJECT / name).exists() and ".." not in name):
            chosen.add(name)
        else:
            inner = sorted(f"testcases/{path.name}" for path in TESTCASES.iterdir() if list(path.glob("test_*.py")))
            raise UserError(f"--suite: expected one of {', '.join((*SUITES, *inner))}, found {name!r}")
    return frozenset(chosen or SUITES)


def list_tests(build: Build, selection: Selection, *, board: Board) -> list[str]:
    """The ids of the tests that a run would plan; boots nothing."""
    scratch = EventLog(Path(os.devnull))
    lab = Lab(_no_boot, limits=board.limits, events=scratch)
    plugin = _plugin(
        build,
        selection,
        board=board,
        lab=lab,
        run_dir=Path(os.devnull),
        events=scratch,
        display=NoDisplay(),
        list_only=True,
    )
    _judge_pytest(_pytest(plugin, selection), plugin, selection)
    return plugin.planned


def run(
    build: Build,
    selection: Selection,
    *,
    board: Board,
    boot: Callable[[], tuple[Target, float]],
    run_dir: Path,
    properties: dict[str, Any],
    display: RunDisplay,
) -> tuple[RunResults, int]:
    """Run the selected tests and write the documents. Returns the results and the exit code.

    Whatever happens on the way, events.jsonl and the documents hold what was collected until then."""
    shutil.copyfile(build.directory / "build.json", run_dir / "build.json")
    events = EventLog(run_dir / EVENTS)
    events.write(EventKind.RUN, **_properties(build, board, selection, properties))
    lab = Lab(boot, limits=board.limits, events=events, timeout_factor=selection.timeout_factor)
    plugin = _plugin(build, selection, board=board, lab=lab, run_dir=run_dir, events=events, display=display)
    why = "interrupted"
    code = 0
    try:
        code = _pytest(plugin, selection)
        why = _why_ended(code, plugin)
    finally:
        lab.close()
        events.write(EventKind.ENDED, why=why)
        events.close()
        results = write_documents(run_dir)
    if plugin.boot_failure:
        raise plugin.boot_failure
    _judge_pytest(code, plugin, selection)
    return results, EXIT_INFRA if why == "interrupted" else results.exit_code


def _no_boot() -> tuple[Target, float]:
    raise AssertionError("listing boots nothing")


def _plugin(
    build: Build,
    selection: Selection,
    *,
    board: Board,
    lab: Lab,
    run_dir: Path,
    events: EventLog,
    display: RunDisplay,
    list_only: bool = False,
) -> Plugin:
    expectations = parse_expectations(
        EXPECTATIONS.read_text(), place=str(EXPECTATIONS.name), release=build.release, board=board.name
    )
    return Plugin(
        build=build,
        lab=lab,
        suites=selection.suites,
        run_dir=run_dir,
        events=events,
        expectations=expectations,
        list_only=list_only,
        display=display,
        hammer_seconds=selection.hammer_seconds,
    )


def _pytest(plugin: Plugin, selection: Selection) -> int:
    """Run pytest in this process, with the plugin, without its own terminal output, cache and configuration."""
    inner = sorted(suite for suite in selection.suites if suite.startswith("testcases/"))
    paths = [str(PROJECT / suite) for suite in inner] or [str(TESTCASES)]
    arguments = [*paths, f"--rootdir={PROJECT}", "-c", os.devnull, "--import-mode=importlib"]
    for unwanted in ("terminal", "cacheprovider", "junitxml"):
        arguments += ["-p", f"no:{unwanted}"]
    arguments += ["-p", "harness.run.fixtures"]
    if selection.keyword:
        arguments += ["-k", selection.keyword]
    for variable in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # meant for somebody's own tests
        os.environ.pop(variable, None)
    # plugins of other packages that are installed here (labgrid has one) are not for our tests
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if selection.maxfail:
        arguments += [f"--maxfail={selection.maxfail}"]
    return int(pytest.main(arguments, plugins=[_Registrar(plugin)]))


def _judge_pytest(code: int, plugin: Plugin, selection: Selection) -> None:
    """Raise what an end of pytest means that is not about tests."""
    if plugin.collection_errors:
        raise UserError("the testcases can't be collected", details=plugin.collection_errors)
    if code == pytest.ExitCode.USAGE_ERROR:
        raise UserError(f"-k: expected an expression as `fgraph and not instance`, found {selection.keyword!r}")
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UserError(f"no test of {', '.join(sorted(selection.suites))} matches -k {selection.keyword!r}")
    if code == pytest.ExitCode.INTERNAL_ERROR:
        raise InfraError("pytest failed inside", details=plugin.internal_error.splitlines()[-15:])


class _Registrar:
    """Registers the plugin under the name by which the fixtures find it."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self._plugin, "harness-run")


def _why_ended(code: int, plugin: Plugin) -> str:
    if plugin.boot_failure:
        return f"{NOT_BOOTED}: {plugin.boot_failure.message}"
    if plugin.collection_errors:
        return "collection failed"
    if code == pytest.ExitCode.INTERRUPTED:
        return "interrupted"
    if plugin.stopped_early:
        return "maxfail"
    return "complete"


def key_of_testcases() -> str:
    """A hash of what the testcases are: their files, and the API they are written in."""
    digest = hashlib.sha256()
    for directory in (TESTCASES, Path(__file__).parent / "api"):
        for path in sorted(directory.rglob("*.*")):
            if path.suffix in (".py", ".c", ".h", ".yaml"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _properties(build: Build, board: Board, selection: Selection, more: dict[str, Any]) -> dict[str, Any]:
    record = json.loads((build.directory / "build.json").read_text())
    return {
        "harness": __version__,
        "kernel": build.release,
        "version": record["source"].get("version", ""),
        "source": record["source"],
        "patches": record["patches"],
        "compiler": f"{record['toolchain'].get('command', '')} {record['toolchain']['version']}".strip(),
        "toolchain": record["toolchain"]["name"],
        "fragments": record["fragments"],
        "build": build.key,
        "kernel_key": record.get("kernel", ""),
        "kernel_made": record.get("made", ""),
        "testcases": key_of_testcases(),
        "board": board.name,
        "suites": sorted(selection.suites),
        "keyword": selection.keyword,
        "host": f"{platform.node()} ({platform.machine()})",
        "without": build.without,
        **more,
    }
