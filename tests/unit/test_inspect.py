"""`harness inspect`: the forms that kernels and modules come in, its output and its exit codes."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click.testing
import pytest

from harness import limits, shortage
from harness.build.unpack import packed_by, unpacked
from harness.campaign.inspecting import inspect
from harness.cli.main import cli
from harness.errors import HarnessError, UserError
from harness.limits import Limit
from harness.model.inspection import Inspection
from harness.model.progress import Silent
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, is_told, lower
from tests.unit.test_inspection import BEFORE, PLAIN, STEP, TRACED, kernel, module
from tests.unit.tinyelf import TEXT, TinyElf
from tests.unit.tinyimage import BANNER, BASE, TinyImage

__all__ = ["lower"]

T = TypeVar("T")

CONFIG = b"# Linux/arm64 %s Kernel Configuration\nCONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS=y\n"
SMALL = Limit(name="TEST_BYTES", default=1 << 20, unit="bytes", on="a test")


def zstd(data: bytes) -> bytes:
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed (package zstd)")
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True, timeout=60).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstd,
}


def read(path: Path) -> Inspection:
    return inspect(path, modules=False, progress=Silent()).files[0]


def run(*words: str | Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["inspect", *map(str, words)], standalone_mode=False)


def zboot(image: bytes, packer: str = "gzip") -> bytes:
    payload = PACKERS[packer](image)
    begin = 0x1000
    header = struct.pack("<4s4sIIII32s", b"MZ\0\0", b"zimg", begin, len(payload), 0, 0, packer.encode())
    return header + bytes(begin - len(header)) + payload + struct.pack("<I", len(image)) + bytes(100)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def package(directory: Path, files: dict[str, bytes]) -> Path:
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed (package dpkg)")
    for name, data in files.items():
        write(directory / "tree" / name, data)
    control = "Package: linux-image-tiny\nVersion: 1\nArchitecture: arm64\nMaintainer: x <x@y.z>\nDescription: x\n"
    write(directory / "tree/DEBIAN/control", control.encode())
    out = directory / "linux-image-tiny.deb"
    words = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(directory / "tree"), str(out)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return out


def sound() -> bytes:
    return module(TRACED, PLAIN, records=[0], sections=(".text.ftrace_trampoline",)).bytes()


class TestForms:
    @pytest.mark.parametrize("packer", PACKERS)
    def test_a_packed_module(self, packer: str, tmp_path: Path) -> None:
        path = write(tmp_path / "m.ko.x", PACKERS[packer](sound()))
        found = read(path)
        assert found.form == f"module, packed by {packer}"
        assert found.recorded == (("f0",),)

    @pytest.mark.parametrize("packer", PACKERS)
    def test_a_kernel_that_unpacks_itself(self, packer: str, tmp_path: Path) -> None:
        path = write(tmp_path / "vmlinuz.efi", zboot(TinyImage().content(), packer))
        found = read(path)
        assert found.form == f"raw arm64 Image, packed by EFI zboot and {packer}, symbols from kallsyms"
        assert {names[0] for names in found.recorded} == TinyImage().recorded
        assert f"{found.release} {found.built}" == BANNER.removeprefix("Linux version ")

    def test_an_image_uses_the_system_map_and_configuration_beside_it(self, tmp_path: Path) -> None:
        image = TinyImage(kallsyms=False)
        path = write(tmp_path / "vmlinuz-7.3.4", image.content())
        write(tmp_path / "System.map-7.3.4", image.system_map().encode())
        write(
            tmp_path / "config-7.3.4",
            CONFIG % b"7.3.9",
        )
        found = read(path)
        assert found.form == "raw arm64 Image, symbols from System.map"
        assert found.entry.known_from == str(tmp_path / "config-7.3.4")
        assert len(found.recorded) == len(image.recorded)

    def test_the_configuration_of_another_version_is_not_used(self, tmp_path: Path) -> None:
        path = write(tmp_path / "Image", TinyImage().content())
        write(tmp_path / ".config", CONFIG % b"6.1.4")
        found = read(path)
        assert found.form.endswith("symbols from kallsyms")
        assert found.entry.known_from.startswith("the code;")

    def test_an_object_file(self, tmp_path: Path) -> None:
        elf = module(TRACED, records=[0])
        elf._sections[1] = (".data", *elf._sections[1][1:])
        assert (
            inspect(write(tmp_path / "a.o", elf.bytes()), modules=False, progress=Silent()).files[0].form
            == "object file"
        )

    def test_a_vmlinux_without_symbols_but_with_kallsyms(self, tmp_path: Path) -> None:
        elf = TinyElf()
        elf.section(".text", TinyImage().content(), flags=TEXT, address=BASE)
        found = read(write(tmp_path / "vmlinux", elf.bytes()))
        assert found.form == "vmlinux without symbols, symbols from kallsyms"
        assert len(found.recorded) == len(TinyImage().recorded)

    def test_a_package(self, tmp_path: Path) -> None:
        files = {
            "boot/vmlinuz-7.3.4": TinyImage().content(),
            "boot/System.map-7.3.4": b"ffffffffffffffff B The real System.map is elsewhere\n",
            "boot/config-7.3.4": CONFIG % b"7.3.4",
            "lib/modules/7.3.4/kernel/a.ko.xz": lzma.compress(sound()),
            "lib/modules/7.3.4/kernel/b.ko": sound(),
            "usr/share/doc/notes": b"x",
        }
        path = package(tmp_path, files)
        found = inspect(path, modules=True, progress=Silent())
        assert [each.name for each in found.files] == [f"{path}: boot/vmlinuz-7.3.4"]
        assert found.files[0].entry.known_from == "boot/config-7.3.4"
        assert found.modules is not None
        assert (found.modules.count, found.modules.records) == (2, 2)
        found = inspect(path, modules=False, progress=Silent())
        assert found.modules is not None
        assert (found.modules.count, found.modules.skipped) == (0, 2)

    def test_a_directory_prefers_vmlinux(self, tmp_path: Path) -> None:
        write(tmp_path / "Image", TinyImage().content())
        write(tmp_path / "vmlinux", kernel(TRACED, records=[0]).bytes())
        write(tmp_path / "vmlinux.lds", b"no kernel")
        found = inspect(tmp_path, modules=True, progress=Silent())
        assert [each.name for each in found.files] == [f"{tmp_path}: vmlinux"]
        assert found.modules is None


class TestCommand:
    def test_text(self, tmp_path: Path) -> None:
        told = run(write(tmp_path / "m.ko", sound()))
        assert told.return_value == 0
        assert "entry           2 NOPs (-fpatchable-function-entry=2)" in told.output
        assert "1 of 2 have a record (50.0%)" in told.output
        assert "wrong           nothing" in told.output

    def test_a_fault_is_exit_code_1(self, tmp_path: Path) -> None:
        told = run(write(tmp_path / "m.ko", module(TRACED, TRACED, records=[0, 0, STEP]).bytes()))
        assert told.return_value == 1
        assert "1 records there twice: f0: in the table twice" in told.output

    def test_a_fault_in_one_of_many_modules_is_exit_code_1(self, tmp_path: Path) -> None:
        write(tmp_path / "good.ko", sound())
        write(tmp_path / "bad.ko", module(TRACED, TRACED, records=[0, 0, STEP]).bytes())
        told = run("--modules", tmp_path)
        assert told.return_value == 1
        assert "bad: f0: in the table twice" in told.output

    def test_json(self, tmp_path: Path) -> None:
        told = run(
            "--json",
            write(tmp_path / "m.ko", sound()),
            write(tmp_path / "vmlinux", kernel(BEFORE, records=[8]).bytes()),
        )
        document = json.loads(told.output)
        assert document["version"] == 1
        first, second = (each["files"][0] for each in document["inspected"])
        assert first["recorded"] == [["f0"]]
        assert (first["entry"]["kind"], second["entry"]["kind"]) == ("NOPS", "BEFORE")
        assert first["left_out"][0]["count"] == 1
        assert document["comparison"] is None

    def test_two_side_by_side(self, tmp_path: Path) -> None:
        old = write(tmp_path / "old", kernel(TRACED, TRACED, PLAIN, records=[0, STEP]).bytes())
        new = write(tmp_path / "new", kernel(TRACED, PLAIN, TRACED, records=[0, 2 * STEP]).bytes())
        told = run("--compare", old, new)
        assert "1 functions gained a record: f2" in told.output
        assert "1 functions lost their record: f1" in told.output
        assert json.loads(run("--json", "--compare", old, new).output)["comparison"]["lost"] == ["f1"]

    def test_a_hostile_name_does_not_reach_the_terminal(self, tmp_path: Path) -> None:
        elf = module(TRACED, PLAIN, records=[0])
        elf.symbol("\x1b]0;title\x07evil", STEP, size=8)
        assert "\x1b" not in run(write(tmp_path / "m.ko", elf.bytes())).output


def refused(path: Path, *, modules: bool = False) -> str:
    """The one line about an input that is refused."""
    with pytest.raises(UserError) as caught:
        inspect(path, modules=modules, progress=Silent())
    assert not caught.value.details
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2
    return caught.value.message


def peak(work: Callable[[], T]) -> tuple[T, int]:
    """What `work` returns, and the most memory that it had at a time."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def hostile(injected: str) -> pytest.MarkDecorator:
    return fault(injected, where="hostile input", blame=Blame.USER, survives="the memory and the time of the host")


class TestBadInput:
    @pytest.mark.parametrize("count", [1, 3])
    def test_comparing_needs_two(self, count: int, tmp_path: Path) -> None:
        told = run("--compare", *[write(tmp_path / "m.ko", sound())] * count)
        assert isinstance(told.exception, HarnessError)
        assert told.exception.message == f"--compare: expected two files, found {count}"

    def test_comparing_modules_of_a_directory(self, tmp_path: Path) -> None:
        write(tmp_path / "d/m.ko", sound())
        told = run("--compare", "--modules", tmp_path / "d", write(tmp_path / "m.ko", sound()))
        assert isinstance(told.exception, UserError)
        assert "expected one kernel or module to compare, found 0" in told.exception.message

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", r"found something else \(it begins with nothing\)$"),
            (b"#!/bin/sh\n", r"found something else \(it begins with 23 21 2f"),
            (b"MZ" + bytes(200), r"found something else \(it begins with 4d 5a"),
            (gzip.compress(b"text", mtime=0), r"found something else \(it begins with 74 65 78 74\)$"),
            (gzip.compress(sound())[:-20], r"expected a whole packed file, found a damaged one \(gzip\)"),
            (lzma.compress(sound())[:-20], r"expected a whole packed file, found a damaged one \(xz\)"),
            (bz2.compress(sound())[:-20], r"expected a whole packed file, found a damaged one \(bzip2\)"),
            (sound()[:200], r"expected a well-formed ELF file, found"),
            (zboot(TinyImage().content())[:5000], r"expected a whole zboot kernel, found 5000 bytes"),
            (zboot(b"text"), r"found something else \(it begins with 74 65 78 74\)$"),
            (
                zboot(b"x").replace(b"gzip", b"lzfo"),
                r"expected a zboot kernel packed by .* found 'lzfo': give its Image",
            ),
            (sound()[:18] + b"\x3e" + sound()[19:], r"found a 64-bit little-endian one for machine 62"),
            (TinyImage(kallsyms=False).content(), r"expected a kernel with its symbols"),
        ],
    )
    @hostile("an empty, damaged, truncated or foreign kernel or module")
    def test_what_can_not_be_read(self, data: bytes, told: str, tmp_path: Path) -> None:
        path = write(tmp_path / "input", data)
        message = refused(path)
        assert message.startswith(str(path))
        assert re.search(told, message), message

    @hostile("a damaged zstd file")
    def test_damaged_zstd(self, tmp_path: Path) -> None:
        assert "found a damaged one (zstd)" in refused(write(tmp_path / "x", zstd(sound())[:-20]))

    @hostile("a damaged Debian package")
    def test_damaged_package(self, tmp_path: Path) -> None:
        path = package(tmp_path, {"boot/vmlinuz-1": TinyImage().content()})
        path.write_bytes(path.read_bytes()[:2000])
        assert "expected a whole Debian package" in refused(path)

    @hostile("a package without a kernel")
    def test_a_package_without_kernel(self, tmp_path: Path) -> None:
        path = package(tmp_path, {"usr/share/x": b"x"})
        assert refused(path).endswith("found neither kernel nor module")

    @hostile("a directory with modules only")
    def test_modules_have_to_be_asked_for(self, tmp_path: Path) -> None:
        write(tmp_path / "a.ko", sound())
        assert refused(tmp_path).endswith("found 1 modules and no kernel: add --modules")

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert refused(tmp_path / "none").endswith("found that it can't be read: No such file or directory")

    @hostile("a pipe where a kernel is expected")
    def test_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "it is a pipe, not a regular file" in refused(tmp_path / "pipe")

    @pytest.mark.parametrize("packer", PACKERS)
    @hostile("a packed file that is larger than the limit")
    def test_more_than_the_limit(self, packer: str, lower: Lower, tmp_path: Path) -> None:
        path = write(tmp_path / "x", PACKERS[packer](bytes(3000)))
        lower(limits.INSPECT_BYTES, 2999)
        with pytest.raises(UserError) as caught:
            inspect(path, modules=False, progress=Silent())
        assert is_told(caught.value, limits.INSPECT_BYTES, place=str(path))

    @hostile("a file packed again and again")
    def test_packed_too_often(self, tmp_path: Path) -> None:
        data = sound()
        for _ in range(5):
            data = gzip.compress(data)
        assert "found a file that is packed more than 4 times" in refused(write(tmp_path / "x", data))

    @hostile("a directory with more files than the limit")
    def test_more_files_than_the_limit(self, lower: Lower, tmp_path: Path) -> None:
        for number in range(4):
            write(tmp_path / f"{number}", b"")
        lower(limits.INSPECT_FILES, 2)
        with pytest.raises(UserError) as caught:
            inspect(tmp_path, modules=False, progress=Silent())
        assert is_told(caught.value, limits.INSPECT_FILES, place=str(tmp_path))

    @hostile("a package with many large kernels")
    def test_more_kernels_than_the_limit(self, lower: Lower, tmp_path: Path) -> None:
        path = package(tmp_path, {f"boot/vmlinuz-{number}": bytes(1000) for number in range(3)})
        lower(limits.INSPECT_BYTES, 2500)
        with pytest.raises(UserError) as caught:
            inspect(path, modules=False, progress=Silent())
        assert is_told(caught.value, limits.INSPECT_BYTES, place=f"{path}: its kernels")

    @pytest.mark.parametrize("section", [".text", ".interp"])
    @hostile("a program or library for arm64")
    def test_no_kernel(self, section: str, tmp_path: Path) -> None:
        """.interp: even if it says "Linux version" somewhere."""
        elf = TinyElf()
        elf.section(".text", bytes(64), flags=TEXT, address=BASE)
        elf.section(
            ".rodata", BANNER.encode() if section == ".interp" else b"Linux version %s", flags=2, address=BASE + 64
        )
        if section == ".interp":
            elf.section(section, b"/lib/ld-linux-aarch64.so.1\0", flags=2, address=BASE + 4096)
        message = refused(write(tmp_path / "libc.so.6", elf.bytes()))
        assert "expected a kernel or module, found another ELF file for arm64 (a program or library)" in message

    @pytest.mark.parametrize("packer", PACKERS)
    @hostile("a small file that unpacks to very much")
    def test_what_is_no_kernel_is_not_unpacked(self, packer: str, tmp_path: Path) -> None:
        path = write(tmp_path / "x", PACKERS[packer](bytes(64 << 20)))
        message, most = peak(lambda: refused(path))
        assert message.endswith("found something else (it begins with 00 00 00 00 00 00 00 00)")
        assert most < 16 << 20  # xz itself takes 8 MiB

    @hostile("a link in a directory to a file outside")
    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        write(tmp_path / "outside", b"no kernel")
        (tmp_path / "d").mkdir()
        (tmp_path / "d/vmlinux").symlink_to(tmp_path / "outside")
        assert refused(tmp_path / "d").endswith("found neither kernel nor module")


class TestOneOfMany:
    """What can't be read is told; the rest is inspected all the same."""

    @hostile("a damaged module among others")
    def test_a_damaged_module(self, tmp_path: Path) -> None:
        for name in ("a.ko", "c.ko.xz"):
            write(tmp_path / name, lzma.compress(sound()) if name.endswith("xz") else sound())
        write(tmp_path / "b.ko", sound()[:200])
        told = run("--modules", tmp_path)
        assert isinstance(told.exception, UserError)
        assert told.exception.message.startswith(f"{tmp_path}: b.ko: expected a well-formed ELF file, found")
        assert re.search(r"^  count +2$", told.output, re.MULTILINE)
        assert f"can't be read: 1\n  {tmp_path}: b.ko: expected" in told.output
        document = json.loads(run("--json", "--modules", tmp_path).output)
        assert document["inspected"][0]["unread"] == [told.exception.message]

    @hostile("a damaged module in a package")
    def test_a_damaged_module_in_a_package(self, tmp_path: Path) -> None:
        path = package(
            tmp_path, {"lib/a.ko": sound(), "lib/b.ko.xz": lzma.compress(sound())[:-20], "lib/c.ko": sound()}
        )
        found = inspect(path, modules=True, progress=Silent())
        assert found.modules is not None
        assert found.modules.count == 2
        [message] = found.unread
        assert message.startswith(f"{path}: lib/b.ko.xz: expected a whole packed file")

    @hostile("damaged modules only")
    def test_nothing_but_damaged_modules(self, tmp_path: Path) -> None:
        write(tmp_path / "b.ko", sound()[:200])
        assert refused(tmp_path, modules=True).startswith(f"{tmp_path}: b.ko: expected a well-formed ELF file")

    @hostile("more messages than a reader wants")
    def test_many_damaged_modules(self, tmp_path: Path) -> None:
        write(tmp_path / "a.ko", sound())
        for number in range(12):
            write(tmp_path / f"b{number}.ko", b"x")
        told = run("--modules", tmp_path)
        assert "can't be read: 12\n" in told.output
        assert told.output.count("b1") == 3  # b1, b10 and b11 of the first ten
        assert told.output.rstrip().endswith("… 2 more")
        assert isinstance(told.exception, UserError)
        assert told.exception.message.endswith("(and 11 more)")

    def test_a_fault_counts_more_than_a_file_that_can_not_be_read(self, tmp_path: Path) -> None:
        write(tmp_path / "a.ko", module(TRACED, TRACED, records=[0, 0, STEP]).bytes())
        write(tmp_path / "b.ko", b"x")
        told = run("--modules", tmp_path)
        assert told.return_value == 1
        assert "can't be read: 1\n" in told.output

    @hostile("a damaged kernel among others")
    def test_a_damaged_kernel(self, tmp_path: Path) -> None:
        write(tmp_path / "a/vmlinux", kernel(TRACED, records=[0]).bytes())
        write(tmp_path / "b/vmlinux", kernel(TRACED, records=[0]).bytes()[:300])
        found = inspect(tmp_path, modules=False, progress=Silent())
        assert [each.name for each in found.files] == [f"{tmp_path}: a/vmlinux"]
        assert [message.partition(": expected")[0] for message in found.unread] == [f"{tmp_path}: b/vmlinux"]

    def test_one_of_several_arguments(self, tmp_path: Path) -> None:
        good, bad = write(tmp_path / "a.ko", sound()), write(tmp_path / "b.ko", b"x")
        told = run(bad, good)
        assert "1 of 2 have a record (50.0%)" in told.output
        assert isinstance(told.exception, UserError)
        assert told.exception.message.startswith(f"{bad}: expected")
        told = run(bad, bad)
        assert not told.output
        assert isinstance(told.exception, UserError)


class TestManyKernels:
    def test_only_one_is_in_memory(self, lower: Lower, tmp_path: Path) -> None:
        content = TinyImage().content()
        for number in range(3):
            write(tmp_path / f"{number}/Image", content)
        lower(limits.INSPECT_BYTES, len(content))
        assert len(inspect(tmp_path, modules=False, progress=Silent()).files) == 3

    @hostile("more kernels than there is time for")
    def test_all_of_them_share_the_time(self, lower: Lower, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for number in range(4):
            write(tmp_path / f"{number}/vmlinux", kernel(TRACED, records=[0]).bytes())
        now = iter(range(0, 1000, 10))
        monkeypatch.setattr("harness.limits.time.monotonic", lambda: next(now))
        lower(limits.INSPECT_SECONDS, 25)
        with pytest.raises(UserError) as caught:
            inspect(tmp_path, modules=False, progress=Silent())
        assert is_told(caught.value, limits.INSPECT_SECONDS, place=str(tmp_path))

    def test_each_has_its_own_configuration(self, tmp_path: Path) -> None:
        for number in range(2):
            write(tmp_path / f"{number}/Image", TinyImage().content())
            write(tmp_path / f"{number}/.config", CONFIG % b"7.3.4")
        found = inspect(tmp_path, modules=False, progress=Silent())
        assert [each.entry.known_from for each in found.files] == [str(tmp_path / f"{n}/.config") for n in range(2)]

    @hostile("a link beside a kernel in a directory")
    def test_a_link_beside_it_is_not_followed(self, tmp_path: Path) -> None:
        write(tmp_path / "outside", CONFIG % b"7.3.4")
        write(tmp_path / "d/Image", TinyImage().content())
        (tmp_path / "d/.config").symlink_to(tmp_path / "outside")
        [found] = inspect(tmp_path / "d", modules=False, progress=Silent()).files
        assert found.entry.known_from.startswith("the code;")


class TestUnpacking:
    @pytest.mark.parametrize("packer", PACKERS)
    def test_there_is_one_copy(self, packer: str) -> None:
        packed = PACKERS[packer](bytes(32 << 20))
        data, most = peak(lambda: unpacked(packed, name="x", limit=limits.INSPECT_BYTES))
        assert len(data) == 32 << 20
        assert most < 48 << 20

    @pytest.mark.parametrize("packer", PACKERS)
    def test_what_was_packed(self, packer: str) -> None:
        data = bytes(range(256)) * 1000
        packed = PACKERS[packer](data)
        assert packed_by(packed) == packer
        assert unpacked(packed, name="x", limit=SMALL) == data

    @pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
    def test_several_streams(self, packer: str) -> None:
        packed = PACKERS[packer](b"one ") + PACKERS[packer](b"two")
        assert unpacked(packed, name="x", limit=SMALL) == b"one two"

    @fault("a full disk while a file is unpacked", where="disk", blame=Blame.INFRA, survives="nothing is needed")
    def test_a_full_disk_is_not_the_files_fault(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = write(tmp_path / "m.ko.zst", zstd(sound()))

        def full() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        with pytest.raises(OSError, match="No space left") as caught:
            inspect(path, modules=False, progress=Silent())
        told = shortage.of(caught.value, where=tmp_path)  # as the command line asks
        assert told is not None
        assert told.exit_code == 3

    def test_what_is_not_packed(self) -> None:
        assert packed_by(b"\x7fELF") == ""
