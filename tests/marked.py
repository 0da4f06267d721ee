"""What a scripted target answers where the harness gives it marks (`harness/run/suites/marks.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.faketarget import Step

_MARK = re.compile(r"@@[0-9a-f]{16}\b")


def marked(command: str, steps: Iterable[Step]) -> list[Step]:
    """`steps`, with those that are led by ``@`` as the runner's own words: behind the next mark in `command`."""
    marks = iter(_MARK.findall(command))
    made: list[Step] = []
    for step in steps:
        if type(step) is str and step.startswith("@"):
            made += ["", f"{next(marks)} {step[1:]}"]
        else:
            made.append(step)
    return made
