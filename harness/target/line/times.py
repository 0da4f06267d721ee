"""The times that stand before each line of some consoles: a console server or a terminal program puts them there
(ser2net, tio, minicom, grabserial, ts), or the boot loader itself, as those of several vendors do.

    [   12.345678]   [00.359]   <12:00:00.123>   [2026-01-01 12:00:00]   2026-01-01T12:00:00Z   Jan  1 12:00:00
"""

from __future__ import annotations

import re

_CLOCK = r"\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?"
_DATE = r"(?:\d{4}[-/.]\d\d[-/.]\d\d|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d)"
_ZONE = r"(?:Z| ?[+-]\d\d:?\d\d)"
_WHEN = rf"(?:{_DATE}[ T])?{_CLOCK}{_ZONE}?(?: \d{{4}})?"
_SECONDS = r" {0,9}\d{1,10}\.\d{1,9}(?: {1,9}\d{1,10}\.\d{1,9})?"  # the second number: since the line before

TIME = rf"(?:\[(?:{_WHEN}|{_SECONDS})\]|<{_WHEN}>|\({_WHEN}\)|{_WHEN}(?=:? |\|))[:|]? ?"
"""A regular expression without groups: a time, and what separates it from the line's own text."""

AT_START = re.compile(TIME)
AT_START_BYTES = re.compile(TIME.encode())
