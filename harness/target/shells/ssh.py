"""A target over SSH: shells that the harness talks to, and files by SFTP. The only module that imports paramiko."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import paramiko

from harness.errors import InfraError, UserError
from harness.limits import OUTSIDE_BYTES
from harness.model.board import Login, Ssh
from harness.target.base import CommandTimeout, Completed, LineSink, TargetLost
from harness.target.shells.serial import Running, Shell, finish
from harness.userpath import user_path

T = TypeVar("T")

_STEP_LIMIT_S = 10.0  # for each step of a login
_KEEP_ALIVE_S = 15  # between two keep-alive messages on an idle connection
_DEAD_AFTER_MS = 30_000  # for which sent bytes may stay unacknowledged
_FILE_LIMIT_S = 120.0
# No terminal: nothing echoes, nothing cuts long lines. On a kernel that we booted, the environment that its other
# shells have (harness/build/overlay/board-init).
_SHELL = "exec sh -s"
_OUR_SHELL = "cd /root; exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C TERM=linux dash -s"
COMMANDS, AUX = "commands", "aux"
# What paramiko raises for messages that no honest server sends, and sockets for addresses that can't be one.
_MALFORMED = (paramiko.SFTPError, ValueError, LookupError, struct.error)

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what matters is raised as an exception


class _ChannelTransport:
    """The standard streams of a remote program, as the transport of a console."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def receive(self) -> bytes:
        try:
            return bytes(self._channel.recv(1 << 16))
        except (OSError, EOFError, paramiko.SSHException):
            return b""

    def send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except (EOFError, paramiko.SSHException) as error:
            raise OSError(str(error)) from None

    def send_break(self) -> bool:
        return False

    def shut(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def close(self) -> None:
        self.shut()


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as ssh-keygen -l prints it: ``SHA256:…``."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


class HostKeyChanged(InfraError):
    """The machine at the address has another host key than the known one."""


class LoginRefused(InfraError):
    """The machine answers, but refuses the login."""


class Identity:
    """A key pair for kernels that we booted; it exists as long as this process."""

    def __init__(self) -> None:
        self.key = paramiko.ECDSAKey.generate()

    @property
    def public_line(self) -> str:
        """The public key in the format of authorized_keys."""
        return f"{self.key.get_name()} {self.key.get_base64()} harness"


def pins_of(board: str) -> Path:
    """Return the file that stores the first host key seen of `board`."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "arm64-ftrace-harness/host-keys" / board


class _Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko ships no types
    """Accepts only the known host key of the board."""

    def __init__(self, login: Login, pins: Path | None, place: str) -> None:
        self._login = login
        self._pins = pins
        self._place = place

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        found = fingerprint(key)
        known, where = self._login.host_key, f"{self._place}.host_key"
        if not known:
            assert self._pins
            where = str(self._pins)
            known = self._pins.read_text().strip() if self._pins.exists() else self._pin(found, self._pins)
        if known not in (found, f"{key.get_name()} {key.get_base64()}"):
            raise HostKeyChanged(
                f"{self._place}: expected the host key {known}, found {found}: another machine has this address, or "
                f"the board was set up anew; if it was, change it in {where}"
            )

    @staticmethod
    def _pin(found: str, pins: Path) -> str:
        """Store `found`, the first key seen, as the key of the board."""
        pins.parent.mkdir(parents=True, exist_ok=True)
        partial = pins.with_name(f"{pins.name}.{os.getpid()}")
        partial.write_text(f"{found}\n")
        partial.replace(pins)
        return found


class SshHost:
    """A machine reached over SSH, connected on demand, and again after the connection was lost.

    `pins`: the file that stores the first host key seen if boards.yaml names none. With `identity` it is a kernel that
    we booted, with the user that the identity names. A command that runs when the connection is lost raises TargetLost;
    the next one uses a new connection, if possible."""

    def __init__(self, spec: Ssh, *, pins: Path | None = None, place: str, identity: Identity | None = None) -> None:
        self._spec = spec
        self._pins = pins
        self._identity = identity
        self._place = place
        self._client: paramiko.SSHClient | None = None
        self._sftp: paramiko.SFTPClient | None = None
        self._shells: dict[str, Shell] = {}
        self._last_word = time.monotonic()

    def connect(self) -> None:
        """Log in. Raises InfraError with what to do if that fails."""
        self._drop()
        spec, login = self._spec, self._spec.login
        ours = bool(self._identity or login.key or login.password)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_Pinned(login, self._pins, self._place))
        with self._explained():
            key = self._key_file()
            sock = socket.create_connection((spec.host, spec.port), timeout=_STEP_LIMIT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
            try:
                client.connect(
                    spec.host,
                    port=spec.port,
                    username=login.user,
                    pkey=self._identity.key if self._identity else None,
                    key_filename=str(key) if key else None,
                    password=login.password or None,
                    look_for_keys=not ours,
                    allow_agent=not ours,
                    timeout=_STEP_LIMIT_S,
                    banner_timeout=_STEP_LIMIT_S,
                    auth_timeout=_STEP_LIMIT_S,
                    channel_timeout=_STEP_LIMIT_S,
                    sock=sock,
                )
            except BaseException:
                client.close()
                sock.close()
                raise
        transport = client.get_transport()
        assert transport
        transport.set_keepalive(_KEEP_ALIVE_S)
        self._client = client

    def _key_file(self) -> Path | None:
        """Return the file with the private key, if the board names one. Raises UserError if it is not a small file;
        paramiko would read anything."""
        if not self._spec.login.key:
            return None
        path = user_path(self._spec.login.key)
        try:
            OUTSIDE_BYTES.read(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            why = f"can't read {path}: {error.strerror}"
            raise UserError(f"{self._place}.key: expected a private key, {why}") from None
        return path

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the exceptions of paramiko and of sockets into ours."""
        spec, login, place = self._spec, self._spec.login, self._place
        at = f"{login.user}@{spec.host}:{spec.port}"
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(f"{place}.key: expected a private key, found no file {error.filename}") from None
        except paramiko.PasswordRequiredException:
            raise UserError(
                f"{place}.key: the key has a passphrase; load it into ssh-agent, or name one without"
            ) from None
        except paramiko.AuthenticationException as error:
            tried = (
                f"with {login.key}"
                if login.key
                else "with a password"
                if login.password
                else "with your keys and agent"
            )
            raise LoginRefused(
                f"{place}: {at} refuses the login with {tried}: {error}; see {place}.user and {place}.key, and "
                "~/.ssh/authorized_keys there"
            ) from None
        except (OSError, EOFError, paramiko.SSHException, *_MALFORMED) as error:
            reason = getattr(error, "strerror", None) or str(error) or "the connection closed"
            raise InfraError(
                f"{place}: expected an SSH server at {at}, can't log in: {reason}; see whether the machine is up and "
                "on the network"
            ) from None

    def still_there(self, *, timeout: float) -> bool:
        """Return whether the connection still works, by opening another session."""
        return self.connected and self.is_alive(timeout=timeout)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known without traffic."""
        transport = self._client.get_transport() if self._client else None
        return bool(transport and transport.is_active())

    def _shell(self, name: str) -> Shell:
        shell = self._shells.get(name)
        if shell and not shell.console.closed:
            return shell
        if not self.connected:
            self._connect_again()
        assert self._client
        transport = self._client.get_transport()
        assert transport
        try:
            channel = transport.open_session(timeout=_STEP_LIMIT_S)
            channel.set_combine_stderr(True)
            channel.exec_command(_OUR_SHELL if self._identity else _SHELL)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise TargetLost(f"{self._place}: can't start a shell: {error or 'the connection closed'}") from None
        self._shells[name] = Shell.over(_ChannelTransport(channel), name=f"{self._place} ({name})")
        return self._shells[name]

    def _connect_again(self) -> None:
        try:
            self.connect()
        except InfraError as error:
            raise TargetLost(error.message) from None

    def start(self, command: str) -> Running:
        """Start a shell command line; see Target.start."""
        return self._shell(COMMANDS).start(command)

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        """Run a shell command line; see Target.run."""
        started = time.monotonic()
        return finish(self.start(command), started=started, timeout=timeout, on_line=on_line)

    def is_alive(self, *, timeout: float) -> bool:
        """Return whether the machine still runs processes, asked over a separate session."""
        try:
            return self._shell(AUX).run("echo alive", timeout=timeout).output.strip() == "alive"
        except (TargetLost, CommandTimeout):
            return False

    @property
    def last_word(self) -> float:
        """When data last arrived (time.monotonic)."""
        return max([self._last_word, *(shell.console.last_activity for shell in self._shells.values())])

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file; it gets its name only when it is complete."""

        def write(sftp: paramiko.SFTPClient) -> None:
            partial = f"{path}.partial"
            with sftp.open(partial, "wb") as file:
                file.set_pipelined(True)
                file.write(content)
            sftp.chmod(partial, mode)
            sftp.posix_rename(partial, path)

        self._with_files(write, path, "written")

    def get(self, path: str) -> bytes:
        """Read a file."""

        def read(sftp: paramiko.SFTPClient) -> bytes:
            with sftp.open(path, "rb") as file:
                file.prefetch()
                return bytes(file.read())

        return self._with_files(read, path, "read")

    def _with_files(self, act: Callable[[paramiko.SFTPClient], T], path: str, what: str) -> T:
        if not self.connected:
            self._connect_again()
        try:
            return act(self._sftp_session())
        except (EOFError, TimeoutError, ConnectionError, paramiko.SSHException, *_MALFORMED) as error:
            self._end_sftp()
            raise TargetLost(f"{self._place}: the connection was lost while {path} was {what}: {error}") from None
        except OSError as error:  # SFTP's own answers
            if error.errno not in (errno.ENOENT, errno.EACCES):  # others may leave answers in the session
                self._end_sftp()
            raise UserError(f"{path}: can't be {what} on the target: {error.strerror or error}") from None

    def _sftp_session(self) -> paramiko.SFTPClient:
        """Return the one session for all files: dropbear sometimes closes a new session at once when another one is
        just ending."""
        assert self._client
        if not self._sftp or self._sftp.get_channel().closed:
            self._sftp = self._client.open_sftp()
            self._sftp.get_channel().settimeout(_FILE_LIMIT_S)
        return self._sftp

    def _end_sftp(self) -> None:
        if self._sftp:
            self._sftp.close()
        self._sftp = None

    def _drop(self) -> None:
        self._end_sftp()
        self._last_word = self.last_word
        for shell in self._shells.values():
            shell.console.close()
        self._shells = {}
        if self._client:
            self._client.close()
        self._client = None

    def close(self) -> None:
        """Log out; may be called twice."""
        self._drop()
