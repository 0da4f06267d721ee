"""The cache is kept within its limits, and nothing is removed that somebody uses."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import products
from harness.build import inuse, prune, seal
from harness.build.cache import cache_dir, published
from harness.build.inuse import hold, nobody_uses
from harness.build.prune import Limits, limits_from_environment
from harness.build.seal import made_once, manifest_of, seal_directory, seal_file
from harness.errors import InfraError, UserError
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import Recorder

_MB = 1_000_000
_DAY_S = 86400.0
NO_LIMITS = Limits(size=1e18, age=1e18)
# What another harness does: take a hold, say so, wait to be ended.
HOLDER = """
import sys
from pathlib import Path
from harness.build.inuse import hold
held = hold(Path(sys.argv[1]))
print("held" if held else "gone", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "arm64-ftrace-harness"


def a_build(name: str, *, days: float = 0.0, size: int = _MB) -> Path:
    """A finished build that was last used so many days ago."""
    directory = cache_dir("builds") / name
    directory.mkdir()
    (directory / "Image").write_bytes(bytes(size))
    seal_directory(directory, final=directory)
    _age(directory, days)
    return directory


def a_file(kind: str, name: str, *, days: float = 0.0) -> Path:
    path = cache_dir(kind) / name
    path.write_bytes(bytes(_MB))
    seal_file(path, path)
    _age(manifest_of(path), days)
    return path


def _age(path: Path, days: float) -> None:
    then = time.time() - days * _DAY_S
    os.utime(path, (then, then))


@contextlib.contextmanager
def another_harness(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses `path`."""
    words = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def names() -> set[str]:
    return {entry.name for entry in prune.entries()}


def test_the_least_recently_used_goes_until_the_rest_fits() -> None:
    for number in range(5):
        a_build(f"b{number}", days=10 - number)
    a_file("rootfs", "root-1.ext4", days=9.5)
    progress = Recorder()
    prune.prune(Limits(size=3.5 * _MB, age=1e18), progress)
    assert names() == {"builds/b2", "builds/b3", "builds/b4"}
    assert progress.said == [
        "cache: removed builds/b0 (1 MB): 0.0 GB of such files are more than 0.0035 (HARNESS_CACHE_GB)",
        "cache: removed rootfs/root-1.ext4 (1 MB): 0.0 GB of such files are more than 0.0035 (HARNESS_CACHE_GB)",
        "cache: removed builds/b1 (1 MB): 0.0 GB of such files are more than 0.0035 (HARNESS_CACHE_GB)",
    ]


def test_what_nobody_used_for_long_goes() -> None:
    for kind, name in (
        ("rootfs", "root-1.ext4"),
        ("initramfs", "payload-1.cpio.gz"),
        ("downloads", "linux-6.1.tar.xz"),
    ):
        a_file(kind, name, days=61)
        a_file(kind, name.replace("1", "2"), days=59)
    a_build("old", days=61)
    a_build("new", days=59)
    directory = cache_dir("downloads", "linux-source-7.3_7.3.4-1_0123")
    a_file("downloads", f"{directory.name}/linux-source-7.3.tar.xz", days=61)
    progress = Recorder()
    prune.prune(Limits(size=1e18, age=60 * _DAY_S), progress)
    assert names() == {
        "builds/new",
        "rootfs/root-2.ext4",
        "initramfs/payload-2.cpio.gz",
        "downloads/linux-6.2.tar.xz",
    }
    assert len(progress.said) == 5
    assert all(line.endswith("MB): not used for 60 days (HARNESS_CACHE_DAYS)") for line in progress.said)
    assert not [
        path for path in cache_dir().rglob("*.manifest.json") if not path.with_suffix("").with_suffix("").exists()
    ]


@fault("another build ends and prunes the cache while a run uses an old build", where="two users", blame=Blame.NOBODY,
       survives="the build, the root image and the tarball that are used")  # fmt: skip
def test_what_another_process_uses_stays_even_if_that_exceeds_the_limits() -> None:
    used, root = a_build("used", days=99), a_file("rootfs", "root-1.ext4", days=99)
    tarball = a_file("downloads", "linux-6.1.tar.xz", days=99)
    a_build("unused", days=1)
    tight = Limits(size=0, age=0)
    with another_harness(used), another_harness(manifest_of(root)), another_harness(manifest_of(tarball)):
        prune.prune(tight, Recorder())
        assert names() == {"builds/used", "rootfs/root-1.ext4", "downloads/linux-6.1.tar.xz"}
        assert (used / "Image").stat().st_size == _MB
    prune.prune(tight, Recorder())
    assert names() == set()


def test_what_this_process_uses_stays_as_well() -> None:
    held = hold(a_build("mine", days=99))
    prune.prune(Limits(size=0, age=0), Recorder())
    assert names() == {"builds/mine"}
    assert held
    held.close()
    held.close()
    prune.prune(Limits(size=0, age=0), Recorder())
    assert names() == set()


def test_a_hold_lasts_as_long_as_its_object() -> None:
    directory = a_build("b")
    held = hold(directory)
    with nobody_uses(directory) as is_free:
        assert not is_free
    del held
    with nobody_uses(directory) as is_free:
        assert is_free


@fault("a harness is killed while it uses a build of the cache", where="killed", blame=Blame.NOBODY,
       survives="the limits: its lock is gone with it, so the build can be removed")  # fmt: skip
def test_a_killed_process_holds_nothing() -> None:
    directory = a_build("b", days=99)
    with another_harness(directory) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        prune.prune(Limits(size=1e18, age=_DAY_S), Recorder())
        assert not directory.exists()


def test_child_processes_do_not_inherit_a_hold() -> None:
    """A daemon that somebody's hook leaves behind would keep the build for ever."""
    directory = a_build("b")
    held = hold(directory)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert held
        held.close()
        with nobody_uses(directory) as is_free:
            assert is_free
    finally:
        child.kill()
        child.wait()


def test_a_hold_is_refused_by_pickle() -> None:
    with pytest.raises(TypeError, match="has to take its own"):
        pickle.dumps(hold(a_build("b")))


def test_what_is_removed_between_finding_and_locking_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pruner renames it after it was opened, before it was locked."""
    directory = a_build("b", days=99)
    flock, is_first = fcntl.flock, [True]

    def late(descriptor: int, kind: int) -> None:
        if kind & fcntl.LOCK_SH and is_first.pop():
            prune.prune(Limits(size=0, age=0), Recorder())
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    assert hold(directory) is None


def test_what_was_made_anew_meanwhile_is_not_taken_for_what_was_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_build("b", days=99)
    flock, is_first = fcntl.flock, [True]

    def late(descriptor: int, kind: int) -> None:
        if kind & fcntl.LOCK_SH and is_first and is_first.pop():
            prune.prune(Limits(size=0, age=0), Recorder())
            a_build("b")
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    assert hold(directory) is None
    assert hold(directory) is not None


def test_while_an_entry_is_removed_users_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_build("b")
    slept: list[float] = []
    with contextlib.ExitStack() as removing:
        assert removing.enter_context(nobody_uses(directory))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            removing.close()

        monkeypatch.setattr(time, "sleep", sleep)
        assert hold(directory) is not None
    assert len(slept) == 1


@fault("another user locks a build for ever", where="two users", blame=Blame.INFRA,
       survives="the build; the message names it after seconds")  # fmt: skip
def test_an_entry_that_stays_locked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_build("b")
    monkeypatch.setattr(inuse, "_WAIT_S", 0.05)
    with nobody_uses(directory), pytest.raises(InfraError, match=r"builds/b: another process has kept it locked for"):
        hold(directory)


def test_where_nobody_can_lock_everything_can_be_used_and_nothing_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _kind: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    directory = a_build("b", days=99)
    assert hold(directory) is not None
    prune.prune(Limits(size=0, age=0), Recorder())
    assert directory.is_dir()


def test_what_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert hold(tmp_path / "nothing") is None


def test_what_killed_builds_left_is_cleared_and_a_build_in_progress_is_not() -> None:
    builds = cache_dir("builds")
    for left in (".0123.4711-00c0ffee.partial", ".gone-0123"):
        (builds / left).mkdir()
        (builds / left / "Image").touch()
    with published(builds / "new", seal=lambda _: None) as scratch:
        (scratch / "Image").touch()
        prune.prune(NO_LIMITS, Recorder())
        assert [path.name for path in builds.iterdir()] == [scratch.name]
    assert [path.name for path in builds.iterdir()] == ["new"]


def test_a_build_interrupted_while_it_is_removed_does_not_look_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    a_build("b", days=99)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune.prune(Limits(size=0, age=0), Recorder())
    assert names() == set()
    monkeypatch.undo()


def test_the_use_of_the_cache_is_told(cache: Path) -> None:
    kept = hold(a_build("one"))
    a_build("two")
    a_file("rootfs", "root-1.ext4")
    (cache / "workspaces/w/src").mkdir(parents=True)
    (cache / "workspaces/w.lock").touch()
    told = prune.usage()
    assert kept
    assert told[:2] == ["builds: 2, 0.0 GB, 1 in use", "rootfs: 1, 0.0 GB, 0 in use"]
    assert "together: 0.0 GB of 10 GB (HARNESS_CACHE_GB)" in told
    assert told[-1].startswith("workspaces: 1, 0.0 GB")


@pytest.mark.parametrize(("gb", "days", "limits"), [
    ("", "", Limits(size=10e9, age=60 * _DAY_S)),
    ("0.5", "1", Limits(size=0.5e9, age=_DAY_S)),
    ("inf", "inf", Limits(size=float("inf"), age=float("inf"))),
])  # fmt: skip
def test_limits_come_from_the_environment(gb: str, days: str, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE_GB", gb)
    monkeypatch.setenv("HARNESS_CACHE_DAYS", days)
    assert limits_from_environment() == limits


@pytest.mark.parametrize("text", ["many", "nan", "0", "-1"])
def test_a_limit_that_is_none_is_the_users_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE_DAYS", text)
    with pytest.raises(UserError, match=rf"\$HARNESS_CACHE_DAYS: expected a number above 0, found '{text}'"):
        limits_from_environment()


def test_a_file_that_is_being_made_anew_is_not_taken_for_one_without_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its renaming and its manifest nobody can hold it; its maker's lock tells the pruner."""
    path = cache_dir("rootfs") / "root-1.ext4"
    rename, pruned = products.rename_synced, list[bool]()

    def renamed(partial: Path, final: Path) -> None:
        rename(partial, final)
        if final == path:
            prune.prune(Limits(size=0, age=0), Recorder())
            pruned.append(path.exists())

    monkeypatch.setattr(seal, "rename_synced", renamed)
    kept = made_once(path, lambda partial: partial.touch(), progress=Recorder(), needed="1 GB")
    assert pruned == [True]
    prune.prune(Limits(size=0, age=0), Recorder())
    assert kept.path.exists()


def test_nothing_is_left_of_what_is_removed(cache: Path) -> None:
    a_build("b", days=99)
    made_once(cache_dir("rootfs") / "root-1.ext4", lambda partial: partial.touch(), progress=Recorder(), needed="1 GB")
    prune.prune(Limits(size=0, age=0), Recorder())
    assert [path for kind in ("builds", "rootfs") for path in (cache / kind).iterdir()] == []
