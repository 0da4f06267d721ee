"""A machine over SSH: here a real sshd on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from harness.errors import InfraError, UserError
from harness.model.board import Login, Ssh
from harness.target.base import CommandTimeout, TargetLost
from harness.target.shells.ssh import SshHost
from tests.contract import sshd
from tests.contract.sshd import Sshd
from tests.faults.catalogue import Blame, fault

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd.running(tmp_path) as server:
        yield server


def spec_of(server: Sshd, **other: str) -> Ssh:
    login = {"key": str(server.key), **other}
    return Ssh(host="127.0.0.1", port=server.port, login=Login(**login))


@pytest.fixture
def host(server: Sshd, tmp_path: Path) -> Iterator[SshHost]:
    host = SshHost(spec_of(server), pins=tmp_path / "pins/board", place="board.ssh")
    yield host
    host.close()


@pytest.mark.parametrize(
    ("command", "returncode", "output"),
    [("echo hello", 0, "hello"), ("exit 7", 7, ""), ("echo out; echo err >&2; false", 1, "out\nerr"), ("cat", 0, "")],
)
def test_output_and_exit_code(host: SshHost, command: str, returncode: int, output: str) -> None:
    done = host.run(command, timeout=10)
    assert (done.returncode, done.output) == (returncode, output)


def test_a_command_that_does_not_end_is_told_and_others_still_answer(host: SshHost) -> None:
    with pytest.raises(CommandTimeout):
        host.run("sleep 100", timeout=0.5)
    assert host.is_alive(timeout=10)


def test_files(host: SshHost, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    host.put(content, str(tmp_path / "there"), mode=0o640)
    assert host.get(str(tmp_path / "there")) == content
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.glob("*.partial")) == []


def test_files_share_one_session_as_long_as_it_is_good(
    host: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dropbear may close a session that begins when another one ends."""
    opened = []
    real = paramiko.SSHClient.open_sftp

    def counted(client: paramiko.SSHClient) -> paramiko.SFTPClient:
        opened.append(1)
        return real(client)

    monkeypatch.setattr(paramiko.SSHClient, "open_sftp", counted)
    for name in ("one", "two"):
        host.put(b"x", str(tmp_path / name))
        with pytest.raises(UserError):
            host.get(str(tmp_path / "none"))
    assert opened == [1]
    with pytest.raises(UserError):
        host.put(b"x", f"{tmp_path}/one/below")  # a file is no directory
    assert host.get(str(tmp_path / "one")) == b"x"
    host.close()
    assert host.get(str(tmp_path / "two")) == b"x"
    assert len(opened) >= 2


def test_files_that_can_not_be_read_or_written(host: SshHost, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: can't be read on the target"):
        host.get(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="can't be written on the target"):
        host.put(b"", str(tmp_path / "no/such/directory"))


def test_the_first_host_key_is_the_one_from_then_on(host: SshHost, server: Sshd, tmp_path: Path) -> None:
    assert host.run("echo hello", timeout=10).ok
    pinned = (tmp_path / "pins/board").read_text().strip()
    assert pinned.startswith("SHA256:")
    port = server.port
    host.close()
    other = tmp_path / "other"
    other.mkdir()
    with (
        sshd.running(other) as impostor,
        pytest.raises(InfraError, match=r"expected the host key SHA256:.*pins/board") as told,
    ):
        SshHost(spec_of(impostor), pins=tmp_path / "pins/board", place="board.ssh").connect()
    assert pinned in told.value.message
    assert port != impostor.port


@pytest.mark.parametrize("form", ["whole", "fingerprint"])
def test_a_host_key_of_boards_yaml(server: Sshd, tmp_path: Path, form: str) -> None:
    key = server.host_key
    if form == "fingerprint":
        pins = tmp_path / "seen"
        SshHost(spec_of(server), pins=pins, place="board.ssh").connect()
        key = pins.read_text().strip()
    host = SshHost(spec_of(server, host_key=key), pins=tmp_path / "pins", place="board.ssh")
    assert host.run("true", timeout=10).ok
    host.close()
    assert not (tmp_path / "pins").exists()
    with pytest.raises(InfraError, match=r"change it in board\.ssh\.host_key"):
        SshHost(spec_of(server, host_key="SHA256:other"), pins=tmp_path / "pins", place="board.ssh").connect()


def test_a_login_that_is_refused(server: Sshd, tmp_path: Path) -> None:
    wrong = sshd.new_key(tmp_path / "wrong")
    with pytest.raises(InfraError, match=r"refuses the login with .*wrong.*board\.ssh\.user.*authorized_keys"):
        SshHost(spec_of(server, key=str(wrong)), pins=tmp_path / "pins", place="board.ssh").connect()


def test_no_key_no_server(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"board\.ssh\.key: expected a private key, found no file .*nokey"):
        SshHost(spec_of(server, key=str(tmp_path / "nokey")), pins=tmp_path / "p", place="board.ssh").connect()
    nobody = Ssh(host="127.0.0.1", port=1, login=Login(key=str(server.key)))
    with pytest.raises(InfraError, match=r"expected an SSH server at root@127\.0\.0\.1:1.*refused.*see whether"):
        SshHost(nobody, pins=tmp_path / "p", place="board.ssh").connect()


@fault(
    "the SSH connection breaks during a command",
    where="network",
    blame=Blame.INFRA,
    survives="the shell: the next command connects again",
)
def test_a_lost_connection_loses_the_command_and_the_next_one_reconnects(tmp_path: Path) -> None:
    with sshd.running(tmp_path) as server:
        host = SshHost(spec_of(server), pins=tmp_path / "pins", place="board.ssh")
        running = host.start("echo begun; sleep 100")
        assert running.next_line(10) == "begun"
    with pytest.raises(TargetLost):
        running.next_line(1)
    assert not host.is_alive(timeout=1)
    with sshd.running(tmp_path, port=server.port):
        assert host.run("echo back", timeout=10).output == "back"
        host.close()
