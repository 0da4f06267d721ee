"""What the options ask for: checked first, then made. The verbs of the command line share it.

What a build that is found ready does not need is imported where it is used: that takes longer than finding it."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.build import host
from harness.build.cache import scratch_dir
from harness.build.load_patches import load_patches
from harness.build.make import build as make_build
from harness.build.make import load_build
from harness.build.rootfs import root_image
from harness.build.source import parse_source_spec, resolve_source
from harness.build.toolchain import find_toolchain, require_patchable
from harness.display import Display
from harness.errors import UserError
from harness.layout import KCONFIGS, TESTCASES
from harness.model.board import BoardSpec
from harness.model.kernel import DEFAULT_SOURCE, Build, KernelSpec
from harness.target.base import Media, Target
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import RootForm, boot_method

if TYPE_CHECKING:
    from harness.run.session import Fleet, Keeping

_FRAGMENTS = ("base", "ftrace", "livepatch", "testing", "debug")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What the options shared by fetch, build, boot and run ask for."""

    build_dir: Path | None
    kernel: str
    patches: tuple[Path, ...]
    kconfigs: tuple[Path, ...]
    toolchain: str | None
    allow_plain_ftrace: bool
    jobs: int | None


def build_for(options: BuildOptions, board: BoardSpec, display: Display) -> Build:
    """The build that the options mean: input is checked first, then tools are installed, then work is done."""
    if options.build_dir:
        if options.patches or options.kconfigs or options.toolchain or options.kernel != DEFAULT_SOURCE:
            raise UserError(
                "--build names a finished kernel: --kernel, --patches, --kconfig and --toolchain can't change it"
            )
        found = load_build(options.build_dir)
        host.ensure_host(progress=display, needed_for=set(boot_method(board).needs))
        return found
    return build_kernel(kernel_for(options, board, display), options, display)


def kernel_for(options: BuildOptions, board: BoardSpec, display: Display) -> KernelSpec:
    """The kernel that the options mean, its source resolved; nothing is built yet."""
    patches = load_patches(options.patches)
    spec = parse_source_spec(options.kernel)
    ours = [*(KCONFIGS / f"{name}.config" for name in _FRAGMENTS), *(KCONFIGS / name for name in board.kconfigs)]
    for option, paths in ((f"boards.yaml: {board.name}.kconfigs", ours), ("--kconfig", options.kconfigs)):
        for path in paths:
            if not path.is_file():
                raise UserError(f"{option}: expected a file, found none at {path}")
    host.ensure_host(progress=display)
    toolchain = find_toolchain(options.toolchain)
    require_patchable(toolchain, allow_plain_ftrace=options.allow_plain_ftrace)
    return KernelSpec(
        source=resolve_source(spec, progress=display),
        patches=patches,
        fragments=tuple(ours),
        user_fragments=options.kconfigs,
        toolchain=toolchain,
        allow_plain_ftrace=options.allow_plain_ftrace,
    )


def build_kernel(kernel: KernelSpec, options: BuildOptions, display: Display) -> Build:
    """Build `kernel`, which `options` asked for, or find it built."""
    display.say(f"kernel {kernel.source.version}, {kernel.toolchain.command} {kernel.toolchain.version}")
    return make_build(
        kernel, testcases=TESTCASES, reproduce=_reproduce(options, kernel), progress=display, jobs=options.jobs
    )


def _reproduce(options: BuildOptions, kernel: KernelSpec) -> str:
    words = ["harness", "build", "--kernel", kernel.source.spec.text]
    for name, paths in (("--patches", options.patches), ("--kconfig", options.kconfigs)):
        for path in paths:
            words += [name, str(path)]
    if options.toolchain:
        words += ["--toolchain", options.toolchain]
    if options.allow_plain_ftrace:
        words += ["--allow-plain-ftrace"]
    return shlex.join(words)


def booter(board: HeldBoard, made: Build, logs: Path, display: Display) -> Callable[[], tuple[Target, float]]:
    """A function that boots `board` with `made`, as often as it is needed."""
    method = boot_method(board.spec)
    media = media_for(board.spec, made, display)

    def boot_once() -> tuple[Target, float]:
        target = method.boot(board, media, logs=logs, say=display.say)
        return target, target.boot_seconds

    return boot_once


def media_for(board: BoardSpec, made: Build, display: Display) -> Media:
    """What `board` boots."""
    return _MEDIA[boot_method(board).root](made, display)


def need_snapshots(board: BoardSpec, option: str) -> None:
    """UserError where `board` can't do what `option` asks for, because it has no snapshots."""
    if boot_method(board).snapshots is None:
        raise UserError(
            f"{option}: expected a board that has snapshots (method qemu), found {board.name}; leave it out"
        )


@contextlib.contextmanager
def keeping(board: BoardSpec, made: Build, display: Display, *, required: str = "") -> Iterator[Keeping | None]:
    """Where this run may keep targets, until its end; None where `board` or `made` have no snapshots. `required`: the
    option that can't do without them, which then is a UserError."""
    from harness.run.session import Keeping

    if required:
        need_snapshots(board, required)
    if boot_method(board).snapshots is None or not made.has_thaw:
        if required:
            why_not = "was made by an older harness, which had no snapshots; build it again"
            raise UserError(f"{required}: {made.directory} {why_not}")
        yield None
        return
    with scratch_dir("snapshots") as directory:
        yield Keeping(media=media_for(board, made, display), directory=directory)


def fleet_of(boards: Sequence[HeldBoard], made: Build, display: Display) -> Fleet | None:
    """The boards that run the tests side by side; None for a single one."""
    from harness.run.session import Fleet

    return Fleet(boards=tuple(boards), media=media_for(boards[0].spec, made, display)) if len(boards) > 1 else None


def _disks(made: Build, display: Display) -> Media:
    return Media(image=made.image, dtbs=made.dtbs, root=root_image(progress=display), payload=made.payload)


def _archives(made: Build, display: Display) -> Media:
    from harness.build.initramfs import payload_archive, root_archive

    root = root_archive(root_image(progress=display), progress=display)
    return Media(image=made.image, dtbs=made.dtbs, root=root, payload=payload_archive(made.payload))


_MEDIA = {RootForm.DISK: _disks, RootForm.INITRAMFS: _archives}


def new_directory(wanted: Path | None, prefix: str) -> Path:
    """`wanted`, or a new directory below out/ named by the time; two that start in one second get two."""
    from harness.run.eventlog import EVENTS

    path = wanted or Path("out") / time.strftime(f"{prefix}%Y%m%d-%H%M%S")
    try:
        path.mkdir(parents=True, exist_ok=wanted is not None)
    except FileExistsError:
        return new_directory(path.with_name(f"{path.name}-{os.getpid()}"), prefix)
    except OSError as error:
        raise UserError(f"{path}: expected a directory to write to, can't make it: {error.strerror}") from None
    if (path / EVENTS).exists():
        raise UserError(f"{path}: holds a run already; give another directory with --out")
    return path


def point_latest(run_dir: Path) -> None:
    """out/latest is replaced in one step, so that there always is one."""
    fresh = run_dir.with_name(f".latest.{os.getpid()}")
    fresh.symlink_to(run_dir.name)
    fresh.replace(run_dir.with_name("latest"))
