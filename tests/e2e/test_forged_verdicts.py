"""Tests that print verdicts of their own, among upstream's on a booted kernel: none of them is believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.boards.inventory import read_inventory
from harness.build.finished import load_build
from harness.campaign.machine import media_for
from harness.display import Display
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.model.suite import FTRACE, LIVEPATCH, USER_EVENTS
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.suites.batch import Batch
from harness.run.suites.ftrace import FtraceBatch
from harness.run.suites.livepatch import batches_of
from harness.run.suites.programs import ProgramBatch
from harness.run.units import Isolation
from harness.run.warmup import warm_up
from harness.target.base import Target
from harness.target.methods.snapshot import Snapshots
from tests.faults.catalogue import Blame, fault

# The trace is the kernel's, the rest the test's; what fails is last.
FORGED_TC = r"""#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# description: says that it passes
printf 'it passes\t[PASS]' > trace_marker
cat trace
printf '\t[PASS]\n'
echo "ok $CASENO says that it passes"
echo "@@0123456789abcdef end: 0"
echo "execute: $1"
read -r stolen <&9 && echo "$stolen end: 0"
eval_result 0
harness_mark "end: 0"
printf 'no line end; ok %s' $CASENO
false
"""
# One expectation is what the kernel says, the other is not.
FORGED_SH = """#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
. $(dirname $0)/functions.sh
setup_config
start_test "good"
check_result ""
start_test "forged"
echo ok
echo "TEST: last ... ok"
echo "@@0123456789abcdef end: ok"
echo -n ok
log "livepatch: what nobody expects"
check_result ""
start_test "last"
check_result ""
"""
# In the place of a compiled program: it prints what a test in one could.
FORGED_PROGRAM = """#!/bin/sh
echo "TAP version 13"
echo "1..1"
echo "#  RUN           user.flags ..."
echo "ok 1 user.flags"
echo "#  RUN           user.enablement ..."
echo "ok 2 user.enablement"
echo "# abi_test.c:1:flags:Expected 1 (1) == 2 (2)"
echo "not ok 1 user.flags"
exit 1
"""
FORGED_TEST = f"{FTRACE.name}/test.d/00basic/zz_forged.tc"


@pytest.fixture(scope="module")
def found(build: Path) -> Build:
    return load_build(build)


@pytest.fixture(scope="module")
def machine(found: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose snapshot has the forged tests and a waiting ftracetest."""
    directory = tmp_path_factory.mktemp("forged")
    (directory / "snapshot").mkdir()
    board: BoardSpec = read_inventory(None).board("qemu-virt")
    with Display() as display:
        media = media_for(board, found, display)
    snapshots = Snapshots(board, media, directory / "snapshot", logs=directory)
    recorder = Recorder.of(directory)
    machine = Machine(_boot_nothing, limits=board.limits, recorder=recorder, snapshots=snapshots)
    try:
        target = machine.target
        target.put(FORGED_TC.encode(), f"/payload/{FORGED_TEST}")
        target.put(FORGED_SH.encode(), f"/payload/{LIVEPATCH.name}/test-forged.sh", mode=0o755)
        assert target.run(f"rm /payload/{USER_EVENTS.name}/abi_test").ok
        target.put(FORGED_PROGRAM.encode(), f"/payload/{USER_EVENTS.name}/abi_test", mode=0o755)
        assert warm_up(machine, found, with_ftracetest=True) == ""
        assert machine.keep() == ""
        yield machine
    finally:
        machine.close()


def _boot_nothing() -> tuple[Target, float]:
    raise AssertionError("the snapshots boot")


def _forging(what: str) -> pytest.MarkDecorator:
    return fault(
        f"{what}, on a booted kernel",
        where="hostile target",
        blame=Blame.KERNEL,
        survives="FAIL for that test, the verdicts of its neighbours, and what it printed in its log",
    )


def _verdicts(batch: Batch, machine: Machine, *tests: str) -> list[Verdict]:
    batch.choose(tests)
    return [batch.outcome(test, machine).verdict for test in tests]


@pytest.mark.xdist_group("snapshot")
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "started"])
@_forging("a .tc file prints all forms of a passing verdict, some of them through the trace buffer")
def test_an_ftrace_test_can_not_pass_itself(machine: Machine, found: Build, waits: bool) -> None:
    upstream = found.selftests / FTRACE.directory / "ftracetest"
    good = f"{FTRACE.name}/test.d/00basic/basic1.tc"
    last = f"{FTRACE.name}/test.d/00basic/snapshot.tc"
    machine.begin(good, fresh=waits)  # a second batch on the same machine finds no ftracetest waiting
    batch = FtraceBatch(upstream)
    batch.choose([good, FORGED_TEST, last])
    outcomes = [batch.outcome(test, machine) for test in (good, FORGED_TEST, last)]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    for forged in ("it passes\t[PASS]", "ok 2 says that it passes", "@@0123456789abcdef end: 0", "not ok 2 says"):
        assert forged in outcomes[1].log
    assert "says that it passes" not in outcomes[2].log


@pytest.mark.xdist_group("snapshot")
@_forging("a livepatch TEST prints ok and the verdict of the next TEST")
def test_a_livepatch_test_can_not_pass_itself(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "test-forged.sh"
    script.write_text(FORGED_SH)
    [script_batch] = batches_of(script, Isolation.FILE)
    tests = [f"{LIVEPATCH.name}/test-forged::{name}" for name in ("good", "forged", "last")]
    machine.begin(tests[0], fresh=True)
    assert _verdicts(script_batch.batch, machine, *tests) == [Verdict.PASS, Verdict.FAIL, Verdict.NOTRUN]


@pytest.mark.xdist_group("snapshot")
@_forging("a test in a program prints that it passed, and the beginning and verdict of another test")
def test_a_test_in_a_program_can_not_pass_itself(machine: Machine) -> None:
    test = f"{USER_EVENTS.name}/abi_test::user.flags"
    machine.begin(test, fresh=True)
    batch = ProgramBatch(USER_EVENTS, "abi_test", selects=True)
    assert _verdicts(batch, machine, test) == [Verdict.FAIL]
