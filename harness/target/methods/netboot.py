"""Boot method uboot: switch the board on, stop U-Boot, and make it load files that a TFTP or web server, the lab's or
ours, provides."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.model.board import Access, BoardSpec
from harness.model.boot import UbootBoot
from harness.target.base import Media
from harness.target.methods.autoboot import NotStopped
from harness.target.methods.start import Start, device_tree
from harness.target.methods.uboot import Load, Uboot
from harness.target.power import power_off
from harness.target.serving import tftp
from harness.target.serving.shelf import Directory, Shelf

_TRIES = 2  # power-ons until autoboot is caught


def check(board: BoardSpec, _access: Access) -> None:
    """Check that our own server, if one is configured, could start, before an hour of building rather than after it."""
    spec, place = board.boot, f"{board.name}.boot"
    assert isinstance(spec, UbootBoot)
    if spec.load == "tftp" and spec.tftp_serve:
        tftp.check(spec.tftp_serve, root=Path(spec.tftp_root), place=f"{place}.tftp_serve")
    if spec.load == "http" and spec.http_serve:
        from harness.target.serving import http  # slow to import

        http.check(spec.http_serve, place=f"{place}.http_serve")


def start(job: Start) -> float:
    """Start the kernel and return when the board was switched on (monotonic).

    Raises InfraError if power, U-Boot, network or server fails."""
    board, spec = job.board.spec, job.board.spec.boot
    assert isinstance(spec, UbootBoot)
    with _shelf(job, spec) as shelf:
        files = _offered(board, spec, job.media, shelf)
        uboot, started = _power_up(job, spec)
        _start_kernel(uboot, spec, files, job.arguments)
    return started


@contextlib.contextmanager
def _shelf(job: Start, spec: UbootBoot) -> Iterator[Shelf]:
    """Return the shelf that the board loads its files from, served by us until the end if so configured."""
    place = f"{job.board.name}.boot.{spec.load}"
    if spec.load == "http" and spec.http_serve:
        from harness.target.serving import http

        with http.served(spec.http_serve, place=f"{place}_serve", log=job.logs / "http.log", say=job.say) as server:
            yield server
        return
    root = Path(spec.tftp_root if spec.load == "tftp" else spec.http_root)
    directory = Directory(root, place=f"{place}_root")
    with contextlib.ExitStack() as while_it_loads:
        if spec.load == "tftp" and spec.tftp_serve:
            log = job.logs / "tftp.log"
            while_it_loads.enter_context(
                tftp.served(spec.tftp_serve, root, place=f"{place}_serve", log=log, say=job.say)
            )
        yield directory


def _power_up(job: Start, spec: UbootBoot) -> tuple[Uboot, float]:
    """Power off and on, and stop U-Boot; return it and when the board was switched on (monotonic).

    If autoboot was too fast, this is reported and tried once more."""
    for attempt in range(1, _TRIES + 1):
        power_off(job.board.power, job.switch, job.line)
        uboot = Uboot(job.line, spec, place=job.board.name)
        uboot.forget()
        started = time.monotonic()
        job.switch.on()
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


def _offered(board: BoardSpec, spec: UbootBoot, media: Media, shelf: Shelf) -> _Files:
    """Offer the files that the board loads on `shelf`."""

    def load(path: Path, address: str, key: str) -> Load:
        # TFTP acknowledges each packet; U-Boot's own TCP may miss a hole in some versions
        crc32 = zlib.crc32(path.read_bytes()) if spec.load == "http" else None
        return Load(name=shelf.offer(path), size=path.stat().st_size, address=address, key=key, crc32=crc32)

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
        uboot.load(replace(files.payload, address=f"{int(root, 16) + size:x}"))
        size += files.payload.size
    fdt = uboot.load(files.dtb) if files.dtb else uboot.value(spec.fdt, key="boot.fdt")
    uboot.boot(kernel, f"{root}:{size:x}", fdt, arguments=arguments)
