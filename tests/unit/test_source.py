"""`harness.build.source`: what ``--kernel SPEC`` means, and which source that is."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build import apt, checksum
from harness.build.cache import cache_dir
from harness.build.checksum import sha256_of
from harness.build.materialize import materialize
from harness.build.prune import Limits, prune
from harness.build.source import parse_source_spec, resolve_source
from harness.build.tree import fingerprint, kernel_version, makefile_version, scan
from harness.errors import InfraError, UserError
from harness.model.kernel import DEFAULT_SOURCE, SourceKind
from tests import damage
from tests.faults.catalogue import Blame, fault
from tests.unit.fakeapt import FakeApt
from tests.unit.toytree import Recorder, make_tree, pack


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# specs


@pytest.mark.parametrize(
    ("text", "kind", "location", "ref"),
    [
        ("7.3.4", SourceKind.VERSION, "7.3.4", ""),
        ("v6.1", SourceKind.VERSION, "6.1", ""),
        ("7.3-rc2", SourceKind.VERSION, "7.3-rc2", ""),
        (" 6.1 ", SourceKind.VERSION, "6.1", ""),
        ("debian:linux-source-7.3@trixie-backports", SourceKind.DEBIAN, "linux-source-7.3", "trixie-backports"),
        ("debian:linux-source@trixie-backports", SourceKind.DEBIAN, "", "trixie-backports"),
        ("debian:@trixie-backports", SourceKind.DEBIAN, "", "trixie-backports"),
        ("debian:trixie-backports", SourceKind.DEBIAN, "", "trixie-backports"),
        (DEFAULT_SOURCE, SourceKind.DEBIAN, "", "trixie-backports"),
        ("git:https://host.example/linux.git#v7.3", SourceKind.GIT, "https://host.example/linux.git", "v7.3"),
        ("git:https://host.example/linux.git", SourceKind.GIT, "https://host.example/linux.git", "HEAD"),
        ("git:git@host.example:linux.git#main", SourceKind.GIT, "git@host.example:linux.git", "main"),
        ("git:host:linux#topic/x", SourceKind.GIT, "host:linux", "topic/x"),
    ],
)
def test_specs_that_need_no_file(text: str, kind: SourceKind, location: str, ref: str) -> None:
    spec = parse_source_spec(text)
    assert (spec.kind, spec.location, spec.ref) == (kind, location, ref)
    assert spec.text == text.strip()


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "linux")
    pack(tmp_path / "linux", tmp_path / "linux.tar.gz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("linux", "./linux/", "~/linux", "linux/../linux"):
        spec = parse_source_spec(text)
        assert (spec.kind, spec.location) == (SourceKind.DIRECTORY, str(tmp_path / "linux"))
    spec = parse_source_spec("linux.tar.gz")
    assert (spec.kind, spec.location) == (SourceKind.TARBALL, str(tmp_path / "linux.tar.gz"))
    assert parse_source_spec("git:./linux#x").location == str(tmp_path / "linux")


def test_a_version_wins_over_a_directory_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "6.1")
    monkeypatch.chdir(tmp_path)
    assert parse_source_spec("6.1").kind is SourceKind.VERSION
    assert parse_source_spec("./6.1").kind is SourceKind.DIRECTORY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("seven", "there is no such file or directory either"),
        ("7", "there is no such file or directory either"),
        ("7.3.4.5", "there is no such file or directory either"),
        ("/nonexistent/linux.tar.xz", "no such file: /nonexistent/linux.tar.xz"),
        ("https://host.example/linux.tar.xz", "a tarball has to be downloaded first"),
        ("git:", "expected git:URL-or-path#branch-tag-or-commit"),
        ("git:https://host.example/x#", "expected git:URL-or-path#branch-tag-or-commit"),
        ("git:--upload-pack=touch x#v1", "expected git:URL-or-path#branch-tag-or-commit"),
        ("git:https://host.example/x#--output=y", "expected git:URL-or-path#branch-tag-or-commit"),
        ("git:/nonexistent#v1", "no such directory: /nonexistent"),
        ("debian:", "expected the name of a Debian suite"),
        ("debian:linux-source-7.3", "the suite is missing"),
        ("debian:bash@trixie", "expected a package such as linux-source-7.3, found 'bash'"),
        ("debian:linux-source-7.3@../../x", "expected the name of a Debian suite"),
    ],
)
def test_junk_is_the_users_error(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_source_spec(text)
    assert message in caught.value.message


def test_junk_is_answered_with_all_the_forms() -> None:
    with pytest.raises(UserError) as caught:
        parse_source_spec("seven")
    told = "\n".join(caught.value.details)
    assert all(form in told for form in ("directory", ".tar.zst", "git:", "7.3.4", "debian:@trixie-backports"))


def test_a_file_that_is_no_tarball_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").touch()
    with pytest.raises(UserError, match=r"does not end in any of \.tar, "):
        parse_source_spec(str(tmp_path / "vmlinux"))


# directories


def test_a_directory_is_known_by_the_state_of_its_files(tmp_path: Path) -> None:
    linux = make_tree(tmp_path / "linux", extra=" -rc1")
    spec = parse_source_spec(str(linux))
    first = resolve_source(spec)
    assert first.version == "7.3.4-rc1"
    assert first.path == linux
    assert resolve_source(spec) == first
    (linux / "kernel/sched.o").touch()
    (linux / ".config").touch()
    (linux / "vmlinux").touch()
    assert resolve_source(spec).identity == first.identity
    seen = {first.identity}
    (linux / "kernel/sched.c").write_text("int longer_than_before;\n")
    seen.add(resolve_source(spec).identity)
    os.utime(linux / "Kconfig", ns=(1, 1))
    seen.add(resolve_source(spec).identity)
    (linux / "Kconfig").chmod(0o755)
    seen.add(resolve_source(spec).identity)
    (linux / "Kconfig.new").touch()
    seen.add(resolve_source(spec).identity)
    (linux / "kernel/sched.c").rename(linux / "kernel/core.c")
    seen.add(resolve_source(spec).identity)
    assert len(seen) == 6


def test_linker_scripts_are_sources_though_their_name_begins_with_vmlinux(tmp_path: Path) -> None:
    linux = make_tree(tmp_path / "linux")
    assert "arch/arm64/kernel/vmlinux.lds.S" in {entry.path for entry in scan(linux)}


def test_a_fingerprint_of_a_kernel_sized_tree_takes_about_a_second(tmp_path: Path) -> None:
    """A thirtieth of a kernel's files, with room for a busy machine."""
    linux = make_tree(tmp_path / "linux")
    for directory in range(30):
        (linux / f"drivers/{directory}").mkdir(parents=True)
        for number in range(100):
            (linux / f"drivers/{directory}/{number}.c").touch()
    begun = time.process_time()
    fingerprint(scan(linux))
    assert time.process_time() - begun < 0.2


def test_a_directory_that_is_no_kernel_is_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("a.py", "b.py"):
        (tmp_path / "other" / name).touch()
    with pytest.raises(UserError, match=r"not a kernel source tree: .*Makefile.*found a\.py, b\.py"):
        resolve_source(parse_source_spec(str(tmp_path / "other")))
    linux = make_tree(tmp_path / "linux")
    shutil.rmtree(linux / "arch")
    with pytest.raises(UserError, match="expected arch/arm64, found Kconfig, Makefile"):
        kernel_version(linux)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\nEXTRAVERSION = -rc2\n", "7.3.0-rc2"),
        ("VERSION = 4\nPATCHLEVEL = 20\nSUBLEVEL =\nEXTRAVERSION =\n", "4.20"),
        ("VERSION = 7\n", None),
        ("VERSION = 1.2\nPATCHLEVEL = x\n", None),
        ("", None),
    ],
)
def test_the_makefile_tells_the_version(text: str, version: str | None) -> None:
    assert makefile_version(text) == version


# tarballs


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("linux-7.3.4.tar.xz", "7.3.4"),
        ("linux-7.3-rc2.tar.gz", "7.3-rc2"),
        ("linux-source-6.12.tar", "6.12"),
        ("mine.tar", "mine"),
    ],
)
def test_a_tarball_is_known_by_its_checksum(tmp_path: Path, name: str, version: str) -> None:
    tarball = pack(make_tree(tmp_path / "linux"), tmp_path / name)
    source = resolve_source(parse_source_spec(str(tarball)))
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    assert (source.identity, source.checksum) == (digest, f"sha256:{digest}")
    assert source.version == version


def test_a_checksum_is_computed_once_for_each_state_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    progress = Recorder()
    first = sha256_of(file, progress=progress)
    assert first == hashlib.sha256(b"one").hexdigest()
    assert progress.advanced[-1] == ("checksum of file", 3, 3)
    monkeypatch.setattr(checksum, "_read_through", lambda *_, **__: pytest.fail("read again"))
    assert sha256_of(file) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file.write_bytes(b"two")
    assert sha256_of(file) == hashlib.sha256(b"two").hexdigest()
    for note in cache_dir("checksums").iterdir():
        note.write_text("{broken")
    assert sha256_of(file) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_cannot_be_read_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        sha256_of(tmp_path / "gone")


# Debian


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb on this machine")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_APT", str(tmp_path / "apt"))
    (tmp_path / "keyring.gpg").touch()
    monkeypatch.setattr(apt, "KEYRING", tmp_path / "keyring.gpg")
    return FakeApt(tmp_path / "apt", tmp_path / "bin")


def build_deb(tmp_path: Path, *, member: str = "usr/src/linux-source-7.3.tar.xz") -> bytes:
    root = tmp_path / "deb"
    pack(make_tree(tmp_path / "linux-source-7.3"), root / member)
    (root / "usr/share/doc").mkdir(parents=True)
    (root / "usr/share/doc/changelog").write_text("x")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: linux-source-7.3\nVersion: 7.3.4-1\nArchitecture: all\nMaintainer: a\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "-b", root, tmp_path / "built.deb"], check=True, capture_output=True)
    return (tmp_path / "built.deb").read_bytes()


def test_debians_newest_is_fetched_once_and_its_tarball_taken_out(tmp_path: Path, fake: FakeApt) -> None:
    deb = build_deb(tmp_path)
    fake.packages({"linux-source": "7.3.4-1", "linux-source-7.3": "7.3.4-1~bpo13+1"}, deb=deb)
    spec = parse_source_spec("debian:@trixie-backports")
    progress = Recorder()
    source = resolve_source(spec, progress=progress)
    assert source.version == "7.3.4-1~bpo13+1"
    assert source.checksum == f"sha256:{hashlib.sha256(deb).hexdigest()}"
    assert source.path.name == "linux-source-7.3.tar.xz"
    assert source.identity == hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert f"checksum of {source.path.name}" not in {label for label, _, _ in progress.advanced}, "read twice"
    names = {path.name for path in source.path.parent.iterdir() if not path.name.endswith("lock")}
    assert names == {source.path.name, f"{source.path.name}.manifest.json"}
    assert not list((tmp_path / "cache").rglob("*.deb")), "the package costs as much room as the tarball in it"
    materialize(source, tmp_path / "ws/src")
    assert (tmp_path / "ws/src/Kconfig").is_file()

    fake.fail("download", "E: offline\n")
    fake.fail("update", "E: Failed to fetch: offline\n")
    again = Recorder()
    assert resolve_source(spec, progress=again) == source
    assert again.said == []
    assert resolve_source(spec, progress=again, refresh=True) == source
    assert "continuing with the package list in the cache" in again.said[-1]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            how,
            id=name,
            marks=fault(
                f"the kernel tarball of a Debian package is {name} in the cache",
                where="cache",
                blame=Blame.NOBODY,
                survives="the source: the package is downloaded and verified again, and a message says so",
            ),
        )
        for name, how in damage.HOW.items()
    ],
)
def test_debians_checksum_is_never_the_name_of_another_tarball(
    tmp_path: Path, fake: FakeApt, how: Callable[[Path], None]
) -> None:
    fake.packages({"linux-source-7.3": "7.3.4-1"}, deb=build_deb(tmp_path))
    spec, progress = parse_source_spec("debian:@trixie-backports"), Recorder()
    source = resolve_source(spec)
    content = source.path.read_bytes()
    how(source.path)
    assert resolve_source(spec, progress=progress) == source
    assert source.path.read_bytes() == content
    assert f"{source.path}: damaged: expected a file of {len(content)} bytes with SHA-256 " in progress.said[0]


@fault("another tarball is put beside that of a Debian package in the cache", where="cache", blame=Blame.NOBODY,
       survives="the source: a file without a recorded checksum is ignored")  # fmt: skip
def test_a_tarball_that_was_put_beside_debians_is_not_used(tmp_path: Path, fake: FakeApt) -> None:
    fake.packages({"linux-source-7.3": "7.3.4-1"}, deb=build_deb(tmp_path))
    spec = parse_source_spec("debian:@trixie-backports")
    source = resolve_source(spec)
    (source.path.parent / "linux-source-0.tar.xz").write_bytes(b"foreign")
    assert resolve_source(spec) == source


def test_a_source_in_use_is_not_pruned(tmp_path: Path, fake: FakeApt) -> None:
    fake.packages({"linux-source-7.3": "7.3.4-1"}, deb=build_deb(tmp_path))
    source = resolve_source(parse_source_spec("debian:@trixie-backports"))
    prune(Limits(size=0, age=0), Recorder())
    assert source.path.is_file()
    path = source.path
    del source
    prune(Limits(size=0, age=0), Recorder())
    assert not path.exists()


@fault("a tarball is replaced between the moment its checksum is recorded and its unpacking", where="cache",
       blame=Blame.USER, survives="the tree that was there; the message names both checksums")  # fmt: skip
def test_a_tarball_that_changes_before_it_is_unpacked_is_refused(tmp_path: Path) -> None:
    tarball = pack(make_tree(tmp_path / "linux"), tmp_path / "mine.tar")
    source = resolve_source(parse_source_spec(str(tarball)))
    (tmp_path / "linux/Kconfig").write_text("# another\n")
    pack(tmp_path / "linux", tarball)
    with pytest.raises(UserError, match=rf"changed while it was unpacked: expected SHA-256 {source.identity}, found"):
        materialize(source, tmp_path / "ws/src")
    assert not (tmp_path / "ws/src").exists()


def test_one_of_debians_packages_can_be_named(tmp_path: Path, fake: FakeApt) -> None:
    fake.packages({"linux-source-7.2": "7.2.1-1", "linux-source-7.3": "7.3.4-1"}, deb=build_deb(tmp_path))
    with pytest.raises(UserError, match=r"'linux-source-7\.1'; there are: linux-source-7\.2, linux-source-7\.3"):
        resolve_source(parse_source_spec("debian:linux-source-7.1@trixie-backports"))
    fake.packages({"linux-source-7.2": "7.2.1-1"}, deb=build_deb(tmp_path / "again"))
    assert resolve_source(parse_source_spec("debian:linux-source-7.2@trixie-backports")).version == "7.2.1-1"


def test_a_package_without_a_tarball_is_an_infrastructure_error(tmp_path: Path, fake: FakeApt) -> None:
    fake.packages({"linux-source-7.3": "7.3.4-1"}, deb=build_deb(tmp_path, member="usr/src/other.tar.xz"))
    with pytest.raises(InfraError, match=r"expected usr/src/linux-source-\*\.tar\.\* inside, found none"):
        resolve_source(parse_source_spec("debian:@trixie-backports"))


def test_something_that_is_no_package_is_an_infrastructure_error(tmp_path: Path, fake: FakeApt) -> None:
    fake.packages({"linux-source-7.3": "7.3.4-1"}, deb=b"not a package at all")
    with pytest.raises(InfraError, match="cannot be taken out of the package"):
        resolve_source(parse_source_spec("debian:@trixie-backports"))
    assert not list((tmp_path / "cache" / "arm64-ftrace-harness" / "downloads").rglob("*.partial"))
