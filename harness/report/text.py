"""Makes the target's text safe for documents: no escape sequences, no control characters, nothing that XML forbids."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

_LAST_DATE_S = 253402300799.0  # of the year 9999
LOG_TAIL = 256 * 1024  # characters of a log that a document contains

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor; it may be cut short
    r"|[\]PX^_][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)"  # OSC and other strings: window titles
    r"|[ -/]*[0-~])?"  # the rest; a lone ESC is removed too
)
# XML 1.0 "Char", without the C1 controls, which it allows but discourages, and without what turns the direction of
# writing, so that a text reads as something else than it says.
_ILLEGAL = re.compile(
    "[^\t\n\x20-\x7e\u00a0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]"
)
_LAST_OF_PLANE = re.compile("[" + "".join(f"{chr(plane + 0xFFFE)}-{chr(plane + 0xFFFF)}" for plane in
                                          range(0x10000, 0x110000, 0x10000)) + "]")  # fmt: skip

_ILLEGAL_ASCII = dict.fromkeys(code for code in range(128) if _ILLEGAL.match(chr(code)))


def clean(text: str) -> str:
    """`text` with ``\\n`` as line ends, and with only printable characters, tabs and line ends."""
    if text.isascii() and text.isprintable():  # nearly every name, reason and title
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if text.isascii():
        return text.translate(_ILLEGAL_ASCII)  # several times as fast, and nearly every log
    return _LAST_OF_PLANE.sub("", _ILLEGAL.sub("", text))


def one_line(text: str, limit: int = 500) -> str:
    """`text` cleaned, on one line, at most `limit` characters."""
    line = " ".join(clean(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def moment(seconds: float) -> str:
    """``2026-11-28 09:30`` (UTC), of seconds since the epoch; what no date can say becomes the nearest that can."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(min(max(seconds, 0.0), _LAST_DATE_S)))


def tail(text: str, limit: int = LOG_TAIL) -> str:
    """The last `limit` characters of `text`, cleaned, from the start of a line where one is near; a first line
    says how much is missing."""
    if len(text) <= limit:
        return clean(text)
    end = text[-limit:]
    cut = end.find("\n", 0, 4096)  # if the line is longer, half of it is better than none
    end = end[cut + 1 :]
    return f"[... the first {len(text) - len(end)} of {len(text)} characters left out ...]\n{clean(end)}"


def last_lines(text: str, count: int) -> str:
    """The last `count` lines of `text`, without blank lines at the end."""
    return "\n".join(tail(text).rstrip().split("\n")[-count:])


def flatten(properties: object, prefix: str = "") -> dict[str, str]:
    """Nested properties as one level: ``patches.0``, ``kernel.version``; a list of plain values is joined with
    commas."""
    if isinstance(properties, Mapping):
        pairs = [(str(key), value) for key, value in properties.items()]
    elif isinstance(properties, list | tuple) and any(
        isinstance(value, Mapping | list | tuple) for value in properties
    ):
        pairs = [(str(index), value) for index, value in enumerate(properties)]
    elif isinstance(properties, list | tuple):
        return {prefix: ", ".join(_plain(value) for value in properties)}
    else:
        return {prefix: _plain(properties)}
    flat: dict[str, str] = {}
    for key, value in pairs:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean(str(value))
