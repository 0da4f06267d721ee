"""Unpacking in memory, up to a limit."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from harness import limits, shortage
from harness.build.unpack import packed_by, unpacked
from harness.campaign.inspecting import inspect
from harness.limits import Limit
from harness.model.progress import Silent
from tests.faults.catalogue import Blame, fault
from tests.unit.test_inspect import PACKERS, peak, sound, write, zstd

SMALL = Limit(name="TEST_BYTES", default=1 << 20, unit="bytes", on="a test")


@pytest.mark.parametrize("packer", PACKERS)
def test_there_is_one_copy(packer: str) -> None:
    packed = PACKERS[packer](bytes(32 << 20))
    data, most = peak(lambda: unpacked(packed, name="x", limit=limits.INSPECT_BYTES))
    assert len(data) == 32 << 20
    assert most < 48 << 20


@pytest.mark.parametrize("packer", PACKERS)
def test_what_was_packed(packer: str) -> None:
    data = bytes(range(256)) * 1000
    packed = PACKERS[packer](data)
    assert packed_by(packed) == packer
    assert unpacked(packed, name="x", limit=SMALL) == data


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_several_streams(packer: str) -> None:
    packed = PACKERS[packer](b"one ") + PACKERS[packer](b"two")
    assert unpacked(packed, name="x", limit=SMALL) == b"one two"
    padded = PACKERS[packer](b"one ") + bytes(500) + PACKERS[packer](b"two") + bytes(5)
    assert unpacked(padded, name="x", limit=SMALL) == b"one two"


@fault("a full disk while a file is unpacked", where="disk", blame=Blame.INFRA, survives="nothing is needed")
def test_a_full_disk_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "m.ko.zst", zstd(sound()))

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="No space left") as caught:
        inspect(path, modules=False, progress=Silent())
    told = shortage.of(caught.value, where=tmp_path)  # as the command line asks
    assert told is not None
    assert told.exit_code == 3


def test_what_is_not_packed() -> None:
    assert packed_by(b"\x7fELF") == ""
