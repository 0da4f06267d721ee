"""Parses the debug messages of the livepatch core about tasks that it could not switch."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What a function on a stack holds up was said by klp_check_stack at the time of 5.0.
_LINE = re.compile(
    r"livepatch: klp_(?:try_switch_task|check_stack): (?P<comm>.{1,64}):(?P<pid>\d{1,10}) (?P<reason>(?:is|has) .+)$"
)


@dataclass(frozen=True)
class Held:
    """A task that one try could not switch: ``cat`` ``123`` ``is sleeping on function caller``. Idle tasks have pid 0
    and the name ``swapper/CPU``."""

    comm: str
    pid: int
    reason: str


def held_tasks(text: str) -> list[Held]:
    """The tasks named in kernel log `text`, in order, once for each try."""
    matches = (_LINE.search(line.rstrip()) for line in text.split("\n"))
    return [Held(match["comm"], int(match["pid"]), match["reason"]) for match in matches if match]
