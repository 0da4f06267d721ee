"""Plans for `harness nightly`: what cells they make, what is refused, and what the schema for editors says."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

import jsonschema
import pytest

from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.errors import UserError
from harness.layout import PROJECT
from harness.model.night import Morning, Night, Plan, Settings, Slot
from harness.model.prebuilt import names_prebuilt
from harness.parse import document
from harness.parse.plan import parse_plan, plan_schema

COMMITTED = PROJECT / "docs/nightly.schema.json"
EXAMPLE = PROJECT / "docs/nightly.yaml"
LEAST = "kernels: {a: {kernel: 7.3.4}}\nboards: [b]\n"
FULL = """
budget: 7h30m
kernels:
  stable: {kernel: 7.3.4}
  next: {kernel: "git:https://example.org/linux.git#main", patches: [series.mbox]}
toolchains: [gcc, clang-16]
configurations: {default: [], size: [variants/size]}
boards: [qemu-virt, rpi4]
suites: {ours: {suites: [testcases]}, graph: {suites: [selftests/ftrace], keyword: fgraph}}
defaults: {priority: 1}
exclude: [{kernel: next, toolchain: clang-16}, {board: rpi4}]
include: [{board: rpi4, kernel: stable, suites: [ours], configuration: default}]
overrides: [{kernel: next, repetitions: 2, priority: 5}, {kernel: next, suites: graph, priority: 7, workers: 4}]
"""


def plan(text: str) -> Plan:
    return parse_plan(text, name="p", place="p.yaml")


def test_the_least_plan_runs_all_suites_on_one_board() -> None:
    [(slot, settings)] = plan(LEAST).slots().items()
    assert str(slot) == "a/gcc/default/b/all"
    assert settings == Settings()
    assert plan(LEAST).budget is None


def test_cells_are_the_product_without_what_is_excluded() -> None:
    made = plan(FULL)
    names = [str(slot) for slot in made.slots()]
    assert made.budget == 27000
    assert len(names) == len(set(names)) == 8 + 2 + 8  # on qemu-virt stable, on rpi4 stable, next twice each
    assert [name for name in names if "rpi4" in name] == [
        "stable/gcc/default/rpi4/ours",
        "stable/clang-16/default/rpi4/ours",
    ]
    assert not [name for name in names if name.startswith("next/clang-16")]


def test_the_later_override_counts_and_only_where_it_says_something() -> None:
    slots = {str(slot): settings for slot, settings in plan(FULL).slots().items()}
    assert slots["stable/gcc/size/qemu-virt/graph"] == Settings(priority=1)
    assert slots["next/gcc/size/qemu-virt/ours/#2"] == Settings(repetitions=2, priority=5)
    assert slots["next/gcc/size/qemu-virt/graph"] == Settings(repetitions=2, priority=7, workers=4)


def test_a_kernel_that_others_built_comes_once_for_all_toolchains_and_configurations() -> None:
    text = FULL.replace("stable: {", 'trixie: {kernel: "debian-image:linux-image-arm64@trixie"}\n  stable: {', 1)
    made = plan(
        text.replace("overrides: [", "overrides: [{kernel: trixie, priority: 9}, {toolchain: gcc, workers: 8}, ")
    )
    slots = {str(slot): settings for slot, settings in made.slots().items() if slot.kernel == "trixie"}
    assert slots == {
        "trixie/-/-/qemu-virt/ours": Settings(priority=9),
        "trixie/-/-/qemu-virt/graph": Settings(priority=9),
    }
    assert {slot.is_built for slot in made.slots() if slot.kernel == "trixie"} == {True}
    assert len(made.slots()) == 18 + 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian-image:linux-image-arm64@trixie", True),
        (" prebuilt:out/dir", True),
        ("linux.deb", True),
        ("~/linux.rpm", True),
        ("https://example.org/linux.tar.xz#sha256=" + 64 * "0", True),
        ("prebuilt:https://example.org/linux.tar.xz", True),
        ("https://example.org/linux.tar.xz", False),
        ("debian:@trixie", False),
        ("7.3.4", False),
        ("linux.tar.xz", False),
        ("git:https://example.org/linux.deb.git#main", False),
    ],
)
def test_a_plan_tells_built_kernels_by_their_names(text: str, expected: bool) -> None:
    assert names_prebuilt(text) is expected
    with contextlib.suppress(UserError):  # of a file that is not there
        assert (parse_prebuilt_spec(text) is not None) is expected


def test_slots_have_directories_of_their_own_whatever_their_names() -> None:
    long = "x" * 100
    slots = [
        Slot(kernel=kernel, toolchain=toolchain, configuration="c", board="b", suites=long, repetition=number)
        for kernel in ("a+b", "a~b", "a@b", long)
        for toolchain in ("gcc", "/opt/gcc", "/usr/gcc-")
        for number in (1, 2)
    ]
    names = {slot.directory for slot in slots}
    assert len(names) == len(slots)
    assert all("/" not in name and len(name) < 200 for name in names)


def test_directories_of_a_hundred_thousand_repetitions_are_their_own() -> None:
    """Of which the names say nothing: only the hash tells them apart."""
    names = {
        Slot(kernel="k", toolchain="gcc", configuration="c", board="b", suites="s", repetition=number).directory[-16:]
        for number in range(100_000)
    }
    assert len(names) == 100_000
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kernel: 7.3.4", "kernel: 7.3.5"),
        ("7.3.4}", "7.3.4, patches: [x]}"),
        ("default: []", "default: [variants/size]"),
        ("[testcases]", "[selftests]"),
        ("[testcases]", "[testcases], keyword: x"),
        ("priority: 1", "timeout_factor: 2.0"),
        ("priority: 1", "workers: 2"),
    ],
)
def test_what_a_plan_asks_of_a_slot_is_told_from_anything_else_that_it_may_ask(old: str, new: str) -> None:
    before, after = plan(FULL), plan(FULL.replace(old, new))
    slot, settings = next(iter(before.slots().items()))
    assert before.asked(slot, settings) != after.asked(slot, after.slots()[slot])
    more = plan(FULL.replace("priority: 1", "priority: 2, repetitions: 3").replace("budget: 7h30m", "budget: 9h"))
    assert before.asked(slot, settings) == more.asked(slot, more.slots()[slot])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "p.yaml: expected a mapping with the keys `kernels` and `boards`, found an empty document"),
        ("[]", "p.yaml: document: expected a mapping, found a list"),
        ("kernels: {}\nboards: [b]", "p.yaml: kernels: expected at least one entry, found a dict"),
        (
            LEAST.replace("7.3.4", "6.10"),
            "p.yaml: kernels.a.kernel: expected a text: a version with a single dot has to be in quotes, found 6.1",
        ),
        ("boards: [b]", "p.yaml: kernels: expected this key, found none"),
        (LEAST + "kernel: x", "p.yaml: kernel: unknown key; remove it or correct its spelling"),
        (LEAST.replace("kernel: 7", "kernle: 7"), "p.yaml: kernels.a.kernel: expected this key, found none"),
        (LEAST.replace("a:", "../a:"), "p.yaml: kernels: expected names of 1 to 100 letters, "),
        (LEAST.replace("[b]", "[b, b]"), "p.yaml: boards: expected each name once, found 'b' more than once"),
        (LEAST.replace("[b]", "[]"), "p.yaml: boards: expected at least one entry, found a list"),
        (LEAST + "toolchains: [gcc, gcc]", "p.yaml: toolchains: expected each name once, found 'gcc' more than once"),
        (LEAST + "toolchains: [-Wall]", "p.yaml: toolchains.0: expected a toolchain such as gcc-11, "),
        (LEAST + "budget: 8", "p.yaml: budget: expected a string, found 8"),
        (LEAST + "budget: 8 hours", "p.yaml: budget: expected a time such as 8h, 90m or 7h30m, found '8 hours'"),
        (LEAST + "budget: 0h", "p.yaml: budget: expected a time such as 8h, 90m or 7h30m, found '0h'"),
        (LEAST + "defaults: {repetitions: 0}", "p.yaml: defaults.repetitions: expected greater than or equal to 1"),
        (LEAST + "suites: {x: {suites: testcases}}", "p.yaml: suites.x.suites: expected a list, found 'testcases'"),
        (
            LEAST + "exclude: [{}]",
            "p.yaml: exclude.0: expected some of kernel, toolchain, configuration, board, suites",
        ),
        (LEAST + "exclude: [{board: c}]", "p.yaml: exclude.0.board: expected one of b, found 'c'"),
        (LEAST + "include: [{kernel: [a, d]}]", "p.yaml: include.0.kernel: expected one of a, found 'd'"),
        (LEAST + "overrides: [{kernel: {}}]", "p.yaml: overrides.0.kernel: expected a list, found a dict"),
        (LEAST + "overrides: [{kernel: []}]", "p.yaml: overrides.0.kernel: expected at least one entry, found a list"),
        (LEAST + "exclude: [{priority: 3}]", "p.yaml: exclude.0.priority: unknown key"),
        (LEAST + "exclude: [{kernel: a}]", "p.yaml: exclude: expected some cells to be left, found that none is"),
        (
            LEAST + 'suites: {x: {keyword: "a\\0b"}}',
            "p.yaml: suites.x.keyword: expected printable characters, found 'a\\x00b'",
        ),
        (LEAST + "version: 2", "p.yaml: version: expected 1, found 2"),
        ("kernels: {a: [", "p.yaml:1:15: expected a YAML document, found a syntax error"),
    ],
)
def test_wrong_plans_are_refused_with_place_expectation_and_finding(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(text)
    assert caught.value.message.startswith(told)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        plan(LEAST + "exclude: [{board: c}]\ninclude: [{suites: d}]")
    assert caught.value.details == ("p.yaml: include.0.suites: expected one of all, found 'd'",)


def test_a_plan_with_too_many_cells_is_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "slots", lambda _: pytest.fail("they were made"))
    monkeypatch.setenv("HARNESS_LIMIT_PLAN_CELLS", "20")
    with pytest.raises(UserError, match=r"p.yaml: expected at most 20 cells \(a plan.*\), found 21; .*PLAN_CELLS"):
        plan(LEAST + "overrides: [{repetitions: 21}]")


def test_cells_are_counted_one_by_one_if_few_of_them_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LIMIT_PLAN_CELLS", "30")
    text = "kernels: {a: {kernel: 7.3.4}, b: {kernel: 7.3.4}}\nboards: [b]\noverrides: [{kernel: a, repetitions: 20}]"
    assert len(plan(text).slots()) == 21


def test_a_plan_with_too_many_rules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LIMIT_PLAN_RULES", "2")
    with pytest.raises(UserError, match=r"p.yaml: expected at most 2 entries \(exclude, .*\), found 3; .*PLAN_RULES"):
        plan(LEAST + "exclude: [{board: c}]\ninclude: [{board: c}]\noverrides: [{board: c}]")


def test_a_long_list_of_names_is_read_at_once_and_few_mistakes_are_told() -> None:
    """Each name once, however many there are; comparing all with all would take hours."""
    names = [f"b{number}" for number in range(20_000)]
    with pytest.raises(UserError) as caught:
        plan(LEAST.replace("[b]", f"[{', '.join(2 * names)}]"))
    assert caught.value.message == "p.yaml: boards: expected each name once, found 'b0' more than once"
    assert len(caught.value.details) == 19


# --- for editors ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    made = json.loads(plan_schema())
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def fits(validator: jsonschema.Draft7Validator, text: str) -> bool:
    return validator.is_valid(document.load(text, place="f"))


def test_the_committed_schema_is_the_one_that_is_made() -> None:
    told = "docs/nightly.schema.json is out of date: bin/harness nightly --schema > docs/nightly.schema.json"
    assert json.loads(COMMITTED.read_text()) == json.loads(plan_schema()), told


def test_the_example_fits_and_names_it(validator: jsonschema.Draft7Validator) -> None:
    text = EXAMPLE.read_text()
    assert fits(validator, text)
    assert plan(text).slots()
    assert text.partition("\n")[0] == f"# yaml-language-server: $schema={os.path.relpath(COMMITTED, EXAMPLE.parent)}"


@pytest.mark.parametrize("text", [LEAST, FULL], ids=["least", "full"])
def test_plans_fit_the_schema(text: str, validator: jsonschema.Draft7Validator) -> None:
    assert fits(validator, text)


@pytest.mark.parametrize(
    "more",
    ["kernel: x", "exclude: [{priority: 3}]", "defaults: {repetitions: 0}", "toolchains: []", "suites: {x: {suite: y}}",
     "configurations: {'../x': []}", "version: 2", "overrides: [{kernel: 3}]", "budget: 8"],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_both(more: str, validator: jsonschema.Draft7Validator) -> None:
    with pytest.raises(UserError):
        plan(LEAST + more)
    assert not fits(validator, LEAST + more)


def test_every_key_has_a_description(validator: jsonschema.Draft7Validator) -> None:
    def missing(node: Any, where: str) -> list[str]:
        found: list[str] = []
        for key, value in node.get("properties", {}).items():
            found += [] if "description" in value else [f"{where}.{key}"]
        return found + [name for key, value in node.get("$defs", {}).items() for name in missing(value, key)]

    schema: Any = validator.schema
    assert missing(schema, "plan") == []


def test_a_night_without_cells_is_none_to_complain_about() -> None:
    assert Morning(night=Night(id="n"), rows=()).exit_code == 0
