"""bench/linear.py measures every parser; here each of its cases runs on a small input."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bench import linear
from bench.linear import CASES, Case
from harness.errors import UserError

PARSE = Path(__file__).parents[2] / "harness/parse"
# They read what harnesses wrote, or one value or name that another parser found.
OF_OTHERS = {
    "bisect_state", "board_shapes", "boards", "boards_schema", "boot_shapes", "code", "comparison", "diff_names",
    "entry_records", "fields", "flavour", "kconfig_deps", "kconfig_reach", "known_entry", "mail", "manifest",
    "module_summary", "night_records", "outcomes", "plan", "plan_shapes", "records", "shape_types",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_runs(case: Case) -> None:
    with contextlib.suppress(UserError):
        case.run(case.text(300))


def test_every_parser_has_a_case() -> None:
    source = Path(linear.__file__).read_text()
    parsers = {path.stem for path in PARSE.glob("*.py")} - {"__init__"} - OF_OTHERS
    assert not {name for name in parsers if name not in source}


def test_ratios_are_of_what_was_run() -> None:
    """Of a clock that counts characters, squared."""
    case = Case("square", lambda text: None, "x")
    spent = [0.0]

    def seconds(_: Case, text: str) -> float:
        spent[0] += len(text)
        return float(len(text)) ** 2

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(linear, "seconds", seconds)
        size, first, doubled = linear.ratio(case, runs=3, enough=1e8)
    assert size == 1 << 14
    assert first == pytest.approx(size**2, rel=0.01)
    assert doubled == pytest.approx(4, rel=0.01)
