"""The kernels for the Raspberry Pis, with their own device trees, on QEMU: to a shell over the serial line. The last of
these files: these kernels are built where the others were, which would all be built anew after them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import BUILD_LIMIT_S, PROJECT, harness

TWINS = PROJECT / "tests/twins"
_MACHINES = {"rpi3": "raspi3b", "rpi4": "raspi4b"}
_MODELS = {"rpi3": "Raspberry Pi 3 Model B", "rpi4": "Raspberry Pi 4 Model B"}


@pytest.fixture(params=sorted(_MACHINES))
def board(request: pytest.FixtureRequest) -> str:
    """A Raspberry Pi that QEMU has."""
    known = subprocess.run(["qemu-system-aarch64", "-M", "help"], capture_output=True, text=True, check=True).stdout
    if f"{_MACHINES[request.param]} " not in known:
        pytest.skip(f"this QEMU has no {_MACHINES[request.param]}; 9.0 has")
    return str(request.param)


@pytest.fixture
def built(board: str, tmp_path: Path) -> Path:
    """The kernel of `board`, without what takes long to build and does not matter here; its directory.
    HARNESS_TEST_RPI3_BUILD and HARNESS_TEST_RPI4_BUILD name finished ones; `new` has one built, which is not done
    unasked."""
    variable = f"HARNESS_TEST_{board.upper()}_BUILD"
    finished = os.environ.get(variable)
    if not finished:
        pytest.skip(f"takes a kernel of its own; {variable}=new builds it, another value is its directory")
    if finished != "new":
        return Path(finished)
    small = Path(__file__).with_name("small.config")
    done = harness("build", "--board", board, "--kconfig", small, cwd=tmp_path, limit=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr[-4000:]
    return Path(done.stdout.strip())


@pytest.fixture
def environment(board: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A twin that is this Raspberry Pi, on; what the harness needs to find it."""
    (tmp_path / "tftp").mkdir()
    words: list[str | Path] = [
        sys.executable,
        TWINS / "twin.py",
        "serve",
        board,
        "--host",
        "auto",
        "--tftp",
        tmp_path / "tftp",
    ]
    twin = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert twin.stdout
    told = re.match(rf"twin {board}: at ([\d.]+):", twin.stdout.readline())
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


def test_a_raspberry_pis_kernel_boots_to_a_shell_on_its_serial_line(
    board: str, built: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    words: list[str | Path] = ["boot", "--build", built, "--board", f"twin-{board}", "--", ASKED]
    done = harness(*words, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [_MODELS[board], "ttyS1", "4", "nop"]
    console = (next(tmp_path.glob("out/boot-*")) / "console.log").read_text(errors="replace")
    assert "earlycon: bcm2835aux0" in console  # from the first line on
    for driver in ("raspberrypi-firmware", "bcm2835-wdt"):  # the first one by its mailbox
        assert f"] {driver} " in console, console  # it found its device
