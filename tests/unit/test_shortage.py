"""What counts as a lack of room or memory on this host, and how it is told."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness import shortage
from harness.errors import EXIT_INFRA
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import Disk, mounted

MAIN = [sys.executable, "-m", "harness"]


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE],
)
def test_an_error_of_the_host_names_the_file_and_its_file_system(number: int, tmp_path: Path) -> None:
    file = tmp_path / "no/such/file"
    with pytest.raises(Shortage) as caught, shortage.reported(tmp_path, needed="9 GiB", kept="the log"):
        raise OSError(number, os.strerror(number), str(file))
    message = caught.value.message
    assert message.startswith(f"{file}: {os.strerror(number)[0].lower()}{os.strerror(number)[1:]}")
    assert "needed: 9 GiB" in message
    assert "kept: the log" in message
    assert ("MiB free of" in message) is (number in (28, 122, 27, 30, 5))
    assert caught.value.exit_code == EXIT_INFRA


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), shortage.reported(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    assert shortage.of(ValueError("x")) is None


def test_a_directory_that_can_not_be_copied_names_the_first_file(tmp_path: Path) -> None:
    source, goal = tmp_path / "from", tmp_path / "to"
    (source / "inner").mkdir(parents=True)
    (source / "inner/file").write_text("x" * 100)
    full = pytest.raises(Shortage, match=f"^{goal / 'inner/file'}: no space left")
    with mounted(Disk(goal, fails_at=3)), full, shortage.reported(tmp_path):
        shutil.copytree(source, goal)


def test_an_error_without_a_file_name_is_about_the_place_that_is_given(tmp_path: Path) -> None:
    short = shortage.of(OSError(errno.ENOSPC, "No space left on device"), where=tmp_path / "cache")
    assert short
    assert short.message.startswith(f"{tmp_path / 'cache'}: no space left on device (file system /")


@pytest.mark.parametrize(
    "line",
    [
        "kernel/fork.c:12: fatal error: error writing to /tmp/ccXyz.s: No space left on device",
        "{standard input}: Fatal error: can't write 128 bytes to section .text of kernel/fork.o: "
        "'No space left on device'",
        "/usr/bin/aarch64-linux-gnu-ld: final link failed: No space left on device",
        "aarch64-linux-gnu-objcopy: arch/arm64/boot/Image: No space left on device",
        "aarch64-linux-gnu-ar: fs/built-in.a: No space left on device",
        "ccache: error: failed to write to /c/tmp/x: Disk quota exceeded",
        "patch: **** write error : No space left on device",
        "fatal: write error: Read-only file system",
        "tar: linux/a: Cannot write: No space left on device",
        "tar: linux/a: Cannot mkdir: Input/output error",
        "cc1: out of memory allocating 65536 bytes: Cannot allocate memory",
        "mke2fs: No space left on device while writing out and closing file system: No space left on device",
        "gcc: fatal error: Killed signal terminated program cc1",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        "LLVM ERROR: out of memory",
        "E: You don't have enough free space in /var/cache/apt/archives/.",
        "dpkg: error processing archive x.deb (--unpack): failed to write (No space left on device)",
        "sh: 1: cannot create x: File too large",
    ],
)
def test_a_program_that_says_so_is_believed(line: str, tmp_path: Path) -> None:
    short = shortage.said(["  CC      kernel/fork.o", line, "make: *** [all] Error 1"], what="make", where=tmp_path)
    assert short
    assert short.message.startswith("make: ")
    assert short.details == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "fs/x.c:3:9: error: static assertion failed: No space left on device",
        "fs/x.c:3:2: error: #error x: No space left on device",
        "   12 |  return err; // : No space left on device",
        "      | x: No space left on device",
        "Makefile:3: *** x: No space left on device.  Stop.",
        "fs/x.c:3:9: error: 'ENOSPC' undeclared (first use in this function)",
        "No space left on device is what it prints",
    ],
)
def test_words_of_a_source_file_are_no_complaint(line: str) -> None:
    assert shortage.said([line], what="make") is None


@pytest.mark.parametrize(
    ("arguments", "place"),
    [(["--help"], "/dev/full: "), (["boards", "--schema"], "")],  # more than a buffer: Python keeps nothing of it
)
@fault(
    "standard output is a file on a full disk",
    where="disk",
    blame=Blame.INFRA,
    survives="standard error, with the reason",
)
def test_output_that_can_not_be_written_is_an_error_of_the_host(arguments: list[str], place: str) -> None:
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "",
    }  # unbuffered, nothing is left that could show which file it was
    with Path("/dev/full").open("wb") as full:
        words = [*MAIN, *arguments]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)
    assert done.returncode == EXIT_INFRA
    assert done.stderr.startswith(f"harness: {place}no space left on device")


@fault(
    "standard error is a file on a full disk", where="disk", blame=Blame.NOBODY, survives="the exit code of the error"
)
def test_a_message_that_can_not_be_written_does_not_change_the_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*MAIN, "report", str(tmp_path)], stdout=subprocess.PIPE, stderr=full, text=True, timeout=60
        )
    assert (done.returncode, done.stdout) == (2, "")


@fault(
    "no directory for temporary files has room", where="disk", blame=Blame.INFRA,
    survives="the names of the directories, in the message",
)  # fmt: skip
def test_no_temporary_directory_is_a_shortage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path)])
    real = os.open

    def full(path: str, flags: int, *rest: object, **more: object) -> int:
        if str(path).startswith(str(tmp_path)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(FileNotFoundError) as caught:
        tempfile._get_default_tempdir()  # type: ignore[attr-defined]
    short = shortage.of(caught.value, where=tmp_path)
    assert short
    assert str(tmp_path) in short.message


def test_no_memory_is_a_shortage() -> None:
    short = shortage.of(MemoryError())
    assert short
    assert "no memory" in short.message
