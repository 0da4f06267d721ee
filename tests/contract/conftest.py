"""What the boot methods of boards with a system of their own are tried with."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.target.base import Media
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport

TOOLS = (
    "sh",
    "cat",
    "mkdir",
    "find",
    "sha256sum",
    "touch",
    "sleep",
    "df",
    "grep",
    "mv",
    "rm",
    "sync",
    "setsid",
    "stat",
    "readlink",
)


@pytest.fixture
def line() -> Iterator[Console]:
    """A serial line on which nothing comes."""
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="b's serial line")
    yield console
    console.close()
    theirs.close()


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """The PATH of the board's own system: nothing but what a small system has."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in TOOLS:
        (directory / name).symlink_to(shutil.which(name) or name)
    return directory


@pytest.fixture
def media(tmp_path: Path) -> Media:
    for name in ("Image", "root", "payload"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return Media(image=tmp_path / "Image", root=tmp_path / "root", payload=tmp_path / "payload")


def write_tool(tools: Path, name: str, text: str) -> None:
    """Put a shell script of that name there."""
    (tools / name).unlink(missing_ok=True)
    (tools / name).write_text(f"#!/bin/sh\n{text}\n")
    (tools / name).chmod(0o755)
