"""Which modules have to be loaded, and in which order, by depmod's files."""

from __future__ import annotations

import pytest

from harness.parse.moduledep import module_name, parse_dependencies

DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz
kernel/lib/crc16.ko.xz:
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
kernel/drivers/virtio/virtio-rng.ko.xz:
"""


def names(files: list[str]) -> list[str]:
    return [module_name(file) for file in files]


def test_what_a_module_needs_comes_before_it_and_last_things_first() -> None:
    found = parse_dependencies(DEP).order_for(["virtio_blk", "ext4"])
    assert names(found) == ["virtio_blk", "mbcache", "jbd2", "crc16", "ext4"]
    assert found[-1] == "kernel/fs/ext4/ext4.ko.xz"


def test_a_wish_for_an_algorithm_finds_its_module_by_the_alias() -> None:
    known = parse_dependencies(DEP, softdep="softdep ext4 pre: crc32c\n", alias="alias crypto-crc32c crc32c_generic\n")
    assert names(known.order_for(["ext4"])) == ["crc32c_generic", "mbcache", "jbd2", "crc16", "ext4"]


@pytest.mark.parametrize("softdep", ["softdep ext4 post: virtio-rng", "# pre: virtio-rng", "softdep other pre: jbd2"])
def test_what_comes_later_or_is_for_others_is_not_loaded_before(softdep: str) -> None:
    known = parse_dependencies(DEP, softdep=softdep)
    assert names(known.order_for(["ext4"])) == ["mbcache", "jbd2", "crc16", "ext4"]


def test_dashes_and_underscores_are_one_name() -> None:
    assert parse_dependencies(DEP).order_for(["virtio_rng"]) == ["kernel/drivers/virtio/virtio-rng.ko.xz"]


def test_modules_that_are_not_there_are_left_out() -> None:
    assert parse_dependencies(DEP).order_for(["virtio_pci"]) == []


def test_circles_of_wishes_end() -> None:
    known = parse_dependencies("a.ko:\nb.ko:\n", softdep="softdep a pre: b\nsoftdep b pre: a\n")
    assert sorted(names(known.order_for(["a"]))) == ["a", "b"]
