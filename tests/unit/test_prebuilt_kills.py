"""Harnesses that assemble a kernel of others are killed: `python -m tests.faults.prebuilt_kills`, but shorter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.build.command import SYSTEM_PATH
from tests.faults.catalogue import Blame, fault

ROOT = Path(__file__).parents[2]


@fault("SIGKILL at any statement while a kernel of others is assembled; three harnesses that assemble it at once",
       where="killed", blame=Blame.NOBODY, survives="a whole build, once, and nothing beside it")  # fmt: skip
def test_killed_and_at_once(tmp_path: Path) -> None:
    if not shutil.which("dpkg-deb") or not shutil.which("mke2fs", path=SYSTEM_PATH):
        pytest.skip("dpkg-deb or mke2fs is not installed (packages dpkg, e2fsprogs)")
    words = [sys.executable, "-m", "tests.faults.prebuilt_kills", str(tmp_path), "8"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
