"""`harness.build.download` and `harness.build.kernelorg` against servers that misbehave."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build import download
from harness.build.download import NotThere, fetch_file, fetch_text
from harness.build.kernelorg import fetch_tarball
from harness.errors import InfraError, UserError
from harness.model.progress import Silent
from tests import damage
from tests.faults.catalogue import Blame, fault
from tests.unit.loopback import Server, serving
from tests.unit.toytree import Recorder, write_script

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES_S", (0.0, 0.0, 0.0))
    with serving() as server:
        server.files["/file"] = CONTENT
        yield server


def fetch(server: Server, target: Path, *, sha256: str = SHA256, progress: Recorder | None = None) -> None:
    fetch_file(f"{server.url}/file", target, sha256=sha256, progress=progress or Silent())


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    progress = Recorder()
    fetch(server, tmp_path / "got/file", progress=progress)
    assert (tmp_path / "got/file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["file"]
    assert ("file", len(CONTENT), len(CONTENT)) in progress.advanced


@fault(
    "the connection breaks twice during a download",
    where="network",
    blame=Blame.NOBODY,
    survives="what has arrived; the file, whole",
)
def test_a_cut_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_000_000, 2_000_000]
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000000-", "bytes=3000000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(InfraError, match=r"the connection broke at .*; gave up after several tries.*it resumes"):
        fetch(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    server.requests.clear()
    fetch(server, tmp_path / "file")
    assert server.requests == [("/file", "bytes=1000000-")]
    assert (tmp_path / "file").read_bytes() == CONTENT


@fault(
    "a file changes on the server between two tries",
    where="network",
    blame=Blame.NOBODY,
    survives="the new file, whole",
)
def test_a_file_that_changed_meanwhile_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(InfraError):
        fetch(server, tmp_path / "file")
    server.files["/file"], server.etag = b"new" * 1_000_000, '"two"'
    fetch(server, tmp_path / "file", sha256=hashlib.sha256(b"new" * 1_000_000).hexdigest())
    assert (tmp_path / "file").read_bytes() == b"new" * 1_000_000


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [1_000_000]
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_partial_file_that_is_already_complete_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(CONTENT)
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(CONTENT + b"more")
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@fault(
    "a mirror delivers another file than promised",
    where="network",
    blame=Blame.INFRA,
    survives="the cache, without that file",
)
def test_a_wrong_file_is_removed_and_both_sums_are_told(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = b"lies"
    lies = hashlib.sha256(b"lies").hexdigest()
    with pytest.raises(InfraError, match=f"expected sha256 {SHA256}, found {lies}"):
        fetch(server, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_busy_server_is_asked_again_with_growing_pauses(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 429, 500]
    pauses: list[float] = []
    download_pauses = (1.0, 3.0, 9.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "PAUSES_S", download_pauses)
        fetch_file(f"{server.url}/file", tmp_path / "file", sha256=SHA256, progress=Silent(), sleep=pauses.append)
    assert tuple(pauses) == download_pauses


@fault(
    "a download server stays busy",
    where="network",
    blame=Blame.INFRA,
    survives="the server: it is asked a few times only",
)
def test_a_server_that_stays_busy_is_left_in_peace(server: Server) -> None:
    server.failures = [503] * 100
    with pytest.raises(InfraError, match="the server answered 503"):
        fetch_text(f"{server.url}/file", sleep=lambda _: None)
    assert len(server.requests) == 4


@pytest.mark.parametrize(("status", "error"), [(404, NotThere), (410, NotThere), (403, InfraError)])
def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path, status: int, error: type[Exception]) -> None:
    server.failures = [status]
    with pytest.raises(error):
        fetch(server, tmp_path / "file")
    assert len(server.requests) == 1


def test_a_name_that_does_not_resolve_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    naps: list[float] = []
    with pytest.raises(InfraError, match=r"cannot be reached: .*check the network"):
        fetch_text("http://no-such-host.invalid/", sleep=naps.append)
    assert naps == []


# kernel.org


@pytest.fixture
def kernel_org(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HARNESS_KERNEL_ORG", server.url + "/")
    monkeypatch.delenv("HARNESS_KERNEL_ORG_KEYRING", raising=False)
    names = ["linux-7.2.tar.xz", "linux-7.3.tar.xz", "linux-7.3.4.tar.xz", "linux-7.3.10.tar.xz", "patch-7.3.5.xz"]
    sums = "".join(f"{SHA256}  {name}\n" for name in names)
    server.files["/v7.x/sha256sums.asc"] = f"-----BEGIN PGP SIGNED MESSAGE-----\n\n{sums}".encode()
    server.files["/v7.x/linux-7.3.4.tar.xz"] = CONTENT
    return server


def test_a_version_is_downloaded_once_and_checked_against_the_list(kernel_org: Server) -> None:
    progress = Recorder()
    path = fetch_tarball("7.3.4", progress=progress).path
    assert path.name == "linux-7.3.4.tar.xz"
    assert path.read_bytes() == CONTENT
    assert any("only the checksum is checked" in line for line in progress.said)
    kernel_org.requests.clear()
    assert fetch_tarball("7.3.4", progress=Silent()).path == path
    assert kernel_org.requests == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            content,
            marks=fault(
                f"a downloaded kernel tarball {how}",
                where="cache",
                blame=Blame.NOBODY,
                survives="the source: it is downloaded and verified again, and a message says so",
            ),
            id=how,
        )
        for how, content in {
            "was replaced by another": b"evil".ljust(len(CONTENT)),
            "was cut short": CONTENT[:100],
            "is full of zeros": bytes(len(CONTENT)),
            "has a flipped bit": CONTENT[:50] + bytes([CONTENT[50] ^ 1]) + CONTENT[51:],
        }.items()
    ],
)
def test_a_tarball_that_changed_in_the_cache_is_downloaded_again(kernel_org: Server, content: bytes) -> None:
    path = fetch_tarball("7.3.4", progress=Silent()).path
    path.write_bytes(content)
    progress = Recorder()
    kept = fetch_tarball("7.3.4", progress=progress)
    assert (kept.path.read_bytes(), kept.product.digest.sha256) == (CONTENT, SHA256)
    assert any(
        f"{path}: damaged: expected a file of {len(CONTENT)} bytes with SHA-256" in line for line in progress.said
    )


def test_a_tarball_of_an_older_harness_is_compared_with_the_list_and_kept(kernel_org: Server) -> None:
    path = fetch_tarball("7.3.4", progress=Silent()).path
    path.with_name(f"{path.name}.manifest.json").unlink()
    kernel_org.requests.clear()
    assert fetch_tarball("7.3.4", progress=Silent()).path == path
    assert [request for request, _ in kernel_org.requests] == ["/v7.x/sha256sums.asc"]


@fault("the checksum recorded for a downloaded tarball is lost, and another file has its name", where="cache",
       blame=Blame.NOBODY, survives="the source, downloaded again")  # fmt: skip
def test_a_tarball_that_nothing_vouches_for_is_not_used(kernel_org: Server) -> None:
    path = fetch_tarball("7.3.4", progress=Silent()).path
    path.with_name(f"{path.name}.manifest.json").unlink()
    path.write_bytes(b"another")
    assert fetch_tarball("7.3.4", progress=Silent()).path.read_bytes() == CONTENT


def test_verify_reads_a_tarball_that_looks_as_before(kernel_org: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit that flips on the disk changes no time."""
    path = fetch_tarball("7.3.4", progress=Silent()).path
    damage.unnoticed(damage.zero, path, monkeypatch)
    assert fetch_tarball("7.3.4", progress=Silent()).path.read_bytes() == bytes(len(CONTENT))
    assert fetch_tarball("7.3.4", progress=Silent(), verify=True).path.read_bytes() == CONTENT


def test_a_tarball_that_the_list_does_not_vouch_for_is_refused(kernel_org: Server) -> None:
    kernel_org.files["/v7.x/linux-7.3.4.tar.xz"] = b"evil"
    with pytest.raises(InfraError, match=f"expected sha256 {SHA256}"):
        fetch_tarball("7.3.4", progress=Silent())


def test_a_version_that_does_not_exist_is_answered_with_those_that_do(kernel_org: Server) -> None:
    with pytest.raises(UserError, match=r"7\.3\.99: .*there: 7\.3, 7\.3\.4, 7\.3\.10$"):
        fetch_tarball("7.3.99", progress=Silent())


def test_a_series_that_does_not_exist_is_the_users_error(kernel_org: Server) -> None:
    with pytest.raises(UserError, match=r"9\.1: there is no kernel 9\.x"):
        fetch_tarball("9.1", progress=Silent())


def test_a_release_candidate_comes_with_the_command_that_gets_it(kernel_org: Server) -> None:
    with pytest.raises(UserError, match=r"only from git: --kernel git:https://\S+/linux\.git#v7\.3-rc2$"):
        fetch_tarball("7.3-rc2", progress=Silent())
    assert kernel_org.requests == []


def test_a_kernel_older_than_arm64_is_refused(kernel_org: Server) -> None:
    with pytest.raises(UserError, match=r"first kernel for arm64 is 3\.7"):
        fetch_tarball("2.6.39", progress=Silent())


def test_with_a_keyring_only_what_was_signed_is_believed(
    kernel_org: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys.gpg").touch()
    monkeypatch.setenv("HARNESS_KERNEL_ORG_KEYRING", str(tmp_path / "keys.gpg"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    write_script(tmp_path / "bin/gpgv", f'[ "$2" = {tmp_path}/keys.gpg ] && echo "{SHA256}  linux-7.3.10.tar.xz"')
    with pytest.raises(UserError, match=r"7\.3\.4: there is no such kernel"):
        fetch_tarball("7.3.4", progress=Silent())
    write_script(tmp_path / "bin/gpgv", "echo 'gpgv: BAD signature' >&2; exit 1")
    with pytest.raises(InfraError, match=r"signature is not good by .*keys\.gpg") as caught:
        fetch_tarball("7.3.4", progress=Silent())
    assert caught.value.details == ("gpgv: BAD signature",)


def test_a_keyring_that_is_not_there_is_not_silently_passed_over(
    kernel_org: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_KERNEL_ORG_KEYRING", "/nonexistent.gpg")
    with pytest.raises(UserError, match="no such file"):
        fetch_tarball("7.3.4", progress=Silent())
