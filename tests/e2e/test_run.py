"""Whole runs on a booted kernel."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import BUILD_LIMIT_S, PROJECT, harness
from tests.faults.catalogue import Blame, fault

OOPS = PROJECT / "tests/e2e/oops-in-wakeup-tracer.patch"


def _verdicts(run_dir: Path) -> dict[str, dict[str, Any]]:
    return {result["test"]: result for result in json.loads((run_dir / "results.json").read_text())["results"]}


def test_all_testcases_and_a_little_of_the_selftests_pass(build: Path, tmp_path: Path) -> None:
    keyword = "testcases or basic1 or basic3 or (test-state and taking) or user_events"
    arguments = ("--build", build, "-k", keyword, "-j", "auto", "--out", tmp_path / "run")
    done = harness("run", *arguments, cwd=tmp_path, limit=1800)
    results = _verdicts(tmp_path / "run")
    assert done.returncode == 0, done.stdout
    skipped = [result["test"] for result in results.values() if result["verdict"] == "SKIP"]
    assert len(skipped) < 10, skipped  # what needs a kernel of another era
    assert {result["verdict"] for result in results.values()} <= {"PASS", "SKIP", "XFAIL"}
    assert "selftests/ftrace/test.d/00basic/basic3.tc[instance]" in results
    assert "selftests/livepatch/test-state::taking over system state modification" in results
    assert results["selftests/user_events/abi_test::user.enablement"]["verdict"] == "PASS"
    assert "testcases/livepatch/test_takes_effect.py::test_function_of_the_kernel_proper" in results
    for name in ("console.log", "build.json", "report.html", "junit.xml", "events.jsonl"):
        assert (tmp_path / "run" / name).stat().st_size


@pytest.mark.xdist_group("builds")  # they compile in one workspace, one after the other
@fault(
    "a series with a NULL pointer dereference in one tracer",
    where="kernel",
    blame=Blame.KERNEL,
    survives="all other tests, PASS",
)
def test_a_kernel_that_oopses_in_one_tracer(build: Path, tmp_path: Path) -> None:
    """`build` first: the mutant then compiles one file in the same workspace."""
    arguments = ("--patches", OOPS, "--suite", "selftests/ftrace", "-k", "wakeup or basic1", "--coverage")
    done = harness("run", *arguments, "--out", tmp_path / "run", cwd=tmp_path, limit=BUILD_LIMIT_S)
    results = _verdicts(tmp_path / "run")
    crashed = results["selftests/ftrace/test.d/tracer/wakeup.tc"]
    assert crashed["verdict"] == "CRASH", done.stdout
    assert "NULL pointer dereference" in crashed["reason"]
    assert "wakeup_tracer_init" in crashed["reason"]
    others = {test: result["verdict"] for test, result in results.items() if "tracer/wakeup.tc" not in test}
    assert set(others.values()) == {"PASS"}, others
    assert done.returncode == 1
    record = json.loads((tmp_path / "run/build.json").read_text())
    assert record["patches"][0]["name"] == OOPS.name
    (line,) = json.loads((tmp_path / "run/coverage.json").read_text())["lines"]
    assert line["path"] == "kernel/trace/trace_sched_wakeup.c"
    assert "selftests/ftrace/test.d/tracer/wakeup.tc" in line["tests"]
    assert not any("basic1" in test for test in line["tests"])
    assert "coverage: tests executed all 1 changed lines" in done.stdout


KNOWN = """
expectations:
  - test: testcases/livepatch/test_modules.py::test_relocations_beyond_a_branchs_reach
    verdict: CRASH
    fault: "panic: something else*"
    reason: it never was
    issue: https://bugs.example.org/1
"""


@fault(
    "a test with a known crash crashes in another way",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the report; the known outcome that no test matched",
)
def test_another_crash_than_the_known_one_is_a_crash(build: Path, tmp_path: Path) -> None:
    """The test oopses on this kernel; testcases/expectations.yaml knows of that, this list knows of another crash."""
    (tmp_path / "known.yaml").write_text(KNOWN)
    arguments = ("--suite", "testcases/livepatch", "-k", "beyond_a_branchs_reach", "--out", tmp_path / "run")
    done = harness("run", "--build", build, "--expectations", tmp_path / "known.yaml", *arguments, cwd=tmp_path)
    (result,) = _verdicts(tmp_path / "run").values()
    assert (result["verdict"], done.returncode) == ("CRASH", 1), done.stdout
    assert "module_emit_plt_entry; expected: CRASH with the fault 'panic: something else*'" in result["reason"]
    assert "no test matched this known outcome (it never was, https://bugs.example.org/1)" in done.stdout


@pytest.mark.xdist_group("builds")
@fault(
    "a patch that does not compile",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the compiler's message with file and line, and a record of the build as of any run",
)
def test_a_patch_that_does_not_compile(build: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.patch"
    bad.write_text(OOPS.read_text().replace("WRITE_ONCE(*(int *)8, 0);", "this is no C;"))
    done = harness("run", "--patches", bad, "--out", tmp_path / "run", cwd=tmp_path, limit=BUILD_LIMIT_S)
    assert done.returncode == 1
    assert "kernel/trace/trace_sched_wakeup.c:703" in done.stderr
    assert "error:" in done.stderr
    (result,) = _verdicts(tmp_path / "run").values()
    assert result["reason"].startswith("kernel/trace/trace_sched_wakeup.c:703:")
    assert "CONFIG_FUNCTION_GRAPH_TRACER=y" in (tmp_path / "run/kernel.config").read_text()
    (check,) = json.loads(harness("publish", "patchwork", tmp_path / "run", cwd=tmp_path).stdout)
    assert (check["state"], check["context"]) == ("fail", "arm64-ftrace-qemu-virt-build")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 3, marks=fault(
            "SIGTERM while a test runs on a booted kernel", where="killed", blame=Blame.INFRA,
            survives="the verdicts until then; the rest as NOTRUN; the documents")),
        pytest.param(signal.SIGKILL, -9, marks=fault(
            "SIGKILL while a test runs on a booted kernel", where="killed", blame=Blame.NOBODY,
            survives="the verdicts until then, of which `harness report` makes the documents")),
    ],
)  # fmt: skip
def test_a_run_that_is_killed_keeps_what_it_has(build: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    run_dir = tmp_path / "run"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--build",
        build,
        "-k",
        "basic1 or basic3 or test_filter",
    ]
    with (tmp_path / "stderr").open("w") as errors:
        process = subprocess.Popen([*command, "--out", run_dir], stderr=errors, stdout=errors, cwd=tmp_path)
    events = run_dir / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.is_file() and b'"finished"' in events.read_bytes()):
        assert time.monotonic() < deadline, (tmp_path / "stderr").read_text()
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == code, (tmp_path / "stderr").read_text()
    if number == signal.SIGKILL:
        assert harness("report", run_dir, cwd=tmp_path).returncode == 0
    verdicts = {test: result["verdict"] for test, result in _verdicts(run_dir).items()}
    assert verdicts["testcases/function/test_calls.py::test_filter_by_name_and_glob"] == "PASS"
    assert "NOTRUN" in verdicts.values()
    assert (run_dir / "junit.xml").is_file()
