"""The fragments of kconfigs/variants on the default kernel's own Kconfig files: what is requested is what comes out.
Nothing is compiled but kconfig."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import variants
from harness.build.kconfig import Configured, configure
from harness.build.source import parse_source_spec, resolve_source
from harness.build.toolchain import find_toolchain
from harness.errors import UserError
from harness.layout import KCONFIGS
from harness.model.kernel import DEFAULT_SOURCE
from harness.model.progress import Silent
from tests.e2e.conftest import made_once

OURS = [KCONFIGS / f"{name}.config" for name in ("base", "ftrace", "livepatch", "testing", "debug", "qemu-virt")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What kconfig needs of the default kernel's sources: nothing that is compiled for the target."""

    def make() -> Path:
        source = resolve_source(parse_source_spec(DEFAULT_SOURCE), progress=Silent())
        tree = tmp_path_factory.mktemp("tree")
        compiled = ("drivers/*.[ch]", "fs/*.[ch]", "net/*.[ch]", "sound/*.[ch]", "*.dts*")
        words: list[str | Path] = ["tar", "-xJf", source.path, "-C", tree, "--strip-components=1"]
        subprocess.run([*words, *(f"--exclude=*/{part}" for part in compiled)], check=True, timeout=900)
        return tree

    return made_once(tmp_path_factory, "kconfig-tree", make)


def configured(tree: Path, tmp_path: Path, name: str, *fragments: Path) -> Configured:
    options = variants.OPTIONS[name]
    wanted = options[options.index("--toolchain") + 1] if "--toolchain" in options else None
    try:
        toolchain = find_toolchain(wanted)
    except UserError as error:
        pytest.skip(error.message)
    return configure(tree=tree, objdir=tmp_path, fragments=OURS, user_fragments=fragments, toolchain=toolchain)


GIVEN_UP = {
    "size": ("DYNAMIC_FTRACE_WITH_CALL_OPS",),
    "clang-kcfi": ("DYNAMIC_FTRACE_WITH_CALL_OPS",),
    "distro": ("NO_HZ_IDLE", "ARM64_VA_BITS_48"),
    "pages-16k": ("ARM64_4K_PAGES",),
    "pages-64k": ("ARM64_4K_PAGES",),
}


@pytest.mark.parametrize("name", sorted(set(variants.OPTIONS) - {"stock"}))
def test_what_a_variant_requests_is_what_it_gets(tree: Path, tmp_path: Path, name: str) -> None:
    done = configured(tree, tmp_path, name, KCONFIGS / f"variants/{name}.config")
    assert done.given_up == GIVEN_UP.get(name, ())
    assert done.config["DYNAMIC_FTRACE_WITH_DIRECT_CALLS"] == done.config["LIVEPATCH"] == "y"


def test_a_choice_that_is_only_turned_off_is_the_users_too(tree: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.config"
    mine.write_text("# CONFIG_CC_OPTIMIZE_FOR_PERFORMANCE is not set\n")
    done = configured(tree, tmp_path, "stock", mine)
    assert done.given_up == ("DYNAMIC_FTRACE_WITH_CALL_OPS",)
    assert done.without["DYNAMIC_FTRACE_WITH_CALL_OPS"] == (
        f"needs HAVE_DYNAMIC_FTRACE_WITH_CALL_OPS; it would be set without {mine}"
    )
