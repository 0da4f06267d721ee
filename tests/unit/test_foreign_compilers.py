"""Another Debian's compilers, where it can't be had: a missing network is found out once, all else may pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.command import Finished
from harness.errors import InfraError
from tests import compilers
from tests.faults.catalogue import Blame, fault

_OFFLINE = (
    "E: Failed to fetch http://mirror.example/dists/sid/InRelease  Temporary failure resolving 'mirror.example'",
    "Err:1 http://mirror.example sid InRelease\n  Could not connect to mirror.example:80, connection timed out",
    "W: Cannot initiate the connection to mirror.example:80 (::1). - connect (101: Network is unreachable)",
)
_PASSING = (
    "E: Failed to fetch http://mirror.example/dists/sid/main/Packages  Hash Sum mismatch",
    "E: Could not get lock /var/lib/apt/lists/lock",
)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], int]:
    """How often mmdebstrap is called, which fails with these words, where two tests ask for the same suite."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilers, "_roots", {})
    monkeypatch.setattr("harness.build.apt.mirror_for", lambda _suite: "http://mirror.example")

    def tried(words: str) -> int:
        called: list[str] = []

        def run(command: list[str], **_: object) -> Finished:
            called.append(command[0])
            return Finished(status=1, stdout="", stderr=f"{words}\nE: mmdebstrap failed to run")

        monkeypatch.setattr(compilers, "run", run)
        for _ in range(2):
            with pytest.raises(InfraError, match="unpacking the compilers of sid failed"):
                compilers._root("sid")
        return called.count("mmdebstrap")

    return tried


@pytest.mark.parametrize("words", _OFFLINE)
@fault("no network for the compilers of another Debian", where="network", blame=Blame.NOBODY,
       survives="the other tests; mmdebstrap is called once")  # fmt: skip
def test_without_a_network_it_is_tried_once(tries: Callable[[str], int], words: str) -> None:
    assert tries(words) == 1


@pytest.mark.parametrize("words", _PASSING)
def test_what_may_pass_is_tried_again(tries: Callable[[str], int], words: str) -> None:
    assert tries(words) == 2
