"""Compilers are asked: stand-ins on PATH answer as real ones do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.toolchain import LLVM_TOOLS, find_toolchain, require_patchable, with_ccache
from harness.errors import UserError

GCC = """#!/bin/sh
for arg; do
    case $arg in
    -dumpmachine) echo {machine}; exit;;
    -dumpfullversion|-dumpversion) echo {version}; exit;;
    -fpatchable-function-entry=*)
        [ {patchable} = yes ] && exit
        echo "error: unrecognized command line option '$arg'" >&2; exit 1;;
    esac
done
"""
CLANG = """#!/bin/sh
case "$*" in
*--version*) echo "Debian clang version 16.0.6 (15~deb12u1)"; echo "Target: x86_64-pc-linux-gnu";;
*--target=aarch64-linux-gnu*-fpatchable-function-entry=2*) ;;
*) exit 1;;
esac
"""


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is all of PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def install(directory: Path, name: str, text: str = "#!/bin/sh\n") -> None:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)


def install_gcc(
    directory: Path,
    *,
    prefix: str = "aarch64-linux-gnu-",
    suffix: str = "",
    version: str = "12.2.0",
    patchable: bool = True,
    machine: str = "aarch64-linux-gnu",
) -> None:
    text = GCC.format(version=version, patchable="yes" if patchable else "no", machine=machine)
    install(directory, f"{prefix}gcc{suffix}", text)
    install(directory, f"{prefix}ld")


def install_clang(directory: Path, suffix: str) -> None:
    install(directory, f"clang{suffix}", CLANG)
    for tool in LLVM_TOOLS:
        install(directory, f"{tool}{suffix}")


def test_the_default_is_the_cross_gcc(bin_dir: Path) -> None:
    install_gcc(bin_dir)
    found = find_toolchain(None, host_machine="x86_64")
    assert (found.name, found.command, found.version, found.patchable) == (
        "gcc",
        "aarch64-linux-gnu-gcc",
        "12.2.0",
        True,
    )
    assert found.make_args == ("CROSS_COMPILE=aarch64-linux-gnu-",)


def test_an_arm64_host_needs_no_prefix(bin_dir: Path) -> None:
    install_gcc(bin_dir, prefix="")
    found = find_toolchain("gcc", host_machine="aarch64")
    assert (found.command, found.make_args) == ("gcc", ())


def test_a_numbered_gcc_is_given_as_cc(bin_dir: Path) -> None:
    install_gcc(bin_dir, suffix="-11", version="11.3.0")
    found = find_toolchain("gcc-11", host_machine="x86_64")
    assert found.version == "11.3.0"
    assert found.make_args == ("CROSS_COMPILE=aarch64-linux-gnu-", "CC=aarch64-linux-gnu-gcc-11")


def test_a_prefix_may_be_a_path(bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_gcc(tmp_path / "tc", prefix="arm-")
    assert find_toolchain(f"{tmp_path}/tc/arm-", host_machine="x86_64").make_args == (
        f"CROSS_COMPILE={tmp_path}/tc/arm-",
    )
    monkeypatch.chdir(tmp_path)
    relative = find_toolchain("tc/arm-", host_machine="x86_64")
    assert relative.make_args == (f"CROSS_COMPILE={tmp_path}/tc/arm-",), "make runs elsewhere"
    install_gcc(bin_dir, prefix="aarch64-none-linux-gnu-")
    assert find_toolchain("aarch64-none-linux-gnu-", host_machine="x86_64").command == "aarch64-none-linux-gnu-gcc"


@pytest.mark.parametrize(("name", "suffix", "llvm"), [("clang", "", "LLVM=1"), ("clang-16", "-16", "LLVM=-16")])
def test_clang_brings_its_own_tools(bin_dir: Path, name: str, suffix: str, llvm: str) -> None:
    install_clang(bin_dir, suffix)
    found = find_toolchain(name, host_machine="x86_64")
    assert (found.command, found.version, found.make_args, found.patchable) == (name, "16.0.6", (llvm,), True)


@pytest.mark.parametrize(
    ("name", "host", "command", "package"),
    [
        ("gcc", "x86_64", "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("gcc-11", "x86_64", "aarch64-linux-gnu-gcc-11", "gcc-11-aarch64-linux-gnu"),
        ("gcc-11", "aarch64", "gcc-11", "gcc-11"),
        ("clang-16", "x86_64", "clang-16", "clang-16"),
    ],
)
@pytest.mark.usefixtures("bin_dir")
def test_a_missing_compiler_is_named_with_its_package(name: str, host: str, command: str, package: str) -> None:
    with pytest.raises(UserError, match=rf"the command {command}, found none .* in Debian is {package}$"):
        find_toolchain(name, host_machine=host)


def test_missing_companions_are_named(bin_dir: Path) -> None:
    install_gcc(bin_dir)
    (bin_dir / "aarch64-linux-gnu-ld").unlink()
    with pytest.raises(UserError, match=r"aarch64-linux-gnu-ld.*binutils-aarch64-linux-gnu"):
        find_toolchain("gcc", host_machine="x86_64")
    install_clang(bin_dir, "-16")
    (bin_dir / "ld.lld-16").unlink()
    with pytest.raises(UserError, match=r"ld\.lld-16.* lld-16$"):
        find_toolchain("clang-16", host_machine="x86_64")


@pytest.mark.parametrize("name", ["icc", "gcc-", "gcc-11.3", "clang16", "/opt/bin/", "a b-", "-", "gcc-11; rm -rf /"])
def test_other_names_are_refused(bin_dir: Path, name: str) -> None:
    install_gcc(bin_dir)
    with pytest.raises(UserError, match="--toolchain: expected"):
        find_toolchain(name, host_machine="x86_64")


def test_a_compiler_for_another_machine_is_refused(bin_dir: Path) -> None:
    install_gcc(bin_dir, prefix="x-", machine="x86_64-linux-gnu")
    with pytest.raises(UserError, match="x-gcc: expected a compiler for aarch64, found one for x86_64-linux-gnu"):
        find_toolchain("x-", host_machine="x86_64")


def test_a_compiler_that_does_not_answer_is_refused(bin_dir: Path) -> None:
    install_gcc(bin_dir)
    install(bin_dir, "aarch64-linux-gnu-gcc", "#!/bin/sh\necho no licence >&2\nexit 4\n")
    with pytest.raises(UserError, match="expected an answer to -dumpmachine, found: no licence"):
        find_toolchain("gcc", host_machine="x86_64")
    install_clang(bin_dir, "")
    install(bin_dir, "clang", "#!/bin/sh\necho something else\n")
    with pytest.raises(UserError, match="clang version"):
        find_toolchain("clang", host_machine="x86_64")


def test_gcc_7_lacks_what_ftrace_needs(bin_dir: Path) -> None:
    install_gcc(bin_dir, version="7.5.0", patchable=False)
    found = find_toolchain("gcc", host_machine="x86_64")
    assert not found.patchable
    with pytest.raises(UserError) as caught:
        require_patchable(found, allow_plain_ftrace=False)
    text = "\n".join([caught.value.message, *caught.value.details])
    for word in (
        "aarch64-linux-gnu-gcc",
        "7.5.0",
        "-fpatchable-function-entry",
        "gcc 8",
        "DYNAMIC_FTRACE_WITH_REGS",
        "livepatch",
        "gcc-aarch64-linux-gnu",
        "--allow-plain-ftrace",
    ):
        assert word in text
    require_patchable(found, allow_plain_ftrace=True)


def test_a_capable_compiler_passes(bin_dir: Path) -> None:
    install_gcc(bin_dir)
    require_patchable(find_toolchain("gcc", host_machine="x86_64"), allow_plain_ftrace=False)


def test_ccache_goes_before_the_compiler_where_it_is(bin_dir: Path) -> None:
    install_gcc(bin_dir)
    install_gcc(bin_dir, suffix="-11")
    plain = find_toolchain("gcc", host_machine="x86_64")
    assert with_ccache(plain) == plain
    install(bin_dir, "ccache")
    assert with_ccache(plain).make_args == ("CROSS_COMPILE=aarch64-linux-gnu-", "CC=ccache aarch64-linux-gnu-gcc")
    assert with_ccache(find_toolchain("gcc-11", host_machine="x86_64")).make_args == (
        "CROSS_COMPILE=aarch64-linux-gnu-",
        "CC=ccache aarch64-linux-gnu-gcc-11",
    )
