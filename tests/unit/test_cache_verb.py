"""`harness cache`: what it shows is what is there, and what it removes nobody uses."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click.testing
import pytest

from harness.build import prune
from harness.build.cache import cache_dir, locked, scratch_dir
from harness.build.finished import RECORD
from harness.cli.main import cli
from harness.model.record import BuildRecord, KernelRecord, SourceRecord
from harness.parse.records import build_record_to_json
from tests.faults.catalogue import Blame, fault
from tests.unit.test_prune import a_build, a_file, another_harness


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in (prune.SIZE_VARIABLE, prune.AGE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "arm64-ftrace-harness"


def called(*words: str) -> list[str]:
    done = click.testing.CliRunner().invoke(cli, ["cache", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def files(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.rglob("*")}


def prebuilt(name: str) -> Path:
    directory = a_build(name)
    source = SourceRecord(spec="debian-image:linux-image-arm64@trixie")
    (directory / RECORD).write_text(build_record_to_json(BuildRecord(key=name, kernel=KernelRecord(source=source))))
    return directory


def workspace(cache: Path, name: str = "linux-7.3-0") -> Path:
    directory = cache / "workspaces" / name
    (directory / "src").mkdir(parents=True)
    directory.with_name(f"{name}.lock").touch()
    return directory


def ccache(cache: Path) -> Path:
    """As its users find it: objects, and a configuration that somebody may have written."""
    directory = cache / "ccache"
    (directory / "a/1").mkdir(parents=True)
    (directory / "a/1/object").touch()
    (directory / "ccache.conf").touch()
    return directory


@pytest.fixture
def left(cache: Path) -> Path:
    """A snapshot whose run was killed."""
    with scratch_dir("snapshots"):
        directory = cache / "snapshots/4711-00c0ffee"
        directory.mkdir()
        directory.with_name(f"{directory.name}.lock").touch()
    return directory


def test_what_there_is_is_shown_by_kind_and_nothing_is_changed(cache: Path, left: Path) -> None:
    used = a_build("one", days=2)
    a_build("two", days=5)
    prebuilt("three")
    a_file("rootfs", "root-1.ext4")
    (cache / "git").mkdir()
    ccache(cache)
    built = workspace(cache)
    before = files(cache)
    with another_harness(used), locked(built.with_name(f"{built.name}.lock")):
        shown = called()
        assert called("show") == shown
        entries = called("show", "builds")
    lines = {line.split()[0]: line.split()[1:] for line in shown}
    assert lines["builds"][:1] + lines["builds"][3:10] == ["2", "1", *["2", "d", "ago", "to", "5", "d"]]
    assert "(kernels that were built here)" in " ".join(lines["builds"])
    assert lines["prebuilt"][:1] + lines["prebuilt"][3:4] == ["1", "0"]
    assert lines["workspaces"][3] == lines["ccache"][3] == "1"
    assert lines["temporary"][:1] + lines["temporary"][3:4] == ["1", "0"]
    assert " ".join(lines["other"]).endswith("not cleaned: checksums, git")
    assert [line.split()[-1] for line in entries] == ["builds/one", "builds/two"]
    assert ["in use" in line for line in entries] == [True, False]
    assert files(cache) == before


def test_the_limits_are_shown_with_how_to_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE_GB", "20")
    told = called("limit")
    assert told[0].startswith("size: 20 GB of builds, prebuilt, rootfs, initramfs, downloads together; ")
    assert told[0].endswith("Set HARNESS_CACHE_GB to a number of GB")
    assert told[1].startswith("age: 60 days since the last use of these and of workspaces. Set HARNESS_CACHE_DAYS ")
    assert [line for line in called() if line.startswith("limit ")] == [f"limit   {line}" for line in told]


@pytest.mark.parametrize("dry_run", [False, True])
@fault(
    "another harness uses a build that is to be cleaned", where="two users", blame=Blame.NOBODY,
    survives="the build, which is told as kept",
)  # fmt: skip
def test_all_of_a_kind_is_removed_but_what_somebody_uses(dry_run: bool, cache: Path) -> None:
    used, idle, other = a_build("one"), a_build("two"), prebuilt("three")
    image = a_file("rootfs", "root-1.ext4")
    before = files(cache)
    with another_harness(used):
        told = called("clean", "builds", *(["--dry-run"] if dry_run else []))
    verb = "would remove" if dry_run else "removed"
    assert [line.partition(" (")[0] for line in told[:2]] == ["kept builds/one", f"{verb} builds/two"]
    assert told[0].endswith(": somebody uses it")
    assert told[2] == f"{verb} 1.0 MB in all"
    assert [used.is_dir(), other.is_dir(), image.is_file()] == [True, True, True]
    assert idle.is_dir() == dry_run
    assert not dry_run or files(cache) == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_without_a_kind_what_exceeds_the_limits_goes_and_what_killed_commands_left(
    dry_run: bool, cache: Path, left: Path
) -> None:
    old, new = a_build("old", days=90), a_build("new")
    with scratch_dir("snapshots") as mine:
        left.mkdir(exist_ok=True)  # a command that begins clears, too
        left.with_name(f"{left.name}.lock").touch()
        told = called("clean", *(["--dry-run"] if dry_run else []))
        assert mine.is_dir()
    verb = "would remove" if dry_run else "removed"
    assert told[0].startswith(f"{verb} builds/old (1.0 MB): not used for 60 days (HARNESS_CACHE_DAYS)")
    assert told[1].startswith(f"{verb} snapshots/4711-00c0ffee (0.0 MB): its command was killed")
    assert len(told) == 3
    assert new.is_dir()
    assert [old.is_dir(), left.is_dir()] == [dry_run, dry_run]


def test_what_was_not_used_for_long_goes_of_all_kinds(cache: Path) -> None:
    a_build("old", days=20)
    a_build("new", days=10)
    tree, then = workspace(cache), time.time() - 30 * 86400.0
    os.utime(tree, (then, then))
    told = called("clean", "--older-than", "2w")
    assert [line.partition(" (")[0] for line in told[:-1]] == ["removed builds/old", "removed workspaces/linux-7.3-0"]
    assert not tree.exists()
    assert (cache / "builds/new").is_dir()


@fault(
    "a kernel is built while its workspace and the ccache are to be cleaned", where="two users", blame=Blame.NOBODY,
    survives="both, which are told as kept",
)  # fmt: skip
def test_workspaces_and_ccache_stay_as_long_as_a_kernel_is_built(cache: Path) -> None:
    tree, objects = workspace(cache), ccache(cache)
    with locked(tree.with_name(f"{tree.name}.lock")):
        told = called("clean", "workspaces", "ccache")
        assert [line.partition(" (")[0] for line in told[:2]] == ["kept workspaces/linux-7.3-0", "kept ccache"]
        assert tree.is_dir()
        assert (objects / "a/1/object").is_file()
    told = called("clean", "workspaces", "ccache")
    assert [line.partition(" (")[0] for line in told[:2]] == ["removed workspaces/linux-7.3-0", "removed ccache"]
    assert [path.name for path in objects.iterdir()] == ["ccache.conf"]
    assert not tree.exists()


def test_a_ccache_is_as_old_as_its_latest_use(cache: Path) -> None:
    objects, then = ccache(cache), time.time() - 30 * 86400.0
    (objects / "a/stats").touch()
    for path in (objects / "a", objects / "ccache.conf", objects):
        os.utime(path, (then, then))
    assert called("clean", "ccache", "--older-than", "1w") == ["removed 0.0 MB in all"]
    os.utime(objects / "a/stats", (then, then))
    assert called("clean", "ccache", "--older-than", "1w")[0].startswith("removed ccache ")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories are another user's."""

    def forbidden(path: Path, _to: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", forbidden)


@pytest.mark.usefixtures("foreign")
def test_what_may_not_be_removed_is_kept_and_the_rest_goes_on(cache: Path) -> None:
    workspace(cache)
    path = a_file("rootfs", "root-1.ext4")
    told = called("clean", "workspaces", "rootfs")
    assert [line.partition(" (")[0] for line in told[:2]] == [
        "removed rootfs/root-1.ext4",
        "kept workspaces/linux-7.3-0",
    ]
    assert told[1].endswith(": can't be removed: Permission denied")
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["clean", "build"], "expected one of builds, prebuilt, rootfs, "),
        (["show", "other"], "expected one of builds, prebuilt, rootfs, "),
        (["clean", "--older-than", "3y"], "--older-than: expected an age in days or weeks, as 400d or 60w, found '3y'"),
    ],
)
def test_wrong_input_is_told(words: list[str], told: str) -> None:
    a_build("one", days=900)
    done = click.testing.CliRunner().invoke(cli, ["cache", *words])
    assert done.exit_code != 0
    assert told in " ".join(f"{done.output} {done.exception}".split())
    assert (cache_dir("builds") / "one").is_dir()
