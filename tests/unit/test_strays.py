"""What a build may not leave: links that lead elsewhere, now or in a copy, and files that nobody should meet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.build import collect, testmodules
from harness.build.confinement import Confinement, give
from harness.build.notbuilt import NotBuilt
from harness.build.seal import MANIFEST, checked, seal_directory
from harness.build.strays import UnusableOutput, is_real, make_real, strays
from harness.build.workspace import Workspace
from harness.errors import BuildError
from harness.products import Damaged
from tests.faults.catalogue import Blame, fault
from tests.unit.test_make import Toy, toy
from tests.unit.test_sandbox import Bait, bait, boxed

__all__ = ["bait", "boxed", "toy"]

LIVEPATCH = "tools/testing/selftests/livepatch"
MODULES_MADE = "@for object in $^; do cp $$object $${object%.o}.ko; done"
INSTALLED = "@cp $(O)/vmlinux $(INSTALL_MOD_PATH)/lib/modules/7.3.4/modules.dep"


def behind(toy: Toy, command: str, recipe: str) -> None:
    """Have a patch make the Makefile run `recipe` behind `command`."""
    makefile = (toy.tree / "Makefile").read_text()
    assert f"\t{command}\n" in makefile
    toy.edits["Makefile"] = makefile.replace(f"\t{command}\n", f"\t{command}\n\t{recipe}\n")


def build_clean(toy: Toy) -> str:
    """Build again without the series; what vmlinux says."""
    toy.edits.clear()
    toy.patches.clear()
    toy.unpublish()
    return (toy.build().directory / "vmlinux").read_text()


def content(directory: Path) -> dict[str, tuple[str, int]]:
    """Each file below a directory: what it says, and whose it is."""
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(directory))] = (path.read_text(), path.lstat().st_uid)
    return found


# -- links in sources and series ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [f"{LIVEPATCH}/test_modules", LIVEPATCH, "tools/linked"])
@fault(
    "a directory source with a link out of it, also in place of a directory that builds may write to",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="what the link names, its content and its owner; the link is left out and named",
)
def test_links_out_of_a_directory_source_are_left_out(toy: Toy, at: str) -> None:
    victim = toy.directory / "victim"
    (victim / "test_modules").mkdir(parents=True)
    (victim / "test_modules/file").write_text("untouched")
    before = content(victim)
    (toy.tree / at).parent.mkdir(exist_ok=True)
    (toy.tree / at).symlink_to(victim if at == LIVEPATCH else victim / "test_modules")
    (toy.tree / "kernel/sched.c").write_text("int edited;\n")
    assert (toy.build().directory / "vmlinux").read_text().startswith("int edited")
    assert content(victim) == before
    assert not (toy.workspace / "src" / at).is_symlink()
    assert any(f"left out links that lead out of the tree: {at}" in line for line in toy.progress.said)


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize(
    ("at", "leads"), [(f"{LIVEPATCH}/test_modules", "../../../.."), (LIVEPATCH, "../../../test_modules_are_here")]
)
@fault(
    "a source in which the directory that builds may write to is a link to another one of the source",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="the source tree; the kernel of the next build",
)
def test_no_link_makes_the_source_tree_writable(bait: Bait, at: str, leads: str) -> None:
    toy = bait.toy
    (toy.tree / at).parent.mkdir(exist_ok=True)
    (toy.tree / "test_modules_are_here/test_modules").mkdir(parents=True)
    (toy.tree / "test_modules_are_here/test_modules/a.c").write_text("int a;\n")
    (toy.tree / at).symlink_to(leads)
    bait.hostile("echo planted >> kernel/sched.c; echo planted >> test_modules_are_here/test_modules/a.c; true")
    toy.build()
    assert "planted" not in build_clean(toy)
    source = content(toy.workspace / "src")
    assert source == {path: (text, os.geteuid()) for path, (text, _) in content(toy.tree).items()}


# -- links that a build makes ------------------------------------------------------------------------------------


@contextlib.contextmanager
def unusable(told: str) -> Iterator[pytest.ExceptionInfo[NotBuilt]]:
    """The build ends because of what make left, and nothing of that is read for the record of it."""
    with pytest.raises(NotBuilt, match=told) as raised:
        yield raised
    assert isinstance(raised.value.__cause__, UnusableOutput)
    assert raised.value.config == b""


LEADING = [
    pytest.param(
        MODULES_MADE, "ln -sf ../../src/kernel/sched.c $(M)/calls.c", r"testmodules/calls\.c", id="module's source"
    ),
    pytest.param(MODULES_MADE, "ln -sf ../../src/Kconfig $(M)/Kbuild", "testmodules/Kbuild", id="module's Kbuild"),
    pytest.param(INSTALLED, "cd $(INSTALL_MOD_PATH); rm -r bin; ln -s ../stages bin", "payload/bin", id="stages"),
    pytest.param(INSTALLED, "cd $(INSTALL_MOD_PATH); rm -rf bin; ln -s ../../src bin", "payload/bin", id="source"),
    pytest.param(
        INSTALLED,
        "cd $(INSTALL_MOD_PATH)/lib/modules; rm -r 7.3.4; ln -s ../../../../src/scripts 7.3.4",
        r"lib/modules/7\.3\.4",
        id="release",
    ),
    pytest.param(
        "@touch $(O)/System.map", "ln -s ../src/tools/testing/selftests $(O)/kselftest", "kselftest", id="obj"
    ),
    pytest.param("@touch $(O)/System.map", "ln -sf ../made-x/stages $(O)/x", "/x", id="nothing yet"),
]


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize(("command", "recipe", "told"), LEADING)
@fault(
    "a build leaves a link to the source tree, or to the records of stages, where the harness writes next",
    where="hostile input",
    blame=Blame.KERNEL,
    survives="the source tree and the records; the next build",
)
def test_the_harness_writes_through_no_link(toy: Toy, command: str, recipe: str, told: str) -> None:
    (toy.tree / "scripts/modules.dep").write_text("x")
    behind(toy, command, recipe)
    with unusable(rf"{told}, a symbolic link that leads out") as raised:
        toy.build()
    assert raised.value.exit_code == 1
    assert build_clean(toy).startswith("int sched")
    source = content(toy.workspace / "src")
    assert source == {path: (text, os.geteuid()) for path, (text, _) in content(toy.tree).items()}


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize(("name", "leads"), [("bin", "lib"), ("testcases", "lib"), ("lib/modules", "../bin")])
def test_no_part_of_the_payload_is_a_link(toy: Toy, name: str, leads: str) -> None:
    behind(toy, MODULES_MADE, f"cd $(M)/../payload; rm -rf {name}; ln -s {leads} {name}")
    with pytest.raises(BuildError, match=f"payload/{name}: expected"):
        toy.build()
    assert build_clean(toy).startswith("int sched")


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize(
    "leads",
    ["k/a/../../../../../../../../secret", "../../../lib/modules", "/etc/passwd", "../../bin/../selftests/a/../../x"],
)
@fault(
    "a link among the selftests that leads out of them, once they are published or at once",
    where="hostile input",
    blame=Blame.KERNEL,
    survives="no file outside is read; the next build",
)
def test_published_links_stay_in_what_is_published(toy: Toy, leads: str) -> None:
    goal = "$(M)/../payload/selftests/livepatch"
    behind(toy, MODULES_MADE, f"mkdir -p {goal}/k; ln -s ../../.. {goal}/k/a; ln -s {leads} {goal}/test-x.sh")
    with unusable("a symbolic link that leads out of"):
        toy.build()
    assert build_clean(toy).startswith("int sched")


@pytest.mark.usefixtures("boxed")
def test_links_that_stay_are_published(toy: Toy) -> None:
    goal = "$(M)/../payload/selftests/livepatch"
    behind(toy, MODULES_MADE, f"mkdir -p {goal}; echo x > {goal}/one; ln -s ../livepatch/one {goal}/two")
    assert (toy.build().directory / "selftests/livepatch/two").read_text() == "x\n"


def test_a_part_that_is_copied_keeps_its_links_in_it(tmp_path: Path) -> None:
    (tmp_path / "made/part").mkdir(parents=True)
    (tmp_path / "made/beside").write_text("not copied")
    (tmp_path / "made/part/link").symlink_to("../beside")
    with pytest.raises(UnusableOutput, match="part/link, a symbolic link that leads out of part"):
        collect.copy_part(tmp_path / "made/part", tmp_path / "copy", below=tmp_path / "made")
    assert not (tmp_path / "copy").exists()
    (tmp_path / "made/link").symlink_to("part")
    with pytest.raises(UnusableOutput, match="expected a directory"):
        collect.copy_part(tmp_path / "made/link", tmp_path / "copy", below=tmp_path / "made")


def test_a_modules_source_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Not even where a check was left out."""
    (tmp_path / "testcases").mkdir()
    (tmp_path / "testcases/calls.c").write_text("int calls;\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "victim").write_text("untouched")
    for name in ("calls.c", "Kbuild"):
        (tmp_path / "made" / name).symlink_to(tmp_path / "victim")
    testmodules.prepare(tmp_path / "testcases", tmp_path / "made", config={}, without={}, release="7.3.4")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "made/calls.c").read_text() == "int calls;\n"


def test_a_build_with_a_link_out_of_it_is_damaged(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "selftests").mkdir(parents=True)
    (made / "selftests/one").write_text("x")
    (made / "selftests/two").symlink_to("one")
    seal_directory(made, final=made)
    assert len(checked(made / MANIFEST, remedy="")) == 1
    (made / "selftests/three").symlink_to("../../secret")
    seal_directory(made, final=made)
    with pytest.raises(Damaged, match=r"selftests/three: damaged: expected a link that stays in .*/made"):
        checked(made / MANIFEST, remedy="")


def test_links_of_kbuild_are_expected(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    objects, modules = workspace.objects, workspace.payload / "lib/modules/7.3.4"
    for directory in (objects / "scripts/gdb", modules, workspace.source / "kernel"):
        directory.mkdir(parents=True)
    (workspace.source / "a.py").touch()
    (objects / "source").symlink_to(workspace.source)
    (objects / "scripts/gdb/a.py").symlink_to(workspace.source / "a.py")
    (modules / "build").symlink_to(objects)
    (modules / "source").symlink_to(workspace.source)
    assert workspace.is_usable(by_others=False)
    for link, leads in (
        (objects / "kernel", workspace.source / "kernel"),
        (objects / "scripts/source", workspace.source),
        (modules / "other", objects),
        (modules.parent / "build", objects),
        (modules / "kernel", workspace.source / "a.py"),
        (objects / "gone", workspace.source / "gone"),
    ):
        link.symlink_to(leads)
        assert not workspace.is_usable(by_others=False), link
        link.unlink()
    assert workspace.is_usable(by_others=False)


# -- other files -------------------------------------------------------------------------------------------------


def _pipe(at: Path) -> None:
    os.mkfifo(at / "x")


def _unreadable(at: Path) -> None:
    (at / "x").touch(mode=0o200)


def _closed(at: Path) -> None:
    (at / "x").mkdir(mode=0o200)


def _set_id(at: Path) -> None:
    (at / "x").touch()
    (at / "x").chmod(0o4755)


def _deep(at: Path) -> None:
    at.joinpath(*["x"] * 80).mkdir(parents=True)


@pytest.mark.parametrize("made", [_pipe, _unreadable, _closed, _set_id, _deep])
def test_what_nobody_should_meet(tmp_path: Path, made: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("a file")
    assert list(strays(tmp_path)) == []
    made(tmp_path)
    assert [path.name for path, _ in strays(tmp_path)] == ["x"]


@pytest.mark.usefixtures("boxed")
@fault(
    "an optional suite whose build leaves a pipe among what it installs",
    where="hostile input",
    blame=Blame.KERNEL,
    survives="the harness, which does not go on in that workspace; the next build",
)
def test_an_optional_suite_that_leaves_strays_is_not_just_left_out(toy: Toy) -> None:
    (toy.directory / "our.config").write_text("CONFIG_USER_EVENTS=y\n")
    path, command = "tools/testing/selftests/Makefile", "\t@mkdir -p $(INSTALL_PATH)/user_events\n"
    makefile = (toy.tree / path).read_text()
    toy.edits[path] = makefile.replace(command, f"{command}\tmkfifo $(INSTALL_PATH)/user_events/pipe; false\n")
    with unusable("user_events/pipe, which is neither a file nor a directory"):
        toy.build()
    assert build_clean(toy).startswith("int sched")


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize("recipe", ["chmod 0 $(O)/System.map", "rm $(O)/System.map; mkdir -m 0 $(O)/System.map"])
@fault(
    "a build leaves a file or directory that nobody may read",
    where="hostile input",
    blame=Blame.KERNEL,
    survives="the next build",
)
def test_what_cant_be_read_is_the_builds_fault(toy: Toy, recipe: str) -> None:
    behind(toy, "@touch $(O)/System.map", recipe)
    with unusable(r"System\.map, a (file|directory) that its owner may not read"):
        toy.build()
    assert build_clean(toy).startswith("int sched")


@pytest.mark.usefixtures("boxed")
@fault(
    "a build leaves a set-user-ID program, a pipe and a link to a secret in the ccache that builds share",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="none of them; the harness, which does not wait",
)
@pytest.mark.parametrize(
    "recipe",
    [
        "cp /bin/true $$CCACHE_DIR/x; chmod 6755 $$CCACHE_DIR/x",
        "mkfifo $$CCACHE_DIR/x",
        "ln -s /etc/shadow $$CCACHE_DIR/x",
        "mkdir -p $$CCACHE_DIR/0/1; ln -s ../../../builds $$CCACHE_DIR/0/1/x",
    ],
)
def test_nothing_stays_in_the_ccache(bait: Bait, recipe: str) -> None:
    cache = bait.toy.directory / "cache/arm64-ftrace-harness"
    (cache / "ccache/kept").write_text("an object")
    bait.hostile(f"{recipe}; true")
    bait.toy.build()
    assert list((cache / "ccache").iterdir()) == []
    assert not list(cache.glob(".gone-*"))
    (told,) = [line for line in bait.toy.progress.said if "ccache is thrown away" in line]
    assert "/x, " in told
    (cache / "ccache/kept").write_text("an object")
    assert build_clean(bait.toy).startswith("int sched")
    assert (cache / "ccache/kept").is_file()


# -- owners ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nothing_is_given_through_a_link(tmp_path: Path) -> None:
    victim, workspace = tmp_path / "victim", tmp_path / "workspace"
    for directory in (victim / "deeper", workspace / "made"):
        directory.mkdir(parents=True)
    (victim / "deeper/file").touch()
    (workspace / "made/link").symlink_to(victim)
    (workspace / "link").symlink_to(victim)
    for given in (workspace / "link", workspace / "link/deeper"):
        inside = Confinement(prefix=(), root=workspace, given=(given,), owner=12345)
        with pytest.raises(UnusableOutput, match="expected a directory"):
            inside.prepare()
    give(workspace / "made", 12345)
    give(workspace / "link", 12345)
    assert (workspace / "made/link").lstat().st_uid == 12345
    assert {path.stat().st_uid for path in (victim, *victim.rglob("*"))} == {0}


def test_a_directory_is_made_or_found_but_not_behind_a_link(tmp_path: Path) -> None:
    make_real(tmp_path / "a/b", below=tmp_path)
    make_real(tmp_path / "a/b", below=tmp_path)
    assert is_real(tmp_path / "a/b", below=tmp_path)
    (tmp_path / "link").symlink_to("a")
    assert not is_real(tmp_path / "link/b", below=tmp_path)
    with pytest.raises(UnusableOutput, match="link: expected a directory"):
        make_real(tmp_path / "link/c", below=tmp_path)
    assert not (tmp_path / "a/c").exists()
