"""What counts as a lack of room or memory on this host, and how it is told."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from harness import shortage
from harness.build.toolchain import has_program
from harness.errors import EXIT_INFRA
from harness.model.kernel import Toolchain
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
        "cc1: out of memory allocating 65536 bytes after a total of 1048576 bytes",
        "virtual memory exhausted: Cannot allocate memory",
        "aarch64-linux-gnu-ld: memory exhausted",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "make: vfork: Resource temporarily unavailable",
        "make[3]: fork: Resource temporarily unavailable",
        "/bin/sh: 1: Cannot fork",
        "gcc: fatal error: pipe: Too many open files",
        "gcc: internal compiler error: Segmentation fault signal terminated program cc1",
        "aarch64-linux-gnu-gcc: internal compiler error: Killed (program cc1)",
        "kernel/fork.c:12:3: internal compiler error: Segmentation fault",
        "collect2: fatal error: ld terminated with signal 11 [Segmentation fault], core dumped",
        "clang: error: unable to execute command: Segmentation fault",
        "clang-19: error: clang frontend command failed with exit code 139 (use -v to see invocation)",
        "make[2]: *** [/w/scripts/Makefile.build:283: /w/testmodules/calls.o] Error 137",
        "make[2]: *** [/w/scripts/Makefile.build:283: /w/testmodules/calls.o] Killed",
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
        "fs/x.c:3:2: error: #error x: internal compiler error: Segmentation fault",
        "fs/x.c:3:2: error: #error gcc: Killed signal terminated program cc1",
        "fs/x.c:3:2: warning: #warning x: out of memory allocating 1 bytes",
        "fs/x.c:3:2: internal compiler error: in expand_expr, at expr.cc:8000",  # what it compiles brings that about
        "make[2]: *** [x.o] Error 1",
        "E: Could not get lock /var/lib/dpkg/lock-frontend - open (11: Resource temporarily unavailable)",
        "make[2]: Resource temporarily unavailable is what it prints",
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


GNU = Toolchain(name="gcc", command="x-gcc", version="12", make_args=("CROSS_COMPILE=x-",), patchable=True)
LLVM = Toolchain(name="clang-19", command="clang-19", version="19", make_args=("LLVM=-19",), patchable=True)


@pytest.mark.parametrize(
    ("line", "toolchain"),
    [
        ("/bin/sh: 1: x-gcc: not found", GNU),
        ("/bin/sh: line 1: x-ld: command not found", GNU),
        ("make[3]: x-gcc: No such file or directory", GNU),
        ("make[3]: ccache: No such file or directory", GNU),
        ("sh: 1: gcc: not found", GNU),  # that for this host
        ('ccache: error: Could not find compiler "x-gcc" in PATH', GNU),
        ("x-gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory", GNU),
        ("x-gcc: error trying to exec 'as': execvp: No such file or directory", GNU),
        ("collect2: fatal error: cannot find 'ld'", GNU),
        ("/bin/sh: 1: clang-19: not found", LLVM),
        ("/bin/sh: 1: ld.lld-19: not found", LLVM),
    ],
)
def test_a_tool_that_is_not_there_is_not_the_kernels_fault(line: str, toolchain: Toolchain) -> None:
    error = shortage.lost_program(["  CC      kernel/fork.o", line], partial(has_program, toolchain), what="make")
    assert error
    assert error.exit_code == EXIT_INFRA
    assert error.message.startswith("make: a program that it needs is not on this host any more; install it")
    assert error.details == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "/bin/sh: 1: no-such-program: not found",  # which the tree's Makefile names
        "/bin/sh: 1: clang: not found",
        "make[3]: x-gcc: Permission denied",
        "kernel/fork.c:3:9: fatal error: cannot find x",
        "kernel/fork.c:3:9: error: x-gcc: not found",
        "x-gcc: error: x.c: No such file or directory",
    ],
)
def test_what_a_tree_asks_for_besides_is_no_tool(line: str) -> None:
    assert shortage.lost_program([line], partial(has_program, GNU), what="make") is None
