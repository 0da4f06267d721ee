"""Files as locks: what counts is the file that is there now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import lockfile
from harness.build.cache import locked, try_locked
from harness.errors import InfraError
from harness.lockfile import is_at, locked_file
from harness.target.line.placerecord import PlaceRecord, Whereabouts, whereabouts
from tests.faults.catalogue import Blame, fault
from tests.locks import wait_for_a_waiter

# Holds the lock until a line comes; told to, it removes the file first, as the last user of a scratch directory does.
HOLDER = """
import os, sys
from pathlib import Path
from harness.build.cache import locked
path = Path(sys.argv[1])
with locked(path):
    print("mine", flush=True)
    if input() == "remove":
        path.unlink()
"""
# Waits for the lock, and then looks whether it is the file's.
WAITER = """
import sys
from pathlib import Path
from harness.build.cache import locked, try_locked
path = Path(sys.argv[1])
print("waiting", flush=True)
with locked(path):
    with try_locked(path) as is_free:
        print("both have it" if is_free else "mine alone", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


def started(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    with started(HOLDER, path) as process:
        assert process.stdout
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


@fault(
    "a lock file in the cache is removed by its holder while a second harness waits for it",
    where="two users",
    blame=Blame.NOBODY,
    survives="one holder at a time: the second one locks a file that others find",
)
def test_who_waits_for_a_file_that_is_removed_does_not_share_the_lock(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    with started(WAITER, path) as waiter:
        assert waiter.stdout
        assert waiter.stdout.readline() == "waiting\n"
        wait_for_a_waiter(path)
        holder.communicate("remove\n")
        assert waiter.stdout.readline() == "mine alone\n"


def test_a_lock_ends_with_its_process(path: Path, holder: subprocess.Popen[str]) -> None:
    with try_locked(path) as is_free:
        assert not is_free
    holder.kill()
    holder.wait()
    with locked(path), try_locked(path) as is_free:
        assert not is_free


@fault(
    "a program replaces a lock file all the time",
    where="two users",
    blame=Blame.INFRA,
    survives="the limit: the file is named after ten tries",
)
@pytest.mark.parametrize("wait", [True, False])
def test_a_file_that_is_replaced_all_the_time_is_told(path: Path, wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(lockfile, "is_at", lambda _file, _path: False)
    with pytest.raises(InfraError, match=r"x\.lock: expected a lock file that stays, it was replaced 10 times"):
        locked_file(path, wait=wait)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_file_is_known_by_its_inode(path: Path) -> None:
    file = locked_file(path, wait=False)
    assert file is not None
    assert is_at(file, path)
    path.unlink()
    assert not is_at(file, path)
    path.touch()
    assert not is_at(file, path)
    path.unlink()
    path.symlink_to(f"/proc/self/fd/{file}")
    assert not is_at(file, path)
    os.close(file)


@fault(
    "another harness of this user holds the labgrid place",
    where="two users",
    blame=Blame.INFRA,
    survives="the other's record, which names it",
)
def test_a_place_has_one_record(path: Path) -> None:
    first, second = (PlaceRecord(path, told="b: labgrid place p", purpose=purpose) for purpose in ("one", "two"))
    with first.held():
        first.acquired(7.0, line=("h", 1))
        with pytest.raises(InfraError, match="another harness on this host has it: one, since"), second.held():
            pass
    with second.held():
        assert second.changed == 7.0
        second.acquired(8.0, line=("i", 2))
        assert second.changed == 8.0
        assert whereabouts(path) == Whereabouts(host="i", port=2, is_away=False)
        second.released()
        assert second.changed is None
