"""Our own programs for the target: compiled by the toolchain that compiles the kernel."""

from __future__ import annotations

import itertools
import stat
from pathlib import Path

import pytest

from harness.build import guesttools
from harness.errors import InfraError
from harness.model.kernel import Toolchain


def _toolchain(tmp_path: Path, script: str, *, name: str = "gcc") -> Toolchain:
    """A compiler that does what `script` says; its arguments end up in the file ``arguments``."""
    command = tmp_path / "cc"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/arguments\n{script}\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return Toolchain(name=name, command=str(command), version="12", make_args=(), patchable=True)


def _arguments(tmp_path: Path) -> list[str]:
    return (tmp_path / "arguments").read_text().splitlines()


def test_every_tool_is_compiled_without_a_c_library(tmp_path: Path) -> None:
    guesttools.compile_tools(_toolchain(tmp_path, ""), tmp_path / "new/bin")
    arguments = _arguments(tmp_path)
    assert [arguments.count(word) for word in ("-static", "-nostdlib", "-ffreestanding")] == [2, 2, 2]
    outputs = [after for word, after in itertools.pairwise(arguments) if word == "-o"]
    assert outputs == [str(tmp_path / "new/bin" / name) for name in ("thaw", "bpfattach")]
    assert arguments[-3:] == ["-x", "c", "-"]
    assert (tmp_path / "new/bin").is_dir()
    assert not any(word.startswith("--target") for word in arguments)


def test_the_init_of_an_initramfs_is_compiled_by_itself(tmp_path: Path) -> None:
    assert guesttools.compile_early(_toolchain(tmp_path, ""), tmp_path) == tmp_path / "early"
    outputs = [after for word, after in itertools.pairwise(_arguments(tmp_path)) if word == "-o"]
    assert outputs == [str(tmp_path / "early")]
    assert guesttools.fingerprint(guesttools.EARLY) != guesttools.fingerprint()


def test_clang_is_told_for_which_machine(tmp_path: Path) -> None:
    guesttools.compile_tools(_toolchain(tmp_path, "", name="clang-16"), tmp_path)
    assert "--target=aarch64-linux-gnu" in _arguments(tmp_path)


def test_a_compiler_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=r"thaw\.c: .*/cc ended with exit code 3") as caught:
        guesttools.compile_tools(_toolchain(tmp_path, "echo no such option; exit 3"), tmp_path)
    assert any("no such option" in line for line in caught.value.details)


def test_the_fingerprint_changes_with_the_sources_and_the_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = guesttools.fingerprint()
    assert guesttools.fingerprint() == before
    monkeypatch.setattr(guesttools, "_FLAGS", ("-O2",))
    flags = guesttools.fingerprint()
    other = tmp_path / "thaw.c"
    other.write_text("int other;\n")
    monkeypatch.setattr(guesttools, "_source", lambda _name: other)
    assert len({before, flags, guesttools.fingerprint()}) == 3
