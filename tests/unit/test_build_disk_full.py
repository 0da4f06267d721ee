"""Builds, downloads and images on a file system that fills up: never the kernel's fault, nor the series'."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import shortage
from harness.build import host, initramfs, klp_relocations
from harness.build.applydiff import patched
from harness.build.command import SYSTEM_PATH, run
from harness.build.download import fetch_file
from harness.errors import EXIT_INFRA, BuildError, HarnessError, InfraError
from harness.model.progress import Silent
from harness.parse.diff import parse_diff
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import Disk, mounted
from tests.unit.loopback import serving
from tests.unit.test_make import TREE, Toy
from tests.unit.toytree import write_script

FULL = "No space left on device"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory at the beginning of PATH."""
    directory = tmp_path / "tools"
    directory.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join((str(directory), os.environ["PATH"], SYSTEM_PATH)))
    return directory


@pytest.fixture
def toy(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    for name in ("pahole", "toy-gcc"):
        (tools / name).touch(mode=0o755)
    monkeypatch.setattr(klp_relocations, "convert", bytes)  # the toy's modules are no ELF files
    shutil.copytree(TREE, tmp_path / "linux")
    (tmp_path / "our.config").write_text("CONFIG_ONE=y\nCONFIG_USER_EVENTS=y\n")
    (tmp_path / "testcases").mkdir()
    (tmp_path / "testcases/calls.c").write_text("int calls;\n")
    return Toy(tmp_path)


def _make_says(tools: Path, what: str, line: str) -> None:
    """Let make fail with `line` when it makes `what`."""
    real = shutil.which("make", path="/usr/bin:/bin")
    script = f"""case " $* " in *" {what}"*) echo "{line}" >&2; exit 2;; esac; exec {real} MAKE="$0" "$@"\n"""
    write_script(tools / "make", f"#!/bin/sh\n{script}")


def _files(directory: Path) -> dict[str, bytes]:
    """What a finished build holds, except for what names this very build of it."""
    names = ("vmlinux", "Image", "modules/7.3.4/modules.dep", "selftests/ftrace/test", "testmodules/calls.ko")
    return {name: (directory / name).read_bytes() for name in names}


@pytest.mark.parametrize(
    ("what", "line"),
    [
        pytest.param(
            "allnoconfig", f"scripts/kconfig/conf: .config: {FULL}",
            marks=fault("kconfig finds the disk full", where="disk", blame=Blame.INFRA, survives="earlier builds"),
        ),
        pytest.param(
            "Image", f"kernel/fork.c:1: fatal error: error writing to /tmp/cc.s: {FULL}",
            marks=fault("the compiler finds the disk full", where="disk", blame=Blame.INFRA,
                        survives="what is compiled; the next build continues"),
        ),
        pytest.param(
            "Image", "gcc: fatal error: Killed signal terminated program cc1",
            marks=fault("the host's out-of-memory killer ends the compiler", where="memory", blame=Blame.INFRA,
                        survives="what is compiled; the next build continues"),
        ),
        pytest.param(
            "Image", "ld: final link failed: Disk quota exceeded",
            marks=fault("the linker exceeds the disk quota", where="disk", blame=Blame.INFRA,
                        survives="what is compiled; the next build continues"),
        ),
        pytest.param(
            "modules_install", f"objcopy: x.ko: {FULL}",
            marks=fault("installing the modules finds the disk full", where="disk", blame=Blame.INFRA,
                        survives="the compiled kernel"),
        ),
        pytest.param(
            "M=", "gcc: internal compiler error: Segmentation fault signal terminated program cc1",
            marks=fault("the compiler crashes at a test module", where="memory", blame=Blame.INFRA,
                        survives="its tests: it is not recorded as one that does not compile"),
        ),
        pytest.param(
            "M=", "make: vfork: Resource temporarily unavailable",
            marks=fault("make can't start a process for a test module", where="memory", blame=Blame.INFRA,
                        survives="its tests: it is not recorded as one that does not compile"),
        ),
        ("TARGETS=ftrace", "cc1: out of memory allocating 65536 bytes after a total of 1048576 bytes"),
        pytest.param(
            "TARGETS=user_events", f"ar: abi_test: {FULL}",
            marks=fault("a suite of programs finds the disk full", where="disk", blame=Blame.INFRA,
                        survives="its tests: it is not recorded as one that does not compile"),
        ),
    ],
)  # fmt: skip
def test_a_make_that_finds_the_disk_full_says_nothing_about_the_kernel(
    toy: Toy, tools: Path, what: str, line: str
) -> None:
    _make_says(tools, what, line)
    with pytest.raises(Shortage) as caught:
        toy.build()
    assert caught.value.exit_code == EXIT_INFRA
    assert caught.value.message.startswith("make")
    assert line in caught.value.details
    assert list((toy.directory / "cache").rglob("builds/*/build.json")) == []
    (tools / "make").unlink()
    made = toy.build().directory
    assert (made / "selftests/user_events/abi_test").is_file()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            "/bin/sh: 1: toy-gcc: not found", InfraError,
            marks=fault("the compiler is removed while a build runs", where="host", blame=Blame.INFRA,
                        survives="the tests of the modules: they are not recorded as ones that do not compile"),
        ),
        ("/bin/sh: 1: frobnicate: not found\nmake[2]: *** [Makefile:3: testmodules/calls.o] Error 127", BuildError),
        ("make[2]: *** [Makefile:3: testmodules/calls.o] Segmentation fault", BuildError),
    ],
)  # fmt: skip
def test_no_module_is_left_out_for_good_because_a_program_is_missing(
    toy: Toy, tools: Path, line: str, expected: type[HarnessError]
) -> None:
    _make_says(tools, "M=", line)
    with pytest.raises(expected) as caught:
        toy.build()
    assert line.splitlines()[0] in caught.value.details
    (tools / "make").unlink()
    made = toy.build()
    assert made.unbuilt == {}
    assert (made.directory / "testmodules/calls.ko").is_file()


@fault(
    "the workspace's file system is mounted read-only during a build, as a failing device makes it", where="disk",
    blame=Blame.INFRA, survives="the tree's good name",
)  # fmt: skip
def test_a_workspace_that_became_read_only_is_not_the_trees_fault(
    toy: Toy, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make_says(tools, "Image", "touch: cannot touch 'vmlinux.o': Read-only file system")
    monkeypatch.setattr(shortage, "is_read_only", lambda path: "workspaces" in path.parts)
    with pytest.raises(Shortage, match=r"^make \(kernel\): .*read-only file system"):
        toy.build()


def test_which_file_systems_are_read_only(tmp_path: Path) -> None:
    words = ["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o ro none "$1" && exec "$2" -c "$3" "$1"', "sh"]
    code = "import sys; from pathlib import Path; from harness.shortage import is_read_only; "
    code += "print(is_read_only(Path(sys.argv[1])), is_read_only(Path('/tmp')), is_read_only(Path('/none')))"
    done = subprocess.run(
        [*words, str(tmp_path), sys.executable, code], capture_output=True, text=True, cwd=TREE.parents[2], check=False
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("mounting needs user namespaces, which this host does not allow")
    assert done.stdout == "True False False\n", done.stderr


@fault(
    "the cache's file system is full from the n-th write of a build on, for every n", where="disk",
    blame=Blame.INFRA, survives="each earlier stage; the build is equal to a clean one",
)  # fmt: skip
def test_wherever_a_build_meets_a_full_disk_the_next_one_goes_on(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = tmp_path / "cache"
    builds.mkdir()
    failures = 0
    for number in range(1, 200):
        with mounted(Disk(builds, fails_at=number)):
            made, short = _tried(toy.build)
        if made:
            break
        failures += 1
        assert "MiB free of" in short
        assert list(builds.rglob("builds/*/build.json")) == []
    assert failures > 15
    assert made
    torn = _files(made.directory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "clean"))
    assert torn == _files(toy.build().directory)


def _tried(work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work` returned, or the message of its Shortage."""
    try:
        return work(), ""
    except Shortage as error:
        return None, error.message


@fault(
    "patch(1) finds the disk full", where="disk", blame=Blame.INFRA,
    survives="the tree as it was; the series is not blamed",
)  # fmt: skip
def test_a_full_disk_is_no_fault_of_the_patch(tools: Path) -> None:
    write_script(tools / "patch", f"#!/bin/sh\necho 'patch: write error: {FULL}' >&2\nexit 2\n")
    with pytest.raises(Shortage, match=r"^patch: "):
        _apply()


def _apply() -> None:
    (diff,) = parse_diff("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n", name="x.patch")
    patched(b"old\n", diff, who="x.patch")


@fault(
    "a program that the harness starts finds the disk full", where="disk", blame=Blame.INFRA,
    survives="the program's own words",
)  # fmt: skip
def test_every_program_that_finds_the_disk_full_is_believed(tmp_path: Path) -> None:
    with pytest.raises(Shortage, match=r"^sh: .*no space left on device") as caught:
        run(["sh", "-c", f"echo 'cp: x: {FULL}' >&2; exit 1"], timeout=10, cwd=tmp_path)
    assert caught.value.details == (f"cp: x: {FULL}",)
    assert run(["sh", "-c", f"echo 'x: {FULL}'"], timeout=10).status == 0


@fault(
    "the disk is full in the middle of a download", where="disk", blame=Blame.INFRA,
    survives="what has arrived; the next try resumes",
)  # fmt: skip
def test_a_download_that_fills_the_disk_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 20_000
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sha256 = hashlib.sha256(content).hexdigest()
    goal = tmp_path / "got/file"
    with serving() as server:
        server.files["/file"] = content
        fetch = partial(fetch_file, f"{server.url}/file", goal, sha256=sha256, progress=Silent())
        for number in range(1, 50):
            with mounted(Disk(tmp_path / "got", fails_at=number)):
                _, short = _tried(fetch)
            if not short:
                break
            assert str(goal.parent) in short
            assert "the next try resumes" in short
            assert not goal.exists()
        assert number > 4
        assert goal.read_bytes() == content
        assert any(wanted and wanted != "bytes=0-" for _, wanted in server.requests)


@fault(
    "unpacking a root image finds the disk full, and the program ends as if all were well", where="disk",
    blame=Blame.INFRA, survives="no archive that is cut short",
)  # fmt: skip
def test_an_archive_of_a_root_image_is_whole_or_absent(tools: Path, tmp_path: Path) -> None:
    write_script(tools / "debugfs", f"#!/bin/sh\necho debugfs 1.47 >&2\necho 'rdump: {FULL}' >&2\n")
    image = tmp_path / "payload.ext4"
    image.write_bytes(b"x")
    with pytest.raises(Shortage, match=r"^debugfs: .*no space left"):
        initramfs.payload_archive(image, progress=Silent())
    assert list((tmp_path / "cache").rglob("*.cpio.gz*")) == []


@fault("installing host packages finds the disk full", where="disk", blame=Blame.INFRA, survives="apt's own log")
def test_apt_that_finds_the_disk_full(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = f"E: You don't have enough free space in {tmp_path}/archives/."
    write_script(tools / "apt-get", f'#!/bin/sh\necho "{told}"\nexit 100\n')
    monkeypatch.setattr(host, "_lists_are_stale", lambda: False)
    with pytest.raises(Shortage, match=rf"apt-get install: {tmp_path}/archives/?: no space left on device \(file sys"):
        host._install(["qemu-system-arm"], prefix=(), progress=Silent())
    (log,) = (tmp_path / "cache").rglob("host-install.log")
    assert "enough free space" in log.read_text()


def test_an_error_that_is_none_of_the_disk_is_told_as_before(tmp_path: Path, tools: Path) -> None:
    with mounted(Disk(tmp_path / "got", fails_at=1, error=errno.EACCES)), pytest.raises(PermissionError):
        fetch_file("http://127.0.0.1:9/file", tmp_path / "got/file", sha256="", progress=Silent())
