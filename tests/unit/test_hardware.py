"""A board before it is booted: what can't work is told before the build. And one that does not come up: whose fault."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

import pytest

from harness.errors import BootError, HarnessError, InfraError
from harness.model.board import BoardSpec, CommandConsole, CommandSwitch, Power, SerialConsole
from harness.model.product import Product
from harness.products import Damaged, digest_of
from harness.target.base import Media
from harness.target.line.console import Console
from harness.target.methods import hardware
from harness.target.methods.bootfailure import boot_failure
from harness.target.methods.table import boot_method
from tests import damage
from tests.boards import held, spec
from tests.faults.catalogue import Blame, fault

POWER = Power(switch=CommandSwitch(on=("true",), off=("true",)))


def board(console: CommandConsole | SerialConsole, *secrets: str) -> BoardSpec:
    return spec(console=console, power=POWER, secrets=secrets)


def check(board: BoardSpec) -> None:
    boot_method(board).check(board, board.access)


def test_a_console_command_that_works() -> None:
    check(board(CommandConsole(argv=("cat",))))


def test_a_console_command_that_is_not_installed() -> None:
    absent = CommandConsole(argv=("sh", "-c", "no-such-ipmitool -P swordfish sol activate"))
    with pytest.raises(
        InfraError, match=r"expected it to stay open, it ended at once.*no-such-ipmitool: not found"
    ) as told:
        check(board(absent, "swordfish"))
    assert "swordfish" not in told.value.message


def test_a_serial_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=r"b\.console: expected a serial device at .*/ttyX, found none"):
        check(board(SerialConsole(device=str(tmp_path / "ttyX"))))


U_BOOT = "U-Boot 2023.01\n=> booti 40400000\nStarting kernel ...\n\n"
OWN_SYSTEM = "[  9.1] Booting Linux on physical CPU\n[ 99.9] kexec_core: Starting new kernel\n[ 99.9] Bye!\n"
EARLY = "[    0.000000] Booting Linux on physical CPU 0x0000000000\n"


class Said(Console):
    """A console on which `text` has come, the last of it `since` seconds after the kernel was started."""

    def __init__(self, text: str, *, since: float) -> None:
        self._said = text.splitlines()
        self.last_activity = time.monotonic()
        self.started = self.last_activity - since

    @property
    def closed(self) -> bool:
        return False

    def tail(self, count: int = 40) -> list[str]:
        return self._said[-count:]


def failure(text: str, *, since: float = 0.1, cmdline: str = "") -> HarnessError:
    said = Said(text, since=since)
    return boot_failure(spec(cmdline=cmdline), said, started=said.started)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        (U_BOOT, 0.1),
        (U_BOOT, 9.0),  # a slow line
        (OWN_SYSTEM, 60.0),
        ("GRUB loading.\nharness 0123abcd: starting\n", 9.0),
        (f"{U_BOOT}EFI stub: Booting Linux Kernel...\nEFI stub: Exiting boot services...\n", 2.0),
        (U_BOOT + U_BOOT.partition("=>")[0], 3.0),
        ("something else\n", 0.1),
    ],
    ids=["U-Boot", "slow", "own system", "GRUB", "EFI stub", "reset", "no last words"],
)
@fault(
    "a board's kernel never says a word",
    where="boot",
    blame=Blame.INFRA,
    survives="the kernel's good name; how to make it speak",
)
def test_a_kernel_that_never_speaks_is_the_labs_fault(text: str, since: float) -> None:
    told = failure(text, since=since)
    assert isinstance(told, InfraError)
    assert "b: expected output of the kernel on its console, found none" in told.message
    assert "with `cmdline: earlycon` a kernel" in told.message
    assert "it has `earlycon` already" in failure(text, since=since, cmdline="earlycon").message


@pytest.mark.parametrize(
    ("text", "since", "message"),
    [
        (U_BOOT + EARLY, 0.1, "no shell within 90 s"),
        (OWN_SYSTEM + EARLY, 0.1, "no shell within 90 s"),
        (U_BOOT + EARLY * 500, 0.1, "no shell within 90 s"),
        (U_BOOT + EARLY * 2000, 9.0, "no shell within 90 s"),
        (U_BOOT + EARLY + U_BOOT.partition("=>")[0], 3.0, "the board reset while booting"),
        (f"{U_BOOT}{EARLY}Kernel panic - not syncing: x\n", 3.0, "the kernel panicked at boot: Kernel panic"),
        ("something else\n", 3.0, "no shell within 90 s"),
    ],
    ids=["at once", "own system", "much at once", "for long", "reset", "panic", "no last words"],
)
@fault(
    "a board's kernel speaks, and then hangs, resets or panics at boot",
    where="boot",
    blame=Blame.KERNEL,
    survives="its last words",
)
def test_one_that_has_spoken_is_the_kernels(text: str, since: float, message: str) -> None:
    told = failure(text, since=since)
    assert isinstance(told, BootError)
    assert told.message.startswith(message)


NO_MEMORY = (
    "[    0.842934] Out of memory and no killable processes...\n"
    "[    0.843066] Kernel panic - not syncing: System is deadlocked on memory\n"
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param(
            f"[    0.1] Memory: 5168K/24576K available (9000K kernel code)\n{NO_MEMORY}",
            "b: the machine has 24 MiB of memory, which is too little to boot; see memory_mib, and mem= in cmdline",
            marks=fault("a machine has too little memory for any kernel", where="memory", blame=Blame.INFRA,
                        survives="the kernel's good name, and its last words"),
        ),
        pytest.param(
            "[    0.1] Memory: 400000K/524288K available\n[    1.2] Initramfs unpacking failed: write error\n"
            "[    1.3] Kernel panic - not syncing: No working init found.\n",
            "b: the machine has 512 MiB of memory, in which the root file system has no room",
            marks=fault("a board has too little memory for the root file system", where="memory", blame=Blame.INFRA,
                        survives="the kernel's good name, and its last words"),
        ),
    ],
)  # fmt: skip
def test_a_machine_without_memory_is_no_kernel_that_panics(said: str, told: str) -> None:
    error = failure(U_BOOT + said)
    assert isinstance(error, InfraError)
    assert error.message == told
    assert any("Kernel panic" in line for line in error.details)


@fault(
    "a kernel eats all of a machine's memory while it boots",
    where="memory",
    blame=Blame.KERNEL,
    survives="its last words",
)
def test_a_kernel_that_eats_a_gigabyte_is_at_fault() -> None:
    error = failure(f"{U_BOOT}[    0.1] Memory: 900000K/1048576K available\n{NO_MEMORY}")
    assert isinstance(error, BootError)
    assert "System is deadlocked on memory" in error.message


@fault("a board's kernel is damaged on this host's disk and hangs silently", where="boot", blame=Blame.INFRA,
       survives="the console's last lines; the message names the damaged file")  # fmt: skip
@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_damaged_file_outranks_what_it_led_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    def hang(*_: object, **__: object) -> NoReturn:
        raise BootError("no shell within 60 s", details=("last line",))

    image = tmp_path / "Image"
    image.write_bytes(b"kernel")
    product = Product(path=image, digest=digest_of(image), remedy="build it again")
    if is_damaged:
        damage.zero(image)
    monkeypatch.setattr(hardware, "_boot", hang)
    media = Media(image=image, root=tmp_path / "root", products=(product,))
    with pytest.raises(Damaged if is_damaged else BootError) as caught:
        hardware.boot_board(held(spec("b")), media, starting=lambda _job: 0.0, logs=tmp_path)
    assert caught.value.exit_code == (3 if is_damaged else 1)
    assert "last line" in caught.value.details
