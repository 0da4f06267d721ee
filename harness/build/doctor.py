"""What ``harness doctor`` says of this host: a row for each tool, for the Debian mirror, and for the disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from harness.build.apt import USUAL_SUITES, mirror_for
from harness.build.cache import cache_root
from harness.build.host import STAGES, ToolStatus, check_host, install_command
from harness.errors import InfraError

DISK_NEEDED_GB = 15
"""Disk space for the cache: two kernels' sources and objects (about 5 GB each), the root images and the downloads."""


@dataclass(frozen=True, kw_only=True)
class DoctorRow:
    """A line of ``harness doctor``. `remedy` is empty if nothing has to be done."""

    name: str
    ok: bool
    found: str
    needed_for: str
    remedy: str = ""


def doctor_rows(*, needed_for: set[str] | None = None) -> list[DoctorRow]:
    """Return everything about this host: one row for each tool, then the mirror and the disk space."""
    return [*(_tool_row(status) for status in check_host(needed_for=needed_for)), _mirror_row(), disk_row()]


def disk_row(*, needed_gb: float = DISK_NEEDED_GB) -> DoctorRow:
    """Check whether the file system of the cache has space for a first build, including what the cache occupies
    already."""
    root = cache_root()
    free = shutil.disk_usage(root).free / 1e9
    # A second kernel needs less than the first, so don't complain too early about a cache in use.
    needed = needed_gb if not (root / "workspaces").is_dir() else needed_gb / 3
    return DoctorRow(
        name="disk space",
        ok=free >= needed,
        found=f"{free:.0f} GB free in {root}",
        needed_for="everything",
        remedy="" if free >= needed else f"needs about {needed:.0f} GB; make room or set XDG_CACHE_HOME",
    )


def _mirror_row() -> DoctorRow:
    main, security, *_ = USUAL_SUITES
    try:
        found = mirror_for(main)
    except InfraError as error:
        return DoctorRow(name="Debian mirror", ok=False, found="none", needed_for="fetch", remedy=error.message)
    try:
        found += f", {mirror_for(security)}"
    except InfraError:  # only kernels of the security suites need it
        found += " (none for security suites)"
    return DoctorRow(name="Debian mirror", ok=True, found=found, needed_for="fetch rootfs")


def _tool_row(status: ToolStatus) -> DoctorRow:
    tool = status.tool
    stages = " ".join(stage for stage in STAGES if stage in tool.needed_for)
    if not status.found:
        remedy = install_command([tool.package])
        return DoctorRow(name=tool.name, ok=False, found="missing", needed_for=stages, remedy=remedy)
    found = " ".join(part for part in (status.version, f"({status.path})") if part)
    remedy = f"needs {tool.minimum_version} or later" if status.outdated else ""
    return DoctorRow(name=tool.name, ok=not status.outdated, found=found, needed_for=stages, remedy=remedy)
