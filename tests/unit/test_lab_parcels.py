"""What travels between the machines of a lab: archives of results and builds, whole or not at all."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import pytest

from harness.build.inuse import nobody_uses
from harness.campaign.lab import parcels
from harness.campaign.lab.builds import Arrivals, address_of
from harness.errors import InfraError, UserError
from harness.limits import LAB_BUILD_BYTES, LAB_RESULT_BYTES
from harness.model.lab import Parcel
from harness.model.progress import Silent
from harness.run.documents import read_results
from tests.fakelab import Builds
from tests.faults.catalogue import Blame, fault
from tests.unit.test_lab_parts import CELL, cache, leave_run

__all__ = ["cache"]


def test_an_archive_arrives_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "CHUNK_BYTES", 100)
    leave_run(tmp_path / "there")
    (tmp_path / "there/run/link").symlink_to("events.jsonl")
    sent = tmp_path / "sent.tar.gz"
    parcel = parcels.pack(tmp_path / "there/run", sent, name="run", also=(tmp_path / "there/run.log",))
    assert parcel.size > 100
    arrived = tmp_path / "arrived.tar.gz"
    read = lambda offset: parcels.read_chunk(sent, offset)  # noqa: E731
    parcels.collect(parcel, arrived, read, limit=LAB_RESULT_BYTES, place="there")
    parcels.unpack(arrived, tmp_path / "here", place="there", say=pytest.fail)
    assert read_results(tmp_path / "here/run") == read_results(tmp_path / "there/run")
    assert (tmp_path / "here/run/link").readlink() == Path("events.jsonl")
    assert (tmp_path / "here/run.log").read_text() == "OK: 2 PASS\n"


@fault(
    "results that arrive are not what was announced", where="network", blame=Blame.INFRA,
    survives="nothing is taken for results",
)  # fmt: skip
@pytest.mark.parametrize(
    ("chunks", "told"),
    [([b"12345"], "expected an archive of 5 bytes"), ([b"123", b""], "found 0"), ([b"1" * 9], "found 9 bytes")],
)
def test_what_arrives_is_compared(chunks: list[bytes], told: str, tmp_path: Path) -> None:
    parcel = Parcel(size=5, sha256="0" * 64)
    with pytest.raises(InfraError, match=told):
        parcels.collect(parcel, tmp_path / "a", lambda _: chunks.pop(0), limit=LAB_RESULT_BYTES, place="there")


@fault(
    "an archive of results with a name that leads out of it", where="network", blame=Blame.INFRA,
    survives="nothing of it is written",
)  # fmt: skip
def test_no_name_in_an_archive_leads_out_of_it(tmp_path: Path) -> None:
    archive, inside = tmp_path / "a.tar.gz", tmp_path / "in"
    inside.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("../../out")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InfraError, match="a member's name leads out of the archive"):
        parcels.unpack(archive, inside / "here", place="there", say=pytest.fail)
    assert list(inside.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_half_an_archive_is_none(tmp_path: Path) -> None:
    leave_run(tmp_path)
    archive = tmp_path / "a.tar.gz"
    parcels.pack(tmp_path / "run", archive, name="run")
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(InfraError, match="there: expected an archive, found: "):
        parcels.unpack(archive, tmp_path / "here", place="there", say=pytest.fail)
    assert not (tmp_path / "here").exists()


def test_an_archive_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAB_RESULT_BYTES.variable, "10")
    with pytest.raises(UserError, match="there: expected at most 10 bytes"):
        parcels.collect(
            Parcel(size=11, sha256=""), tmp_path / "a", lambda _: b"", limit=LAB_RESULT_BYTES, place="there"
        )


# -- builds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def build(tmp_path: Path) -> Path:
    builds = Builds(tmp_path / "builds")
    builds.build(CELL)
    return builds.directory("b")


def send(arrivals: Arrivals, archive: Path, parcel: Parcel, address: str, *, size: int = 100) -> None:
    name = arrivals.begin(parcel)
    data = archive.read_bytes()
    for offset in range(0, len(data), size):
        arrivals.add(name, offset, data[offset : offset + size])
    arrivals.complete(name, address, pytest.fail)


def test_a_build_arrives_whole(build: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    arrivals, address = Arrivals(tmp_path / "scratch", Silent()), address_of(build)
    assert arrivals.get(address) is None
    archive = tmp_path / "b.tar.gz"
    send(arrivals, archive, parcels.pack(build, archive, name="build"), address)
    found = arrivals.get(address)
    assert found
    assert (found.directory / "Image").read_bytes() == (build / "Image").read_bytes()
    assert found.directory.parent == tmp_path / "cache/arm64-ftrace-harness/builds"  # where it is pruned
    assert Arrivals(tmp_path / "scratch", Silent()).get(address)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_was_on_its_way_is_gone_with_the_connection(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    arrivals = Arrivals(tmp_path / "scratch", Silent())
    name = arrivals.begin(Parcel(size=10, sha256=""))
    arrivals.clear()
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(InfraError, match="its beginning is missing"):
        arrivals.add(name, 0, b"x")


def test_the_last_builds_are_held_so_that_the_others_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.campaign.lab.builds._MOST_HELD", 1)
    arrivals = Arrivals(tmp_path, Silent())
    addresses = []
    for text in ("one", "two"):
        directory = tmp_path / f"builds/{text}"
        builds = Builds(tmp_path / "builds")
        builds.build(dataclasses.replace(CELL, build=text))
        addresses.append(address_of(directory))
        archive = tmp_path / f"{text}.tar.gz"
        send(arrivals, archive, parcels.pack(directory, archive, name="build"), addresses[-1])
    first, second = (tmp_path / f"cache/arm64-ftrace-harness/builds/lab-{each[:24]}" for each in addresses)
    with nobody_uses(first) as is_free, nobody_uses(second) as is_free_too:
        assert (is_free, is_free_too) == (True, False)


@fault(
    "a build that arrives is damaged, or another one", where="network", blame=Blame.INFRA,
    survives="nothing is in the cache",
)  # fmt: skip
def test_a_build_that_is_not_what_was_announced_is_refused(build: Path, tmp_path: Path) -> None:
    arrivals, archive, address = Arrivals(tmp_path, Silent()), tmp_path / "b.tar.gz", address_of(build)
    parcel = parcels.pack(build, archive, name="build")
    with pytest.raises(InfraError, match="was sent here: expected Parcel"):
        send(arrivals, archive, dataclasses.replace(parcel, sha256="0" * 64), address)
    with pytest.raises(InfraError, match="another one than was announced"):
        send(arrivals, archive, parcel, "0" * 64)
    (build / "Image").write_bytes(b"x" * (build / "Image").stat().st_size)
    parcel = parcels.pack(build, archive, name="build")
    with pytest.raises(InfraError, match=r"Image: damaged: expected a file of .* found .* bytes with SHA-256"):
        send(arrivals, archive, parcel, address)
    name = arrivals.begin(parcel)
    with pytest.raises(InfraError, match="expected 0 of its bytes, found 5"):
        arrivals.add(name, 5, b"x")
    assert arrivals.get(address) is None
    assert list((tmp_path / "cache/arm64-ftrace-harness/builds").iterdir()) == []


def test_builds_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAB_BUILD_BYTES.variable, "10")
    with pytest.raises(UserError, match="a build that is sent here: expected at most 10 bytes"):
        Arrivals(tmp_path, Silent()).begin(Parcel(size=11, sha256=""))


def test_a_build_without_digests_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=r"expected a build with a manifest\.json"):
        address_of(tmp_path)
