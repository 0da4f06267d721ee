"""The documents count testcases and mutants as they are."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from harness.layout import MUTANTS
from tests.command import harness
from tests.unit.test_docs_paths import ROOT

TESTCASES = (ROOT / "testcases/README.md").read_text()
KILL_TABLE = (ROOT / "docs/mutants.md").read_text()


def test_every_directory_of_testcases_has_as_many_tests_as_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(
        json.dumps({"key": "k", "release": "7.3.4", "without": {}, "test_modules_left_out": {}})
    )
    (tmp_path / ".config").write_text("")
    listed = harness("run", "--build", str(tmp_path), "--suite", "testcases", "--list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    found = Counter(line.split("/")[1] for line in listed.stdout.splitlines())
    table = {name: int(tests) for name, tests in re.findall(r"^\| (\w+) \| (\d+) \| ", TESTCASES, re.MULTILINE)}
    assert table == found
    assert re.findall(r"^Together (\d+) tests;", TESTCASES, re.MULTILINE) == [str(found.total())]


def test_every_mutant_is_in_the_kill_table_or_named_as_missing() -> None:
    mutants = {path.stem for path in MUTANTS.glob("*.patch")}
    tested = set(re.findall(r"^\| ([\w-]+) \| [^|]*::", KILL_TABLE, re.MULTILINE))
    [paragraph] = [text for text in KILL_TABLE.split("\n\n") if re.match(r"There are \d+ mutants", text)]
    said = re.match(r"There are (\d+) mutants; the table has the (\d+) ", paragraph)
    assert said
    assert [int(number) for number in said.groups()] == [len(mutants), len(tested)]
    assert mutants.intersection(re.findall(r"[\w-]+", paragraph)) == mutants - tested
