"""What is submitted to KCIDB: builds and tests apart, with verdicts that blame the right one and ids that stay."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from datetime import datetime
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
from harness.model.result import EndKind, Expectation, Result, RunEnd, RunResults, Verdict
from harness.report.kcidb import Submitter, is_origin, path_of, submission

PATH = re.compile(r"([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?")  # as the schema has it
OOPS = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)", lines=("Unable to handle\0", "pc : f+0x1/0x2"))
KERNEL = KernelRecord(
    release="7.3.4",
    key="k1",
    source=SourceRecord(spec="debian:@suite", version="7.3.4-1", checksum="c"),
    patches=(PatchRecord(name="/home/me/0001-x.patch", sha256="a" * 64), PatchRecord(name="y", sha256="b" * 64)),
    fragments=("base.config", "/home/me/mine.config"),
    toolchain=ToolchainRecord(name="gcc", command="aarch64-linux-gnu-gcc", version="12.2.0"),
)
RECORD = RunRecord(
    id="20260101T000000.000Z-00000001",
    host="secret-host",
    build="b1",
    kernel=KERNEL,
    board=BoardRecord(name="virt", details={"accelerator": "tcg"}),
    command="harness run --kernel /home/me/linux",
)
BUILD = BuildRecord(
    key="b1", kernel=KERNEL, times={"kernel": 300.0, "modules": 20.5}, reproduce="harness build /home/me"
)
LAB = Submitter(origin="my_lab", tree="mainline", files_url="https://ci.example.org/runs/1/")


def run(
    *results: Result, kernel: KernelRecord = KERNEL, ended: RunEnd | None = None, id: str = RECORD.id
) -> RunResults:
    record = dataclasses.replace(RECORD, kernel=kernel, id=id)
    return RunResults(record=record, results=results, started=1000.0, ended=ended or RunEnd(kind=EndKind.COMPLETE))


def submitted(*results: Result, **given: Any) -> dict[str, Any]:
    return json.loads(json.dumps(submission(run(*results, **given), BUILD, LAB)))  # type: ignore[no-any-return]


def the_test(result: Result) -> dict[str, Any]:
    tests = submitted(result)["tests"]
    return tests[-1]  # type: ignore[no-any-return]


def test_a_checkout_a_build_and_the_tests() -> None:
    crash = Result(
        test="testcases/function/test_calls.py::test_caller[a-b]", verdict=Verdict.CRASH, reason="it crashed",
        fault=OOPS, seconds=1.5, started=1767225600.25, log="logs/a b.log", machine="boot-1", board="virt",
    )  # fmt: skip
    document = submitted(crash)
    assert document["version"] == {"major": 5, "minor": 3}
    (checkout,), (build,), (boot, test) = document["checkouts"], document["builds"], document["tests"]
    hashes = f"{'a' * 64}\n{'b' * 64}\n".encode()
    assert checkout["patchset_hash"] == hashlib.sha256(hashes).hexdigest()
    assert (checkout["tree_name"], checkout["comment"], checkout["valid"]) == ("mainline", "7.3.4-1", True)
    assert (build["id"], build["checkout_id"], build["status"]) == ("my_lab:b1", checkout["id"], "PASS")
    assert (build["architecture"], build["compiler"]) == ("arm64", "aarch64-linux-gnu-gcc 12.2.0")
    assert (build["config_name"], build["duration"]) == ("base+mine", 320.5)
    assert (boot["path"], boot["status"], boot["build_id"]) == ("boot", "PASS", build["id"])
    assert (test["status"], test["build_id"], test["duration"]) == ("FAIL", build["id"], 1.5)
    assert test["path"] == "arm64_ftrace.function.test_calls.test_caller_a-b_"
    assert datetime.fromisoformat(test["start_time"]).timestamp() == 1767225600.25
    assert test["log_url"] == "https://ci.example.org/runs/1/logs/a%20b.log"
    assert test["log_excerpt"] == "it crashed\nUnable to handle\npc : f+0x1/0x2"
    assert test["environment"] == {"comment": "virt", "misc": {"accelerator": "tcg"}}
    assert test["misc"]["signature"] == "Oops in f (kernel/x.c) [oops]"
    assert {each["origin"] for kind in ("checkouts", "builds", "tests") for each in document[kind]} == {"my_lab"}


KNOWN = Expectation(verdicts=(Verdict.FAIL,), reason="known", issue="https://example.org/1")


@pytest.mark.parametrize(
    ("verdict", "actual", "status"),
    [
        (Verdict.PASS, None, "PASS"),
        (Verdict.FAIL, None, "FAIL"),
        (Verdict.UNRESOLVED, None, "FAIL"),
        (Verdict.CRASH, None, "FAIL"),
        (Verdict.TIMEOUT, None, "FAIL"),
        (Verdict.SKIP, None, "SKIP"),
        (Verdict.ERROR, None, "ERROR"),
        (Verdict.NOTRUN, None, "MISS"),
        (Verdict.XFAIL, Verdict.FAIL, "FAIL"),
        (Verdict.XFAIL, Verdict.CRASH, "FAIL"),
        (Verdict.XFAIL, Verdict.ERROR, "ERROR"),
        (Verdict.XFAIL, Verdict.XFAIL, "PASS"),
        (Verdict.XFAIL, None, "PASS"),
    ],
)
def test_verdicts(verdict: Verdict, actual: Verdict | None, status: str) -> None:
    found = the_test(Result(test="t", verdict=verdict, actual=actual, expectations=(KNOWN,)))
    assert (found["status"], found["misc"]["verdict"]) == (status, verdict)
    assert found["misc"].get("known_issue") == (KNOWN.issue if verdict is Verdict.XFAIL else None)


def test_every_verdict_has_a_status() -> None:
    for verdict in Verdict:
        assert the_test(Result(test="t", verdict=verdict))["status"] in ("FAIL", "ERROR", "MISS", "PASS", "SKIP")


@pytest.mark.parametrize(("blames_kernel", "status"), [(True, "FAIL"), (False, "ERROR")])
def test_a_kernel_that_does_not_boot_fails_one_test(blames_kernel: bool, status: str) -> None:
    ended = RunEnd(kind=EndKind.NOT_BOOTED, reason="no answer", blames_kernel=blames_kernel)
    boot, test = submitted(Result(test="t", verdict=Verdict.NOTRUN), ended=ended)["tests"]
    assert (boot["path"], boot["status"], boot["log_excerpt"]) == ("boot", status, "no answer")
    assert test["status"] == "MISS"


def ids(document: dict[str, Any]) -> list[str]:
    return [each["id"] for kind in ("checkouts", "builds", "tests") for each in document[kind]]


def test_ids_depend_on_nothing_but_what_they_stand_for() -> None:
    one, two = Result(test="a", verdict=Verdict.PASS), Result(test="b", verdict=Verdict.PASS)
    checkout, build, first, second = ids(submitted(one, two))
    assert len({checkout, build, first, second}) == 4
    assert ids(submitted(dataclasses.replace(two, verdict=Verdict.FAIL), one)) == [checkout, build, second, first]
    assert ids(submitted(one, id="another"))[:2] == [checkout, build]
    assert ids(submitted(one, id="another"))[2] != first
    without = dataclasses.replace(KERNEL, patches=())
    assert ids(submitted(one, kernel=without))[0] != checkout
    assert submitted(one, kernel=without)["checkouts"][0]["patchset_hash"] == ""


@pytest.mark.parametrize(
    ("spec", "url", "branch"),
    [
        ("git:https://example.org/linux.git#for-next", "https://example.org/linux.git", "for-next"),
        ("git:https://me:token@example.org/linux.git#x", None, None),
        ("git:https://example.org/linux.git?private_token=x", None, None),
        ("git:/home/me/linux#x", None, None),
        ("/home/me/linux", None, None),
    ],
)
def test_only_a_public_repository_is_named(spec: str, url: str | None, branch: str | None) -> None:
    kernel = dataclasses.replace(KERNEL, source=SourceRecord(spec=spec, version="v7.3", checksum="0" * 40))
    (checkout,) = submitted(kernel=kernel)["checkouts"]
    assert (checkout.get("git_repository_url"), checkout.get("git_repository_branch")) == (url, branch)
    assert checkout.get("git_commit_hash") == ("0" * 40 if spec.startswith("git:") else None)
    assert "token" not in json.dumps(submitted(kernel=kernel))


def test_the_labs_own_business_stays_in_it() -> None:
    text = json.dumps(submitted(Result(test="t", verdict=Verdict.PASS, machine="boot-1")))
    assert "secret-host" not in text
    assert "/home/me" not in text


@pytest.mark.parametrize(
    ("test", "path"),
    [
        ("selftests/ftrace/test.d/00basic/basic1.tc[instance]", "kselftest.ftrace.test_d.00basic.basic1_tc_instance_"),
        ("selftests/livepatch/test-state.sh::system state", "kselftest.livepatch.test-state_sh.system_state"),
        ("testcases/regs/test_ops.py::test_x", "arm64_ftrace.regs.test_ops.test_x"),
        ("testcases/i/test_files.py::test_f[arch/arm64::x]", "arm64_ftrace.i.test_files.test_f_arch_arm64__x_"),
        ("boot", "boot"),
        ("a//b..c::", "a._.b__c._"),
        ("", "_"),
        ("\udcff\0/x\n" + "y" * 999, "__.x_" + "y" * 245),
    ],
)
def test_paths(test: str, path: str) -> None:
    assert path_of(test) == path
    assert PATH.fullmatch(path)


def test_whatever_a_target_wrote_can_be_submitted() -> None:
    hostile = "\udc80\0\x1b[2J </script> " + "z" * 40_000
    fault = Fault(kind=FaultKind.PANIC, title=hostile, lines=(hostile,))
    found = the_test(
        Result(test=hostile, verdict=Verdict.CRASH, reason=hostile, fault=fault, started=1e300, log=hostile)
    )
    assert len(found["log_excerpt"]) < 16384
    assert "start_time" not in found
    assert "\0" not in json.dumps(found, ensure_ascii=False)
    assert found["log_url"].isascii()


@pytest.mark.parametrize(
    ("name", "is_one"), [("my_lab2", True), ("", False), ("My", False), ("a-b", False), ("a\n", False)]
)
def test_origins(name: str, is_one: bool) -> None:
    assert is_origin(name) == is_one
