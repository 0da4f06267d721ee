"""The only module that parses mails: within limits, and with a broken mail's errors as UserError. No I/O."""

from __future__ import annotations

import contextlib
import re
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32

from harness.errors import UserError
from harness.limits import MAIL_HEADER_BYTES, MAIL_NESTED, MAIL_PARTS, MAIL_SHORT_BYTES

# A part can only contain others if it says so, and the parser reads every line once for each part around it.
_CONTAINER = re.compile(rb"(?:^|[\r\n])content-type:\s*(?:multipart|message)/", re.IGNORECASE)


class _Policy(Compat32):
    """Refuses a header that is too long: decoding it, and finding its parameters, takes time that grows with the square
    of the length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        limit = MAIL_SHORT_BYTES if name.lower().startswith(("content-", "subject")) else MAIL_HEADER_BYTES
        limit.check(len(value), place=f"the header {name[:40]}")
        return name, value


_POLICY = _Policy()


def parse_mail(raw: bytes, *, place: str) -> Message:
    """Parse a mail. Raises UserError, in the name of `place`, if it is above a limit."""
    MAIL_NESTED.check(len(_CONTAINER.findall(raw)), place=place)
    parts = 0

    def part(policy: Compat32 = _POLICY) -> Message:
        nonlocal parts
        parts += 1
        MAIL_PARTS.check(parts, place=place)
        return Message(policy)

    try:
        return BytesParser(part, policy=_POLICY).parsebytes(raw)
    except UserError as error:
        raise error if error.message.startswith(place) else UserError(f"{place}: {error.message}") from None


def header(message: Message, name: str) -> str:
    """The text of a header on one line, decoded; an invalid encoding is shown as it is."""
    value = str(message.get(name, ""))
    with contextlib.suppress(LookupError, ValueError, MessageError):
        value = str(make_header(decode_header(value)))
    return " ".join(value.split())
