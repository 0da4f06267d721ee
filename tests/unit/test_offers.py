"""Which of Debian's suites have a compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build import apt, offers
from harness.build.offers import suites_with
from harness.errors import InfraError, UserError
from tests.unit.fakeapt import FakeApt
from tests.unit.toytree import Recorder

PACKAGES = ("clang-19", "lld-19")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    return FakeApt.in_place(tmp_path, monkeypatch)


def test_a_suite_is_told_that_has_all_parts(fake: FakeApt) -> None:
    fake.packages(dict.fromkeys(PACKAGES, "1"))
    assert suites_with(PACKAGES, progress=Recorder()) == list(offers._SUITES)
    fake.packages({"clang-19": "1", "clang-16": "1"})
    assert suites_with(PACKAGES, progress=Recorder()) == []


@pytest.mark.parametrize("error", [UserError("lacks it"), InfraError("no mirror has that suite")])
def test_a_suite_that_can_not_be_had_is_left_out(
    error: Exception, fake: FakeApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.packages(dict.fromkeys(PACKAGES, "1"))
    update = apt.PrivateApt.update

    def failing(self: apt.PrivateApt, **more: object) -> None:
        if self.suite == "trixie":
            raise error
        update(self)

    monkeypatch.setattr(apt.PrivateApt, "update", failing)
    assert suites_with(PACKAGES, progress=Recorder()) == [each for each in offers._SUITES if each != "trixie"]


def test_without_a_network_one_suite_is_asked(fake: FakeApt) -> None:
    fake.fail("update", "Err:1 http://mirror.example sid InRelease\n  Temporary failure resolving 'mirror.example'\n")
    progress = Recorder()
    assert suites_with(PACKAGES, progress=progress) == []
    assert len(fake.calls("update")) == 1
    assert progress.said[-1] == "bookworm: its package list could not be fetched; check the network"
