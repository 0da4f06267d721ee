"""Submissions to KCIDB against the schema of those who receive them, from their own package.

kcidb-io is GPL, and only this test needs it: it is installed in a directory of the test, and runs in a process of its
own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.model.fault import Fault, FaultKind
from harness.model.record import (
    BoardRecord,
    BuildRecord,
    KernelRecord,
    PatchRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.result import EndKind, Expectation, Repeat, Result, RunEnd, RunResults, Verdict
from harness.report.kcidb import Submitter, submission

PACKAGE = "kcidb-io==141 --hash=sha256:95bcce42e0b82ceace8ca29a6c5aa9332c9463860051872788fcc424b642657e"
VALIDATE = (
    "import json, sys; from kcidb_io.schema import V5_3; V5_3.validate_exactly(json.load(sys.stdin)); print('valid')"
)
pytestmark = pytest.mark.xdist_group("kcidb-io")  # else each worker installs it
HOSTILE = "\udc80\0\x1b[2J\n</script> " + "z" * 40_000


@pytest.fixture(scope="module")
def kcidb_io(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the package."""
    directory = tmp_path_factory.mktemp("kcidb-io")
    (directory / "requirements.txt").write_text(f"{PACKAGE}\n")
    words = ["-q", "--disable-pip-version-check", "--no-deps", "--target", str(directory), "--require-hashes", "-r"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *words, str(directory / "requirements.txt")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode and "hash" not in done.stderr.lower():
        pytest.skip(f"needs kcidb-io from the package index: {done.stderr.strip().rpartition(chr(10))[2]}")
    assert done.returncode == 0, done.stderr
    return directory


def validated(document: object, kcidb_io: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", VALIDATE],
        input=json.dumps(document),
        env={**os.environ, "PYTHONPATH": str(kcidb_io)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def results() -> RunResults:
    """One result of each verdict, with all that a result can have."""
    oops = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)", lines=("a line", HOSTILE))
    known = Expectation(verdicts=(Verdict.FAIL,), reason="known", issue="https://example.org/1")
    kernel = KernelRecord(
        release="7.3.4",
        key="k1",
        source=SourceRecord(spec="git:https://example.org/linux.git#for-next", version="v7.3", checksum="0" * 40),
        patches=(PatchRecord(name="0001-x.patch", sha256="a" * 64),),
        fragments=("base.config", "ftrace.config"),
        toolchain=ToolchainRecord(name="gcc", command="aarch64-linux-gnu-gcc", version="12.2.0"),
        without={"X": "why"},
        era_fixes={"y": "why"},
    )
    record = RunRecord(
        id="20260101T000000.000Z-00000001", build="b1", kernel=kernel,
        board=BoardRecord(name="virt", details={"accelerator": "tcg"}),
    )  # fmt: skip
    tests = [
        Result(
            test=f"testcases/a.py::test_{verdict}[{HOSTILE}]", verdict=verdict, reason=f"so {HOSTILE}", fault=oops,
            expectations=(known,), seconds=1.5, started=1767225600.25, log="logs/a b.log", machine="boot-1",
            board="virt", actual=Verdict.FAIL, repeats=(Repeat(verdict=Verdict.PASS),),
        )
        for verdict in Verdict
    ]  # fmt: skip
    return RunResults(record=record, results=tuple(tests), started=1.0, ended=RunEnd(kind=EndKind.COMPLETE))


FULL = BuildRecord(key="b1", times={"kernel": 300.5}, unbuilt={"selftests/x": "error"})
LAB = Submitter(origin="my_lab", tree="mainline", files_url="https://ci.example.org/1")


def test_a_full_submission_is_valid(kcidb_io: Path) -> None:
    document = submission(results(), FULL, LAB)
    assert len(document["tests"]) == len(Verdict) + 1  # type: ignore[arg-type]
    done = validated(document, kcidb_io)
    assert done.stdout == "valid\n", done.stderr[-2000:]


def test_one_of_a_kernel_that_does_not_build_is_valid(kcidb_io: Path) -> None:
    unbuilt = RunEnd(kind=EndKind.NOT_BUILT, reason=HOSTILE)
    log = Result(test="build", verdict=Verdict.FAIL, log="logs/build.log")
    run = dataclasses.replace(results(), results=(log,), ended=unbuilt, started=1767225600.25)
    document: dict[str, Any] = submission(run, dataclasses.replace(FULL, errors=("x.c:1:1: error: no C", HOSTILE)), LAB)
    (build,) = document["builds"]
    assert {"log_url", "config_url", "log_excerpt", "start_time"} <= set(build)
    done = validated(document, kcidb_io)
    assert done.stdout == "valid\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    "changed",
    [
        {"results": ()},
        {"record": RunRecord()},
        {"ended": RunEnd(kind=EndKind.NOT_BOOTED, reason=HOSTILE)},
        {"ended": None, "results": (Result(test="", verdict=Verdict.NOTRUN, started=1e300),)},
    ],
)
def test_one_of_a_run_that_says_little_is_valid(changed: dict[str, Any], kcidb_io: Path) -> None:
    document = submission(dataclasses.replace(results(), **changed), BuildRecord(), Submitter(origin="x"))
    assert validated(document, kcidb_io).stdout == "valid\n"


def test_the_schema_refuses_what_is_wrong(kcidb_io: Path) -> None:
    document: dict[str, Any] = submission(results(), FULL, LAB)
    document["tests"][0]["status"] = "CRASH"
    done = validated(document, kcidb_io)
    assert (done.returncode, "'CRASH' is not one of" in done.stderr) == (1, True)
