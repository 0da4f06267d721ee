"""Boot method uboot: the board is switched on, U-Boot told what to load, its files laid down for a TFTP server."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError
from harness.model.board import Board, UbootBoot

from .base import Media
from .power import power_off
from .start import Start, device_tree
from .tftp import check as check_tftp
from .tftp import clear_old, publish, served
from .uboot import Load, NotStopped, Uboot

_TRIES = 2  # power-ons until autoboot is caught


def check(board: Board) -> None:
    """See that the TFTP server can be started, where that is ours."""
    spec = board.boot
    assert isinstance(spec, UbootBoot)
    if spec.tftp_serve:
        check_tftp(spec.tftp_serve, place=f"{board.name}.boot.tftp_serve")


def start(job: Start) -> float:
    """Start the kernel; since when (monotonic) the board is on.

    Raises InfraError where power, U-Boot, network or TFTP fail."""
    board, spec = job.board, job.board.boot
    assert isinstance(spec, UbootBoot)
    files = _published(board, spec, job.media)
    with contextlib.ExitStack() as while_it_loads:
        if spec.tftp_serve:
            place = f"{board.name}.boot.tftp_serve"
            log = job.logs / "tftp.log"
            while_it_loads.enter_context(
                served(spec.tftp_serve, Path(spec.tftp_root), place=place, log=log, say=job.say)
            )
        uboot, started = _power_up(job, spec)
        _start_kernel(uboot, spec, files, job.arguments)
    return started


def _power_up(job: Start, spec: UbootBoot) -> tuple[Uboot, float]:
    """Power off and on, and stop U-Boot; also when it was switched on (monotonic).

    It is tried once more, and said, where autoboot was faster than we."""
    for attempt in range(1, _TRIES + 1):
        power_off(job.board, job.switch, job.line)
        started = time.monotonic()
        job.switch.on()
        uboot = Uboot(job.line, spec, place=job.board.name)
        try:
            uboot.stop()
        except NotStopped as error:
            if attempt == _TRIES:
                raise
            job.say(f"{error.message}; switching the board off and on once more")
            continue
        return uboot, started
    raise AssertionError("unreachable")


@dataclass(frozen=True, kw_only=True)
class _Files:
    kernel: Load
    root: Load
    payload: Load | None
    dtb: Load | None


def _published(board: Board, spec: UbootBoot, media: Media) -> _Files:
    """Put what the board loads below the TFTP server's directory; what lies there already is left."""
    directory = Path(spec.tftp_root, "harness")
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise InfraError(
            f"{board.name}.boot.tftp_root: expected a directory to write to at {spec.tftp_root}, can't make "
            f"`harness` there: {error.strerror}"
        ) from None
    clear_old(directory)

    def load(path: Path, address: str, key: str) -> Load:
        return Load(name=f"harness/{publish(path, directory)}", size=path.stat().st_size, address=address, key=key)

    dtb = None
    if spec.dtb:
        dtb = load(device_tree(media, spec.dtb, board=board.name), spec.dtb_at, "boot.dtb_at")
    return _Files(
        kernel=load(media.image, spec.kernel_at, "boot.kernel_at"),
        root=load(media.root, spec.ramdisk_at, "boot.ramdisk_at"),
        payload=load(media.payload, spec.ramdisk_at, "boot.ramdisk_at") if media.payload else None,
        dtb=dtb,
    )


def _start_kernel(uboot: Uboot, spec: UbootBoot, files: _Files, arguments: str) -> None:
    uboot.network()
    kernel = uboot.load(files.kernel)
    root = uboot.load(files.root)
    size = files.root.size
    if files.payload:
        # the second archive right behind the first: the kernel unpacks one after the other
        behind = Load(
            name=files.payload.name,
            size=files.payload.size,
            address=f"{int(root, 16) + size:x}",
            key=files.payload.key,
        )
        uboot.load(behind)
        size += files.payload.size
    fdt = uboot.load(files.dtb) if files.dtb else uboot.value(spec.fdt, key="boot.fdt")
    uboot.boot(kernel, f"{root}:{size:x}", fdt, arguments=arguments)
