"""The root file system's image, made while something else is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.build import apt, rootfs
from harness.errors import InfraError, UserError
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import Recorder, write_script


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What makes an image, at the beginning of PATH: each tells that it was called."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(apt, "mirror_for", lambda _suite: "http://mirror.example")
    monkeypatch.setattr(rootfs, "_END_S", 600.0)  # of a busy host
    monkeypatch.setattr(rootfs, "_finish", lambda _tree: None)
    monkeypatch.setattr(rootfs, "_as_root", lambda *words: list(words))
    bin_dir = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{bin_dir}{os.pathsep}{os.environ['PATH']}")
    write_script(bin_dir / "mmdebstrap", f"echo mmdebstrap >> {tmp_path}/calls\n")
    write_script(bin_dir / "tar", "true\n")
    write_script(bin_dir / "mke2fs", 'for word; do image=$last; last=$word; done; echo image > "$image"\n')
    return bin_dir


def test_it_is_made_once_and_whoever_needs_it_waits(tmp_path: Path) -> None:
    with rootfs.begun(Recorder()):
        kept = rootfs.root_image(progress=Recorder())
    assert kept.path.read_text() == "image\n"
    assert (tmp_path / "calls").read_text() == "mmdebstrap\n"


@fault("a kernel of others is refused while the root image is made for it", where="hostile input", blame=Blame.USER,
       survives="no program that makes it, and no part of it")  # fmt: skip
def test_what_nobody_needs_any_more_is_given_up(programs: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    write_script(programs / "mmdebstrap", f"echo $$ > {tmp_path}/begun\nexec sleep 1000\n")
    processes: list[int] = []

    def refused() -> None:
        with rootfs.begun(Recorder()):
            processes.append(int((tmp_path / "begun").read_text()))
            raise UserError("no kernel")

    with pytest.raises(UserError, match="no kernel"):
        refused()
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)
    assert not list((tmp_path / "cache").rglob("*.ext4*"))


@fault("the root image that is made beside something else can't be made", where="network", blame=Blame.INFRA,
       survives="what was done meanwhile; the reason, for who needs the image")  # fmt: skip
def test_what_is_wrong_is_told_to_who_needs_it(programs: Path) -> None:
    write_script(programs / "mmdebstrap", "echo 'E: no network' >&2; exit 1\n")
    with rootfs.begun(Recorder()):
        done = True
    assert done
    with pytest.raises(InfraError, match="root file system: mmdebstrap ended with exit code 1"):
        rootfs.root_image(progress=Recorder())
