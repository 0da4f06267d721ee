"""What the cache keeps is checked at each use: damage is found, named and not blamed on anybody else."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build import seal
from harness.build.cache import published
from harness.build.finished import load_record
from harness.build.seal import MANIFEST, checked, find, made_once, manifest_of, seal_directory, seal_file
from harness.errors import BootError, InfraError, UserError
from harness.limits import RECORD_BYTES
from harness.model.product import Digest, Manifest, Product
from harness.parse.manifest import manifest_from_json, manifest_to_json
from harness.products import Damaged, digest_of, verified_on_failure, verify
from tests import damage
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import mounted
from tests.faults.powercut import Journal
from tests.unit.toytree import Recorder

CONTENT = bytes(range(256)) * 16
Damage = Callable[[Path], None]
EVERY_DAMAGE = [pytest.param(how, id=name) for name, how in damage.HOW.items()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    directory = tmp_path / "build"
    (directory / "modules/7.3.4").mkdir(parents=True)
    (directory / "Image").write_bytes(CONTENT)
    (directory / "modules/7.3.4/x.ko").write_bytes(b"module")
    (directory / "modules/latest").symlink_to("7.3.4")
    seal_directory(directory, final=directory)
    return directory


def check(directory: Path, *, full: bool = False) -> tuple[Product, ...]:
    return checked(directory / MANIFEST, remedy="build it again", full=full)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read."""
    done: list[Path] = []

    def noted(product: Product) -> None:
        done.append(product.path)
        verify(product)

    monkeypatch.setattr(seal, "verify", noted)
    return done


def test_a_manifest_lists_every_file_and_link(build: Path) -> None:
    found = manifest_from_json((build / MANIFEST).read_text())
    assert set(found.files) == {"Image", "modules/7.3.4/x.ko"}
    assert found.links == {"modules/latest": "7.3.4"}
    assert found.files["Image"] == digest_of(build / "Image") == check(build)[0].digest


def test_a_directory_can_be_sealed_again(build: Path) -> None:
    (build / "Image").write_bytes(b"new")
    seal_directory(build, final=build)
    assert [product.path.name for product in check(build, full=True)] == ["Image", "x.ko"]


def test_nothing_is_read_while_nothing_changes(build: Path, reads: list[Path]) -> None:
    check(build)
    assert reads == []
    check(build, full=True)
    assert reads == [build / "Image", build / "modules/7.3.4/x.ko"]


def test_a_copy_is_read_once(build: Path, tmp_path: Path, reads: list[Path]) -> None:
    copy = build.rename(tmp_path / "moved")
    for _ in range(2):
        check(copy)
    assert len(reads) == 2


def test_a_touched_file_is_read_and_found_right(build: Path, reads: list[Path]) -> None:
    os.utime(build / "Image", (1, 1))
    for _ in range(2):
        check(build)
    assert reads == [build / "Image"]


@pytest.mark.parametrize("how", EVERY_DAMAGE)
def test_damage_is_found_and_told(build: Path, how: Damage) -> None:
    how(build / "modules/7.3.4/x.ko")
    with pytest.raises(Damaged, match=r"x\.ko: damaged: expected a file of 6 bytes.*found.*; build it again") as caught:
        check(build)
    assert caught.value.exit_code == 3


def test_a_file_with_the_former_size_and_time_is_read(build: Path) -> None:
    before = (build / "Image").stat()
    damage.flip_a_bit(build / "Image")
    os.utime(build / "Image", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Damaged):
        check(build)


@fault("a bit of a build flips on the disk, which changes neither size nor times", where="cache", blame=Blame.INFRA,
       survives="the build's other files; the message names the damaged one")  # fmt: skip
def test_what_only_reading_shows_is_found_by_reading_all(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage.unnoticed(damage.flip_a_bit, build / "Image", monkeypatch)
    check(build)
    with pytest.raises(Damaged, match="Image: damaged: expected a file of 4096 bytes with SHA-256"):
        check(build, full=True)


def test_another_kind_of_file_is_damage(build: Path) -> None:
    (build / "Image").unlink()
    os.mkfifo(build / "Image")
    with pytest.raises(Damaged, match="found something that is not a regular file"):
        check(build)


@pytest.mark.parametrize("target", ["../../elsewhere", None])
def test_a_link_that_leads_elsewhere_is_damage(build: Path, target: str | None) -> None:
    (build / "modules/latest").unlink()
    if target:
        (build / "modules/latest").symlink_to(target)
    with pytest.raises(Damaged, match=r"modules/latest: damaged: expected a symbolic link to 7\.3\.4, found"):
        check(build)


@pytest.mark.parametrize("how", [damage.empty, damage.cut, damage.zero])
def test_a_damaged_manifest_proves_nothing(build: Path, how: Damage) -> None:
    how(build / MANIFEST)
    with pytest.raises(Damaged, match=r"manifest\.json: damaged: expected digests of files, found: .*; build it again"):
        check(build)


@pytest.mark.parametrize("content", [None, "[" * 20_000, '{"version": 1, "files": {}, "links": {}}' + " " * 100_000])
@fault("the manifest of a build is a pipe, lists within lists, or too large", where="cache", blame=Blame.INFRA,
       survives="what is wrong with it, and what to do")  # fmt: skip
def test_reading_a_manifest_ends(build: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    monkeypatch.setenv(RECORD_BYTES.variable, "50000")
    (build / MANIFEST).unlink()
    if content is None:
        os.mkfifo(build / MANIFEST)
    else:
        (build / MANIFEST).write_text(content)
    with pytest.raises(Damaged, match=r"manifest\.json: damaged: expected digests of files, found: .*; build it again"):
        check(build)


@pytest.mark.parametrize("content", [None, "[" * 20_000, "{}" + " " * 100_000])
@fault("the record of a build is a pipe, lists within lists, or too large", where="cache", blame=Blame.USER,
       survives="the directory, as no finished build")  # fmt: skip
def test_reading_a_record_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    monkeypatch.setenv(RECORD_BYTES.variable, "50000")
    if content is None:
        os.mkfifo(tmp_path / "build.json")
    else:
        (tmp_path / "build.json").write_text(content)
    with pytest.raises(UserError, match="expected a finished build") as caught:
        load_record(tmp_path)
    assert caught.value.exit_code == 2


def test_damaged_notes_cost_only_the_reading(build: Path, cache: Path, reads: list[Path]) -> None:
    for note in cache.rglob("checksums/*"):
        note.write_text('{"manifest": 1, "stamps": [')
    check(build)
    assert len(reads) == 2


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def replaced(path: Path, goal: Path) -> Path:
        done.append(f"rename to {goal.name}")
        return replace(path, goal)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    (tmp_path / "partial").write_bytes(CONTENT)
    seal_file(tmp_path / "partial", tmp_path / "root.ext4")
    renames = [index for index, step in enumerate(done) if step.startswith("rename")]
    assert done[renames[0] - 1 : renames[0] + 2] == ["sync partial", "rename to root.ext4", f"sync {tmp_path.name}"]
    assert done.index("rename to root.ext4.manifest.json") > renames[0] + 1


# single files


def make(path: Path) -> None:
    path.write_bytes(CONTENT)


def test_a_file_is_made_once_and_held(tmp_path: Path) -> None:
    path, progress = tmp_path / "root.ext4", Recorder()
    made: list[Path] = []

    def noted(partial: Path) -> None:
        made.append(partial)
        make(partial)

    first = made_once(path, noted, progress=progress, needed="1 GB")
    os.utime(manifest_of(path), (1, 1))
    assert made_once(path, noted, progress=progress, needed="1 GB").product == first.product
    assert len(made) == 1
    assert manifest_of(path).stat().st_mtime > time.time() - 60  # it tells the pruner
    assert {each.name for each in tmp_path.iterdir()} >= {path.name, f"{path.name}.manifest.json"}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            how,
            id=name,
            marks=fault(
                f"a root image or an archive of the cache is {name}",
                where="cache",
                blame=Blame.NOBODY,
                survives="the run: the file is made again, and a message says so",
            ),
        )
        for name, how in damage.HOW.items()
    ],
)
def test_a_damaged_file_is_made_again(tmp_path: Path, how: Damage) -> None:
    path, progress = tmp_path / "root.ext4", Recorder()
    made_once(path, make, progress=progress, needed="1 GB")
    how(path)
    assert made_once(path, make, progress=progress, needed="1 GB").path.read_bytes() == CONTENT
    (told,) = progress.said
    assert told.startswith(f"{path}: damaged: expected a file of 4096 bytes")
    assert told.endswith("; it is made again")


def test_a_file_without_a_manifest_is_made_again(tmp_path: Path) -> None:
    """An older harness made it, or the host went down before the manifest was on the disk."""
    (tmp_path / "root.ext4").write_bytes(b"?")
    assert find(tmp_path / "root.ext4") is None
    assert made_once(tmp_path / "root.ext4", make, progress=Recorder(), needed="1 GB").path.read_bytes() == CONTENT


def test_what_a_killed_maker_left_is_removed(tmp_path: Path) -> None:
    for left in (".root.ext4.4711.partial", ".other.ext4.4711.partial"):
        (tmp_path / left).write_bytes(b"half")
    made_once(tmp_path / "root.ext4", make, progress=Recorder(), needed="1 GB")
    assert [path.name for path in tmp_path.glob(".*")] == [".other.ext4.4711.partial"]


def test_the_manifest_of_another_file_vouches_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT)
    seal_file(tmp_path / "partial", tmp_path / "a")
    (tmp_path / "b").write_bytes(b"other")
    manifest_of(tmp_path / "a").rename(manifest_of(tmp_path / "b"))
    with pytest.raises(Damaged, match="expected the digest of b in it"):
        find(tmp_path / "b")


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.write_bytes(b"half")
        raise InfraError("no space")

    with pytest.raises(InfraError, match="no space"):
        made_once(tmp_path / "root.ext4", fail, progress=Recorder(), needed="1 GB")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["root.lock"]


# a boot that fails


def _fail(product: Product) -> None:
    with verified_on_failure([product]):
        raise BootError("no console output within 60 s: the kernel hangs", details=("last line",))


@fault("the Image is damaged after it was checked, and the boot fails silently", where="cache", blame=Blame.INFRA,
       survives="the console's last lines; the message names the damaged file")  # fmt: skip
def test_a_boot_that_a_damaged_file_explains_is_not_the_kernels_fault(build: Path) -> None:
    image = check(build)[0]
    damage.zero(build / "Image")
    with pytest.raises(Damaged, match="Image: damaged") as caught:
        _fail(image)
    assert caught.value.exit_code == 3
    assert caught.value.details == (
        "it led to: no console output within 60 s: the kernel hangs",
        "last line",
    )


def test_a_boot_that_fails_with_undamaged_files_is(build: Path) -> None:
    with pytest.raises(BootError, match="the kernel hangs"):
        _fail(check(build)[0])


# the text


def test_manifest_round_trip() -> None:
    manifest = Manifest(files={"a/b": Digest(size=3, sha256="0" * 64)}, links={"c": "a/b"})
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"version": 1, "files": {}}',
        '{"version": 2, "files": {}, "links": {}}',
        '{"version": 1, "files": {"a": {"size": -1, "sha256": "%s"}}, "links": {}}' % ("0" * 64),
        '{"version": 1, "files": {"a": {"size": 1.0, "sha256": "%s"}}, "links": {}}' % ("0" * 64),
        '{"version": 1, "files": {"a": {"size": 1, "sha256": "0"}}, "links": {}}',
        '{"version": 1, "files": {"../a": {"size": 1, "sha256": "%s"}}, "links": {}}' % ("0" * 64),
        '{"version": 1, "files": {"/a": {"size": 1, "sha256": "%s"}}, "links": {}}' % ("0" * 64),
        '{"version": 1, "files": {}, "links": {"a": 1}}',
    ],
)
def test_a_malformed_manifest_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)expect"):
        manifest_from_json(text)


# a power cut


@fault("the power goes out after any operation of making a root image or an archive", where="power cut",
       blame=Blame.NOBODY, survives="the file, whole; or it is made again")  # fmt: skip
def test_after_a_power_cut_a_file_is_whole_or_made_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache / "arm64-ftrace-harness/rootfs/root.ext4"
    path.parent.mkdir(parents=True)
    with mounted(Journal(cache)) as journal:
        made_once(path, make, progress=Recorder(), needed="1 GB")
    assert isinstance(journal, Journal)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "left"))
    found = []
    for number, left, directory in journal.states(tmp_path / "left"):
        there = directory / path.relative_to(cache)
        there.parent.mkdir(parents=True, exist_ok=True)
        found.append(_what_is_found(there))
        assert found[-1] in ("none", "whole", "damage"), (
            f"after operation {number}, {left} of the unsynced data is left"
        )
        assert made_once(there, make, progress=Recorder(), needed="1 GB").path.read_bytes() == CONTENT
    assert found[-3:] == ["whole"] * 3
    assert "none" in found


def _what_is_found(path: Path) -> str:
    try:
        kept = find(path)
    except Damaged:
        return "damage"
    if kept is None:
        return "none"
    return "whole" if kept.path.read_bytes() == CONTENT else "something else"


@fault("the power goes out after any operation of publishing a build", where="power cut", blame=Blame.NOBODY,
       survives="the build, whole; or it is recognised as damaged, or is not there")  # fmt: skip
def test_after_a_power_cut_a_build_is_whole_or_not_there(cache: Path, tmp_path: Path) -> None:
    final = cache / "builds/b"
    final.parent.mkdir(parents=True)
    sealed = functools.partial(seal_directory, final=final)
    with mounted(Journal(cache)) as journal, published(final, seal=sealed) as scratch:
        (scratch / "Image").write_bytes(CONTENT)
        (scratch / "modules").mkdir()
        (scratch / "modules/x.ko").write_bytes(CONTENT)
    assert isinstance(journal, Journal)
    whole = 0
    for number, left, directory in journal.states(tmp_path / "left"):
        there = directory / "builds/b"
        if there.exists():
            where = f"after operation {number}, {left} of the unsynced data is left"
            assert [product.path.name for product in check(there)] == ["Image", "x.ko"], where
            assert (there / "Image").read_bytes() == (there / "modules/x.ko").read_bytes() == CONTENT, where
            whole += 1
    assert whole >= 3
