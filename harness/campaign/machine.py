"""What a board boots, and the function that boots it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.build.rootfs import root_image
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.model.progress import Progress
from harness.target.base import Media, Target
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import RootForm, boot_method


def booter(board: HeldBoard, made: Build, logs: Path, progress: Progress) -> Callable[[], tuple[Target, float]]:
    """Return a function that boots `board` with `made`, and may be called repeatedly."""
    method = boot_method(board.spec)
    media = media_for(board.spec, made, progress)

    def boot_once() -> tuple[Target, float]:
        target = method.boot(board, media, logs=logs, say=progress.say)
        return target, target.boot_seconds

    return boot_once


def media_for(board: BoardSpec, made: Build, progress: Progress) -> Media:
    """Return the files that `board` boots."""
    return _MEDIA[boot_method(board).root](made, progress)


def _disks(made: Build, progress: Progress) -> Media:
    return Media(image=made.image, dtbs=made.dtbs, root=root_image(progress=progress), payload=made.payload)


def _archives(made: Build, progress: Progress) -> Media:
    from harness.build.initramfs import payload_archive, root_archive

    root = root_archive(root_image(progress=progress), progress=progress)
    return Media(image=made.image, dtbs=made.dtbs, root=root, payload=payload_archive(made.payload))


_MEDIA = {RootForm.DISK: _disks, RootForm.INITRAMFS: _archives}
