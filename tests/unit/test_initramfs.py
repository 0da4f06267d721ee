"""A root image and a payload become archives that the kernel unpacks into one root."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
from pathlib import Path

import pytest

from harness.build.initramfs import early_archive, payload_archive, root_archive
from harness.errors import InfraError
from harness.model.product import Product
from harness.products import digest_of
from tests.unit.toytree import Recorder


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_bytes(b"#!/bin/sh\n")
    (tree / "bin/tool").chmod(0o755)
    (tree / "sh").symlink_to("bin/tool")
    path = tmp_path / "tree.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, path, "4M"], check=True)
    return path


def entries(archive: Path) -> dict[str, tuple[int, bytes]]:
    """Name to mode and content, read as the kernel does (init/initramfs.c)."""
    data = gzip.decompress(archive.read_bytes())
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        field = [int(data[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        name = data[at + 110 : at + 110 + field[11] - 1].decode()
        start = (at + 110 + field[11] + 3) & ~3
        content = data[start : start + field[6]]
        if name == "TRAILER!!!":
            return found
        assert (field[2], field[3]) == (0, 0)
        found[name] = (field[1], content)
        at = (start + field[6] + 3) & ~3


def test_the_root_with_its_init_and_its_console(image: Path) -> None:
    root = Product(path=image, digest=digest_of(image), remedy="")
    archive = root_archive(root, progress=Recorder()).path
    found = entries(archive)
    assert found["bin/tool"] == (stat.S_IFREG | 0o755, b"#!/bin/sh\n")
    assert found["sh"] == (stat.S_IFLNK | 0o777, b"bin/tool")
    assert found["harness/board-init"][1].startswith(b"#!/bin/dash")
    assert stat.S_ISCHR(found["dev/console"][0])
    assert "lost+found" not in found
    assert list(found).index("bin") < list(found).index("bin/tool")


def test_the_payload_lies_below_its_own_directory(image: Path) -> None:
    archive = payload_archive(image, progress=Recorder()).path
    assert set(entries(archive)) == {"payload", "payload/bin", "payload/bin/tool", "payload/sh"}
    assert archive.stat().st_size % 4 == 0  # another archive follows


def test_it_is_made_once(image: Path) -> None:
    first = payload_archive(image, progress=Recorder()).path
    os.utime(first, (1, 1))
    assert payload_archive(image, progress=Recorder()).path.stat().st_mtime == 1


def test_an_image_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "x.ext4").write_bytes(b"nothing")
    with pytest.raises(InfraError, match="expected an ext4 image"):
        payload_archive(tmp_path / "x.ext4", progress=Recorder())
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_an_initramfs_that_loads_drivers(tmp_path: Path) -> None:
    init = tmp_path / "early"
    init.write_bytes(b"init")
    early_archive(tmp_path / "early.cpio.gz", init=init, modules=[b"first", b"second"])
    found = entries(tmp_path / "early.cpio.gz")
    assert found["init"] == (stat.S_IFREG | 0o755, b"init")
    assert (found["modules/000"][1], found["modules/001"][1]) == (b"first", b"second")
    assert stat.S_ISCHR(found["dev/console"][0])
    assert stat.S_ISDIR(found["root"][0])
    names = list(found)
    assert names.index("dev") < names.index("dev/console")
    assert names.index("modules") < names.index("modules/000")
