"""`harness.build.materialize`: a directory of ours that holds a source, with as little change as possible."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.build import materialize as module
from harness.build.materialize import forget, held_source, materialize
from harness.build.source import parse_source_spec, resolve_source
from harness.errors import InfraError, UserError
from harness.model.kernel import Source
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import TOY_TIME, Recorder, make_tree, pack


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "ws/src"


def resolved(path: Path) -> Source:
    return resolve_source(parse_source_spec(str(path)))


def files(tree: Path) -> dict[str, str]:
    """Every file's content, or where a link points to."""
    return {
        str(path.relative_to(tree)): os.readlink(path) if path.is_symlink() else path.read_text()  # noqa: PTH115
        for path in sorted(tree.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def times(tree: Path) -> dict[str, int]:
    return {str(path.relative_to(tree)): path.lstat().st_mtime_ns for path in tree.rglob("*") if not path.is_dir()}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in after if after[name] != before.get(name)} | (before.keys() - after.keys())


# tarballs


@pytest.mark.parametrize("suffix", [".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst"])
def test_every_kind_of_tarball_is_unpacked(tmp_path: Path, tree: Path, suffix: str) -> None:
    original = make_tree(tmp_path / "linux-7.3.4")
    progress = Recorder()
    source = resolved(pack(original, tmp_path / f"linux-7.3.4{suffix}"))
    materialize(source, tree, progress=progress)
    assert files(tree) == files(original)
    assert os.access(tree / "scripts/run.sh", os.X_OK)
    assert (tree / "Kconfig").stat().st_mtime == TOY_TIME
    assert sorted(path.name for path in tree.parent.iterdir()) == ["source.json", "source.json.lock", "src"]
    label, done, total = progress.advanced[-1]
    assert (label, done) == (f"unpacking linux-7.3.4{suffix}", total)


def test_a_tree_that_holds_the_source_is_left_alone(tmp_path: Path, tree: Path) -> None:
    source = resolved(pack(make_tree(tmp_path / "linux"), tmp_path / "linux.tar"))
    materialize(source, tree)
    (tree / "Kconfig").write_text("patched")
    source.path.unlink()
    progress = Recorder()
    materialize(source, tree, progress=progress)
    assert (tree / "Kconfig").read_text() == "patched"
    assert progress.said == []


def test_after_forget_the_source_is_restored(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "linux")
    source = resolved(pack(original, tmp_path / "linux.tar"))
    materialize(source, tree)
    (tree / "Kconfig").write_text("patched")
    (tree / "added.c").write_text("patched")
    forget(tree)
    materialize(source, tree)
    assert files(tree) == files(original)


def test_the_marker_tells_what_the_tree_holds(tmp_path: Path, tree: Path) -> None:
    source = resolved(pack(make_tree(tmp_path / "linux"), tmp_path / "linux-7.3.4.tar"))
    materialize(source, tree)
    held = json.loads((tree.parent / "source.json").read_text())
    assert held == held_source(tree)
    assert held["identity"] == source.identity
    assert held["version"] == "7.3.4"
    assert held["kind"] == "tarball"


@fault(
    "the harness is killed while it renews a source tree",
    where="killed",
    blame=Blame.NOBODY,
    survives="the next build, from a tree that is whole",
)
def test_no_marker_stands_while_the_tree_is_not_whole(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolved(pack(make_tree(tmp_path / "linux"), tmp_path / "one.tar"))
    second = resolved(pack(make_tree(tmp_path / "linux2", sublevel="5"), tmp_path / "two.tar"))
    materialize(first, tree)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "mirror", die)
    with pytest.raises(KeyboardInterrupt):
        materialize(second, tree)
    assert held_source(tree) == {}
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    materialize(second, tree)
    assert "SUBLEVEL = 5" in (tree / "Makefile").read_text()


def test_another_version_changes_only_what_differs_and_that_is_new(tmp_path: Path, tree: Path) -> None:
    """Also where the archive's files are older than the objects that were built meanwhile."""
    old = make_tree(tmp_path / "a/linux", gone__c="x", same__c="same")
    new = make_tree(tmp_path / "b/linux", sublevel="5", new__c="x", same__c="same")
    materialize(resolved(pack(old, tmp_path / "old.tar")), tree)
    before = times(tree)
    materialize(resolved(pack(new, tmp_path / "new.tar")), tree)
    assert files(tree) == files(new)
    assert changed(before, times(tree)) == {"Makefile", "gone/c", "new/c"}
    assert (tree / "Makefile").stat().st_mtime > TOY_TIME


def member(name: str, *, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    if target:
        info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize("name", ["../escaped", "linux/../../escaped", "linux/out/escaped"])
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path: Path, tree: Path, name: str) -> None:
    tarball = pack(make_tree(tmp_path / "linux"), tmp_path / "evil.tar")
    with tarfile.open(tarball, "a") as archive:
        archive.addfile(member("linux/out", target=str(tmp_path)))
        archive.addfile(member(name), io.BytesIO())
    with pytest.raises(UserError, match=r"evil\.tar: (refused|damaged)"):
        materialize(resolved(tarball), tree)
    assert not list(tmp_path.rglob("escaped"))
    assert not tree.exists()
    assert not (tree.parent / ".src.unpacking").exists()


def test_an_absolute_member_does_not_reach_its_place(tmp_path: Path, tree: Path) -> None:
    tarball = pack(make_tree(tmp_path / "linux"), tmp_path / "evil.tar")
    with tarfile.open(tarball, "a") as archive:
        archive.addfile(member(f"{tmp_path}/escaped"), io.BytesIO())
    with pytest.raises(UserError, match="expected one directory with a kernel tree inside, found linux, "):
        materialize(resolved(tarball), tree)
    assert not (tmp_path / "escaped").exists()


def test_a_damaged_tarball_is_the_users_error(tmp_path: Path, tree: Path) -> None:
    tarball = pack(make_tree(tmp_path / "linux"), tmp_path / "linux.tar.xz")
    tarball.write_bytes(tarball.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"linux\.tar\.xz: damaged or not a tarball") as caught:
        materialize(resolved(tarball), tree)
    assert caught.value.details
    assert not tree.exists()


def test_a_tarball_of_something_else_is_refused(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/setup.py").touch()
    with pytest.raises(UserError, match=r"other\.tar: other: not a kernel source tree: .*found setup\.py"):
        materialize(resolved(pack(tmp_path / "other", tmp_path / "other.tar")), tree)


# directories


def test_a_directory_is_copied_without_what_a_build_left_in_it(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "mine")
    pristine = files(original)
    for name in (
        ".git/HEAD", ".config", "vmlinux", "vmlinux.o", "kernel/sched.o", "kernel/.sched.o.cmd", "drivers/a.ko",
        "include/config/auto.conf", "include/generated/autoconf.h", "arch/arm64/include/generated/asm/x.h",
        "arch/arm64/boot/Image", "modules.order", "Module.symvers", ".tmp_vmlinux1",
    ):  # fmt: skip
        (original / name).parent.mkdir(parents=True, exist_ok=True)
        (original / name).touch()
    materialize(resolved(original), tree)
    assert files(tree) == pristine
    assert os.access(tree / "scripts/run.sh", os.X_OK)


def test_only_changed_files_change_and_the_users_directory_does_not(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "mine", gone__c="x", touched__c="x", typed__c="x")
    materialize(resolved(original), tree)
    before = times(tree)
    (original / "kernel/sched.c").write_text("int edited;\n")
    (original / "kernel/new.c").write_text("int new;\n")
    shutil.rmtree(original / "gone")
    os.utime(original / "touched/c")
    (original / "Kconfig").chmod(0o755)
    (original / "typed/c").unlink()
    (original / "typed/c").mkdir()
    (original / "typed/c/d").write_text("x")
    (original / "arch/arm64/link").unlink()
    (original / "arch/arm64/link").symlink_to("../../Makefile")
    theirs = times(original)
    materialize(resolved(original), tree)
    assert files(tree) == files(original)
    assert changed(before, times(tree)) == {
        "kernel/sched.c", "kernel/new.c", "gone/c", "Kconfig", "typed/c", "typed/c/d", "arch/arm64/link",
    }  # fmt: skip
    assert os.access(tree / "Kconfig", os.X_OK)
    assert not (tree / "gone").exists()
    assert times(original) == theirs


def test_a_file_replaced_by_an_older_one_is_newer_than_what_was_built(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "mine")
    materialize(resolved(original), tree)
    built = (tree / "kernel/sched.c").stat().st_mtime_ns
    (original / "kernel/sched.c").write_text("int older;\n")
    os.utime(original / "kernel/sched.c", (TOY_TIME, TOY_TIME))
    materialize(resolved(original), tree)
    assert (tree / "kernel/sched.c").read_text() == "int older;\n"
    assert (tree / "kernel/sched.c").stat().st_mtime_ns > built


def test_a_patched_copy_is_restored_and_its_objects_survive(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "mine")
    source = resolved(original)
    materialize(source, tree)
    (tree / "kernel/sched.c").write_text("patched\n")
    (tree / "kernel/sched.o").touch()
    forget(tree)
    materialize(source, tree)
    assert (tree / "kernel/sched.c").read_text() == "int sched;\n"
    assert (tree / "kernel/sched.o").exists()


def test_unchanged_files_are_not_even_read_again(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "mine")
    materialize(resolved(original), tree)
    before = (tree / "kernel/sched.c").stat()
    # The same size and time, so only a reader could tell.
    (tree / "kernel/sched.c").write_text("INT SCHED;\n")
    os.utime(tree / "kernel/sched.c", ns=(before.st_atime_ns, before.st_mtime_ns))
    (original / "Kconfig").write_text("edited\n")
    materialize(resolved(original), tree)
    assert (tree / "kernel/sched.c").read_text() == "INT SCHED;\n"


def test_what_is_known_of_one_directory_says_nothing_of_another(tmp_path: Path, tree: Path) -> None:
    for name, text in (("a", "one"), ("b", "two")):
        make_tree(tmp_path / name, same__c=text)
        os.utime(tmp_path / name / "same/c", (TOY_TIME, TOY_TIME))
    materialize(resolved(tmp_path / "a"), tree)
    materialize(resolved(tmp_path / "b"), tree)
    assert files(tree) == files(tmp_path / "b")


def test_a_pipe_in_the_directory_does_not_block(tmp_path: Path, tree: Path) -> None:
    original = make_tree(tmp_path / "mine")
    os.mkfifo(original / "pipe")
    materialize(resolved(original), tree)
    assert not (tree / "pipe").exists()


def test_a_copy_that_cannot_be_written_is_an_infrastructure_error(tmp_path: Path, tree: Path) -> None:
    source = resolved(make_tree(tmp_path / "mine"))
    tree.parent.mkdir(parents=True)
    tree.write_text("a file in the way")
    with pytest.raises(InfraError, match="cannot be copied into the cache"):
        materialize(source, tree)


def test_one_kind_of_source_follows_another(tmp_path: Path, tree: Path) -> None:
    directory = make_tree(tmp_path / "mine", only__here="x")
    repository = make_tree(tmp_path / "repository", sublevel="9")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run(["git", *who, *words], cwd=repository, check=True)
    tarball = pack(make_tree(tmp_path / "packed", sublevel="8"), tmp_path / "packed.tar")
    expected = {str(directory): "4", f"git:{repository}": "9", str(tarball): "8"}
    for spec in (str(directory), f"git:{repository}", str(tarball), f"git:{repository}", str(directory)):
        materialize(resolve_source(parse_source_spec(spec)), tree)
        assert f"SUBLEVEL = {expected[spec]}" in (tree / "Makefile").read_text()
        assert (tree / "only/here").exists() == (spec == str(directory))


def test_a_tarball_with_a_built_kernel_is_told_how_to_be_named(tmp_path: Path, tree: Path) -> None:
    for name in ("boot/vmlinuz-7.3", "lib/modules/7.3/modules.order"):
        (tmp_path / "built" / name).parent.mkdir(parents=True)
        (tmp_path / "built" / name).touch()
    subprocess.run(["tar", "-C", tmp_path / "built", "-cf", tmp_path / "built.tar", "boot", "lib"], check=True)
    with pytest.raises(UserError, match="found boot, lib; for a kernel that is built already, write prebuilt: before"):
        materialize(resolved(tmp_path / "built.tar"), tree)
