"""Makes the mail about a comparison: text and subject in, a message with its headers out."""

from __future__ import annotations

import email.policy
import email.utils
import hashlib
import re
from collections.abc import Sequence
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage

from harness.errors import UserError
from harness.report.text import one_line

_LONGEST = 900  # characters; SMTP takes lines of 998
_MOST_REFERENCES = 20
_ADDRESS = re.compile(r"[!-;=?A-~]+@[A-Za-z0-9.\[\]:_-]+")  # printable ASCII without < > and a second @
_ID = re.compile(r"<?([!-;=?-~]+@[!-;=?-~]+)>?")


def message(
    *,
    subject: str,
    text: str,
    sender: str,
    to: Sequence[str],
    in_reply_to: Sequence[str],
    about: Sequence[str],
    date: float,
) -> EmailMessage:
    """Return the mail. `about`: what it is about, which its Message-ID is made from: the same mail has the same one.
    `in_reply_to`: Message-IDs, the thread's first one first; the last one is answered. Raises UserError for what is no
    address or Message-ID."""
    origin = _address(sender, "--from")
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"] = origin
    mail["To"] = tuple(_address(each, "--to") for each in to)
    mail["Subject"] = one_line(subject)
    mail["Date"] = email.utils.formatdate(date)
    mail["Message-ID"] = message_id(about, domain=origin.domain)
    if in_reply_to:
        ids = [_id(each) for each in in_reply_to][-_MOST_REFERENCES:]
        mail["In-Reply-To"] = ids[-1]
        mail["References"] = " ".join(dict.fromkeys(ids))
    mail["Auto-Submitted"] = "auto-generated"  # nobody's vacation answers it
    mail.set_content(text, cte="7bit" if text.isascii() else "quoted-printable")
    return mail


def message_id(about: Sequence[str], *, domain: str) -> str:
    """Return the Message-ID of the mail about this, always the same one: a reader shows a mail that was sent twice
    once."""
    digest = hashlib.sha256("\n".join(about).encode("utf-8", "replace")).hexdigest()
    return f"<harness-{digest[:32]}@{domain}>"


def _address(text: str, option: str) -> Address:
    name, address, *others = [part for pair in email.utils.getaddresses([text]) for part in pair] or ["", ""]
    if others or not _ADDRESS.fullmatch(address) or not text.isprintable() or len(text) > _LONGEST:
        raise UserError(
            f"{option}: expected an address such as `Name <user@example.org>`, found {one_line(text, 80)!r}"
        )
    try:
        return Address(display_name=name, addr_spec=address)
    except (ValueError, MessageError, IndexError):
        raise UserError(f"{option}: expected a mail address, found {one_line(text, 80)!r}") from None


def _id(text: str) -> str:
    match = _ID.fullmatch(text.strip())
    if not match or len(text) > _LONGEST:
        raise UserError(
            f"--in-reply-to: expected a Message-ID such as `<20260101.1@example.org>`, found {one_line(text, 80)!r}"
        )
    return f"<{match[1]}>"
