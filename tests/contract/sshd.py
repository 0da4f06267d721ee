"""A real sshd on loopback, for one test."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"


def missing() -> str:
    """Why there can be no sshd here; empty where there can."""
    if not (os.access(SSHD, os.X_OK) and shutil.which("ssh-keygen")):
        return "openssh-server is not installed"
    if os.geteuid() != 0:
        return "sshd logs in only its own user when it is not root's"
    return ""


def new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@dataclass
class Sshd:
    """`port` of 127.0.0.1; `key` logs in; `host_key`: its public host key, type and base64."""

    port: int
    key: Path
    host_key: str


@contextlib.contextmanager
def running(directory: Path, *, port: int = 0, name: str = "host", path: str = "") -> Iterator[Sshd]:
    """sshd with a host key of its own (`name`), ended with its sessions at the end of the ``with``. `path`: the PATH of
    its sessions."""
    key, host = directory / "user", directory / name
    for file in (key, host):
        if not file.exists():
            new_key(file)
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of Debian wants to be when it is root's
    config = directory / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {host}\nAuthorizedKeysFile {key}.pub\nPidFile none\nUsePAM no\n"
        "StrictModes no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        # in a shell that is not the first one, bash leaves ~/.bashrc of whoever runs the tests alone
        + f"SetEnv SHLVL=1{f' PATH={path}' if path else ''}\n"
    )
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, start_new_session=True, bufsize=0
    )
    assert process.stderr
    try:
        told = b""
        while b"listening" not in told:
            ready, _, _ = select.select([process.stderr], [], [], 10.0)
            piece = os.read(process.stderr.fileno(), 4096) if ready else b""
            assert piece, f"sshd did not start: {told.decode()}"
            told += piece
        yield Sshd(port=port, key=key, host_key=" ".join(Path(f"{host}.pub").read_text().split()[:2]))
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End sshd and all that its sessions have started, which outlive a connection."""
    for pid in [*_below(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if process.stderr:
        process.stderr.close()


def _below(pid: int) -> list[int]:
    """Every process that descends from `pid`."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(deeper for child in children for deeper in _below(child))]
