"""The kernel for a Raspberry Pi 3, with its own device tree, on QEMU's: to a shell over its serial line. The last of
these files: this kernel is built where the others were, which would all be built anew after it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PROJECT, harness

TWINS = PROJECT / "tests/twins"
_BUILD_LIMIT = 3000.0


@pytest.fixture(scope="session")
def rpi3_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel of board rpi3, without what takes long to build and does not matter here; its directory.
    HARNESS_TEST_RPI3_BUILD names a finished one; `new` has one built, which is not done unasked."""
    finished = os.environ.get("HARNESS_TEST_RPI3_BUILD")
    if not finished:
        pytest.skip("takes a kernel of its own; HARNESS_TEST_RPI3_BUILD=new builds it, another value is its directory")
    if finished != "new":
        return Path(finished)
    small = Path(__file__).with_name("small.config")
    done = harness(
        "build", "--board", "rpi3", "--kconfig", small, cwd=tmp_path_factory.mktemp("build"), limit=_BUILD_LIMIT
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return Path(done.stdout.strip())


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A twin that is a Raspberry Pi 3, on; what the harness needs to find it."""
    (tmp_path / "tftp").mkdir()
    words = [sys.executable, TWINS / "twin.py", "serve", "rpi3", "--host", "auto", "--tftp", tmp_path / "tftp"]
    twin = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert twin.stdout
    told = re.match(r"twin rpi3: at ([\d.]+):", twin.stdout.readline())
    assert told
    yield {
        "HARNESS_BOARDS": str(TWINS / "boards.yaml"),
        "TWIN_HOST": told[1],
        "TWIN_TFTP": str(tmp_path / "tftp"),
        "TWIN_PASSWORD": "twin",
    }
    twin.terminate()
    twin.communicate(timeout=30)


ASKED = """
tr '\\0' '\\n' < /proc/device-tree/model
cat /sys/class/tty/console/active
nproc
mount -t tracefs tracefs /sys/kernel/tracing 2> /dev/null; cd /sys/kernel/tracing
echo function_graph > current_tracer; sleep 0.1; echo nop > current_tracer; cat current_tracer
"""


def test_the_kernel_of_a_raspberry_pi_3_boots_to_a_shell_on_its_serial_line(rpi3_build, environment, tmp_path):
    words = ["boot", "--build", rpi3_build, "--board", "twin-rpi3", "--", ASKED]
    done = harness(*words, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Raspberry Pi 3 Model B", "ttyS1", "4", "nop"]
    console = (next(tmp_path.glob("out/boot-*")) / "console.log").read_text(errors="replace")
    assert "earlycon: bcm2835aux0" in console  # from the first line on
    for driver in ("raspberrypi-firmware", "bcm2835-wdt"):  # the first one by its mailbox
        assert f"] {driver} " in console, console  # it found its device
