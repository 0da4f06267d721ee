"""A hunt on real kernels: one mutant, the tests that its header names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import BUILD_LIMIT_S, harness

MUTANT = "parent-ip-is-own"


@pytest.mark.xdist_group("builds")
def test_a_mutant_is_caught_and_what_is_finished_is_not_done_again(build: Path, tmp_path: Path) -> None:
    """`build` first: it is the unpatched kernel, and the mutant compiles one file in the same workspace."""
    arguments = ("mutants", "--only", MUTANT, "--named", "--out", tmp_path / "hunt")
    done = harness(*arguments, cwd=tmp_path, limit=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "OK: 1 mutants: 1 caught"
    table = json.loads((tmp_path / "hunt/kill-table.json").read_text())
    caught = {catch["test"]: catch["verdict"] for catch in table["mutants"][0]["ours"]["catches"]}
    assert set(caught.values()) <= {"FAIL", "CRASH", "TIMEOUT"}
    assert any(test.startswith("testcases/function/test_calls.py::") for test in caught), caught
    assert MUTANT in (tmp_path / "hunt/kill-table.md").read_text()
    assert (tmp_path / "hunt" / MUTANT / "testcases-named/report.html").is_file()

    again = harness(*arguments, cwd=tmp_path)
    assert again.stdout == done.stdout
    assert "configure" not in again.stderr  # nothing is built
    assert "planned" not in again.stderr  # nothing is run


def test_a_mutant_that_does_not_exist(tmp_path: Path) -> None:
    done = harness("mutants", "--only", "no-such-thing", cwd=tmp_path)
    assert done.returncode == 2
    assert "--only: expected one of " in done.stderr
    assert "exception-boundary-reliable, " in done.stderr
