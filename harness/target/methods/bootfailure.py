"""Find out from the console why a board did not come up: the kernel's fault or the lab's."""

from __future__ import annotations

import itertools
import re
import time

from harness.errors import BootError, InfraError, KernelError
from harness.model.board import BoardSpec
from harness.target.line.console import Console
from harness.target.methods import grubcfg
from harness.target.methods.panic import lack_of_memory, panic_reason

_LAST_LINES = 40
_WHOLE_TAIL = 1000  # lines
_HANDED_OVER_S = 0.5  # for the last words of the boot loader where nobody knows what they are
# they are U-Boot's; an own system's kernel's; GRUB's; an EFI stub's, which speaks through the firmware
_LAST_WORDS = re.compile(rf"Starting kernel|Starting new kernel|\bBye!$|harness \w+: {grubcfg.STARTING}$|EFI stub: ")
RESET = "U-Boot "


def another_system(board: BoardSpec, prompt: str, line: Console) -> InfraError:
    """Return the error for a login prompt of a system that the harness did not boot."""
    return InfraError(
        f"{board.name}: expected the harness's own shell, but another system asks for a login, {prompt.strip()!r}; "
        "see whether cmdline names a root or an init of its own (root=, init=, rdinit=)",
        details=line.tail(_LAST_LINES),
    )


def boot_failure(board: BoardSpec, console: Console, *, started: float) -> InfraError | KernelError:
    """Explain why the kernel that was started at `started` (monotonic) reached no shell: BootError if it is the
    kernel's fault, InfraError if it is the lab's."""
    tail = console.tail(_LAST_LINES)
    if lack := lack_of_memory(console.tail(_WHOLE_TAIL)):
        return InfraError(f"{board.name}: {lack}", details=tail)
    reason = panic_reason(tail)
    if reason:
        return BootError(f"the kernel panicked at boot: {reason}", details=tail)
    if console.closed:
        return InfraError(
            f"{board.name}: the serial line was lost while the kernel booted, and did not come back; see its cable or "
            "console server",
            details=tail,
        )
    quiet = time.monotonic() - console.last_activity
    said = _said_since_start(console.tail(_WHOLE_TAIL))
    by_kernel = itertools.takewhile(lambda line: not line.startswith(RESET), said or ())
    spoke = console.last_activity > started + _HANDED_OVER_S if said is None else any(by_kernel)
    if not spoke:
        return _said_nothing(board, time.monotonic() - started, tail)
    if any(line.startswith(RESET) for line in said or tail):
        return BootError("the board reset while booting; the last console lines follow", details=tail)
    return BootError(
        f"no shell within {board.limits.boot:.0f} s (console silent for {quiet:.0f} s); the last console lines follow",
        details=tail,
    )


def _said_since_start(lines: list[str]) -> list[str] | None:
    """Return what follows the last words of the boot loader; None if those are not in `lines`."""
    for number in range(len(lines) - 1, -1, -1):
        if _LAST_WORDS.search(lines[number]):
            return [line.strip() for line in lines[number + 1 :]]
    return None


def _said_nothing(board: BoardSpec, seconds: float, tail: list[str]) -> InfraError:
    """Return the error for a kernel that printed nothing. A broken kernel and one with the device tree of another
    machine look alike from here. It is not booked as the kernel's fault: on a board with a correct entry, a kernel that
    starts at all prints something."""
    has_earlycon = "earlycon" in board.cmdline
    advice = (
        "it has `earlycon` already, so look at the device tree first"
        if has_earlycon
        else "with `cmdline: earlycon` a kernel that starts at all prints at once"
    )
    return InfraError(
        f"{board.name}: expected output of the kernel on its console, found none in {seconds:.0f} s after it was "
        "started. Its device tree is of another machine (boot.dtb), its console another line (console= in cmdline), it "
        f"lies where it can't run, or it is broken before its console is up. To find out: {advice}; boot a kernel that "
        "is known to work there, the distribution's, with this entry",
        details=tail,
    )
