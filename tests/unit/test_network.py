"""Where a booted kernel is reached over the network: what it tells itself, and what its board's entry or place says."""

from __future__ import annotations

import pytest

from harness.errors import InfraError
from harness.model.board import Ssh
from harness.target.base import Completed, LineSink
from harness.target.shells import network
from harness.target.shells.serial import Shell
from harness.target.shells.ssh import Identity, SshHost

TOLD = "address 10.0.0.9\nhostkey ssh-ed25519 AAAA\n"


class Booted(Shell):
    """The serial shell of a kernel that has a network."""

    def __init__(self) -> None:
        """There is no stream behind it."""

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        return Completed(command=command, returncode=0, output=TOLD, seconds=0.0)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where a login was tried. Only the address 10.0.0.7 answers."""
    asked: list[tuple[str, int]] = []

    class Host(SshHost):
        def __init__(self, spec: Ssh, *, place: str, identity: Identity) -> None:
            assert spec.login.host_key == "ssh-ed25519 AAAA"
            self._spec = spec

        def connect(self) -> None:
            asked.append((self._spec.host, self._spec.port))
            if self._spec.host != "10.0.0.7":
                raise InfraError(f"nobody at {self._spec.host}")

        def close(self) -> None:
            asked.append(("closed", 0))

    monkeypatch.setattr(network, "SshHost", Host)
    return asked


def test_a_place_that_knows_another_address_than_the_kernel_got_is_asked_first_and_then_the_kernels(
    tried: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.TOLD", TOLD.replace("10.0.0.9", "10.0.0.7"))
    reached = network.reach(Ssh(host="before", port=2222, of_place=True), Booted(), place="b.ssh")
    assert reached._spec.host == "10.0.0.7"
    assert tried == [("before", 2222), ("closed", 0), ("10.0.0.7", 22)]


def test_an_address_of_the_entry_is_the_only_one(tried: list[tuple[str, int]]) -> None:
    with pytest.raises(network.NoNetwork, match=r"^nobody at elsewhere \(its own address is 10\.0\.0\.9\)$"):
        network.reach(Ssh(host="elsewhere"), Booted(), place="b.ssh")
    assert tried == [("elsewhere", 22), ("closed", 0)]


def test_without_any_the_kernels_own_is_the_one(tried: list[tuple[str, int]]) -> None:
    with pytest.raises(network.NoNetwork, match=r"^nobody at 10\.0\.0\.9 "):
        network.reach(Ssh(), Booted(), place="b.ssh")
    assert tried[0] == ("10.0.0.9", 22)
