"""The door to SMTP: hands a mail to a server, and turns smtplib's errors into ours."""

from __future__ import annotations

import contextlib
import re
import smtplib
from dataclasses import dataclass
from email.message import EmailMessage

from harness.errors import InfraError, UserError
from harness.publish.limited import within
from harness.report.text import one_line

LIMIT_S = 60.0
_PORT = 25
_SERVER = re.compile(r"(?:\[(?P<address>[^\s\[\]]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>[0-9]{1,9}))?")
_LATE_S = 5.0  # beyond the time limit of all, so that it is that which ends the wait
_GOODBYE_S = 2.0
_AGAIN = "it may have taken it: sent again, the mail has the same Message-ID"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A mail server that takes mails from this host without a login."""

    host: str = "localhost"
    port: int = _PORT

    @classmethod
    def parse(cls, text: str) -> Server:
        """Read ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``. Raises UserError for anything else."""
        match = _SERVER.fullmatch(text)
        if not match or not text.isprintable():
            raise UserError(
                "--smtp: expected HOST or HOST:PORT, an IPv6 address as [ADDRESS] or [ADDRESS]:PORT, found "
                f"{one_line(text, 80)!r}"
            )
        host, port = match["address"] or match["host"], int(match["port"] or _PORT)
        if not 0 < port < 65536:
            raise UserError(f"--smtp: expected a port from 1 to 65535, found {port}")
        return cls(host=host, port=port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def send(mail: EmailMessage, server: Server, *, limit: float = LIMIT_S) -> None:
    """Hand a mail to a server, within `limit` seconds. Raises InfraError if the server can't be reached, or refuses the
    mail or a recipient."""
    late = (
        f"{server}: expected the mail server to take the mail within {limit:.0f} s, it did not answer in full; {_AGAIN}"
    )
    refused = within(limit, lambda: _sent(mail, server, limit), late=late)
    if refused:
        told = "; ".join(_answer(address, code, text) for address, (code, text) in refused.items())
        raise InfraError(f"{server}: expected it to take the mail for all recipients, it refused {told}")


def _sent(mail: EmailMessage, server: Server, limit: float) -> dict[str, tuple[int, bytes]]:
    """Return the recipients that were refused, if others were not."""
    try:
        connection = smtplib.SMTP(server.host, server.port, timeout=limit + _LATE_S)
        try:
            refused = connection.send_message(mail)
            _leave(connection)
        finally:
            connection.close()
    except smtplib.SMTPRecipientsRefused as error:
        told = "; ".join(_answer(address, code, text) for address, (code, text) in error.recipients.items())
        raise InfraError(f"{server}: expected the mail server to take the mail, it refused {told}") from None
    except smtplib.SMTPResponseException as error:
        told = _answer("it answers", error.smtp_code, error.smtp_error)
        raise InfraError(f"{server}: expected the mail server to take the mail; {told}") from None
    except smtplib.SMTPServerDisconnected:
        raise InfraError(f"{server}: expected the mail server to take the mail, it hung up; {_AGAIN}") from None
    except (OSError, smtplib.SMTPException, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InfraError(f"{server}: expected a mail server, found: {one_line(reason)}; name it with --smtp") from None
    return refused


def _leave(connection: smtplib.SMTP) -> None:
    """Say goodbye. The mail was taken, whatever the server makes of that."""
    with contextlib.suppress(OSError, smtplib.SMTPException):
        if connection.sock:
            connection.sock.settimeout(_GOODBYE_S)
        connection.quit()


def _answer(who: str, code: int, text: bytes | str) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{who}: {code} {one_line(words, 200)}"
