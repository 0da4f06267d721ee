"""The cache: what is published is complete, and two builds do not disturb each other."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.build.cache import cache_root, published, scratch_dir, try_locked
from harness.build.checksum import write_atomically
from harness.build.workspace import Workspace, workspace_for
from harness.model.kernel import Source, SourceKind, SourceSpec
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import Recorder


def _source(version: str = "7.3.4-1", kind: SourceKind = SourceKind.DEBIAN, location: str = "") -> Source:
    spec = SourceSpec(kind=kind, text="x", location=location, ref="trixie-backports")
    return Source(spec=spec, identity="i", path=Path("x"), version=version, checksum="c")


def no_seal(_directory: Path) -> None:
    """These tests are not about the manifest."""


@fault("making a cache entry fails half-way", where="cache", blame=Blame.NOBODY, survives="no entry that is cut short")
def test_what_fails_on_the_way_is_not_published(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with published(tmp_path / "build", seal=no_seal) as scratch:
            (scratch / "Image").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


@fault("two make the same cache entry at once", where="cache", blame=Blame.NOBODY, survives="the first one's, whole")
def test_what_is_published_is_whole_and_the_first_stays(tmp_path: Path) -> None:
    final = tmp_path / "build"
    with published(final, seal=no_seal) as first, published(tmp_path / "other", seal=no_seal) as _:
        (first / "Image").write_text("first")
        assert not final.exists()
    with published(final, seal=no_seal) as second:
        (second / "Image").write_text("second")
    assert (final / "Image").read_text() == "first"


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    with try_locked(tmp_path / "l") as mine:
        assert mine
        with try_locked(tmp_path / "l") as again:
            assert not again
    with try_locked(tmp_path / "l") as mine:
        assert mine


@fault(
    "two builds of one kernel at once",
    where="two users",
    blame=Blame.NOBODY,
    survives="both, each in a workspace of its own",
)
def test_two_builds_at_once_get_two_workspaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with workspace_for(_source(), configuration="c") as one, workspace_for(_source(), configuration="c") as two:
        assert one.directory != two.directory
    with workspace_for(_source(), configuration="c") as again:
        assert again.directory == one.directory
    assert cache_root().is_relative_to(tmp_path)


def test_versions_of_one_series_share_a_workspace_origins_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def place(source: Source) -> Path:
        with workspace_for(source, configuration="c") as workspace:
            return workspace.directory

    assert place(_source("7.3.4-1")) == place(_source("7.3.5-1~bpo13+1"))
    assert place(_source("7.3.4-1")) != place(_source("6.1.192-2"))
    one, other = (_source(kind=SourceKind.DIRECTORY, location=f"/src/{name}/linux") for name in "ab")
    assert place(one) != place(other)


def test_a_build_goes_where_its_configuration_was_built_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with workspace_for(_source(), configuration="a") as first, workspace_for(_source(), configuration="b") as second:
        assert first.directory != second.directory
    with workspace_for(_source(), configuration="b") as again:
        assert again == second
        with workspace_for(_source(), configuration="c") as third:
            assert third.directory == first.directory  # what is there, and free, before a new one
            assert (third.source, third.series) == (first.source, first.series)
            assert third.objects != first.objects


class Ages:
    """Builds, each a minute later than the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._now = int(time.time()) - 7200

    def build(self, configuration: str, *, source: Source | None = None) -> Workspace:
        with workspace_for(source or _source(), configuration=configuration) as workspace:
            (workspace.objects / "vmlinux").touch()
            workspace.payload.mkdir(exist_ok=True)
        self._now += 60
        for used in (workspace.objects, workspace.directory):
            os.utime(used, (self._now, self._now))
        return workspace

    def trees(self) -> list[str]:
        """The configurations that have objects, and those that have something else; nothing is half removed."""
        objects = sorted(path.name.removeprefix("obj-") for path in self.root.glob("*/obj-*"))
        state = sorted(path.name.removeprefix("made-") for path in self.root.glob("*/made-*"))
        assert objects == state
        assert not [*self.root.glob(".gone-*")]
        return objects


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ages:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Ages(tmp_path / "arm64-ftrace-harness/workspaces")


def test_of_an_origin_the_four_configurations_used_last_keep_their_objects(ages: Ages) -> None:
    for configuration in "abcd":
        ages.build(configuration)
    ages.build("a")
    assert ages.trees() == ["a", "b", "c", "d"]
    ages.build("e")
    assert ages.trees() == ["a", "c", "d", "e"]  # b was used longest ago
    ages.build("only", source=_source("6.1.192-2"))
    assert ages.trees() == ["a", "c", "d", "e", "only"]


def test_objects_in_use_stay(ages: Ages) -> None:
    with workspace_for(_source(), configuration="held") as held:
        os.utime(held.objects, (1, 1))
        for configuration in "abcde":
            ages.build(configuration)
        assert ages.trees() == ["b", "c", "d", "e", "held"]
    ages.build("f")
    assert ages.trees() == ["c", "d", "e", "f"]


def test_of_all_origins_the_six_workspaces_used_last_stay_and_those_in_use(ages: Ages) -> None:
    sources = [_source(f"7.{number}.1-1") for number in range(8)]
    with workspace_for(sources[0], configuration="c") as held:
        os.utime(held.directory, (1, 1))
        made = [ages.build("c", source=source).directory for source in sources[1:]]
        assert held.directory.is_dir()
    os.utime(held.directory, (1, 1))
    assert [path.is_dir() for path in made] == [False, *[True] * 6]
    last = ages.build("c", source=sources[1])
    assert last.directory.is_dir()
    assert not held.directory.exists()


def test_what_a_killed_harness_had_set_aside_is_removed(ages: Ages) -> None:
    (ages.root / ".gone-1234/obj").mkdir(parents=True)
    ages.build("a")
    assert ages.trees() == ["a"]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "arm64-ftrace-harness/snapshots"


def test_a_scratch_directory_is_there_for_its_block_only(own_cache: Path) -> None:
    with scratch_dir("snapshots") as path:
        (path / "ram").write_text("x")
        assert path.parent == own_cache
    assert list(own_cache.iterdir()) == []


def test_what_a_killed_harness_left_is_removed_and_what_a_living_one_has_is_not(own_cache: Path) -> None:
    left = own_cache / "4711-00c0ffee"
    left.mkdir(parents=True)
    (left / "ram").write_text("x")
    left.with_name(f"{left.name}.lock").touch()  # a dead process holds no lock
    with scratch_dir("snapshots") as first:
        assert not left.exists()
        assert not left.with_name(f"{left.name}.lock").exists()
        (first / "ram").write_text("x")
        with scratch_dir("snapshots") as second:
            assert (first / "ram").read_text() == "x"
            assert second != first
        assert first.is_dir()


def test_other_kinds_of_scratch_are_left_alone(own_cache: Path) -> None:
    other = own_cache.with_name("others")
    (other / "1-2").mkdir(parents=True)
    (other / "1-2.lock").touch()
    with scratch_dir("snapshots"):
        assert (other / "1-2").is_dir()


@fault("the cache is on a file system that became read-only, and a run wants to save snapshots", where="disk",
       blame=Blame.NOBODY, survives="the run: its snapshots are temporary files elsewhere")  # fmt: skip
def test_scratch_that_can_not_be_in_the_cache_is_elsewhere(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # a root user's permissions would not stop anything
    with scratch_dir("snapshots") as path:
        assert not path.is_relative_to(own_cache)
        assert path.is_dir()
    assert not path.exists()
    assert list(own_cache.iterdir()) == []


def test_a_workspace_that_nobody_used_for_long_is_removed_and_that_is_told(
    ages: Ages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE_DAYS", "1")
    old, newer = (ages.build("c", source=_source(f"6.{number}.1-1")).directory for number in (1, 2))
    os.utime(old, (time.time() - 90_000,) * 2)
    progress = Recorder()
    with workspace_for(_source(), configuration="c", progress=progress):
        pass
    assert [old.exists(), newer.exists()] == [False, True]
    assert progress.said == [f"cache: removed workspaces/{old.name}: not used for 1 day (HARNESS_CACHE_DAYS)"]


def test_why_objects_are_removed_is_told(ages: Ages) -> None:
    for configuration in "abcd":
        ages.build(configuration)
    progress = Recorder()
    with workspace_for(_source(), configuration="e", progress=progress) as workspace:
        pass
    (told,) = progress.said
    assert told == (
        f"cache: removed workspaces/{workspace.directory.name}/obj-a: 4 other configurations of this kernel were used "
        "more recently"
    )


def test_what_others_publish_and_prune_meanwhile_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another harness publishes the same right before the rename, and a third one prunes that right after it."""
    final, rename, seen = tmp_path / "build", os.rename, list[bool]()

    def renamed(scratch: Path, goal: Path) -> None:
        seen.append(True)
        if len(seen) == 1:
            (final / "modules").mkdir(parents=True)
            try:
                rename(scratch, goal)
            finally:
                shutil.rmtree(final)
        rename(scratch, goal)

    monkeypatch.setattr(os, "rename", renamed)
    with published(final, seal=no_seal) as scratch:
        (scratch / "Image").write_text("ours")
    assert len(seen) == 2
    assert (final / "Image").read_text() == "ours"


# --- small files ----------------------------------------------------------------------------------------------------


def test_a_small_file_is_utf_8_wherever_it_is_written(tmp_path: Path) -> None:
    code = "import pathlib; from harness.build.checksum import write_atomically as w; w(pathlib.Path('x'), '\\u2717')"
    ascii_only = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ascii_only["PYTHONPATH"] = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ascii_only, check=True, timeout=60)
    assert (tmp_path / "x").read_bytes() == "\u2717".encode()


@fault(
    "the disk is full when a small file is to be replaced", where="disk", blame=Blame.INFRA,
    survives="the file as it was, and nothing beside it",
)  # fmt: skip
def test_a_small_file_that_can_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x").write_text("before")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "x", "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "before")]
