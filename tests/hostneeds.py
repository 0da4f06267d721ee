"""What the tests need of this host: installed where that is possible, named otherwise. Run by bin/test.

`python -m tests.hostneeds fast|all`: for `bin/test --fast`, or for all tests. It fails for nothing: what is missing is
named here, and by each test that is skipped for it.
"""

from __future__ import annotations

import sys

from harness.build.host import STAGES, ensure_host
from harness.display import Display
from harness.errors import InfraError

# Without what only building and booting a kernel needs, which is most of the download.
FAST = frozenset({"tests", "fetch", "git", "build", "rpm", "sandbox", "tftp", "labgrid"})
# For themselves: a newer Debian lacks some of these versions, and apt installs all of a list or nothing.
APART = frozenset({"compilers"})


def main(kind: str) -> None:
    with Display() as display:
        for stages in [FAST] if kind == "fast" else [frozenset(STAGES) - APART, APART]:
            try:
                ensure_host(needed_for=set(stages), progress=display)
            except InfraError as error:
                display.say("; ".join((error.message, *error.details, "the tests that need them are skipped")))


if __name__ == "__main__":
    main(sys.argv[1])
