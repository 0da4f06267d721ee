"""The header of a mutant (a patch in tests/mutants/): parses it into a Mutant. No I/O.

::

    The ip handed to tracers is that of the instruction after the call      the bug, in one line

    Why somebody could have written it, and what it breaks.                 any number of lines
    Caught by: testcases/function/test_calls.py::test_ip                    repeatable; a whole file will do
    Kernel: debian:linux-source-6.1@bookworm-security                       if it is not the default
    Kconfig: modules-far.config                                             repeatable; below kconfigs/
    SPDX-License-Identifier: GPL-2.0-only

    --- a/arch/arm64/kernel/entry-ftrace.S                                  the patch
"""

from __future__ import annotations

import re

from harness.errors import UserError
from harness.model.mutant import Mutant
from harness.model.names import NAME_RULE, is_name, is_path_of_names

_DIFF = re.compile(r"^(?:diff |--- )", re.MULTILINE)
_FIELD = re.compile(r"^(Caught by|Kernel|Kconfig|SPDX-License-Identifier):(.*)$", re.MULTILINE)
_TEST = re.compile(r"testcases/[\w/.-]+\.py(::\S.*)?")


def parse_mutant(text: str, *, name: str, place: str) -> Mutant:
    """Parse the patch `text` of a mutant. Raises UserError if its header is incomplete."""
    start = _DIFF.search(text)
    if not start:
        raise UserError(f"{place}: expected a patch, found no line that starts with '--- '")
    header = text[: start.start()]
    fields: dict[str, list[str]] = {}
    for field in _FIELD.finditer(header):
        fields.setdefault(field[1], []).append(field[2].strip())
    title = header.split("\n", 1)[0].strip()
    if not title or _FIELD.match(title):
        raise UserError(f"{place}: expected the bug in one line at the top, found {title!r}")
    caught_by = fields.get("Caught by", [])
    if not caught_by:
        raise UserError(f"{place}: expected a line 'Caught by: TEST' above the patch: a mutant names who must catch it")
    for test in caught_by:
        if not _TEST.fullmatch(test):
            raise UserError(f"{place}: Caught by: expected testcases/…/test_x.py::test_y or a file, found {test!r}")
    if fields.get("SPDX-License-Identifier") != ["GPL-2.0-only"]:
        raise UserError(f"{place}: expected a line 'SPDX-License-Identifier: GPL-2.0-only' above the patch")
    kernels = fields.get("Kernel", [])
    if len(kernels) > 1:
        raise UserError(f"{place}: expected one line 'Kernel:', found {len(kernels)}")
    for fragment in fields.get("Kconfig", []):
        if not is_path_of_names(fragment):
            raise UserError(f"{place}: Kconfig: expected a file below kconfigs/, found {fragment[:100]!r}")
    if not is_name(name):
        raise UserError(f"{place}: expected a file name of {NAME_RULE}, before .patch")
    return Mutant(
        name=name,
        title=title,
        caught_by=tuple(caught_by),
        kernel=kernels[0] if kernels else "",
        kconfigs=tuple(fields.get("Kconfig", [])),
    )
