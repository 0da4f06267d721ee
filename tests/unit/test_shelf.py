"""What is laid down for a server of the lab's, and what is cleared away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.names import is_path_of_names
from harness.target.serving import shelf


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
