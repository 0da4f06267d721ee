"""A mail server on the loopback that can misbehave in the ways real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class MailServer:
    """What it took, and what it says. `answers`: its answer to a command (``RCPT``, ``DATA``), in place of its own;
    `refuses`: recipients."""

    address: str = ""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address in self.refuses or "RCPT" in self.answers:
            return self.answers.get("RCPT", "550 5.1.1 no such user")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"


class _OnSocket(Controller):
    """A controller whose port the system chooses."""

    def __init__(self, handler: MailServer, listener: socket.socket) -> None:
        host, port = listener.getsockname()
        super().__init__(handler, hostname=host, port=port)
        self._listener = listener

    def _create_server(self) -> Awaitable[asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self._listener)


@contextlib.contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run a server until the block ends."""
    server = MailServer()
    with listening() as (server.address, listener):
        controller = _OnSocket(server, listener)
        controller.start()
        try:
            yield server
        finally:
            controller.stop()


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, socket.socket]]:
    """Yield the address of a socket at which nobody answers, and the socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}", listener
