"""Kernels of others whose packages are damaged, hostile or of something else: refused, or made of what is whole in
them, and never told as the kernel's fault."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import limits
from harness.build.prebuilt import assemble as assembling
from harness.build.prebuilt import unpack as unpacking
from harness.build.prebuilt.image import raw_image
from harness.build.prebuilt.resolve import resolve_prebuilt
from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.errors import InfraError, UserError
from tests.faults.catalogue import Blame, fault
from tests.unit.loopback import serving
from tests.unit.test_input_limits import Lower, is_told, lower
from tests.unit.test_prebuilt import deb, listed, made, suites, without_compiler
from tests.unit.tinykernel import (
    CONFIG,
    RELEASE,
    build_raw_deb,
    image,
    kernel_files,
    member,
    raw_tarball,
    write_files,
)
from tests.unit.toytree import Recorder, write_script

__all__ = ["lower", "without_compiler"]

MODULES = f"usr/lib/modules/{RELEASE}"
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(autouse=True)
def without_depmod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)


def package(tmp_path: Path, *more: Member) -> Path:
    """A kernel with one module, and `more`."""
    own = [member(name, content) for name, content in kernel_files(modules={"a.ko": b"a"}).items()]
    return build_raw_deb(tmp_path / "k.deb", [*own, *more])


def tarball(tmp_path: Path, *more: Member) -> Path:
    own = [member(name, content) for name, content in kernel_files(modules={"a.ko": b"a"}).items()]
    (tmp_path / "k.tar").write_bytes(raw_tarball([*own, *more]))
    return tmp_path / "k.tar"


both = pytest.mark.parametrize("make", [package, tarball])
Make = Callable[..., Path]


def no_build(tmp_path: Path) -> bool:
    return not list((tmp_path / "cache/arm64-ftrace-harness/builds").glob("[0-9a-f]*"))


def files_of(build: Path) -> list[str]:
    return sorted(path.name for path in (build / "modules" / RELEASE).rglob("*") if not path.is_dir())


# what is in the archive


@both
@fault("a package has absolute names, devices, pipes, and links that lead out of its modules", where="hostile input",
       blame=Blame.NOBODY, survives="the kernel and its modules; what the names mean on this host")  # fmt: skip
def test_only_files_are_taken(make: Make, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    path = make(
        tmp_path,
        member(f"/{outside}", b"evil"),
        member(f"{MODULES}/kernel/null.ko", kind=tarfile.CHRTYPE),
        member(f"{MODULES}/kernel/pipe.ko", kind=tarfile.FIFOTYPE),
        member(f"{MODULES}/kernel/host.ko", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        # to elsewhere in the archive, but out of what becomes /lib/modules
        member(f"{MODULES}/kernel/config.ko", kind=tarfile.SYMTYPE, target=f"../../../../share/config-{RELEASE}"),
        member(f"{MODULES}/build", kind=tarfile.SYMTYPE, target="../../../src/linux"),
        member(f"{MODULES}/kernel/same.ko", kind=tarfile.SYMTYPE, target="a.ko"),
    )
    build = made(f"prebuilt:{path}", tmp_path)
    assert files_of(build.directory) == ["a.ko", "modules.order", "same.ko"]
    assert not outside.exists()
    assert "null.ko" not in listed(build.payload)


@both
@fault("a package has a name that leads out of it", where="hostile input", blame=Blame.USER,
       survives="nothing is in the cache")  # fmt: skip
def test_a_name_that_leads_out_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refused: a member's name leads out of the archive"):
        made(f"prebuilt:{make(tmp_path, member('../evil', b'evil'))}", tmp_path)
    assert no_build(tmp_path)


@both
@fault("a package is cut short", where="hostile input", blame=Blame.USER, survives="nothing is in the cache")
def test_a_package_that_is_cut_short(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path)
    path.write_bytes(path.read_bytes()[:-12_000])
    with pytest.raises(UserError, match=r"expected a whole (package|tarball), found a damaged one"):
        made(f"prebuilt:{path}", tmp_path)
    assert no_build(tmp_path)


@both
@pytest.mark.parametrize("name", ["a\nb.ko", "a\udcff.ko", "-a.ko", "a b.ko", "a\x1b[31m.ko"])
def test_odd_names_of_modules_are_names(make: Make, name: str, tmp_path: Path) -> None:
    build = made(f"prebuilt:{make(tmp_path, member(f'{MODULES}/kernel/{name}', b'odd'))}", tmp_path)
    assert name in files_of(build.directory)


@fault("a program that unpacks a kernel prints nothing and does not end", where="hostile input", blame=Blame.USER,
       survives="nothing is in the cache")  # fmt: skip
@pytest.mark.parametrize(("program", "name"), [("dpkg-deb", "k.deb"), ("xz", "k.tar.xz")])
def test_a_program_that_hangs_is_stopped(
    program: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lower: Lower
) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    write_script(tmp_path / "bin" / program, "exec sleep 1000\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    lower(limits.TREE_SECONDS, 1)
    with pytest.raises(UserError) as caught:
        made(f"prebuilt:{tmp_path / name}", tmp_path)
    assert is_told(caught.value, limits.TREE_SECONDS, place=name)
    assert no_build(tmp_path)


@fault("a kernel comes with more tarballs in it than any has", where="hostile input", blame=Blame.USER,
       survives="nothing is in the cache")  # fmt: skip
def test_tarballs_inside_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_MOST_INSIDE", 2)
    inside = [member(f"{number}/modules.tar", raw_tarball([])) for number in range(3)]
    with pytest.raises(UserError, match="expected at most 2 tarballs with modules, device trees and selftests, found"):
        made(f"prebuilt:{tarball(tmp_path, *inside)}", tmp_path)
    assert no_build(tmp_path)


@fault("a directory with a kernel has more files than the limit", where="hostile input", blame=Blame.USER,
       survives="the cache")  # fmt: skip
def test_a_whole_file_system_is_refused(lower: Lower, tmp_path: Path) -> None:
    path = write_files(tmp_path / "k", {"Image": image(), "config": CONFIG.encode(), "a": b"", "b": b""})
    lower(limits.TREE_FILES, 3)
    parsed = parse_prebuilt_spec(f"prebuilt:{path}")
    assert parsed is not None
    with pytest.raises(UserError) as caught:
        resolve_prebuilt(parsed, progress=Recorder())
    assert is_told(caught.value, limits.TREE_FILES, place=str(path))


@fault("a kernel's configuration is of bytes that are no text", where="hostile input", blame=Blame.NOBODY,
       survives="the build, as it was made")  # fmt: skip
def test_a_configuration_stays_as_it_is(lower: Lower, tmp_path: Path) -> None:
    """Each such byte is three, once it is replaced: the build would be above the limit whenever it is loaded."""
    content = CONFIG.encode() + b"# " + b"\xff" * 2000 + b"\n"
    lower(limits.SOURCE_BYTES, len(content))
    build = made(f"prebuilt:{write_files(tmp_path / 'k', {'Image': image(), 'config': content})}", tmp_path)
    assert (build.directory / ".config").read_bytes() == content


@fault("a kernel that was just assembled can't be used, whatever the reason", where="cache", blame=Blame.INFRA,
       survives="the file that it is from")  # fmt: skip
def test_it_is_not_made_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "usable_build", lambda *_args, **_more: None)
    path = deb(tmp_path)
    with pytest.raises(InfraError, match="made 3 times, and could not be used, or was removed, each time"):
        made(str(path), tmp_path)
    assert path.is_file()


# which kernel it is


def test_a_kernel_of_another_machine_is_named(tmp_path: Path) -> None:
    path = write_files(tmp_path / "k", {"boot/vmlinuz-7.3": b"MZ" + bytes(0x200) + b"HdrS", "config": CONFIG.encode()})
    with pytest.raises(UserError, match=r"found boot/vmlinuz-7\.3, which is another machine's, or packed by another"):
        made(f"prebuilt:{path}", tmp_path)


def test_an_empty_package_of_debians_is_explained(tmp_path: Path) -> None:
    path = build_raw_deb(tmp_path / "linux-image-7.3.deb", [member("usr/share/doc/x", b"x")])
    with pytest.raises(
        UserError, match=r"found none; since 6\.19 Debian's linux-image package is empty: put linux-bin"
    ):
        made(str(path), tmp_path)


@pytest.mark.parametrize(
    "head", ["# Linux/x86 7.3.4 Kernel Configuration", "# Linux/arm64 7.30.1 Kernel Configuration"]
)
def test_the_configuration_of_another_kernel_is_refused(head: str, tmp_path: Path) -> None:
    files = {"Image": image(), "config": CONFIG.replace("# Linux/arm64 7.3.4 Kernel Configuration", head).encode()}
    with pytest.raises(UserError, match=f"expected the configuration of {RELEASE} for arm64, found that of 7"):
        made(f"prebuilt:{write_files(tmp_path / 'k', files)}", tmp_path)


@pytest.mark.parametrize("release", ["7.3.4 tiny", "../7.3", "7.3/4", "7.3\x1b[2J", "7" * 101])
def test_a_release_that_is_no_name_is_refused(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "release_of", lambda _image, **_more: release)
    with pytest.raises(UserError, match="expected a plain kernel release, found"):
        made(f"prebuilt:{tarball(tmp_path)}", tmp_path)
    assert no_build(tmp_path)


def test_parts_are_those_of_the_kernel_itself(tmp_path: Path) -> None:
    """Beside it lie those of a kernel that was removed, of selftests, and of debugging."""
    top = write_files(
        tmp_path / "k",
        {
            f"boot/vmlinuz-{RELEASE}": image(),
            "boot/config-5.10": b"CONFIG_OLD=y\n",
            f"boot/config-{RELEASE}": CONFIG.encode(),
            "boot/System.map-5.10": b"old" * 5000,
            f"boot/System.map-{RELEASE}": b"new" * 5000,
            "boot/vmlinux-5.10": b"\x7fELF Linux version 5.10 (x@y)",
            f"usr/lib/modules/{RELEASE}/kernel/a.ko": b"a",
            f"usr/lib/debug/lib/modules/{RELEASE}/kernel/a.ko": b"debug",
        },
    )
    suites(top / "boot/kselftest")
    write_files(
        top / "boot/kselftest", {"kselftest-list.txt": b"ftrace:ftracetest\n", "ftrace/config": b"CONFIG_T=y\n"}
    )
    build = made(f"prebuilt:{top}", tmp_path)
    assert build.config["FUNCTION_TRACER"] == "y"
    assert (build.directory / "System.map").read_bytes() == b"new" * 5000
    assert not (build.directory / "vmlinux").exists()
    assert (build.directory / "modules" / RELEASE / "kernel/a.ko").read_bytes() == b"a"


def test_a_selftest_configuration_is_not_the_kernels(tmp_path: Path) -> None:
    top = write_files(tmp_path / "k", {f"vmlinuz-{RELEASE}": image(), "lib/config": CONFIG.encode()})
    suites(top / "kselftest")
    write_files(top / "kselftest", {"kselftest-list.txt": b"ftrace:ftracetest\n", "ftrace/config": b"CONFIG_T=y\n"})
    assert made(f"prebuilt:{top}", tmp_path).config["FUNCTION_TRACER"] == "y"


@fault("a file with a kernel is written again while it is read", where="hostile input", blame=Blame.USER,
       survives="nothing is in the cache under the name of the first content")  # fmt: skip
@pytest.mark.parametrize("kind", ["deb", "directory"])
def test_a_kernel_that_changes_while_it_is_read_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = package(tmp_path)
    changed = path
    if kind == "directory":
        path = write_files(tmp_path / "k", {"Image": image(), "config": CONFIG.encode()})
        changed = path / "config"
    collect = assembling._Assembly._collect

    def changing(self: assembling._Assembly) -> None:
        collect(self)
        changed.write_bytes(changed.read_bytes() + b"\n")

    monkeypatch.setattr(assembling._Assembly, "_collect", changing)
    with pytest.raises(UserError, match="changed while it was read; start again when it is complete"):
        made(f"prebuilt:{path}", tmp_path)
    assert no_build(tmp_path)


@fault("a file of a kernel's directory vanishes while it is read", where="hostile input", blame=Blame.USER,
       survives="nothing is in the cache")  # fmt: skip
def test_a_file_that_vanishes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_files(tmp_path / "k", {"Image": image(), "config": CONFIG.encode()})

    def vanishing(found: Path) -> bytes:
        (path / "config").unlink()
        return raw_image(found)

    monkeypatch.setattr(assembling, "raw_image", vanishing)
    with pytest.raises(UserError, match=f"expected a file {path}/config, found: No such file or directory"):
        made(f"prebuilt:{path}", tmp_path)
    assert no_build(tmp_path)


# at a URL


@pytest.mark.parametrize("told", [True, False], ids=["as told", "without an end"])
@fault("a server sends more than a kernel can have", where="network", blame=Blame.USER,
       survives="nothing is in the cache")  # fmt: skip
def test_too_much_at_a_url_is_refused(told: bool, tmp_path: Path, lower: Lower) -> None:
    lower(limits.TREE_BYTES, 2 << 20)
    with serving() as server:
        server.files["/k.deb"], server.tells_length = bytes(3 << 20), told
        with pytest.raises(UserError) as caught:
            made(f"{server.url}/k.deb#sha256={'0' * 64}", tmp_path)
    assert is_told(caught.value, limits.TREE_BYTES, place="k.deb")
    assert not [*(tmp_path / "cache").rglob("*.deb"), *(tmp_path / "cache").rglob("*.partial")]
