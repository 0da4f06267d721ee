"""A kernel that others built becomes a build directory, from whatever layout it comes in."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import limits
from harness.build import command, guesttools
from harness.build.finished import load_record
from harness.build.prebuilt import assemble as assembling
from harness.build.prebuilt.assemble import Wish, assemble
from harness.build.prebuilt.resolve import resolve_prebuilt
from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.campaign.kernel import selftests_in
from harness.campaign.machine import media_for
from harness.errors import InfraError, UserError
from harness.model.boot import QemuBoot
from harness.model.kernel import Build, Toolchain
from harness.model.suite import UPSTREAM
from harness.run.suites.selftests import why_not
from tests.boards import spec
from tests.faults.catalogue import Blame, fault
from tests.unit.loopback import Server, serving
from tests.unit.test_input_limits import Lower, is_told, lower
from tests.unit.tinykernel import CONFIG, RELEASE, build_deb, build_rpm, image, kernel_files, write_files
from tests.unit.toytree import Recorder, pack

__all__ = ["lower"]

BOTH = ["selftests/livepatch", "selftests/user_events"]
MODULES_OF_DISKS = CONFIG + "CONFIG_VIRTIO_CONSOLE=y\nCONFIG_EXT4_FS=m\n"


@pytest.fixture(autouse=True)
def without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler and no depmod: what they make is not looked at here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def compile_tools(_toolchain: Toolchain, directory: Path, **_: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "thaw").write_bytes(b"thaw")

    monkeypatch.setattr(guesttools, "compile_tools", compile_tools)
    monkeypatch.setattr(guesttools, "compile_early", lambda _toolchain, directory: write_early(directory))
    if not shutil.which("dpkg-deb") or not shutil.which("mke2fs", path=command.SYSTEM_PATH):
        pytest.skip("dpkg-deb or mke2fs is not installed (packages dpkg, e2fsprogs)")


def write_early(directory: Path) -> Path:
    (directory / "early").write_bytes(b"early")
    return directory / "early"


def made(text: str, tmp_path: Path, progress: Recorder | None = None) -> Build:
    """The build directory of the kernel that `text` means, without testcases."""
    parsed = parse_prebuilt_spec(text)
    assert parsed is not None
    progress = progress or Recorder()
    testcases = tmp_path / "testcases"
    testcases.mkdir(exist_ok=True)
    wish = Wish(
        prebuilt=resolve_prebuilt(parsed, progress=progress),
        toolchain=Toolchain(name="gcc", command="gcc", version="12", make_args=(), patchable=True),
        testcases=testcases,
        reproduce="harness build",
        is_sandboxed=False,
    )
    return assemble(wish, progress=progress)


def listed(image: Path) -> str:
    """The names of all modules in a payload image."""
    words = ["debugfs", "-R", f"ls -p /lib/modules/{RELEASE}/kernel", str(image)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def deb(tmp_path: Path) -> Path:
    return build_deb(tmp_path / "linux-image-tiny.deb", kernel_files(modules={"a.ko.xz": b"a"}))


def directory(tmp_path: Path) -> Path:
    files = {"Image.gz": gzip.compress(image()), "config": CONFIG.encode(), f"lib/modules/{RELEASE}/kernel/a.ko": b"a"}
    return write_files(tmp_path / "tuxmake", files)


def tar_pkg(tmp_path: Path) -> Path:
    top = write_files(tmp_path / "tar-install", kernel_files(modules={"a.ko": b"a"}))
    subprocess.run(["tar", "-C", top, "-caf", tmp_path / "linux-arm64.tar.gz", "."], check=True)
    return tmp_path / "linux-arm64.tar.gz"


def kernelci(tmp_path: Path) -> Path:
    modules = write_files(tmp_path / "m/modules", {f"lib/modules/{RELEASE}/kernel/a.ko": b"a"})
    top = write_files(tmp_path / "kernelci", {"Image": image(), "kernel.config": CONFIG.encode()})
    pack(modules, top / "modules.tar.xz")
    return top


def rpm(tmp_path: Path) -> Path:
    base = f"lib/modules/{RELEASE}"
    files = {f"{base}/vmlinuz": image(), f"{base}/config": CONFIG.encode(), f"{base}/kernel/a.ko": b"a"}
    return build_rpm(tmp_path / "kernel-core.rpm", files)


def packages(tmp_path: Path) -> Path:
    """As `make bindeb-pkg` leaves them: the headers beside the kernel."""
    (tmp_path / "debs").mkdir()
    build_deb(tmp_path / "debs/linux-image-1.deb", kernel_files(modules={"a.ko": b"a"}))
    build_deb(tmp_path / "debs/linux-headers-1.deb", {"boot/vmlinuz-other": image()})
    shutil.rmtree(tmp_path / "debs/linux-image-1.root")
    shutil.rmtree(tmp_path / "debs/linux-headers-1.root")
    return tmp_path / "debs"


@pytest.mark.parametrize("make", [deb, directory, tar_pkg, kernelci, rpm, packages])
def test_every_layout_becomes_a_build(make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    path = make(tmp_path)  # type: ignore[operator]
    build = made(f"prebuilt:{path}", tmp_path)
    assert build.release == RELEASE
    assert build.image.read_bytes() == image()
    assert build.config["FUNCTION_TRACER"] == "y"
    assert "a.ko" in listed(build.payload)
    assert build.has_thaw
    assert build.initramfs is None
    record = load_record(build.directory)
    assert record.kernel.toolchain.compiler == "aarch64-linux-gnu-gcc-14 14.2.0"
    assert record.kernel.source.spec == f"prebuilt:{path}"


def test_what_is_beside_the_modules_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`build` may be a whole tree; and the names of device trees are anybody's."""
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    files = kernel_files(modules={"a.ko": b"a"}) | {
        f"usr/lib/modules/{RELEASE}/build/x.ko": b"",
        "dtbs/board.dtb": b"d",
    }
    build = made(str(build_deb(tmp_path / "k.deb", files | {"dtbs/-board.dtb": b""})), tmp_path)
    assert [path.name for path in build.dtbs.iterdir()] == ["board.dtb"]
    assert [path.name for path in (build.directory / "modules").rglob("*.ko")] == ["a.ko"]
    assert list((build.directory / "modules" / RELEASE / "build").iterdir()) == []


def test_the_second_time_nothing_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    path = deb(tmp_path)
    first, again = made(str(path), tmp_path), Recorder()
    assert made(str(path), tmp_path, again).directory == first.directory
    assert again.said == [f"build {first.key}: ready, nothing changed"]


def test_what_this_host_could_not_build_is_tried_again_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    path = deb(tmp_path)
    made(str(path), tmp_path)
    monkeypatch.setattr("harness.build.hostheaders.came", lambda *_: ["linux/x.h"])
    again = Recorder()
    made(str(path), tmp_path, again)
    assert again.said[:2] == [
        "linux/x.h: on this host by now, so what did not build without is tried again",
        "unpacking linux-image-tiny.deb",
    ]


def test_another_kernel_in_the_same_file_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    path = write_files(tmp_path / "k", {"Image": image(), "config": CONFIG.encode()})
    first = made(str(path), tmp_path)
    (path / "config").write_text(CONFIG + "CONFIG_LIVEPATCH=y\n")
    assert made(str(path), tmp_path).key != first.key


def test_disk_drivers_that_are_modules_are_in_an_initramfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def depmod(root: Path, release: str, **_: object) -> None:
        index = "kernel/ext4.ko: kernel/jbd2.ko\nkernel/jbd2.ko:\n"
        (root / "lib/modules" / release / "modules.dep").write_text(index)

    monkeypatch.setattr(assembling, "index_modules", depmod)
    files = kernel_files(config=MODULES_OF_DISKS, modules={"ext4.ko": b"EXT4", "jbd2.ko": b"JBD2"})
    build = made(str(build_deb(tmp_path / "k.deb", files)), tmp_path)
    assert build.initramfs is not None
    archive = gzip.decompress(build.initramfs.read_bytes())
    assert 0 < archive.index(b"early") < archive.index(b"modules/000\0") < archive.index(b"JBD2")
    assert archive.index(b"JBD2") < archive.index(b"modules/001\0") < archive.index(b"EXT4")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"config": CONFIG.encode()},
            "expected a kernel (Image, Image.gz, vmlinuz or vmlinuz.efi for arm64), found none",
        ),
        ({"Image": image()}, "expected the kernel's configuration (.config, config), found none"),
        (
            {"Image": image(), "config": CONFIG.encode(), "lib/modules/6.1/kernel/a.ko": b"a"},
            f"expected the modules of {RELEASE}, found those of 6.1",
        ),
        (
            {
                "Image": image(),
                "config": CONFIG.encode(),
                "lib/modules/6.1/kernel/a": b"",
                "lib/modules/6.2/kernel/a": b"",
            },
            "expected the modules of one kernel, found those of 6.1, 6.2",
        ),
        ({"vmlinuz-1": image(), "vmlinuz-2": image()}, "expected one kernel, found 2: k/vmlinuz-1, k/vmlinuz-2"),
    ],
)
def test_what_is_no_whole_kernel_is_refused(files: dict[str, bytes], told: str, tmp_path: Path) -> None:
    path = write_files(tmp_path / "k", files)
    with pytest.raises(UserError) as caught:
        made(f"prebuilt:{path}", tmp_path)
    assert caught.value.message == f"prebuilt:{path}: {told}"
    assert not list((tmp_path / "cache/arm64-ftrace-harness/builds").glob("[0-9a-f]*"))


def test_test_modules_are_left_out_without_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    write_files(tmp_path / "testcases", {"watch.c": b"/* harness: needs CONFIG_FUNCTION_TRACER */\n",
                                         "patch.c": b"/* harness: needs CONFIG_LIVEPATCH */\n"})  # fmt: skip
    build = made(str(deb(tmp_path)), tmp_path)
    assert build.left_out == {
        "watch": f"there are no headers of {RELEASE} to build it with",
        "patch": "this kernel has no CONFIG_LIVEPATCH (not configured)",
    }
    assert build.broken == {}


def test_a_kernel_that_takes_signed_modules_only_has_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    write_files(tmp_path / "testcases", {"watch.c": b"/* harness: needs CONFIG_FUNCTION_TRACER */\n"})
    files = kernel_files(config=CONFIG + "CONFIG_MODULE_SIG_FORCE=y\n")
    build = made(str(build_deb(tmp_path / "k.deb", files)), tmp_path)
    assert build.left_out["watch"] == (
        "this kernel takes only modules that its builder has signed (CONFIG_MODULE_SIG_FORCE)"
    )


# on a machine


def test_what_qemu_needs_of_a_kernel_is_named(tmp_path: Path) -> None:
    build = made(f"prebuilt:{write_files(tmp_path / 'k', {'Image': image(), 'config': CONFIG.encode()})}", tmp_path)
    with pytest.raises(UserError) as caught:
        media_for(spec("b", boot=QemuBoot()), build, Recorder())
    lacking = "CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE, CONFIG_EXT4_FS"
    assert caught.value.message == (
        f"{RELEASE}: expected what QEMU's disks and channels need, found a kernel without {lacking}"
    )


def test_modules_of_disks_that_are_missing_are_named_where_they_are_needed(tmp_path: Path) -> None:
    """A board that boots from its memory needs none."""
    config = MODULES_OF_DISKS + "CONFIG_VIRTIO_PCI=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_DEVTMPFS=y\n"
    build = made(f"prebuilt:{write_files(tmp_path / 'k', {'Image': image(), 'config': config.encode()})}", tmp_path)
    with pytest.raises(UserError, match=r"found a kernel without the module ext4$"):
        media_for(spec("b", boot=QemuBoot()), build, Recorder())


# packages of others: nothing but what is in them, and none of it outside


@pytest.mark.parametrize("name", ["k.deb", "k.rpm", "k.tar.xz"])
@fault(
    "a package with a kernel is no package", where="hostile input", blame=Blame.USER, survives="nothing is in the cache"
)
def test_no_package(name: str, tmp_path: Path) -> None:
    if name == "k.rpm" and not shutil.which("bsdtar"):
        pytest.skip("bsdtar is not installed (package libarchive-tools)")
    (tmp_path / name).write_bytes(b"something else" * 100)
    with pytest.raises(UserError, match=rf"{name}: expected a whole (package|tarball), found a damaged one"):
        made(str(tmp_path / name) if name != "k.tar.xz" else f"prebuilt:{tmp_path / name}", tmp_path)
    assert not list((tmp_path / "cache/arm64-ftrace-harness/builds").glob("[0-9a-f]*"))


@fault("a package's modules are a link that leads out of it", where="hostile input", blame=Blame.USER,
       survives="what the link leads to")  # fmt: skip
def test_a_link_out_of_a_package_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key.ko").write_bytes(b"private")
    root = write_files(tmp_path / "k.root", kernel_files(modules={"a.ko": b"a"}))
    (root / f"usr/lib/modules/{RELEASE}/kernel/key.ko").symlink_to(tmp_path / "private/key.ko")
    build = made(str(build_deb(tmp_path / "k.deb", {})), tmp_path)
    assert "a.ko" in listed(build.payload)
    assert "key.ko" not in listed(build.payload)
    assert (tmp_path / "private/key.ko").read_bytes() == b"private"


@fault("a package holds more bytes than the limit", where="hostile input", blame=Blame.USER, survives="the cache")
def test_a_large_package_is_refused(lower: Lower, tmp_path: Path) -> None:
    path = deb(tmp_path)
    lower(limits.TREE_BYTES, 1000)
    with pytest.raises(UserError) as caught:
        made(str(path), tmp_path)
    assert is_told(caught.value, limits.TREE_BYTES, place=str(path))


# at a URL


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_a_kernel_at_a_url_is_fetched_once_and_checked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    content = deb(tmp_path).read_bytes()
    server.files["/k%2B1.deb"] = content
    url = f"{server.url}/k%2B1.deb#sha256={hashlib.sha256(content).hexdigest()}"
    build = made(url, tmp_path)
    assert build.release == RELEASE
    server.files.clear()
    assert made(url, tmp_path).directory == build.directory
    assert not list((tmp_path / "cache").rglob("*.deb")), "the build has all of it"


@fault("a server has another kernel than the checksum says", where="network", blame=Blame.INFRA,
       survives="nothing is in the cache")  # fmt: skip
def test_another_kernel_at_a_url_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["/k.deb"] = b"another"
    with pytest.raises(InfraError, match="wrong content, which was removed: expected sha256 000"):
        made(f"{server.url}/k.deb#sha256={'0' * 64}", tmp_path)
    assert not list((tmp_path / "cache").rglob("*.deb"))


# selftests


def suites(top: Path) -> Path:
    """Selftests as they are installed, and as a source tree has them."""
    return write_files(top, {"ftrace/ftracetest": b"#!/bin/sh\n", "ftrace/test.d/a.tc": b"# description: a\n"})


def test_selftests_that_come_with_the_kernel(tmp_path: Path) -> None:
    top = write_files(tmp_path / "k", {"Image": image(), "config": CONFIG.encode()})
    suites(top / "kselftest")
    (top / "kselftest/kselftest-list.txt").write_text("ftrace:ftracetest\n")
    build = made(f"prebuilt:{top}", tmp_path)
    assert (build.selftests / "ftrace/test.d/a.tc").is_file()
    assert build.unbuilt == {f"selftests/{name}": f"prebuilt:{top} has none" for name in ("livepatch", "user_events")}


def compiled(machine: int) -> bytes:
    """How a program for a machine begins."""
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(100)


ARM64, X86_64 = 183, 62


@pytest.mark.parametrize(
    ("made_of", "lacking"),
    [
        ({"user_events/abi_test": compiled(ARM64), "livepatch/test_modules/a.ko": compiled(ARM64)}, []),
        ({"user_events/abi_test": compiled(X86_64), "livepatch/test_modules/a.ko": compiled(X86_64)}, BOTH),
        ({}, BOTH),
    ],
    ids=["arm64", "another machine", "nothing"],
)
def test_selftests_that_are_not_compiled_are_skipped_not_failed(
    made_of: dict[str, bytes], lacking: list[str], tmp_path: Path
) -> None:
    """A source tree in which nothing was built, or for the host."""
    top = write_files(
        tmp_path / "k", {"Image": image(), "config": (CONFIG + "CONFIG_LIVEPATCH=y\nCONFIG_USER_EVENTS=y\n").encode()}
    )
    suites(top / "kselftest")
    more = {"user_events/abi_test.c": b"TEST(a) {}\n", "livepatch/test_modules/a.c": b"", "livepatch/test-a.sh": b""}
    write_files(top / "kselftest", {"kselftest-list.txt": b"ftrace:ftracetest\n", **more, **made_of})
    build = made(f"prebuilt:{top}", tmp_path)
    assert sorted(build.unbuilt) == lacking
    assert [suite.name for suite in UPSTREAM if why_not(suite, build)] == lacking
    for name in lacking:
        assert "for arm64: `make ARCH=arm64 -C tools/testing/selftests install` makes them" in build.unbuilt[name]
    assert build.broken == {}


@pytest.mark.parametrize("inside", ["", "tools/testing/selftests"])
def test_selftests_that_the_user_names(inside: str, tmp_path: Path) -> None:
    suites(tmp_path / "s" / inside)
    assert selftests_in(tmp_path / "s") == tmp_path / "s" / inside


def test_a_directory_without_selftests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--selftests: expected a directory with ftrace/ftracetest at \S+, found none"):
        selftests_in(tmp_path)


def test_without_selftests_their_suites_are_told_as_missing(tmp_path: Path) -> None:
    build = made(f"prebuilt:{write_files(tmp_path / 'k', {'Image': image(), 'config': CONFIG.encode()})}", tmp_path)
    assert build.unbuilt["selftests/ftrace"] == (f"there are no selftests of {RELEASE}: name some with --selftests DIR")
    assert build.broken == {}
