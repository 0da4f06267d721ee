"""Era fixes: which trees need them, what they change, and that this is on record."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build import era
from harness.build.era import ERA_FIXES, Ask, Edit, fingerprint, fixes_for
from harness.build.keys import kernel_key
from harness.build.patches import applied_fixes, apply_series
from harness.campaign.kernel import _reproduce
from harness.campaign.request import BuildOptions
from harness.errors import UserError
from harness.model.kernel import KernelSpec, Patch, Source, SourceKind, SourceSpec, Toolchain
from harness.model.record import BuildRecord, KernelRecord, RunRecord
from harness.parse.fields import Fields
from harness.parse.records import (
    build_record_from_json,
    build_record_to_json,
    run_record_from_fields,
    run_record_to_data,
)
from harness.report.text import flatten
from tests.unit.numbered import patch

LEXER = "scripts/dtc/dtc-lexer.l"
EDITS = [fix for fix in ERA_FIXES if isinstance(fix, Edit)]
OLD = {
    LEXER: '#include "dtc-parser.tab.h"\n\nYYLTYPE yylloc;\nextern bool treesource_error;\n',
    "Makefile": "VERSION = 5\nifdef CONFIG_CC_OPTIMIZE_FOR_SIZE\nKBUILD_CFLAGS\t+= -Os\nelse\n"
    "KBUILD_CFLAGS\t+= -O0 $(call cc-disable-warning,maybe-uninitialized,)\nKBUILD_CFLAGS   += -O0\nendif\n",
}
FIXED = {
    LEXER: OLD[LEXER].replace("YYLTYPE yylloc;\n", ""),
    "Makefile": OLD["Makefile"].replace("   += -O0\n", "   += -O2\n"),
}


def spec(version: str, *, era_fixes: bool = True) -> KernelSpec:
    source = SourceSpec(kind=SourceKind.DIRECTORY, text="linux")
    return KernelSpec(
        source=Source(spec=source, identity="1", path=Path("linux"), version=version, checksum=""),
        toolchain=Toolchain(name="gcc", command="gcc", version="12.2.0", make_args=(), patchable=True),
        era_fixes=era_fixes,
    )


def names(fixes: tuple[Edit | Ask, ...]) -> list[str]:
    return [fix.name for fix in fixes]


class Tree:
    """A source tree and the state of its series."""

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        self.top, self.state = directory / "src", directory / "series"
        for name, text in files.items():
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(text)

    def apply(self, *patches: Patch, fixes: list[Edit] = EDITS) -> bool:
        return apply_series(self.top, patches, state=self.state, fixes=fixes)

    def texts(self) -> dict[str, str]:
        return {name: (self.top / name).read_text() for name in OLD}


@pytest.mark.parametrize("version", ["4.20", "v5.0", "5.0.0-g251e78376665", "5.0.21", "what no one can tell"])
def test_old_kernels_are_looked_at(version: str) -> None:
    assert names(fixes_for(spec(version))) == names(ERA_FIXES)


@pytest.mark.parametrize("version", ["5.10.262-1", "6.1", "v7.3.4", "7.3.4-1~bpo13+1"])
def test_younger_ones_are_not(version: str) -> None:
    assert fixes_for(spec(version)) == ()
    assert kernel_key(spec(version)) == kernel_key(spec(version, era_fixes=False))


def test_fixes_are_part_of_what_names_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kernel_key(spec("5.0"))
    assert before != kernel_key(spec("5.0", era_fixes=False))
    monkeypatch.setattr(era, "ERA_FIXES", (*ERA_FIXES[:-1], replace(ERA_FIXES[-1], why="in other words")))
    assert before == kernel_key(spec("5.0"))
    monkeypatch.setattr(era, "ERA_FIXES", (*ERA_FIXES[:-1], replace(ERA_FIXES[-1], until=(5, 0))))
    assert before != kernel_key(spec("5.0"))


def test_names_are_names() -> None:
    assert len(set(names(ERA_FIXES))) == len(ERA_FIXES)
    assert all(re.fullmatch(r"[a-zA-Z0-9-]+", name) for name in names(ERA_FIXES))
    assert fingerprint(()) == ""


def test_an_old_tree_gets_what_it_needs_and_can_be_taken_back(tmp_path: Path) -> None:
    tree = Tree(tmp_path, OLD)
    assert tree.apply()
    assert tree.texts() == FIXED
    assert applied_fixes(tree.state) == ("dtc-yylloc", "optimize-O2")
    assert not tree.apply()
    assert applied_fixes(tree.state) == ("dtc-yylloc", "optimize-O2")
    assert tree.apply(fixes=[])
    assert tree.texts() == OLD
    assert applied_fixes(tree.state) == ()


def test_a_tree_that_needs_none_stays_as_it_is(tmp_path: Path) -> None:
    tree = Tree(tmp_path, FIXED)
    assert not tree.apply()
    assert tree.texts() == FIXED
    assert applied_fixes(tree.state) == ()


def test_fixes_come_after_the_patches(tmp_path: Path) -> None:
    tree = Tree(tmp_path, OLD)
    mended = (
        f"--- a/{LEXER}\n+++ b/{LEXER}\n@@ -2,3 +2,3 @@\n \n-YYLTYPE yylloc;\n+extern YYLTYPE yylloc;\n extern bool"
    )
    assert tree.apply(patch(f"{mended} treesource_error;\n"))
    assert applied_fixes(tree.state) == ("optimize-O2",)
    assert "\nextern YYLTYPE yylloc;\n" in tree.texts()[LEXER]


def test_a_fix_that_no_longer_applies_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    odd = OLD | {LEXER: "YYLTYPE yylloc = { 0 };\n"}
    tree = Tree(tmp_path, odd)
    with pytest.raises(UserError) as error:
        tree.apply()
    assert error.value.message.startswith(
        f"era fix dtc-yylloc: {LEXER}: expected the place that it changes ('^YYLTYPE\\\\s+yylloc"
    )
    assert error.value.message.endswith(
        "found another form of it: this tree needs another fix; --no-era-fixes leaves out all of them"
    )
    assert tree.texts() == odd


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (LEXER, "a\nYYLTYPE  yylloc;\nb\n", "a\nb\n"),
        (LEXER, "a\nYYLTYPE\tyylloc ; /* where */\nb\n", "a\n /* where */\nb\n"),
        (LEXER, "a\r\nYYLTYPE yylloc;\r\nb\r\n", "a\r\nb\r\n"),
        (LEXER, "YYLTYPE yylloc;\na\nYYLTYPE yylloc;\n", "a\n"),
        ("Makefile", "KBUILD_CFLAGS += -O0\r\n", "KBUILD_CFLAGS += -O2\r\n"),
        (
            "Makefile",
            "KBUILD_CFLAGS += -O0\na\nKBUILD_CFLAGS\t+=  -O0 \n",
            "KBUILD_CFLAGS += -O2\na\nKBUILD_CFLAGS\t+=  -O2 \n",
        ),
    ],
)
def test_a_fix_changes_all_that_shows_the_need(name: str, before: str, after: str) -> None:
    (fix,) = (fix for fix in EDITS if fix.file == name)
    assert fix.is_needed({name: before}.get)
    assert fix.applied(before) == after
    assert not fix.is_needed({name: after}.get)


def test_one_place_of_another_form_is_enough_for_the_error() -> None:
    (fix,) = (fix for fix in EDITS if fix.file == LEXER)
    with pytest.raises(UserError, match="found another form of it"):
        fix.applied("YYLTYPE yylloc;\nYYLTYPE yylloc = { 0 };\n")


def test_a_build_without_them_is_repeated_without_them() -> None:
    options = BuildOptions(
        build_dir=None,
        kernel="linux",
        patches=(),
        kconfigs=(),
        toolchain=None,
        allow_plain_ftrace=False,
        jobs=None,
        no_era_fixes=True,
    )
    assert "--no-era-fixes" in _reproduce(options, "linux").split()
    assert "--no-era-fixes" not in _reproduce(replace(options, no_era_fixes=False), "linux").split()


def test_what_a_kernel_needed_is_in_the_records_of_builds_and_runs() -> None:
    kernel = KernelRecord(release="5.0.0", era_fixes={"dtc-yylloc": "it is defined twice"})
    build = BuildRecord(key="k", kernel=kernel)
    assert build_record_from_json(build_record_to_json(build)).kernel.era_fixes == kernel.era_fixes
    run = RunRecord(schema=2, kernel=kernel)
    data = run_record_to_data(run)
    assert run_record_from_fields(Fields(data), schema=2).kernel.era_fixes == kernel.era_fixes
    assert flatten(data)["era_fixes.dtc-yylloc"] == "it is defined twice", "as junit.xml has it"
