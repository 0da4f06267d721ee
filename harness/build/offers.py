"""Which of Debian's suites have a package: for those that this host's own does not have."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.build.apt import PrivateApt, Unreachable
from harness.errors import InfraError, UserError
from harness.model.progress import Progress

_SUITES = ("bookworm", "trixie", "forky", "sid")  # each has other compilers


def suites_with(packages: Iterable[str], *, progress: Progress) -> list[str]:
    """Return the suites that have all `packages` for this host, as far as its mirrors tell."""
    wanted, found = list(packages), []
    for suite in _SUITES:
        try:
            apt = PrivateApt(suite)
            apt.update(progress=progress)
            for package in wanted:
                apt.newest(re.escape(package))
        except Unreachable as error:  # nor are the others, then
            progress.say(error.message)
            break
        except (UserError, InfraError):  # it lacks one; no mirror has it
            continue
        found.append(suite)
    return found
