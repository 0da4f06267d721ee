"""What is laid down for a server of the lab's, and what is cleared away."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.names import is_path_of_names
from harness.target.serving import shelf
from tests.faults.catalogue import Blame, fault


def test_a_file_is_copied_once_and_one_that_changed_gets_another_name(tmp_path: Path) -> None:
    image, served = tmp_path / "Image", tmp_path / "served"
    served.mkdir()
    image.write_text("one")
    name = shelf.publish(image, served)
    os.utime(served / name, (0, 0))
    assert shelf.publish(image, served) == name
    assert (served / name).stat().st_mtime > time.time() - 60  # in use: not cleared away
    image.write_text("another")
    assert shelf.publish(image, served) != name
    assert sorted(path.read_text() for path in served.iterdir()) == ["another", "one"]


def test_only_what_is_ours_and_old_is_cleared_away(tmp_path: Path) -> None:
    ours = ["0123456789ab-Image", ".0123456789ab-root.cpio.gz.123.partial"]
    others = ["Image", "pxelinux.0", "0123456789xy-Image", "0123456789ab", ".keep"]
    for name in [*ours, *others, "fedcba987654-Image"]:
        (tmp_path / name).touch()
        age = 0 if name.startswith("fedc") else shelf.KEEP_S + 60
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / "aaaaaaaaaaaa-directory").mkdir()
    os.utime(tmp_path / "aaaaaaaaaaaa-directory", (0, 0))
    (tmp_path / "bbbbbbbbbbbb-link").symlink_to("Image")
    os.utime(tmp_path / "bbbbbbbbbbbb-link", (0, 0), follow_symlinks=False)
    shelf.clear_old(tmp_path)
    kept = {*others, "fedcba987654-Image", "aaaaaaaaaaaa-directory", "bbbbbbbbbbbb-link"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=f"b.boot.http_root: expected a directory to write to at {tmp_path}/no, can't"):
        shelf.Directory(tmp_path / "no", place="b.boot.http_root")


def test_what_is_offered_lies_below_a_directory_of_ours(tmp_path: Path) -> None:
    (tmp_path / "Image").write_text("kernel")
    name = shelf.Directory(tmp_path, place="b").offer(tmp_path / "Image")
    assert (name.partition("/")[0], (tmp_path / name).read_text()) == ("harness", "kernel")


def test_the_name_of_a_file_is_one_word_in_u_boots_shell(tmp_path: Path) -> None:
    (tmp_path / "x; reset").write_text("kernel")
    name = shelf.Directory(tmp_path, place="b").offer(tmp_path / "x; reset")
    assert is_path_of_names(name)
    assert (tmp_path / name).read_text() == "kernel"


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(
            left,
            id=what,
            marks=fault(
                f"on the shelf of the TFTP server, the name of the kernel has {what}",
                where="network",
                blame=Blame.NOBODY,
                survives="the boot: the board gets the right file, which replaces it",
            ),
        )
        for what, left in {
            "a file of somebody else's": b"foreign",
            "another file of the same size": b"KERNEL",
            "a file cut short": b"ker",
            "an empty file": b"",
        }.items()
    ],
)
def test_what_only_has_the_name_is_replaced(tmp_path: Path, left: bytes) -> None:
    image, served = tmp_path / "Image", tmp_path / "served"
    served.mkdir()
    image.write_text("kernel")
    name = shelf.publish(image, served)
    (served / name).write_bytes(left)
    assert shelf.publish(image, served) == name
    assert (served / name).read_text() == "kernel"
    assert [path.name for path in served.iterdir()] == [name]


@fault("on the shelf of the TFTP server, the name of the kernel is a link to a file elsewhere", where="network",
       blame=Blame.NOBODY, survives="the file that the link leads to")  # fmt: skip
def test_a_link_of_that_name_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    image, served, other = tmp_path / "Image", tmp_path / "served", tmp_path / "other"
    served.mkdir()
    image.write_text("kernel")
    name = shelf.publish(image, served)
    for content in ("kernel", "private"):  # what is right today may be another file tomorrow
        other.write_text(content)
        (served / name).unlink()
        (served / name).symlink_to(other)
        shelf.publish(image, served)
        assert not (served / name).is_symlink()
        assert other.read_text() == content


def test_a_file_that_no_server_may_read_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "Image").write_text("kernel")
    name = shelf.publish(tmp_path / "Image", tmp_path)
    (tmp_path / name).chmod(0o600)
    shelf.publish(tmp_path / "Image", tmp_path)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


@fault("on the shelf of the TFTP server, the name of the kernel is a directory", where="network", blame=Blame.INFRA,
       survives="the directory; the message names it")  # fmt: skip
def test_what_can_not_be_replaced_is_told(tmp_path: Path) -> None:
    (tmp_path / "Image").write_text("kernel")
    name = shelf.publish(tmp_path / "Image", tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    expected = rf"{name}: expected the content of .*Image, or that it can be written: .*; remove what has that name"
    with pytest.raises(InfraError, match=expected):
        shelf.publish(tmp_path / "Image", tmp_path)
    assert (tmp_path / name).is_dir()
    assert not list(tmp_path.glob(".*"))


@fault("the file system of the TFTP server's shelf keeps other bytes than were written", where="network",
       blame=Blame.INFRA, survives="nothing is booted; the message names the file")  # fmt: skip
def test_a_disk_that_keeps_something_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(_source: Path, goal: Path) -> None:
        goal.write_text("kernle")

    monkeypatch.setattr(shutil, "copyfile", copied)
    (tmp_path / "Image").write_text("kernel")
    with pytest.raises(InfraError, match=r"expected 6 bytes with SHA-256 [0-9a-f]{64}, which were just written there"):
        shelf.publish(tmp_path / "Image", tmp_path)


def test_equal_files_of_two_builds_lie_there_once(tmp_path: Path) -> None:
    for build in ("one", "two"):
        (tmp_path / build).mkdir()
        (tmp_path / build / "Image").write_text("kernel")
    (tmp_path / "served").mkdir()
    first, second = (shelf.publish(tmp_path / build / "Image", tmp_path / "served") for build in ("one", "two"))
    assert first == second
