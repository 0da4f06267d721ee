"""Checks of what U-Boot loads from: the directory that a server serves, and the server."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.errors import InfraError
from harness.model.board import Access, BoardSpec
from harness.model.boot import HttpServe, TftpServe, UbootBoot
from harness.target.methods import netboot
from harness.target.methods.checks import Check, Unseen, common
from harness.target.serving import httpclient, tftpclient
from harness.target.serving.shelf import make_directory

_TFTP_PORT = tftpclient.PORT


def checks_of(board: BoardSpec, access: Access) -> list[Check]:
    """Return the checks of any board, and those of what U-Boot loads from."""
    spec = board.boot
    assert isinstance(spec, UbootBoot)
    is_tftp = spec.load == "tftp"
    key, root = ("tftp_root", spec.tftp_root) if is_tftp else ("http_root", spec.http_root)
    ours = spec.tftp_serve if is_tftp else spec.http_serve
    server, ask = ("tftp server", _tftp_server) if is_tftp else ("web server", _web_server)
    checks = common(board, access)
    if is_tftp or not ours:
        checks.append(Check(name=key, key="boot", look=lambda: _root(board, root, key)))
    look = functools.partial(_ours, board, ours) if ours else functools.partial(ask, board, spec)
    return [*checks, Check(name=server, key="boot", look=look)]


def _root(board: BoardSpec, root: str, key: str) -> str:
    with _probe_file(board, root, key):
        return f"{root} is writable"


def _ours(board: BoardSpec, serve: TftpServe | HttpServe) -> str:
    netboot.check(board, board.access)
    dhcp = f"; it answers DHCP of {serve.mac or 'every machine there'}" if serve.dhcp else ""
    return f"the harness can serve at {serve.address}{dhcp}"


def _tftp_server(board: BoardSpec, spec: UbootBoot) -> str:
    if not spec.server:
        raise Unseen("boot.server is empty, so only DHCP knows the server")
    place, told = f"{board.name}.boot.server", f"from a TFTP server at {spec.server}"
    with _probe_file_to_ask_for(board, spec.tftp_root, "tftp_root") as file:
        _same(file, lambda name: tftpclient.fetch(spec.server, name, port=_TFTP_PORT), place=place, told=told)
    return f"{spec.server} serves {spec.tftp_root}"


def _web_server(board: BoardSpec, spec: UbootBoot) -> str:
    place, told = f"{board.name}.boot.http_url", "from a web server"
    with _probe_file_to_ask_for(board, spec.http_root, "http_root") as file:
        _same(file, lambda name: httpclient.fetch(f"{spec.http_url}/{name}"), place=place, told=told)
    return f"{spec.http_url} is {spec.http_root}"


def _same(file: Path, fetch: Callable[[str], bytes], *, place: str, told: str) -> None:
    """Check that the server delivers `file`."""
    try:
        content = fetch(f"{file.parent.name}/{file.name}")
    except InfraError as error:
        raise InfraError(
            f"{place}: expected a file below {file.parents[1]} {told}: {error.message}; see whether it runs and serves "
            "that directory"
        ) from None
    if content != file.read_bytes():
        raise InfraError(f"{place}: expected the content of {file}, found another; see what the server serves")


@contextlib.contextmanager
def _probe_file_to_ask_for(board: BoardSpec, root: str, key: str) -> Iterator[Path]:
    with contextlib.ExitStack() as until_asked:
        try:
            file = until_asked.enter_context(_probe_file(board, root, key))
        except InfraError:
            raise Unseen(f"not checked: boot.{key} is not usable") from None
        yield file


@contextlib.contextmanager
def _probe_file(board: BoardSpec, root: str, key: str) -> Iterator[Path]:
    """Provide a probe file where booting puts its files, for the length of the ``with``."""
    directory = Path(root, "harness")
    file = directory / f"check-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        make_directory(directory)
        file.write_text(f"{secrets.token_hex(16)}\n")
        file.chmod(0o644)
    except OSError as error:
        raise InfraError(
            f"{board.name}.boot.{key}: expected a directory to write to at {root}, can't write "
            f"{file.relative_to(root)}: {error.strerror}; make it and give it to {_me()}"
        ) from None
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def _me() -> str:
    return f"user id {os.getuid()}"
