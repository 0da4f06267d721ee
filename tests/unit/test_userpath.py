"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.build.source import parse_source_spec
from harness.build.toolchain import find_toolchain
from harness.campaign.request import fragment_path
from harness.errors import UserError
from harness.userpath import user_path

NOBODY, LONG = "~no-such-user-here/x", "x" * 300


def test_a_path_is_relative_to_the_directory_or_to_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("a/b", beside=Path("/c")) == Path("/c/a/b")
    assert user_path("~/b", beside=Path("/c")) == tmp_path / "b"
    assert user_path("/b", beside=Path("/c")) == Path("/b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (NOBODY, "~no-such-user-here/x: expected a path, found ~ of a user that this host does not know"),
        (LONG, f"{LONG[:100]}: expected a path, can't use it: File name too long"),
        ("a\0b", "'a\\x00b': expected a path, found what no file can be called: embedded null byte"),
    ],
    ids=["user", "long", "null"],
)
def test_what_no_path_can_be_is_wrong_input(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        user_path(text)
    assert caught.value.message == told


@pytest.mark.parametrize("text", [NOBODY, LONG], ids=["user", "long"])
def test_whatever_names_a_file_says_so(text: str) -> None:
    for taken in (
        lambda: parse_source_spec(text),
        lambda: parse_source_spec(f"git:{text}"),
        lambda: parse_prebuilt_spec(text),
        lambda: parse_prebuilt_spec(f"prebuilt:{text}"),
        lambda: find_toolchain(f"{text}/gcc-"),
        lambda: fragment_path(Path(text)),
    ):
        with pytest.raises(UserError, match="expected a path"):
            taken()
