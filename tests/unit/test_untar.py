"""Source tarballs and git repositories of others: nothing but files, and links within the tree, is taken from them."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import limits
from harness.build.materialize import materialize
from harness.build.source import parse_source_spec, resolve_source
from harness.build.tree import kernel_version
from harness.build.untar import untar
from harness.errors import UserError
from harness.limits import Limit
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, is_told, lower
from tests.unit.toytree import Recorder, make_tree, pack

__all__ = ["lower"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "ws/src"


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    return pack(make_tree(tmp_path / "linux"), tmp_path / "linux.tar")


def unpack(path: Path | str, tree: Path) -> str:
    """Materialize a source, and return what was said."""
    progress = Recorder()
    materialize(resolve_source(parse_source_spec(str(path))), tree, progress=progress)
    return "\n".join(progress.said)


def add(tarball: Path, name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "", **properties: object) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for key, value in properties.items():
        setattr(info, key, value)
    with tarfile.open(tarball, "a") as archive:
        archive.addfile(info, io.BytesIO(bytes(info.size)))


def hostile(injected: str, survives: str = "the files of the host") -> pytest.MarkDecorator:
    return fault(injected, where="hostile input", blame=Blame.USER, survives=survives)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        pytest.param(tarfile.FIFOTYPE, "", id="pipe", marks=hostile("a tarball whose Makefile is a pipe")),
        pytest.param(tarfile.CHRTYPE, "", id="device", marks=hostile("a tarball whose Makefile is a device")),
        pytest.param(tarfile.BLKTYPE, "", id="block device"),
        pytest.param(
            tarfile.SYMTYPE, "/dev/zero", id="link", marks=hostile("a tarball whose Makefile is a link to a device")
        ),
        pytest.param(tarfile.SYMTYPE, "../../../../../../../../dev/zero", id="relative link"),
        pytest.param(tarfile.SYMTYPE, "Makefile", id="link to itself"),
    ],
)
def test_a_makefile_that_is_no_file(tmp_path: Path, tree: Path, tarball: Path, kind: bytes, target: str) -> None:
    original = tmp_path / "linux"
    (original / "Makefile").unlink()
    pack(original, tarball)
    add(tarball, "linux/Makefile", kind, target=target)
    with pytest.raises(UserError, match=r"linux\.tar: linux: not a kernel source tree: expected a Makefile"):
        unpack(tarball, tree)
    assert not tree.exists()


def test_what_is_left_out_is_told(tree: Path, tarball: Path) -> None:
    add(tarball, "linux/pipe", tarfile.FIFOTYPE)
    add(tarball, "linux/dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    add(tarball, "linux/passwd", tarfile.SYMTYPE, target="/etc/passwd")
    add(tarball, "linux/a", tarfile.SYMTYPE, target="arch/..")
    add(tarball, "linux/b", tarfile.SYMTYPE, target="a/../x")
    add(tarball, "linux/c", tarfile.SYMTYPE, target="missing/but/inside")
    said = unpack(tarball, tree)
    assert "left out devices, pipes and links that lead out of the tree: pipe, dev/null, passwd, b" in said
    assert not [name for name in ("pipe", "dev/null", "passwd", "b") if os.path.lexists(tree / name)]
    assert (tree / "a").is_symlink()
    assert (tree / "c").is_symlink()


@hostile("a tarball with set-id files that belong to others")
def test_no_owners_and_no_permissions_beyond_0777(tree: Path, tarball: Path) -> None:
    add(tarball, "linux/suid", mode=0o7755, uid=12345, gid=12345)
    unpack(tarball, tree)
    status = (tree / "suid").stat()
    assert stat.S_IMODE(status.st_mode) & 0o7000 == 0
    assert os.access(tree / "suid", os.X_OK)
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    "members",
    [
        [("linux/out", tarfile.SYMTYPE, "/tmp"), ("linux/out/x", tarfile.REGTYPE, "")],
        [("linux/out", tarfile.REGTYPE, ""), ("linux/out/x", tarfile.REGTYPE, "")],
        [("linux/Kconfig/x", tarfile.REGTYPE, "")],
        [("linux/hard", tarfile.LNKTYPE, "etc/passwd")],
        [("linux/hard", tarfile.LNKTYPE, "linux/hard")],
        [("linux/hard", tarfile.LNKTYPE, "../etc/passwd")],
        [("linux/" + "x" * 300, tarfile.REGTYPE, "")],
        [("linux/" + "x/" * 100 + "x", tarfile.REGTYPE, "")],
    ],
)
@hostile("a tarball whose members contradict each other or lead out", survives="the tree as it was")
def test_members_that_can_not_be(tree: Path, tarball: Path, members: list[tuple[str, bytes, str]]) -> None:
    for name, kind, target in members:
        add(tarball, name, kind, target=target)
    with pytest.raises(UserError, match=r"linux\.tar: refused: "):
        unpack(tarball, tree)
    assert not tree.exists()


@pytest.mark.parametrize(
    ("kind", "target", "told"),
    [
        (
            tarfile.LNKTYPE,
            "../etc/passwd",
            "'linux/link' is a link whose target leads out of the archive: '../etc/passwd'",
        ),
        (tarfile.SYMTYPE, "/etc", "'linux/link': its members contradict each other"),
    ],
)
def test_the_refused_member_is_named(tree: Path, tarball: Path, kind: bytes, target: str, told: str) -> None:
    add(tarball, "linux/link", kind, target=target)
    add(tarball, "linux/link/x", tarfile.DIRTYPE)
    with pytest.raises(UserError) as caught:
        unpack(tarball, tree)
    assert f"refused: {told}" in caught.value.message


def test_hard_links_and_members_that_come_twice(tree: Path, tarball: Path) -> None:
    add(tarball, "linux/hard", tarfile.LNKTYPE, target="linux/Kconfig")
    add(tarball, "linux/soft", tarfile.LNKTYPE, target="linux/arch/arm64/link")
    add(tarball, "linux/kernel/sched.c", size=3)
    add(tarball, "linux/scripts/run.sh", tarfile.SYMTYPE, target="../Kconfig")
    unpack(tarball, tree)
    assert (tree / "hard").read_text() == (tree / "Kconfig").read_text()
    assert os.readlink(tree / "soft") == "Makefile"  # noqa: PTH115
    assert (tree / "kernel/sched.c").read_bytes() == bytes(3)
    assert (tree / "scripts/run.sh").is_symlink()


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        pytest.param(limits.TREE_BYTES, 20_000, marks=hostile("a tarball that unpacks to more than the limit")),
        pytest.param(limits.TREE_FILES, 10, marks=hostile("a tarball of more files than the limit")),
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.xz"])
def test_limits(tmp_path: Path, tree: Path, lower: Lower, limit: Limit, value: int, suffix: str) -> None:
    more = {f"n{n}__c": "x" for n in range(30)}
    path = pack(make_tree(tmp_path / "linux", **more), tmp_path / f"linux{suffix}")
    lower(limit, value)
    with pytest.raises(UserError) as caught:
        unpack(path, tree)
    assert is_told(caught.value, limit, place=str(path))
    assert [each.name for each in tree.parent.iterdir()] == ["source.json.lock"]


@hostile("a tarball that takes longer to unpack than the limit")
def test_time(tree: Path, tarball: Path, monkeypatch: pytest.MonkeyPatch, lower: Lower) -> None:
    now = [0.0]

    def later() -> float:
        now[0] += 10
        return now[0]

    monkeypatch.setattr("harness.limits.time.monotonic", later)
    lower(limits.TREE_SECONDS, 15)
    with pytest.raises(UserError) as caught:
        unpack(tarball, tree)
    assert is_told(caught.value, limits.TREE_SECONDS, place=str(tarball))


def _sparse(tarball: Path) -> None:
    add(tarball, "linux/sparse", tarfile.GNUTYPE_SPARSE)


def _sparse_pax(tarball: Path) -> None:
    add(tarball, "linux/s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s"})


def _long_properties(tarball: Path) -> None:
    add(tarball, "linux/s", pax_headers={"comment": "x" * 20_000})


def _wrong_checksum(tarball: Path) -> None:
    data = bytearray(tarball.read_bytes())
    data[data.rindex(b"linux/Makefile")] ^= 1
    tarball.write_bytes(data)


def _cut(tarball: Path) -> None:
    data = tarball.read_bytes()
    tarball.write_bytes(data[: data.rindex(b"linux/Makefile") + 700])


def _cut_in_a_header(tarball: Path) -> None:
    data = tarball.read_bytes()
    tarball.write_bytes(data[: data.rindex(b"linux/Makefile") + 100])


def _headers_without_a_file(tarball: Path) -> None:
    data = tarball.read_bytes()
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    tarball.write_bytes((header.tobuf() + b"y".ljust(512, b"\0")) * 1500 + data)


@pytest.mark.parametrize(
    "damage",
    [_sparse, _sparse_pax, _long_properties, _wrong_checksum, _cut, _cut_in_a_header, _headers_without_a_file],
)
@hostile("a tarball that is cut, damaged, or made to occupy a parser", survives="the tree as it was")
def test_damage(tree: Path, tarball: Path, damage: Callable[[Path], None]) -> None:
    damage(tarball)
    with pytest.raises(UserError, match=r"linux\.tar: damaged or not a tarball; get it again") as caught:
        unpack(tarball, tree)
    assert caught.value.details
    assert not tree.exists()


@fault(
    "unpacking the sources finds the disk full",
    where="disk",
    blame=Blame.INFRA,
    survives="the tarball, which is not blamed",
)
def test_a_disk_that_fails_is_nobodys_tarball(tree: Path, tarball: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.build.untar.shutil.copyfileobj", full)
    with pytest.raises(Shortage, match="no space left on device"):
        unpack(tarball, tree)
    assert tarball.exists()
    assert not tree.exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
@hostile("a source directory whose Makefile is a pipe or a device", survives="the command ends")
def test_a_directory_whose_makefile_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    tree = make_tree(tmp_path / "linux")
    (tree / "Makefile").unlink()
    make(tree / "Makefile")
    with pytest.raises(UserError, match="not a kernel source tree: expected a Makefile with VERSION"):
        kernel_version(tree)


def test_a_makefile_of_gigabytes(tmp_path: Path, lower: Lower) -> None:
    tree = make_tree(tmp_path / "linux")
    lower(limits.MAKEFILE_BYTES, 20)
    with pytest.raises(UserError) as caught:
        kernel_version(tree)
    assert is_told(caught.value, limits.MAKEFILE_BYTES, place=str(tree / "Makefile"))


@pytest.mark.parametrize("version", ["9" * 5000, "²", "٣"])
def test_a_version_that_is_no_number(tmp_path: Path, version: str) -> None:
    tree = make_tree(tmp_path / "linux")
    (tree / "Makefile").write_text(f"VERSION = {version}\nPATCHLEVEL = 3\n")
    with pytest.raises(UserError, match="expected a Makefile with VERSION and PATCHLEVEL"):
        kernel_version(tree)


@hostile("a git repository with links that lead out of the tree")
def test_git_links_that_lead_out(tmp_path: Path, tree: Path) -> None:
    repository = make_tree(tmp_path / "linux")
    (repository / "passwd").symlink_to("/etc/passwd")
    (repository / "kernel/up").symlink_to("../../x")
    (repository / "kernel/in").symlink_to("../Kconfig")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "x")):
        subprocess.run(["git", "-C", repository, *words], check=True)
    said = unpack(f"git:{repository}", tree)
    assert "left out links that lead out of the tree: kernel/up, passwd" in said
    assert sorted(path.name for path in tree.rglob("*") if path.is_symlink()) == ["in", "link"]


def test_only_wanted_members_are_written(tmp_path: Path) -> None:
    top = tmp_path / "linux"
    for name in ("a/wanted", "a/other", "b/wanted"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    subprocess.run(["tar", "-C", top, "-cf", tmp_path / "x.tar", "."], check=True)
    out = tmp_path / "out"
    out.mkdir()
    untar(tmp_path / "x.tar", out, suffix=".tar", tick=lambda _: None, wanted=lambda name: name == "a/wanted")
    assert [path for path in out.rglob("*") if path.is_file()] == [out / "a/wanted"]
