"""Debian packages as `harness inspect` reads them: whole ones only, within the time, and with little memory."""

from __future__ import annotations

import itertools
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from harness import limits
from harness.campaign.inspecting import inspect
from harness.errors import InfraError, UserError
from harness.model.progress import Silent
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, is_told, lower
from tests.unit.test_inspect import hostile, package, read, refused, sound, write
from tests.unit.tinyimage import TinyImage

__all__ = ["lower"]


def header(name: str, *, kind: bytes, size: int = 0) -> bytes:
    """A header of a tar archive."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


def tar(*files: tuple[str, bytes]) -> bytes:
    """An archive of files, without the zeros at its end."""
    whole = (
        (header(name, kind=tarfile.REGTYPE, size=len(data)), data, bytes(-len(data) % 512)) for name, data in files
    )
    return b"".join(part for file in whole for part in file)


def deb(archive: bytes) -> bytes:
    """A Debian package with this archive, not packed."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed (package dpkg)")
    members = (("debian-binary", b"2.0\n"), ("control.tar", bytes(1024)), ("data.tar", archive))
    made = (f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(data):<10}`\n".encode() + data
            for name, data in members)  # fmt: skip
    return b"!<arch>\n" + b"".join(made)


@hostile("a Debian package that is cut off between two of its files")
def test_package_cut_off_behind_a_file(tmp_path: Path) -> None:
    archive = tar(("lib/a.ko", sound()), ("lib/b.ko", sound()))
    end = archive.index(b"lib/b.ko")
    path = write(tmp_path / "x.deb", deb(archive)[: len(deb(b"")) + end])
    assert "expected a whole Debian package, found a damaged one: " in refused(path, modules=True)


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (header("@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=4097), "a name of 4097 bytes"),
        (header("x", kind=tarfile.XHDTYPE), "a tar header of type b'x', which no Debian package has"),
        (header("x", kind=tarfile.GNUTYPE_SPARSE), "a tar header of type b'S', which no Debian package has"),
        (1000 * header("@LongLink", kind=tarfile.GNUTYPE_LONGNAME), "too many tar headers in a row"),
    ],
)
@hostile("a Debian package whose headers take memory without end")
def test_headers_of_a_package(archive: bytes, told: str, tmp_path: Path) -> None:
    assert told in refused(write(tmp_path / "x.deb", deb(tar(("lib/a.ko", sound())) + archive)), modules=True)


def _dpkg_deb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Do `script` wherever dpkg-deb is called."""
    program = write(tmp_path / "bin/dpkg-deb", f"#!/bin/sh\n{script}\n".encode())
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@fault("dpkg-deb hangs before it has printed the whole package", where="host", blame=Blame.USER,
       survives="the message says which limit is over, and how to raise it")  # fmt: skip
def test_dpkg_deb_that_hangs(lower: Lower, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _dpkg_deb(monkeypatch, tmp_path, "exec sleep 600")
    lower(limits.INSPECT_SECONDS, 1)
    with pytest.raises(UserError) as caught:
        inspect(write(tmp_path / "x.deb", b"!<arch>\n"), modules=False, progress=Silent())
    assert is_told(caught.value, limits.INSPECT_SECONDS, place=str(tmp_path / "x.deb"))


@fault("dpkg-deb does not end after it has printed the package", where="host", blame=Blame.INFRA,
       survives="the message says how to see whether it hangs by itself")  # fmt: skip
def test_dpkg_deb_that_does_not_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", tar(("lib/a.ko", sound())) + bytes(1024))
    _dpkg_deb(monkeypatch, tmp_path, f"cat {whole}; exec sleep 600 >&-")
    monkeypatch.setattr("harness.build.debpackage._END_S", 0.1)
    path = write(tmp_path / "x.deb", b"!<arch>\n")
    with pytest.raises(InfraError) as caught:
        inspect(path, modules=True, progress=Silent())
    assert caught.value.message == (
        f"{path}: dpkg-deb did not end within 0 s after its last output and was stopped; see whether "
        f"`dpkg-deb --fsys-tarfile {path} > /dev/null` ends, and try again"
    )


@hostile("a Debian package with a file without end that nobody asks for")
def test_time_for_what_is_skipped(lower: Lower, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "x.deb", deb(tar(("usr/share/x", bytes(1 << 20)))))
    now = itertools.count(0, 10)
    monkeypatch.setattr("harness.limits.time.monotonic", lambda: next(now))
    lower(limits.INSPECT_SECONDS, 100)
    with pytest.raises(UserError) as caught:
        inspect(path, modules=False, progress=Silent())
    assert is_told(caught.value, limits.INSPECT_SECONDS, place=str(path))


@hostile("a System.map in a package that is larger than the limit")
def test_a_large_system_map_is_not_read(lower: Lower, tmp_path: Path) -> None:
    image = TinyImage(kallsyms=False)
    files = {"boot/vmlinuz-1": image.content(), "boot/System.map-1": image.system_map().encode()}
    path = package(tmp_path, files)
    assert read(path).form == "raw arm64 Image, symbols from System.map"
    lower(limits.SYSTEM_MAP_BYTES, 100)
    assert "found a raw Image without any" in refused(path)
