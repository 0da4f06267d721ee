"""`build`: what is made again after a change, what is not, and that nothing published is ever stale.

The toy kernel's make notes its calls, and what it makes is the text it is made of."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.build import builder, command, cutoff, finished, klp_relocations
from harness.build.changedlines import changed_lines
from harness.build.command import SYSTEM_PATH
from harness.build.inuse import hold
from harness.build.keptpatches import paths_of
from harness.build.make import build
from harness.build.sandbox import find_sandbox
from harness.build.source import parse_source_spec, resolve_source
from harness.errors import BuildError, InfraError
from harness.model.kernel import Build, KernelSpec, Patch, Toolchain
from harness.parse.records import build_record_from_json
from harness.parse.series import patches_from_file
from tests import damage
from tests.faults.catalogue import Blame, fault
from tests.unit.numbered import link, patch
from tests.unit.toytree import Recorder

TREE = Path(__file__).parents[1] / "data/toykernel"
GCC = Toolchain(name="gcc", command="toy-gcc", version="12.2.0", make_args=(), patchable=True)
FROM_KERNEL = ["headers_install", "kernel", "modules_install", "selftests", "test modules"]
EVERYTHING = ["configure", *FROM_KERNEL]


@dataclass
class Toy:
    """A kernel tree, its configuration and testcases, and a cache of their own."""

    directory: Path
    edits: dict[str, str] = field(default_factory=dict)
    """path → the text that a patch gives the file"""
    patches: list[Patch] = field(default_factory=list)
    """further ones, behind those"""
    is_sandboxed: bool = True
    progress: Recorder = field(default_factory=Recorder)

    @property
    def tree(self) -> Path:
        return self.directory / "linux"

    @property
    def workspace(self) -> Path:
        (found,) = (path for path in (self.directory / "cache").rglob("workspaces/*") if path.is_dir())
        return found

    def build(self, config: str = "our.config", *, era_fixes: bool = True) -> Build:
        source = resolve_source(parse_source_spec(str(self.tree)))
        fragment = self.directory / config
        patches = (*(self._patch(path, text) for path, text in self.edits.items()), *self.patches)
        spec = KernelSpec(source=source, patches=patches, fragments=(fragment,), toolchain=GCC, era_fixes=era_fixes)
        return build(
            spec,
            testcases=self.directory / "testcases",
            reproduce="",
            progress=self.progress,
            jobs=2,
            is_sandboxed=self.is_sandboxed,
        )

    def _patch(self, path: str, text: str) -> Patch:
        before = (self.tree / path).read_text().splitlines(keepends=True)
        diff = "".join(difflib.unified_diff(before, text.splitlines(keepends=True), f"a/{path}", f"b/{path}"))
        return Patch(name=path, text=diff, sha256=hashlib.sha256(diff.encode()).hexdigest())

    def calls(self) -> list[str]:
        """What make was called for since this was asked last, sorted."""
        said: list[str] = []
        for log in self.workspace.glob("obj-*/calls"):
            said += log.read_text().splitlines()
            log.unlink()
        return sorted(said)

    @property
    def objects(self) -> Path:
        """The object tree, where only one configuration was built."""
        (found,) = self.workspace.glob("obj-*")
        return found

    def unpublish(self) -> None:
        """Remove the finished builds: the next one has to look at the workspace."""
        for path in (self.directory / "cache").rglob("builds"):
            shutil.rmtree(path)


@functools.cache
def has_sandbox() -> bool:
    """Whether this host lets builds have a sandbox; where not, toys are built without one."""
    try:
        return bool(find_sandbox())
    except InfraError:
        return False


@pytest.fixture
def toy(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """Built once. Only the first test of a process has it built; each gets a copy, in the place where it was built."""
    directory = tmp_path_factory.getbasetemp() / "toy"
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join((str(directory / "tools"), os.environ["PATH"], SYSTEM_PATH)))
    monkeypatch.setattr(klp_relocations, "convert", bytes)  # the toy's modules are no ELF files
    monkeypatch.setattr(cutoff, "_SYNC", ("true",))  # what others write to this disk may take long
    pristine = directory.with_name("pristine-toy")
    if not pristine.exists():
        _build_first(directory)
        directory.rename(pristine)
    subprocess.run(["cp", "-a", pristine, directory], check=True)
    made = Toy(directory, is_sandboxed=has_sandbox())
    made.build()  # as after any build, its files are known to be right
    assert made.calls() == []
    yield made
    directory.rename(tmp_path / "toy")


def _build_first(directory: Path) -> None:
    (directory / "tools").mkdir(parents=True)
    for name in ("pahole", "toy-gcc"):
        (directory / "tools" / name).touch(mode=0o755)
    shutil.copytree(TREE, directory / "linux")
    (directory / "our.config").write_text("CONFIG_ONE=y\n")
    (directory / "testcases").mkdir()
    (directory / "testcases/calls.c").write_text("int calls;\n")
    made = Toy(directory, is_sandboxed=has_sandbox())
    made.build()
    assert made.calls() == EVERYTHING


def test_nothing_changed_calls_nothing(toy: Toy) -> None:
    assert toy.build().directory.is_dir()
    assert toy.calls() == []


def texts(made: Build) -> dict[str, str]:
    """What the published files say."""
    names = ("vmlinux", "Image", "modules/7.3.4/modules.dep", "selftests/ftrace/test", "testmodules/calls.ko")
    return {name: (made.directory / name).read_text() for name in names}


@pytest.mark.parametrize(
    ("path", "makes"),
    [
        ("kernel/sched.c", FROM_KERNEL),
        ("include/linux/sched.h", FROM_KERNEL),
        ("include/uapi/linux/sched.h", EVERYTHING),
        ("tools/testing/selftests/ftrace/test.c", EVERYTHING),
        ("scripts/helper.c", EVERYTHING),
        ("Kconfig", EVERYTHING),
        ("arch/arm64/Kconfig", EVERYTHING),
    ],
)
def test_a_patch_configures_again_only_for_what_a_configuration_is_made_of(
    toy: Toy, path: str, makes: list[str]
) -> None:
    toy.edits[path] = (toy.tree / path).read_text() + "/* edited */\n"
    toy.build()
    assert toy.calls() == makes


@pytest.mark.parametrize(("path", "makes"), [("kernel/sched.c", FROM_KERNEL), ("Kconfig", EVERYTHING)])
def test_so_does_an_edit_in_the_source_directory(toy: Toy, path: str, makes: list[str]) -> None:
    (toy.tree / path).write_text((toy.tree / path).read_text() + "/* edited */\n")
    toy.build()
    assert toy.calls() == makes


def test_a_patched_patch_is_in_all_that_is_made_of_it(toy: Toy) -> None:
    for number in (1, 2):
        toy.edits["kernel/sched.c"] = f"int sched; /* edit {number} */\n"
        told = texts(toy.build())
        assert all(f"edit {number}" in text for text in told.values()), told
    toy.edits.clear()
    toy.unpublish()
    assert not any("edit" in text for text in texts(toy.build()).values())


def test_a_file_that_a_patch_makes_a_link_to_an_older_one_is_in_all_that_is_made_of_it(toy: Toy) -> None:
    (toy.tree / "kernel/other.c").write_text("int other;\n")
    (toy.tree / "kernel/sched.c").write_text("int sched, one;\n")  # so what is made of it is younger than the other
    assert "int sched" in texts(toy.build())["vmlinux"]
    lines = (toy.tree / "kernel/sched.c").read_text().splitlines()
    gone = "".join(f"-{line}\n" for line in lines)
    head = "diff --git a/kernel/sched.c b/kernel/sched.c\n"
    toy.patches = [
        patch(
            f"{head}deleted file mode 100644\n--- a/kernel/sched.c\n+++ /dev/null\n@@ -1,{len(lines)} +0,0 @@\n{gone}"
            + link("kernel/sched.c", "other.c").text
        )
    ]
    assert all("int other" in text for text in texts(toy.build()).values())
    toy.patches.clear()
    toy.unpublish()
    assert "int sched" in texts(toy.build())["vmlinux"]


def test_a_patched_selftest_and_uapi_header_are_installed(toy: Toy) -> None:
    toy.edits = {
        "tools/testing/selftests/ftrace/test.c": "int test; /* edited */\n",
        "include/uapi/linux/sched.h": "#define SCHED 2\n",
    }
    told = texts(toy.build())["selftests/ftrace/test"]
    assert "edited" in told
    assert "SCHED 2" in told


def test_what_an_old_kernel_needed_is_on_record(toy: Toy) -> None:
    makefile = toy.tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("VERSION = 7\nPATCHLEVEL = 3", "VERSION = 5\nPATCHLEVEL = 0"))
    lexer = toy.tree / "scripts/dtc/dtc-lexer.l"
    lexer.parent.mkdir()
    lexer.write_text("YYLTYPE yylloc;\nextern int x;\n")
    kernel = build_record_from_json((toy.build().directory / "build.json").read_text()).kernel
    assert list(kernel.era_fixes) == ["dtc-yylloc"]
    assert "host compilers refuse" in kernel.era_fixes["dtc-yylloc"]
    assert any(said.startswith("era fix: dtc-yylloc: dtc defines") for said in toy.progress.said)
    assert (toy.workspace / "src/scripts/dtc/dtc-lexer.l").read_text() == "extern int x;\n"
    assert lexer.read_text() == "YYLTYPE yylloc;\nextern int x;\n", "the user's own tree is left as it is"
    plain = toy.build(era_fixes=False)
    assert build_record_from_json((plain.directory / "build.json").read_text()).kernel.era_fixes == {}
    assert (toy.workspace / "src/scripts/dtc/dtc-lexer.l").read_text() == "YYLTYPE yylloc;\nextern int x;\n"


def test_another_fragment_configures_and_builds_anew(toy: Toy) -> None:
    (toy.directory / "our.config").write_text("CONFIG_TWO=y\n")
    made = toy.build()
    assert toy.calls() == EVERYTHING
    assert "CONFIG_TWO=y" in texts(made)["testmodules/calls.ko"]
    assert made.config["TWO"] == "y"


def test_an_edited_fragment_goes_on_in_the_same_object_tree(toy: Toy) -> None:
    before = toy.objects
    for symbol in ("TWO", "THREE", "FOUR"):
        (toy.directory / "our.config").write_text(f"CONFIG_{symbol}=y\n")
        assert toy.build().config[symbol] == "y"
    assert toy.objects == before


def test_another_configuration_leaves_the_objects_of_this_one(toy: Toy) -> None:
    (toy.directory / "other.config").write_text("CONFIG_TWO=y\n")
    first = toy.objects / "vmlinux"
    made = first.stat().st_mtime_ns
    assert toy.build("other.config").config["TWO"] == "y"
    assert toy.calls() == EVERYTHING
    assert len([*toy.workspace.glob("obj-*")]) == 2
    toy.unpublish()
    for _ in range(2):  # there and back
        assert texts(toy.build())["vmlinux"].endswith("CONFIG_ONE=y\nCONFIG_ARM64=y\n")
        assert texts(toy.build("other.config"))["vmlinux"].endswith("CONFIG_TWO=y\nCONFIG_ARM64=y\n")
    assert toy.calls() == []
    assert first.stat().st_mtime_ns == made


def test_a_patch_is_made_into_each_configuration(toy: Toy) -> None:
    """The source tree is shared, so what one configuration's build has applied is news to the other's objects."""
    (toy.directory / "other.config").write_text("CONFIG_TWO=y\n")
    toy.build("other.config")
    for number in (1, 2):
        toy.edits["kernel/sched.c"] = f"int sched; /* edit {number} */\n"
        for config, symbol in (("our.config", "ONE"), ("other.config", "TWO")):
            made = texts(toy.build(config))
            assert all(f"edit {number}" in text and f"CONFIG_{symbol}" in text for text in made.values()), made
    toy.edits.clear()
    toy.unpublish()
    assert not any(
        "edit" in text for config in ("our.config", "other.config") for text in texts(toy.build(config)).values()
    )


def test_an_edited_test_module_makes_the_test_modules_only(toy: Toy) -> None:
    (toy.directory / "testcases/calls.c").write_text("int calls; /* edited */\n")
    told = texts(toy.build())
    assert toy.calls() == ["test modules"]
    assert "edited" in told["testmodules/calls.ko"]
    assert told["selftests/ftrace/test"]


def test_a_test_module_that_is_gone_is_not_published(toy: Toy) -> None:
    (toy.directory / "testcases/other.c").write_text("int other;\n")
    assert (toy.build().directory / "testmodules/other.ko").is_file()
    (toy.directory / "testcases/other.c").unlink()
    (toy.directory / "testcases/calls.c").write_text("int calls; /* edited */\n")
    assert [path.name for path in (toy.build().directory / "testmodules").iterdir()] == ["calls.ko"]


@pytest.mark.parametrize("lost", ["vmlinux", "arch/arm64/boot/Image", "System.map", "include/config/kernel.release"])
@fault(
    "a product vanishes from a workspace",
    where="cache",
    blame=Blame.NOBODY,
    survives="the build, which makes it again",
)
def test_what_vanished_from_the_workspace_is_made_again(toy: Toy, lost: str) -> None:
    (toy.objects / lost).unlink()
    toy.unpublish()
    assert "int sched" in texts(toy.build())["Image"]
    assert "kernel" in toy.calls()


@fault(
    "somebody changes .config in a workspace",
    where="cache",
    blame=Blame.NOBODY,
    survives="the configuration that was asked for",
)
def test_a_config_that_somebody_changed_is_made_again(toy: Toy) -> None:
    (toy.objects / ".config").write_text("CONFIG_STRANGE=y\n")
    toy.unpublish()
    assert "STRANGE" not in toy.build().config
    assert toy.calls() == EVERYTHING


def test_installed_files_that_vanished_are_installed_again(toy: Toy) -> None:
    shutil.rmtree(next(toy.workspace.glob("made-*/payload")))
    toy.unpublish()
    assert all(texts(toy.build()).values())
    assert toy.calls() == ["headers_install", "modules_install", "selftests", "test modules"]


@pytest.mark.parametrize("tool", ["pahole", "toy-gcc"])
def test_an_upgraded_tool_asks_make_again(toy: Toy, tool: str) -> None:
    (toy.directory / "tools" / tool).write_text("#!/bin/sh\n")
    toy.unpublish()
    toy.build()
    assert {"configure", "kernel"} <= set(toy.calls())


@fault(
    "a kernel fails to compile, and the series is taken back",
    where="cache",
    blame=Blame.KERNEL,
    survives="nothing of it: the kernel is made anew",
)
def test_a_failed_kernel_does_not_stand(toy: Toy) -> None:
    toy.edits["kernel/sched.c"] = "this is no C\n"
    with pytest.raises(BuildError, match=r"does not build \(kernel\)"):
        toy.build()
    toy.calls()
    toy.edits.clear()
    toy.unpublish()
    assert "no C" not in texts(toy.build())["vmlinux"]
    assert "kernel" in toy.calls()


def test_the_patches_are_kept_as_they_can_be_given_again(toy: Toy) -> None:
    """In their order, whatever their files were called."""
    before, header = ((toy.tree / path).read_text() for path in ("kernel/sched.c", "include/linux/sched.h"))
    texts = (
        (b"kernel/sched.c", before, b"int sched; /* \xff */"),
        (b"include/linux/sched.h", header, b"#define EDITED"),
    )
    for path, old, new in texts:
        (line,) = old.encode().splitlines()
        diff = b"--- a/%b\n+++ b/%b\n@@ -1 +1 @@\n-%b\n+%b\n" % (path, path, line, new)
        toy.patches += patches_from_file(diff, name=path.decode())
    made = toy.build()
    assert [path.name for path in sorted((made.directory / "patches").iterdir())] == [
        "0001-sched.c.patch",
        "0002-sched.h.patch",
    ]
    series = finished.load_record(made.directory).kernel.patches
    kept = (made.directory / "patches",)
    assert paths_of(series, directory=made.directory, given=()) == kept
    assert paths_of(series[:1], directory=made.directory, given=()) is None
    assert paths_of((), directory=made.directory, given=()) == ()


def test_old_selftests_install_the_headers_out_of_the_source_tree(toy: Toy) -> None:
    """Their make for that is called without O= where MAKEFLAGS is cleared, and the source tree is read-only."""
    makefile = "tools/testing/selftests/Makefile"
    rule = "override MAKEFLAGS =\ninstall: khdr\nkhdr:\n\t@echo khdr $$(basename $$KBUILD_OUTPUT) >> $(O)/calls\n"
    toy.edits[makefile] = rule + (TREE / makefile).read_text()
    toy.build()
    assert f"khdr {next(toy.workspace.glob('obj-*')).name}" in toy.calls()


# -- suites of programs ----------------------------------------------------------------------------------------------

EVENTS_TEST = "tools/testing/selftests/user_events/abi_test.c"
EVENTS = "selftests/user_events"


@pytest.fixture
def events(toy: Toy) -> Toy:
    """Built once with CONFIG_USER_EVENTS."""
    (toy.directory / "our.config").write_text("CONFIG_ONE=y\nCONFIG_USER_EVENTS=y\n")
    toy.build()
    assert "selftests user_events" in toy.calls()
    return toy


def test_a_kernel_without_what_a_suite_needs_has_its_sources_only(toy: Toy) -> None:
    assert [path.name for path in (toy.build().directory / EVENTS).iterdir()] == ["abi_test.c"]


def test_a_suite_of_programs_is_published_with_its_sources(events: Toy) -> None:
    made = events.build().directory / EVENTS
    assert sorted(path.name for path in made.iterdir()) == ["abi_test", "abi_test.c"]


def test_a_suite_of_programs_outlives_a_new_kernel_but_no_new_header(events: Toy) -> None:
    events.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    made = events.build().directory / EVENTS
    assert events.calls() == FROM_KERNEL
    assert "SCHED" in (made / "abi_test").read_text()
    events.edits = {"include/uapi/linux/sched.h": "#define SCHED 2\n"}
    made = events.build().directory / EVENTS
    assert "selftests user_events" in events.calls()
    assert "SCHED 2" in (made / "abi_test").read_text()


def test_a_suite_that_does_not_compile_fails_no_build_and_says_why(events: Toy) -> None:
    events.edits[EVENTS_TEST] = "this is no C\n"
    made = events.build().directory / EVENTS
    assert (made / "not-built").read_text() == "user_events/abi_test.c:1:1: error: no C at all\n"
    assert sorted(path.name for path in made.iterdir()) == ["abi_test.c", "not-built"]
    assert (made.parent / "ftrace/test").is_file()
    events.edits.clear()
    events.unpublish()
    assert not (events.build().directory / EVENTS / "not-built").exists()
    assert (events.build().directory / EVENTS / "abi_test").is_file()


# damage


@pytest.mark.parametrize(
    ("how", "file"),
    [
        pytest.param(
            how,
            file,
            id=f"{file} {name}",
            marks=fault(
                f"{file} of a finished build in the cache is {name}",
                where="cache",
                blame=Blame.NOBODY,
                survives="the build: it is made again from the workspace, and a message says so",
            ),
        )
        for file in ("Image", "build.json", "modules/7.3.4/modules.dep")
        for name, how in damage.HOW.items()
    ],
)
def test_a_damaged_build_of_the_cache_is_made_again(toy: Toy, how: Callable[[Path], None], file: str) -> None:
    made = toy.build()
    before = (made.directory / file).read_text()
    del made  # which holds it
    (path,) = (toy.directory / "cache").rglob(f"builds/*/{file}")
    how(path)
    again = toy.build()
    assert again.products
    if file != "build.json":  # which has the times
        assert path.read_text() == before
    assert toy.calls() == []  # it is copied from the workspace
    assert f"{path}: damaged: expected a file of {len(before)} bytes" in toy.progress.said[-1]


@fault("a build in the cache is damaged while another run uses it", where="cache", blame=Blame.INFRA,
       survives="the other run's files; the message names the damaged one")  # fmt: skip
def test_a_damaged_build_that_somebody_uses_stays(toy: Toy) -> None:
    used = toy.build()
    damage.cut(used.image)
    with pytest.raises(InfraError, match=r"Image: damaged: .*; now other processes use it: end them first"):
        toy.build()
    assert used.image.exists()


@fault("the host went down before a build's files were on the disk", where="power cut", blame=Blame.NOBODY,
       survives="the build: it is made again")  # fmt: skip
@pytest.mark.parametrize("left", [(), ("Image",)])
def test_a_build_without_its_record_is_made_again(toy: Toy, left: tuple[str, ...]) -> None:
    """Older harnesses renamed a build before its files were on the disk."""
    directory = toy.build().directory
    for path in directory.iterdir():
        if path.name not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert texts(toy.build())["vmlinux"]


def test_a_build_of_an_older_harness_is_used_and_told(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = toy.build().directory
    (directory / "manifest.json").unlink()
    record = json.loads((directory / "build.json").read_text())
    (directory / "build.json").write_text(json.dumps({**record, "manifest": None}))
    monkeypatch.setattr(finished, "check_image", lambda *_, **__: None)  # the toy's are texts
    toy.progress.said.clear()
    assert toy.build().products == ()
    assert "built by an older harness, which recorded no checksums" in toy.progress.said[0]


def test_a_build_that_lost_its_manifest_is_no_build_of_an_older_harness(toy: Toy) -> None:
    directory = toy.build().directory
    (directory / "manifest.json").unlink()
    assert toy.build().products
    assert "manifest.json: expected the digests of this build's files, found none" in toy.progress.said[-1]


# a host that went down


@fault("the host goes down while a kernel is built; files in the workspace may be zeros", where="power cut",
       blame=Blame.NOBODY, survives="the builds that were finished; the workspace is made again")  # fmt: skip
def test_a_workspace_that_was_written_when_the_host_went_down_is_made_again(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt  # of all ends, only this one and SIGKILL leave files unsynced

    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    with monkeypatch.context() as patched:
        patched.setattr(builder, "collect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            toy.build()
    toy.calls()
    damage.zero(toy.objects / "vmlinux")
    (tmp_path / "boot_id").write_text("another boot\n")
    monkeypatch.setattr(cutoff, "_BOOT", tmp_path / "boot_id")
    made = toy.build()
    assert any("the host went down while it was written" in line for line in toy.progress.said)
    assert toy.calls() == EVERYTHING
    assert "edited" in (made.directory / "vmlinux").read_text()


def test_a_build_says_which_lines_its_patches_have_changed(toy: Toy) -> None:
    assert not (toy.build().directory / "changed.json").exists()
    text = (toy.tree / "kernel/sched.c").read_text()
    toy.edits["kernel/sched.c"] = f"{text}int more;\n"
    made = toy.build()
    last = len(text.splitlines()) + 1
    assert changed_lines(made.directory) == {"kernel/sched.c": ((last, last),)}
    assert not finished.give_up_unrecorded(made, toy.progress)


def test_a_build_of_an_older_harness_is_made_again_for_its_changed_lines(toy: Toy) -> None:
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    directory = toy.build().directory
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["files"]["changed.json"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "changed.json").unlink()
    older = toy.build()
    used = hold(older.directory)
    assert not finished.give_up_unrecorded(older, toy.progress)  # somebody else uses it
    assert used
    used.close()
    assert finished.give_up_unrecorded(toy.build(), toy.progress)
    assert changed_lines(toy.build().directory)


def test_a_killed_build_is_continued_in_the_same_boot_and_then_on_the_disk(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (toy.workspace / "not-on-disk").write_text(cutoff._BOOT.read_text())
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    toy.build()
    assert toy.calls() == FROM_KERNEL
    assert not (toy.workspace / "not-on-disk").exists()


def test_the_mark_stays_until_everything_is_on_the_disk(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutoff, "_SYNC", ("sync",))
    seen: list[bool] = []
    run = command.run

    def noted(words: list[str], **more: Any) -> command.Finished:
        if words[0] == "sync":
            seen.append((toy.workspace / "not-on-disk").exists())
            return command.Finished(status=1, stdout="", stderr="sync: Input/output error")
        return run(words, **more)

    monkeypatch.setattr(command, "run", noted)
    toy.unpublish()
    toy.build()
    assert seen == [True]
    assert (toy.workspace / "not-on-disk").exists()


# who uses it


def test_a_build_in_hand_is_not_pruned(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE_GB", "0.000001")
    first = toy.build()
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    second = toy.build()
    assert first.directory.is_dir()
    assert second.directory.is_dir()
    gone = first.directory
    del first
    toy.edits["kernel/sched.c"] = "int sched; /* edited again */\n"
    toy.build()
    assert not gone.exists()
    assert second.directory.is_dir()


@fault("the cache is on a file system that became read-only", where="disk", blame=Blame.NOBODY,
       survives="everything that is finished there can be used")  # fmt: skip
def test_a_finished_build_in_a_read_only_cache_is_used(toy: Toy) -> None:
    """In a mount namespace of its own, because root may write to files without permission."""
    cache = toy.directory / "cache"
    script = (
        f"mount --bind {cache} {cache} && mount -o remount,ro,bind {cache} && "
        f"! touch {cache}/x 2> /dev/null && exec {sys.executable} -c "
        '"import sys; from pathlib import Path; from harness.build.finished import load_build; '
        'print(load_build(Path(sys.argv[1]), verify=True).release)" '
        f"{toy.build().directory}"
    )
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("may not make a mount namespace here")
    done = subprocess.run([*unshare, "sh", "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "7.3.4\n"), done.stderr


def test_a_host_that_hides_its_boots_builds_all_the_same(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutoff, "_BOOT", toy.directory / "nowhere")
    (toy.workspace / "not-on-disk").write_text("")
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    toy.build()
    assert toy.calls() == FROM_KERNEL


def test_a_kernel_does_not_say_when_or_how_often_it_was_built(toy: Toy) -> None:
    assert (toy.objects / "banner").read_text() == "1 at 2000-01-01T00:00:00Z\n"
