"""The initramfs for a kernel whose disk drivers are modules, and the index of its modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.build import command, guesttools
from harness.build.initramfs import early_archive
from harness.build.prebuilt.image import plain
from harness.build.sandbox import Sandbox, View
from harness.errors import UserError
from harness.limits import MODULE_BYTES, RECORD_BYTES
from harness.model.kernel import Toolchain
from harness.parse.moduledep import ModuleDependencies, parse_dependencies

_DEPMOD_S = 300.0
_MOST_MODULES = 1000  # the names that early.c knows
# What QEMU's machine has, and the root file system.
_DRIVERS = {
    "VIRTIO_PCI": "virtio_pci",
    "VIRTIO_BLK": "virtio_blk",
    "VIRTIO_CONSOLE": "virtio_console",
    "EXT4_FS": "ext4",
}
_NEEDED = ("VIRTIO_PCI", "VIRTIO_BLK", "VIRTIO_CONSOLE", "EXT4_FS")
_NEEDED_TO_LOAD = ("BLK_DEV_INITRD", "DEVTMPFS")


def lacking_for_disks(config: Mapping[str, str], *, has_initramfs: bool) -> list[str]:
    """What keeps the kernel from using the disks and channels of a QEMU machine: symbols that it lacks, and modules
    that no initramfs loads."""
    modules = drivers_as_modules(config)
    needed = (*_NEEDED, *(_NEEDED_TO_LOAD if modules else ()))
    symbols = [f"CONFIG_{symbol}" for symbol in needed if config.get(symbol) not in ("y", "m")]
    return symbols + ([] if has_initramfs else [f"the module {module}" for module in modules])


def drivers_as_modules(config: Mapping[str, str]) -> list[str]:
    """The modules that an initramfs has to load."""
    return [module for symbol, module in _DRIVERS.items() if config.get(symbol) == "m"]


def index_modules(root: Path, release: str, *, sandbox: Sandbox | None) -> None:
    """Run depmod for the modules of `release` below `root`: packages come without its files. Raises UserError if it
    can't read them."""
    directory = root / "lib/modules" / release
    confinement = sandbox.confine(View(root=root, writable=(directory,))) if sandbox else None
    done = command.run(["depmod", "-b", root, release], timeout=_DEPMOD_S, confinement=confinement)
    if done.status:
        raise UserError(f"the modules of {release}: depmod can't read them", details=done.last_lines())


def make_initramfs(archive: Path, modules: Path, *, config: Mapping[str, str], toolchain: Toolchain) -> None:
    """Make the initramfs `archive` with the drivers in the directory `modules`, which depmod has seen; none if one is
    not there."""
    wanted = drivers_as_modules(config)
    known = _dependencies(modules)
    if any(name not in known.paths for name in wanted):
        return
    files = known.order_for(wanted)
    if len(files) > _MOST_MODULES:
        raise UserError(f"{modules.name}: expected at most {_MOST_MODULES} modules to reach a disk, found {len(files)}")
    init = guesttools.compile_early(toolchain, archive.parent)
    try:
        early_archive(archive, init=init, modules=[plain(modules / file, MODULE_BYTES) for file in files])
    finally:
        init.unlink()


def _dependencies(modules: Path) -> ModuleDependencies:
    def read(name: str) -> str:
        path = modules / name
        return RECORD_BYTES.read(path, follow=False).decode(errors="replace") if path.exists() else ""

    return parse_dependencies(read("modules.dep"), softdep=read("modules.softdep"), alias=read("modules.alias"))
