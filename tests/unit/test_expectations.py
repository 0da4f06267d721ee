"""Expectations files: what they may say, what it means, and what is told of one that is malformed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.layout import EXPECTATIONS, PROJECT
from harness.model.known import Compiler, KnownOutcome, Versions
from harness.model.result import Verdict
from harness.parse.expectations import parse_expectations
from harness.run.expectations import load_known

FULL = """\
expectations:
  - test: testcases/test_a.py::test_b
    verdict: [CRASH, FAIL, PASS]
    fault: "Oops - BTI in   klp_entry"
    message: ["*poll exits", "second*"]
    reason: this
      and that
    kernel: 7.0..
    board: [rpi*, qemu-virt]
    toolchain: [gcc 12..13, clang]
    config: [CONFIG_KASAN=n, CONFIG_LIVEPATCH=y, CONFIG_NR_CPUS=16, CONFIG_X is not set]
    issue: https://bugs.example.org/show?id=1
    until: 2026-12-31
"""


def _one(**keys: object) -> KnownOutcome:
    entry = {"test": "t", "verdict": "FAIL", "reason": "r", **keys}
    lines = "".join(f"    {key}: {value}\n" for key, value in entry.items() if value is not None)
    (known,) = parse_expectations(f"expectations:\n  -\n{lines}", place="e")
    return known


def test_everything_that_an_entry_may_say() -> None:
    (known,) = parse_expectations(FULL, place="mine.yaml")
    told = known.expectation
    assert told.place == "mine.yaml: expectations.0"
    assert (told.test, told.reason) == ("testcases/test_a.py::test_b", "this and that")
    assert told.verdicts == (Verdict.CRASH, Verdict.FAIL, Verdict.PASS)
    assert (told.faults, told.messages) == (("Oops - BTI in klp_entry",), ("*poll exits", "second*"))
    assert (told.issue, told.until) == ("https://bugs.example.org/show?id=1", "2026-12-31")
    assert known.until == date(2026, 12, 31)
    assert known.scope.kernel == Versions(lowest=(7, 0))
    assert known.scope.boards == ("rpi*", "qemu-virt")
    compilers = (Compiler(name="gcc", versions=Versions(lowest=(12,), highest=(13,))), Compiler(name="clang"))
    assert known.scope.compilers == compilers
    assert known.scope.config == {"KASAN": "n", "LIVEPATCH": "y", "NR_CPUS": "16", "X": "n"}


@pytest.mark.parametrize(
    ("text", "lowest", "highest"),
    [
        ("7.3", (7, 3), (7, 3)),
        ("6.10", (6, 10), (6, 10)),  # to YAML a number, and the same one as 6.1
        ("6.1..6.12", (6, 1), (6, 12)),
        ("..6.6", (), (6, 6)),
        ("7.0..", (7, 0), ()),
        ("6.12.30..6.12", (6, 12, 30), (6, 12)),
    ],
)
def test_kernels(text: str, lowest: tuple[int, ...], highest: tuple[int, ...]) -> None:
    assert _one(kernel=text).scope.kernel == Versions(lowest=lowest, highest=highest)


def test_until_a_kernel_version() -> None:
    assert _one(until="6.10").until == Versions(highest=(6, 10))


@pytest.mark.parametrize("text", ["", "# nothing yet", "expectations:", "expectations: []"])
def test_nothing_is_known(text: str) -> None:
    assert parse_expectations(text, place="e") == ()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"verdict": "BROKEN"}, r"expectations\.0\.verdict: expected some of CRASH, .*, found 'BROKEN'"),
        ({"verdict": "[]"}, r"verdict: expected at least one verdict, found none"),
        ({"verdict": None}, r"verdict: expected this key, found none"),
        ({"verdict": "{FAIL: 1}"}, r"verdict: expected a text or a list of texts, found a mapping"),
        ({"test": None}, r"test: expected this key"),
        ({"test": "''"}, r"test: expected a text, found none"),
        ({"test": "[a, b]"}, r"test: expected a string, found a list"),
        ({"reason": None}, r"reason: expected this key"),
        ({"reason": "' '"}, r"reason: expected a text, found none"),
        ({"faults": "x"}, r"faults: unknown key"),
        ({"verdict": "[FAIL, CRASH]"}, r"fault: expected a pattern of the fault, because CRASH is among the verdicts"),
        ({"verdict": "CRASH", "fault": "[]"}, r"fault: expected a pattern of the fault"),
        ({"verdict": "CRASH", "fault": "''"}, r"fault: expected a text or a list of texts, found an empty one"),
        ({"verdict": "CRASH", "fault": "[[a]]"}, r"fault: expected a text or a list of texts, found a list"),
        ({"fault": "x"}, r"fault: expected CRASH among the verdicts, because only a crash has a fault"),
        ({"verdict": "[CRASH, PASS]", "fault": "f", "message": "m"}, r"message: expected a verdict that has a message"),
        ({"kernel": "new"}, r"kernel: expected a version or a range as 6\.1\.\.6\.12, found 'new'"),
        ({"kernel": "'..'"}, r"kernel: expected a version or a range"),
        ({"kernel": "6.12..6.1"}, r"kernel: expected the older version first, found '6\.12\.\.6\.1'"),
        ({"board": "{a: b}"}, r"board: expected a text or a list of texts, found a mapping"),
        ({"toolchain": "gcc 12 13"}, r"toolchain: expected a name and a version or range, as gcc 12\.\.13"),
        ({"toolchain": "gcc new"}, r"toolchain: expected a version or a range .*'new'"),
        ({"config": "LIVEPATCH"}, r"config:1: expected CONFIG_<NAME>=.*found 'LIVEPATCH'"),
        ({"config": "[CONFIG_A=y, CONFIG_B=maybe]"}, r"config:2: CONFIG_B: expected y, m, n, .*found 'maybe'"),
        ({"config": "[CONFIG_A=y, CONFIG_A=n]"}, r"config:2: CONFIG_A: expected one value"),
        ({"config": "[CONFIG_A=y, '# a remark']"}, r"config: expected CONFIG_X=y, .*each once"),
        ({"issue": "PR 12"}, r"issue: expected a URL .*, found 'PR 12'"),
        ({"issue": "javascript:alert(1)"}, r"issue: expected a URL"),
        ({"issue": "https://"}, r"issue: expected a URL"),
        ({"issue": "https://bugs.example.org/a b"}, r"issue: expected a URL"),
        ({"issue": "https://[bugs/1"}, r"issue: expected a URL"),
        ({"until": "2026-13-01"}, r"until: expected a day as 2026-12-31 .*, found a day that is in no calendar"),
        ({"until": "soon"}, r"until: expected a day as 2026-12-31 or a kernel version as 7\.4, found 'soon'"),
        ({"until": "7"}, r"until: expected a day"),
        ({"until": "..7.4"}, r"until: expected a day"),
    ],
)
def test_malformed_entries(keys: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=rf"^e: expectations\.0\.(?:{told})|^e: {told}") as caught:
        _one(**keys)
    assert caught.value.exit_code == 2
    assert caught.value.details == ()


def test_a_key_that_comes_twice_hides_nothing() -> None:
    with pytest.raises(UserError, match=r"e:5:5: expected a YAML document, .* a second 'fault'"):
        parse_expectations(
            "expectations:\n  - test: t\n    verdict: CRASH\n    fault: a\n    fault: b\n    reason: r\n", place="e"
        )


def test_the_second_entry_is_named() -> None:
    with pytest.raises(UserError, match=r"^e: expectations\.1\.verdict: expected some of"):
        parse_expectations(
            "expectations: [{test: t, verdict: FAIL, reason: r}, {test: t, verdict: no, reason: r}]", place="e"
        )


def test_files_are_read_in_their_order(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(f"expectations: [{{test: t, verdict: FAIL, reason: {name}}}]")
    known = load_known([tmp_path / "two.yaml", tmp_path / "one.yaml"])
    assert [each.expectation.reason for each in known] == ["two.yaml", "one.yaml"]
    assert known[1].expectation.place == f"{tmp_path}/one.yaml: expectations.0"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "No such file or directory"), (b"\xff\xfe", "it is not UTF-8")], ids=["none", "bytes"]
)
def test_a_file_that_can_not_be_read(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"mine.yaml: expected a file of known outcomes, .*: {told}"):
        load_known([path])


def test_without_a_file_the_projects_own_is_read_and_names_tests_that_there_are() -> None:
    known = load_known([])
    assert known
    for each in known:
        told = each.expectation
        assert told.place.startswith(f"{EXPECTATIONS.relative_to(PROJECT)}: ")
        file, _, function = told.test.partition("::")
        if file.startswith("testcases/"):
            assert f"def {function.partition('*')[0].partition('[')[0]}" in (PROJECT / file).read_text()
