"""What GRUB is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.target.methods import grubcfg

CHECK = shutil.which("grub-script-check") or shutil.which("grub2-script-check")
ARGUMENTS = 'rdinit=/x dyndbg="file a.c +p" it\'s $HOME {a;b}'


def config(tree: str = "") -> str:
    return grubcfg.config("abc", kernel="k", roots=["r", "p"], tree=tree, arguments=ARGUMENTS)


def test_a_kernel_is_started_with_all_that_belongs_to_it() -> None:
    told = config("t")
    assert 'initrd "${harness}/r" "${harness}/p"; then if devicetree "${harness}/t"; then boot; fi; fi; fi' in told
    assert "devicetree" not in config()


def test_a_command_line_arrives_as_it_is() -> None:
    """GRUB takes the outer quotes away, and puts some around what has a space."""
    assert r"""linux "${harness}/k" 'rdinit=/x' 'dyndbg=file a.c +p' 'it'\''s' '$HOME' '{a;b}';""" in config()


def test_nothing_is_booted_before_it_was_seen_to_be_disarmed() -> None:
    told = config()
    steps = ["save_env", "load_env", '= "taken"', "menuentry", "set default"]
    places = [told.rindex(step) for step in steps]
    assert places == sorted(places)


def test_what_others_wrote_in_custom_cfg_stays() -> None:
    for text in ("", "a\n", "a", "menuentry x {\n}\n"):
        once = grubcfg.with_block(text)
        assert once.startswith(text)
        assert grubcfg.with_block(once) == once
        assert grubcfg.without_block(once).rstrip("\n") == text.rstrip("\n")
        assert grubcfg.without_block(once + "later\n") == grubcfg.without_block(once) + "later\n"


def test_an_environment_block() -> None:
    block = grubcfg.environment("abc")
    assert len(block) == 1024
    assert block.startswith(b"# GRUB Environment Block\nharness_once=abc\n####")
    assert grubcfg.value_of(block) == "abc"
    assert grubcfg.value_of(b"\xff") == ""


@pytest.mark.skipif(not CHECK, reason="grub-script-check is not installed (grub-common)")
@pytest.mark.parametrize("text", [config(), config("t"), grubcfg.with_block("set a=b")])
def test_grub_takes_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.cfg").write_text(text + "\n")
    assert CHECK
    subprocess.run([CHECK, tmp_path / "x.cfg"], check=True)
