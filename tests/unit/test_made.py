"""What the programs of a kernel tree leave in place of their products is the build's fault, and reading it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.made import check_sizes, read_made, read_selftest
from harness.errors import BuildError
from harness.limits import BUILD_BYTES, MODULE_BYTES, SELFTEST_BYTES, SOURCE_BYTES, Limit
from tests.faults.catalogue import Blame, fault
from tests.unit.test_make import TREE, Toy, toy

__all__ = ["toy"]  # a fixture

RELEASE = "$(O)/include/config/kernel.release"
MODULES = "$(INSTALL_MOD_PATH)/lib/modules/7.3.4"


def spoil(toy: Toy, behind: str, recipe: str) -> None:
    """A patch adds `recipe` behind a line of the Makefile."""
    text = (TREE / "Makefile").read_text()
    assert text.count(f"{behind}\n") == 1
    toy.edits = {"Makefile": text.replace(f"{behind}\n", f"{behind}\n\t@{recipe}\n")}


@pytest.mark.parametrize(
    ("behind", "recipe", "limit", "told"),
    [
        pytest.param(behind, recipe, limit, told, id=what, marks=fault(
            f"a kernel's build leaves {what}", where="hostile input", blame=Blame.KERNEL,
            survives="the memory and time of this host; the next build begins anew"))
        for what, behind, recipe, limit, told in [
            ("a large .config when it is configured",
             "\t@{ cat $(KCONFIG_ALLCONFIG); echo CONFIG_ARM64=y; } > $(KCONFIG_CONFIG)",
             "truncate -s 1M $(KCONFIG_CONFIG)", SOURCE_BYTES, r"draft\.config: expected at most 1000 bytes"),
            ("a large .config with the kernel", "\t@touch $(O)/System.map",
             "rm $(O)/.config; truncate -s 1M $(O)/.config", SOURCE_BYTES, r"/\.config: expected at most 1000 bytes"),
            ("a kernel.release of nothing but zeros", "\t@touch $(O)/System.map",
             f"truncate -s 0 {RELEASE}; truncate -s 1G {RELEASE}", None, "kernel release: expected a name"),
            ("a directory as kernel.release", "\t@touch $(O)/System.map",
             f"rm {RELEASE}; mkdir {RELEASE}", None, r"kernel\.release: expected what kbuild makes there, found: it"),
            ("no kernel.release", "\t@touch $(O)/System.map",
             f"rm {RELEASE}", None, r"kernel\.release: expected what kbuild makes there, found: No such file"),
            ("a large test module",
             "\t@for object in $^; do cp $$object $${object%.o}.ko; done",
             "truncate -s 1M $(M)/calls.ko", MODULE_BYTES, r"calls\.ko: expected at most 1000 bytes"),
            ("a large file among those to install", f"\t@cp $(O)/vmlinux {MODULES}/modules.dep",
             f"truncate -s 1G {MODULES}/large", BUILD_BYTES, r"/large: expected at most 1000000 bytes"),
            ("a large System.map", "\t@touch $(O)/System.map",
             "truncate -s 1G $(O)/System.map", BUILD_BYTES, r"System\.map: expected at most 1000000 bytes"),
        ]
    ],
)  # fmt: skip
def test_a_product_that_is_none(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, behind: str, recipe: str, limit: Limit | None, told: str
) -> None:
    if limit:
        monkeypatch.setenv(limit.variable, "1000000" if limit is BUILD_BYTES else "1000")
    spoil(toy, behind, recipe)
    with pytest.raises(BuildError, match=told) as caught:
        toy.build()
    assert caught.value.exit_code == 1
    toy.edits = {"kernel/sched.c": "int other;\n"}
    assert b"int other;" in toy.build().image.read_bytes()


def test_a_link_is_followed_only_where_one_will_do(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"x")
    (tmp_path / "link").symlink_to("made")
    with pytest.raises(BuildError, match="found: it is a symbolic link, not a regular file"):
        read_made(tmp_path / "link", SOURCE_BYTES)
    assert read_made(tmp_path / "link", SOURCE_BYTES, follow=True) == b"x"


def test_the_text_of_a_selftest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.sh").write_bytes(b"a\r\nb\xff\n")
    assert read_selftest(tmp_path / "x.sh") == "a\nb\ufffd\n"
    monkeypatch.setenv(SELFTEST_BYTES.variable, "5")
    with pytest.raises(BuildError, match=r"x\.sh: expected at most 5 bytes"):
        read_selftest(tmp_path / "x.sh")


@fault("a kernel's build, outside a sandbox, leaves a pipe among the files to install", where="hostile input",
       blame=Blame.KERNEL, survives="what it is")  # fmt: skip
def test_a_pipe_among_the_files_to_install(toy: Toy) -> None:
    toy.is_sandboxed = False
    spoil(toy, f"\t@cp $(O)/vmlinux {MODULES}/modules.dep", f"mkfifo {MODULES}/pipe")
    with pytest.raises(BuildError, match="/pipe, which is neither a file nor a directory") as caught:
        toy.build()
    assert caught.value.exit_code == 1


def test_an_error_of_the_host_is_not_the_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Limit, "read", broken)
    with pytest.raises(OSError, match="Input/output error"):
        read_made(tmp_path / "made", SOURCE_BYTES)


def test_sizes_are_added_up_over_files_and_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(bytes(40_000))
    (tmp_path / "two").write_bytes(bytes(40_000))
    monkeypatch.setenv(BUILD_BYTES.variable, "60000")
    check_sizes([tmp_path / "a"])
    check_sizes([tmp_path / "two", tmp_path / "missing"])
    with pytest.raises(BuildError, match="two: expected at most 60000 bytes"):
        check_sizes([tmp_path / "a", tmp_path / "two"])
