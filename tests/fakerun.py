"""A whole run of a few tests over a scripted target, in this process: for tests of what a fault leaves of a run."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay, RunDisplay
from harness.model.result import RunResults, Verdict
from harness.parse.events import parse_events
from harness.report.fold import fold
from harness.run import session
from harness.run.documents import Recall
from harness.target.base import Target
from tests.boards import held, spec
from tests.faketarget import FakeTarget, Step
from tests.marked import marked
from tests.records import build_json
from tests.unit.small_ftracetest import UPSTREAM

FILES = ("a.tc", "b.tc", "c.tc")
TESTS = tuple(f"selftests/ftrace/test.d/basic/{name}" for name in FILES)
DOCUMENTS = ("junit.xml", "results.json", "report.html", "summary.md")


def fake_build(directory: Path) -> Build:
    """A build with three .tc files."""
    tests = directory / "selftests/ftrace/test.d/basic"
    tests.mkdir(parents=True)
    for name in FILES:
        (tests / name).write_text(f"# description: {name}\n")
    (directory / "selftests/ftrace/ftracetest").write_text(UPSTREAM)
    build_json(directory)
    return Build(directory=directory, release="7.3.4", key="k", config={})


def fake_target(*, on_verdict: Callable[[str], None] = lambda name: None) -> FakeTarget:
    """A target on which every test passes and prints something. `on_verdict` is called with the name of each file right
    before its verdict arrives."""

    def script(command: str) -> list[Step] | _Answers:
        if "ftracetest" in command and "-l -" in command:
            files = [word for word in command.split() if word.endswith(".tc")]
            return _Answers(marked(command, ftracetest(files)), on_verdict)
        return ["release 7.3.4"] if "echo release" in command else []

    return FakeTarget(script)


def ftracetest(files: Sequence[str]) -> list[Step]:
    """What ftracetest prints for `files` that all pass, for `tests.marked.marked`."""
    lines: list[Step] = []
    for number, path in enumerate(files, start=1):
        lines += [f"@begin: {path}", f"execute: {path}", f"+ log of {path}", f"ok {number} fine", "@end: 0"]
    return lines


class _Answers:
    """The lines, each made when it is asked for; `on_verdict` is called in time."""

    def __init__(self, lines: Sequence[Step], on_verdict: Callable[[str], None]) -> None:
        self._lines = lines
        self._on_verdict = on_verdict

    def __iter__(self) -> Iterator[Step]:
        name = ""
        for line in self._lines:
            if isinstance(line, str) and line.startswith("execute: "):
                name = line.rpartition("/")[2]
            if isinstance(line, str) and line.endswith("end: 0"):
                self._on_verdict(name)
            yield line


def fake_run(
    build: Build,
    run_dir: Path,
    *,
    target: FakeTarget | None = None,
    targets: Sequence[FakeTarget] = (),
    display: RunDisplay | None = None,
    recall: Recall | None = None,
) -> tuple[RunResults, int]:
    """Run the tests of `build`, which leaves everything below `run_dir`. `targets`: one after the other, if one
    `target` is not enough."""
    waiting = [*targets] or [target or fake_target()]

    def boot() -> tuple[Target, float]:
        return waiting.pop(0), 1.0

    return session.run(
        build,
        session.Selection(suites=frozenset({"selftests/ftrace"})),
        board=held(spec("fake", boot=QemuBoot())),
        boot=boot,
        run_dir=run_dir,
        command="harness run",
        display=display or NoDisplay(),
        recall=recall,
    )


def recorded(run_dir: Path) -> dict[str, Verdict]:
    """The verdicts that events.jsonl has."""
    try:
        with (run_dir / "events.jsonl").open(errors="replace") as lines:
            results = fold(parse_events(lines)).results
    except FileNotFoundError:
        return {}
    return {result.test: result.verdict for result in results}


def documented(run_dir: Path) -> dict[str, str]:
    """The verdicts that results.json has; empty if there is none. Each document that exists has to be whole."""
    junit, results, report, summary = (run_dir / name for name in DOCUMENTS)
    if report.exists():
        assert report.read_text().rstrip().endswith("</html>")
    if summary.exists():
        assert summary.read_text().endswith("directory.\n")
    if junit.exists():
        ET.parse(junit)
    if not results.exists():
        return {}
    return {each["test"]: each["verdict"] for each in json.loads(results.read_text())["results"]}


def left_partial(run_dir: Path) -> list[Path]:
    return list(run_dir.rglob("*.partial"))
