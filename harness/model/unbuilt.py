"""Whose doing it is that a test module does not build: the harness's, or that of the series which is under test."""

from __future__ import annotations

import re

from harness.model.known import Versions, version_of
from harness.model.record import BuildRecord

KNOWN = Versions(lowest=(4, 20), highest=(7, 3))
"""The kernels that our modules compile for (testcases/README.md)."""
_IN_HEADER = re.compile(r"(?:\./)?(?:include|arch/\w+/include)/[^\s:]+\.h:\d+:")


def broken_by_series(record: BuildRecord) -> dict[str, str]:
    """Return the test modules that the series of the build's ``--patches`` keeps from building, each with the first
    error: those that compile for kernels of this version as they are, and those with an error in a header of the
    kernel's own. None where there is no series: then nothing says that the kernel differs from what is known."""
    if not record.kernel.patches:
        return {}
    is_known = version_of(record.kernel.release) in KNOWN
    modules = {name: why for name, why in record.unbuilt.items() if "/" not in name}  # the others are upstream's suites
    return {name: why for name, why in modules.items() if is_known or _IN_HEADER.match(why)}
