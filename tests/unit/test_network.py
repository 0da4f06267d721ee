"""Where a booted kernel is reached over the network: what it tells itself, and what its board's entry or place says."""

from __future__ import annotations

import pytest

from harness.errors import InfraError
from harness.model.board import Ssh
from harness.target.base import Completed
from harness.target.shells import network

TOLD = "address 10.0.0.9\nhostkey ssh-ed25519 AAAA\n"


class Booted:
    """The serial shell of a kernel that has a network."""

    def run(self, command: str, *, timeout: float) -> Completed:
        return Completed(command=command, returncode=0, output=TOLD, seconds=0.0)


@pytest.fixture
def tried(monkeypatch):
    """Where a login was tried. Only the address `there` answers."""
    asked: list[tuple[str, int]] = []

    class Host:
        def __init__(self, spec, *, place, identity):
            assert spec.login.host_key == "ssh-ed25519 AAAA"
            self.spec = spec

        def connect(self):
            asked.append((self.spec.host, self.spec.port))
            if self.spec.host != "there":
                raise InfraError(f"nobody at {self.spec.host}")

        def close(self):
            asked.append(("closed", 0))

    monkeypatch.setattr(network, "SshHost", Host)
    return asked


def test_a_place_that_knows_another_address_than_the_kernel_got_is_asked_first_and_then_the_kernels(tried, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TOLD", TOLD.replace("10.0.0.9", "there"))
    reached = network.reach(Ssh(host="before", port=2222, of_place=True), Booted(), place="b.ssh")
    assert reached.spec.host == "there"
    assert tried == [("before", 2222), ("closed", 0), ("there", 22)]


def test_an_address_of_the_entry_is_the_only_one(tried):
    with pytest.raises(network.NoNetwork, match=r"^nobody at elsewhere \(its own address is 10\.0\.0\.9\)$"):
        network.reach(Ssh(host="elsewhere"), Booted(), place="b.ssh")
    assert tried == [("elsewhere", 22), ("closed", 0)]


def test_without_any_the_kernels_own_is_the_one(tried):
    with pytest.raises(network.NoNetwork, match=r"^nobody at 10\.0\.0\.9 "):
        network.reach(Ssh(), Booted(), place="b.ssh")
    assert tried[0] == ("10.0.0.9", 22)
