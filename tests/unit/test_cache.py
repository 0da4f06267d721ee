"""The cache: what is published is complete, and two builds do not disturb each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.cache import cache_root, published, scratch_dir, try_locked
from harness.build.workspace import workspace_for
from harness.model.kernel import Source, SourceKind, SourceSpec


def _source(version: str = "7.3.4-1", kind: SourceKind = SourceKind.DEBIAN, location: str = "") -> Source:
    spec = SourceSpec(kind=kind, text="x", location=location, ref="trixie-backports")
    return Source(spec=spec, identity="i", path=Path("x"), version=version, checksum="c")


def test_what_fails_on_the_way_is_not_published(tmp_path):
    def fail_half_way() -> None:
        with published(tmp_path / "build") as scratch:
            (scratch / "Image").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_what_is_published_is_whole_and_the_first_stays(tmp_path):
    final = tmp_path / "build"
    with published(final) as first, published(tmp_path / "other") as _:
        (first / "Image").write_text("first")
        assert not final.exists()
    with published(final) as second:
        (second / "Image").write_text("second")
    assert (final / "Image").read_text() == "first"


def test_a_lock_is_free_again_after_its_block(tmp_path):
    with try_locked(tmp_path / "l") as mine:
        assert mine
        with try_locked(tmp_path / "l") as again:
            assert not again
    with try_locked(tmp_path / "l") as mine:
        assert mine


def test_two_builds_at_once_get_two_workspaces(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with workspace_for(_source(), flavour="f") as one, workspace_for(_source(), flavour="f") as two:
        assert one.directory != two.directory
    with workspace_for(_source(), flavour="f") as again:
        assert again.directory == one.directory
    assert cache_root().is_relative_to(tmp_path)


def test_versions_of_one_series_share_a_workspace_origins_do_not(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def place(source: Source) -> Path:
        with workspace_for(source, flavour="f") as workspace:
            return workspace.directory

    assert place(_source("7.3.4-1")) == place(_source("7.3.5-1~bpo13+1"))
    assert place(_source("7.3.4-1")) != place(_source("6.1.192-2"))
    one, other = (_source(kind=SourceKind.DIRECTORY, location=f"/src/{name}/linux") for name in "ab")
    assert place(one) != place(other)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "arm64-ftrace-harness/snapshots"


def test_a_scratch_directory_is_there_for_its_block_only(own_cache):
    with scratch_dir("snapshots") as path:
        (path / "ram").write_text("x")
        assert path.parent == own_cache
    assert list(own_cache.iterdir()) == []


def test_what_a_killed_harness_left_is_removed_and_what_a_living_one_has_is_not(own_cache):
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


def test_other_kinds_of_scratch_are_left_alone(own_cache):
    other = own_cache.with_name("others")
    (other / "1-2").mkdir(parents=True)
    (other / "1-2.lock").touch()
    with scratch_dir("snapshots"):
        assert (other / "1-2").is_dir()
