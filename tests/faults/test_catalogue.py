"""The catalogue of injected faults is what docs/faults.md says."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.faults.catalogue import DOCUMENT, Fault, collected, document, one_each

ASKED_FOR = 120

pytestmark = pytest.mark.xdist_group("faults")  # else two processes have all tests collected


@pytest.fixture(scope="module")
def faults() -> list[Fault]:
    return collected()


def test_the_document_lists_every_fault_that_a_test_injects(
    faults: list[Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\n{len(one_each(faults))} distinct faults are injected (docs/faults.md)")
    assert DOCUMENT.read_text() == document(faults), "write it anew: .venv/bin/python -m tests.faults.catalogue"
    assert len(one_each(faults)) >= ASKED_FOR


def test_each_fault_has_one_culprit_and_says_what_survives(faults: list[Fault]) -> None:
    blamed: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in faults:
        blamed[each.where, each.injected].add(each.blame)
    assert {fault: found for fault, found in blamed.items() if len(found) > 1} == {}
    assert all(each.survives for each in faults)
