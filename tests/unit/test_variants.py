"""`bench/variants.py` and kconfigs/variants: what is run, and what a comparison of two runs says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from bench import variants
from harness.boards.inventory import read_inventory
from harness.cli.options import build_options
from harness.layout import KCONFIGS
from harness.parse.kconfig import parse_fragment

FRAGMENTS = sorted((KCONFIGS / "variants").glob("*.config"))


def test_each_fragment_can_be_run_by_its_name() -> None:
    assert {path.stem for path in FRAGMENTS} == {*variants.OPTIONS} - {"stock"}
    boards = [options[options.index("--board") + 1] for options in variants.OPTIONS.values() if "--board" in options]
    assert boards
    assert set(boards) <= set(read_inventory(None).entries)


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
def test_a_fragment_demands_and_says_what_it_is_for_and_what_it_costs(path: Path) -> None:
    text = path.read_text()
    fragment = parse_fragment(text, name=path.name)
    assert fragment.requests
    assert not any(request.if_available for request in fragment.requests)
    assert f"--kconfig variants/{path.stem}" in text
    assert "Costs: " in text
    assert "# for: " in text


def test_a_fragment_of_ours_is_named_without_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*names: str) -> list[str]:
        taken: dict[str, Any] = {}
        verb = click.command()(build_options(lambda **options: taken.update(options)))
        verb.main([word for name in names for word in ("--kconfig", name)], standalone_mode=False)
        return [str(path) for path in taken["kconfigs"]]

    monkeypatch.chdir(tmp_path)
    ours = str(KCONFIGS / "variants/size.config")
    assert given("variants/size", "mine.config") == [ours, "mine.config"]
    assert given("variants/nothing", "../kconfigs/base", ours) == ["variants/nothing", "../kconfigs/base", ours]
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants/size").write_text("CONFIG_X=y\n")
    assert given("variants/size") == ["variants/size"]


def test_the_thirty_selftests_are_chosen() -> None:
    def chosen(rest: str) -> bool:
        return variants.is_chosen(f"selftests/{rest}")

    assert chosen("ftrace/test.d/ftrace/fgraph-filter.tc")
    assert chosen("livepatch/test-livepatch::module function patching (livepatch first)")
    assert not chosen("ftrace/test.d/ftrace/func-filter-stacktrace.tc[instance]")
    assert not chosen("ftrace/test.d/ftrace/fgraph-multi-filter.tc")
    assert not chosen("livepatch/test-livepatch::atomic replace livepatch")
    assert not chosen("user_events/dyn_test::user.any")
    assert variants.is_chosen("testcases/regs/test_ops.py::test_pt_regs")


def test_what_differs_is_told_by_reason(tmp_path: Path) -> None:
    def run(name: str, **verdicts: tuple[str, str]) -> Path:
        results = [
            {"test": f"testcases/{test}", "verdict": verdict, "reason": reason}
            for test, (verdict, reason) in verdicts.items()
        ]
        document = {"properties": {"kernel": "7.3.4", "compiler": "gcc"}, "seconds": 1.0, "results": results}
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(document))
        return tmp_path / name

    lacks = ("SKIP", "this kernel has no CONFIG_X: needs Y")
    stock = variants.read(run("stock", a=("PASS", ""), b=("PASS", ""), c=("PASS", ""), d=("SKIP", "no regs")))
    other = variants.read(run("size", a=lacks, b=lacks, c=("CRASH", "pc 0xffff"), d=("SKIP", "no regs")))
    lines = list(variants.compared(stock, [other]))
    assert "| stock | 7.3.4, gcc | 3 | 1 | 0 | 0 | 0 | 0 | 0 |" in lines
    assert "| size | 7.3.4, gcc | 0 | 3 | 0 | 0 | 1 | 0 | 3 |" in lines
    assert lines[-2:] == [
        "- PASS → SKIP: 2 tests, such as testcases/a: this kernel has no CONFIG_X: needs Y",
        "- PASS → CRASH: testcases/c: pc 0x…",
    ]
