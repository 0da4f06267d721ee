"""The catalogue of the faults that tests inject: each is a mark on the test that injects it.

    @fault("the last event can not be written: no space left", where="disk", blame=Blame.INFRA,
           survives="every result before it; the documents are made")
    def test_...

`python -m tests.faults.catalogue` collects the tests and writes the catalogue to docs/faults.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/faults.md"
# What the collecting process is told: where to write the catalogue.
COLLECT_TO = "HARNESS_TEST_FAULTS_TO"
_COLLECTION_S = 300.0

PLACES = (
    "boot",
    "console",
    "power",
    "network",
    "disk",
    "memory",
    "cache",
    "clock",
    "killed",
    "power cut",
    "hostile target",
    "hostile input",
    "two users",
    "host",
    "lab",
    "kernel",
)


class Blame(StrEnum):
    """Who has to act."""

    USER = "user"  # exit code 2
    INFRA = "infrastructure"  # exit code 3
    KERNEL = "kernel"  # exit code 1
    NOBODY = "nobody"  # the harness copes: verdicts and exit code are those without the fault


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """One injected fault: `survives` is what must be there afterwards, `test` the node id of its test."""

    where: str
    injected: str
    blame: str
    survives: str
    test: str


def fault(injected: str, *, where: str, blame: Blame, survives: str) -> pytest.MarkDecorator:
    """Return the mark of a test (or of a pytest.param) that injects this fault and checks blame and survivors."""
    assert where in PLACES, f"{injected}: expected one of {', '.join(PLACES)}, found {where!r}"
    return pytest.mark.fault(injected=injected, where=where, blame=blame.value, survives=survives)


def faults_of(items: Sequence[pytest.Item]) -> Iterator[Fault]:
    """Yield the faults that collected tests inject."""
    for item in items:
        for mark in item.iter_markers("fault"):
            yield Fault(test=item.nodeid, **mark.kwargs)


def collected() -> list[Fault]:
    """Return the catalogue, sorted, by having pytest collect all tests in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "faults.json"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**os.environ, COLLECT_TO: str(file)},
            capture_output=True,
            text=True,
            timeout=_COLLECTION_S,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return sorted(Fault(**each) for each in json.loads(file.read_text()))


def write_json(items: Sequence[pytest.Item], file: Path) -> None:
    """Write the faults of collected tests for `collected`, which reads them."""
    file.write_text(json.dumps([asdict(each) for each in faults_of(items)]))


def one_each(faults: Sequence[Fault]) -> list[Fault]:
    """Return each fault once: several tests (or parameters) may inject the same one at the same place."""
    first: dict[tuple[str, str], Fault] = {}
    for each in faults:
        first.setdefault((each.where, each.injected), each)
    return list(first.values())


def document(faults: Sequence[Fault]) -> str:
    """Return docs/faults.md."""
    distinct = one_each(faults)
    blamed = Counter(each.blame for each in distinct)
    lines = [
        "# Faults that the tests inject",
        "",
        f"{len(distinct)} faults: "
        + ", ".join(f"{count} blamed on {blame}" for blame, count in sorted(blamed.items()))
        + ". Written by `python -m tests.faults.catalogue` from the marks of the tests; a test holds it up to date.",
        "",
        "Blame: *user* is exit code 2, *infrastructure* 3, *kernel* 1; *nobody*: the harness copes, with the verdicts"
        " and the exit code that it has without the fault.",
    ]
    for place in PLACES:
        here = [each for each in distinct if each.where == place]
        if here:
            lines += ["", f"## {place.capitalize()} ({len(here)})", "", "| injected | blame | what survives | test |"]
            lines += ["|---|---|---|---|", *map(_row, here)]
    return "\n".join(lines) + "\n"


def _row(each: Fault) -> str:
    # Without parameters: their ids may hold characters that a table does not.
    test = each.test.partition("[")[0]
    return f"| {each.injected} | {each.blame} | {each.survives} | `{test}` |".replace("\n", " ")


if __name__ == "__main__":
    DOCUMENT.write_text(document(collected()))
