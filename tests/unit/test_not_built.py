"""A kernel that does not build: what is left of it, and who is told."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from harness.build.notbuilt import NotBuilt
from harness.campaign import kernel
from harness.cli import main
from harness.cli.compare import compare
from harness.cli.history import history
from harness.model.result import EndKind, RunEnd, Verdict
from harness.parse.records import build_record_from_json
from harness.run.documents import read_results
from tests.faults.catalogue import Blame, fault
from tests.unit.test_history import called, run_dir
from tests.unit.test_make import Toy, toy

__all__ = ["toy"]
ERROR = "kernel/sched.c:1:1: error: no C at all"
KERNEL_FAULT = fault(
    "a kernel does not compile", where="kernel", blame=Blame.KERNEL,
    survives="the directory of a run: the errors, the log and the configuration",
)  # fmt: skip


@pytest.fixture
def broken(toy: Toy) -> Toy:
    toy.edits["kernel/sched.c"] = "this is no C\n"
    return toy


Run = Callable[..., tuple[int, str, Path]]


@pytest.fixture
def the_run(broken: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`harness run` of the broken kernel: the exit code, what it says, and the directory of the run."""
    monkeypatch.setattr(kernel, "build_for", lambda *_args, **_keys: broken.build())
    monkeypatch.setattr(signal, "signal", lambda *_args: None)
    monkeypatch.setattr(main, "abandon_unwritable", lambda: None)
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path / "history"))

    def run(*words: str) -> tuple[int, str, Path]:
        out = tmp_path / "out"
        monkeypatch.setattr("sys.argv", ["harness", "run", "--out", str(out), *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capfd.readouterr()
        return int(str(end.value.code)), captured.out + captured.err, out

    return run


@KERNEL_FAULT
def test_what_is_known_of_it(broken: Toy) -> None:
    with pytest.raises(NotBuilt, match=r"does not build \(kernel\); the whole log") as told:
        broken.build()
    found = told.value.record
    assert found.errors[0] == ERROR
    assert (found.kernel.toolchain.compiler, found.kernel.fragments) == ("toy-gcc 12.2.0", ("our.config",))
    assert [patch.name for patch in found.kernel.patches] == ["kernel/sched.c"]
    assert set(found.times) == {"source", "configure", "kernel"}
    assert "kernel/sched.c:1:1: error: no C at all" in told.value.log
    assert b"CONFIG_ONE=y" in told.value.config


def test_it_leaves_the_directory_of_a_run(the_run: Run, tmp_path: Path) -> None:
    code, said, out = the_run("--suite", "testcases")
    assert code == 1
    assert f"what is known of this build: {out}" in said
    results = read_results(out)
    (build,) = results.results
    assert (build.test, build.verdict, build.reason, build.log) == ("build", Verdict.FAIL, ERROR, "logs/build.log")
    assert (results.ended, results.exit_code) == (RunEnd(kind=EndKind.NOT_BUILT, reason=ERROR), code)
    assert (results.record.suites, results.record.board.name) == (("testcases",), "qemu-virt")
    assert build_record_from_json((out / "build.json").read_text()).errors[0] == ERROR
    assert "CONFIG_ONE=y" in (out / "kernel.config").read_text()
    assert "+this is no C" in (out / "patches/0001-sched.c.patch").read_text()
    for name in ("logs/build.log", "junit.xml", "report.html", "summary.md", "results.json"):
        assert ERROR in (out / name).read_text(), name


def test_the_history_knows_it(the_run: Run, tmp_path: Path) -> None:
    _, said, out = the_run()
    run = read_results(out).record.id
    assert f"in the history as {run}" in said
    assert "not built" in called(history)[1]
    called(history, "add", run_dir(tmp_path, 1, one=Verdict.PASS), run_dir(tmp_path, 2, one=Verdict.PASS))
    code, text = called(compare, "run-0002", run)
    assert code == 1
    assert f"NEW FAILURE: FAIL: {ERROR}" in text
    assert "vanished" not in text.lower()
    code, text = called(compare, run, "run-0002")
    assert (code, "FIXED" in text) == (0, True)


def test_nothing_is_recorded_where_that_is_not_wanted(the_run: Run, tmp_path: Path) -> None:
    the_run("--no-history")
    assert not (tmp_path / "history").exists()


@fault(
    "a kernel does not compile, and there is a run in the directory that was named for this one",
    where="disk", blame=Blame.KERNEL, survives="that run; the errors, on the terminal",
)  # fmt: skip
def test_where_it_can_not_be_recorded_the_errors_are_told(the_run: Run, tmp_path: Path) -> None:
    other = run_dir(tmp_path, 1, one=Verdict.PASS)
    before = (other / "events.jsonl").read_text()
    code, said, _ = the_run("--out", str(other))
    assert code == 1
    assert "no record of this build" in said
    assert "error: no C at all" in said
    assert (other / "events.jsonl").read_text() == before


def published(*words: str) -> Any:
    done = click.testing.CliRunner().invoke(main.cli, ["publish", *words])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_kcidb_gets_a_build_that_failed(the_run: Run, tmp_path: Path) -> None:
    _, _, out = the_run()
    found = published("kcidb", str(out), "--origin", "lab", "--dry-run", "--files-url", "https://ci.example.org/9")
    (build,) = found["builds"]
    assert (build["status"], build["compiler"], build["config_name"]) == ("FAIL", "toy-gcc 12.2.0", "our")
    assert build["log_url"] == "https://ci.example.org/9/logs/build.log"
    assert build["config_url"] == "https://ci.example.org/9/kernel.config"
    assert build["log_excerpt"].startswith(ERROR)
    assert found["checkouts"][0]["id"] == build["checkout_id"]
    assert found["tests"] == []
    assert str(tmp_path) not in json.dumps(found)


def test_patchwork_gets_a_check_that_fails(the_run: Run, tmp_path: Path) -> None:
    _, _, out = the_run()
    assert published("patchwork", str(out)) == [
        {
            "state": "fail",
            "context": "arm64-ftrace-qemu-virt-build",
            "description": f"the kernel does not build: {ERROR}",
        }
    ]
