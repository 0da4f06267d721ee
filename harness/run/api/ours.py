"""Whether a build has a test module of ours; if not, whose doing that is."""

from __future__ import annotations

import pytest

from harness.model.kernel import Build
from harness.run.stopped import Refused


def require(build: Build, name: str) -> None:
    """Skip the test, with the reason, if this kernel can't have the module `name`. Raises Refused if it is the kernel's
    series that keeps the module from building."""
    if not is_available(build, name):
        pytest.skip(f"{name}: {build.left_out[name]}")


def is_available(build: Build, name: str) -> bool:
    """Whether this kernel can have the module `name`. Raises Refused as `require` does."""
    if name in build.broken:
        raise Refused(f"{name}: does not build for this kernel with its series, which breaks what the module uses: "
                      f"{build.broken[name]}")  # fmt: skip
    return name not in build.left_out
