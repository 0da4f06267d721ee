"""What a kernel that was built elsewhere lacks costs the tests that need it: each is skipped with the thing named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import Verdict
from harness.run import inprocess, session, warmup
from harness.run.documents import read_results
from tests.boards import held, spec
from tests.faketarget import FakeTarget
from tests.records import build_json

BOARD = held(spec("fake", boot=QemuBoot()))
TESTS = """
def test_vmlinux(vmlinux):
    pass

def test_module(modules):
    with modules.load("watch"):
        pass

def test_symbol(needs):
    needs("LIVEPATCH")

def test_nothing(build):
    assert build
"""
NO_SELFTESTS = "there are no selftests of 7.3.4: name some with --selftests DIR"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    project = tmp_path / "project"
    (project / "testcases").mkdir(parents=True)
    (project / "testcases/test_x.py").write_text(TESTS)
    sys.modules.pop("testcases.test_x", None)  # pytest would take the one of the test before for ours
    monkeypatch.setattr(inprocess, "PROJECT", project)
    monkeypatch.setattr(inprocess, "TESTCASES", project / "testcases")
    build_json(tmp_path / "build")
    return Build(
        directory=tmp_path / "build",
        release="7.3.4",
        key="k",
        config={"DYNAMIC_FTRACE": "y", "DYNAMIC_FTRACE_WITH_ARGS": "y"},
        left_out={"watch": "there are no headers of 7.3.4 to build it with"},
        unbuilt={"selftests/ftrace": NO_SELFTESTS, "selftests/livepatch": NO_SELFTESTS},
    )


def outcomes(build: Build, run_dir: Path, *suites: str) -> dict[str, tuple[Verdict, str]]:
    """Verdict and reason of each test of a run, by its name."""
    run_dir.mkdir()
    session.run(
        build,
        session.Selection(suites=frozenset(suites)),
        board=BOARD,
        boot=lambda: (FakeTarget(lambda command: ["release 7.3.4"] if "echo release" in command else []), 1.0),
        run_dir=run_dir,
        command="harness run",
        display=NoDisplay(),
    )
    results = read_results(run_dir).results
    return {result.test.rpartition("::")[2]: (result.verdict, result.reason) for result in results}


def test_what_is_missing_is_named_and_nothing_else_is_skipped(build: Build, tmp_path: Path) -> None:
    found = outcomes(build, tmp_path / "run", "testcases")
    skipped = {name: reason for name, (verdict, reason) in found.items() if verdict is Verdict.SKIP}
    assert skipped == {
        "test_vmlinux": "there is no vmlinux of this kernel, which was built elsewhere",
        "test_module": "watch: there are no headers of 7.3.4 to build it with",
        "test_symbol": "this kernel has no CONFIG_LIVEPATCH: not configured",
    }
    assert found["test_nothing"][0] is Verdict.PASS


def test_a_suite_without_files_is_one_skipped_test(build: Build, tmp_path: Path) -> None:
    found = outcomes(build, tmp_path / "run", "selftests/ftrace", "selftests/livepatch", "selftests/user_events")
    no_livepatch = "no livepatch in 7.3.4 on arm64: CONFIG_LIVEPATCH is not set"
    assert found == {
        "selftests/ftrace/all": (Verdict.SKIP, NO_SELFTESTS),
        "selftests/livepatch/all": (Verdict.SKIP, no_livepatch),
    }


def test_packed_modules_are_not_read_before_the_tests(tmp_path: Path) -> None:
    """They are a distribution's, for hardware that nobody tests."""
    reading = next(line for line in warmup._READ.splitlines() if line.startswith("find /payload "))
    files = ("testcases/watch.ko", "lib/modules/7.3/kernel/a.ko.xz", "lib/modules/7.3/kernel/b.ko.zst", "ftrace/a.tc")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    words = ["sh", "-c", reading.replace("/payload", str(tmp_path)).replace(" > /dev/null", "")]
    read = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "testcases/watch.ko" in read
    assert "ftrace/a.tc" in read
    assert "lib/modules" not in read
