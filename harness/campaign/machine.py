"""What a board boots, and the function that boots it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from harness.build.rootfs import root_image
from harness.build.seal import Kept
from harness.errors import UserError
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.model.progress import Progress
from harness.target.base import Media, Target
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import RootForm, boot_method


def booter(
    board: HeldBoard, made: Build, logs: Path, progress: Progress, *, verify: bool = False
) -> Callable[[], tuple[Target, float]]:
    """Return a function that boots `board` with `made`, and may be called repeatedly. `verify`: read all files that it
    boots before."""
    method = boot_method(board.spec)
    media = media_for(board.spec, made, progress, verify=verify)

    def boot_once() -> tuple[Target, float]:
        target = method.boot(board, media, logs=logs, say=progress.say)
        return target, target.boot_seconds

    return boot_once


def with_one_cpu(board: HeldBoard) -> HeldBoard | None:
    """Return the board with a single CPU, if it can have that."""
    spec = boot_method(board.spec).with_one_cpu(board.spec)
    return dataclasses.replace(board, spec=spec) if spec else None


def media_for(board: BoardSpec, made: Build, progress: Progress, *, verify: bool = False) -> Media:
    """Return the files that `board` boots. `verify`: read those that are not of the build."""
    return _MEDIA[boot_method(board).root](made, progress, verify)


def _disks(made: Build, progress: Progress, verify: bool) -> Media:
    from harness.build.prebuilt.drivers import lacking_for_disks

    if lacking := lacking_for_disks(made.config, has_initramfs=made.initramfs is not None):
        told = ", ".join(lacking)
        raise UserError(f"{made.release}: expected what QEMU's disks and channels need, found a kernel without {told}")
    media = _media(made, root=root_image(progress=progress, verify=verify))
    return dataclasses.replace(media, initramfs=made.initramfs)


def _archives(made: Build, progress: Progress, verify: bool) -> Media:
    from harness.build.initramfs import payload_archive, root_archive

    image = root_image(progress=progress, verify=verify)
    root = root_archive(image.product, progress=progress, verify=verify)
    return _media(made, root=root, payload=payload_archive(made.payload, progress=progress, verify=verify))


def _media(made: Build, *, root: Kept, payload: Kept | None = None) -> Media:
    """Return `root` with the kernel of a build, and with its payload unless that has another form."""
    cached = [each for each in (root, payload) if each]
    return Media(
        image=made.image,
        dtbs=made.dtbs,
        root=root.path,
        payload=payload.path if payload else made.payload,
        products=(*made.products, *(each.product for each in cached)),
        holds=(made.hold, *(each.hold for each in cached)),
    )


_MEDIA = {RootForm.DISK: _disks, RootForm.INITRAMFS: _archives}
