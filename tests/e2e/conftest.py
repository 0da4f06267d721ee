"""The real thing: the command as a user calls it, a kernel built from source, QEMU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
_BUILD_LIMIT = 3000.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def harness(*arguments: str | Path, cwd: Path, limit: float = 600.0, **environment: str):
    """Run the harness command; returns what subprocess.run does, with text output."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=limit,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default kernel, built (or found built); its directory. HARNESS_TEST_BUILD names another finished build."""
    if finished := os.environ.get("HARNESS_TEST_BUILD"):
        return Path(finished)
    done = harness("build", cwd=tmp_path_factory.mktemp("build"), limit=_BUILD_LIMIT)
    assert done.returncode == 0, done.stderr[-4000:]
    return Path(done.stdout.strip())
