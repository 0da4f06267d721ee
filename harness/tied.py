"""Programs that end when we do, however we end: by SIGKILL too."""

from __future__ import annotations

import os
from collections.abc import Sequence

# The kernel tells a child of its parent's death only where that comes after the child has asked for it: one whose
# parent has died before does not start.
_LOOK = '[ "$PPID" = "$0" ] && exec "$@"'


def tied(words: Sequence[str], *, signal: str = "KILL") -> list[str]:
    """`words`, for this process to start: the program gets `signal` when the thread that has started it ends."""
    return ["setpriv", "--pdeathsig", signal, "--", "sh", "-c", _LOOK, str(os.getpid()), *words]
