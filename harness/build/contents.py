"""What is in the cache, by kind: for `harness cache`. What somebody uses is told as that, and never removed."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.build import prune
from harness.build.cache import cache_root, clear_scratch, is_locked, scratch_kinds
from harness.build.finished import load_record
from harness.build.inuse import nobody_uses
from harness.build.workspace import (
    KEEP_CONFIGURATIONS,
    KEEP_WORKSPACES,
    is_workspace_in_use,
    remove_workspace,
)
from harness.errors import HarnessError
from harness.model.prebuilt import names_prebuilt

BUILDS, PREBUILT, TEMPORARY, CCACHE, WORKSPACES, OTHER = (
    *("builds", "prebuilt", "temporary", "ccache", "workspaces", "other"),
)
# What can be removed as a whole, in the order in which it is shown.
KINDS = {
    BUILDS: "kernels that were built here",
    PREBUILT: "kernels that others built, with what was added to them",
    "rootfs": "root images",
    "initramfs": "archives of root images",
    "downloads": "archives of sources",
    WORKSPACES: "source and object trees",
    CCACHE: "what compilers made",
    TEMPORARY: "snapshots and the like, of commands that run or were killed",
}
_MANAGED = (BUILDS, PREBUILT, "rootfs", "initramfs", "downloads")  # by prune.py, with one limit for all of them
_DAY_S = 86400.0
_CCACHES = ("ccache", "ccache-root")


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something in the cache. `size`: bytes on the disk; `used`: time of the last use, seconds since the epoch;
    `remove`: removes it unless somebody uses it, and returns whether it did; None: it is not removed."""

    kind: str
    name: str
    size: int
    used: float
    is_in_use: bool = False
    remove: Callable[[], bool] | None = None


def items(kinds: Collection[str] = (*KINDS, OTHER)) -> Iterator[Item]:
    """Yield what there is of some `kinds`; of OTHER, what no other kind is."""
    if set(_MANAGED) & set(kinds):
        yield from (item for item in map(_item, prune.entries()) if item.kind in kinds)
    if WORKSPACES in kinds:
        yield from _workspaces()
    if CCACHE in kinds:
        yield from _ccaches()
    if TEMPORARY in kinds:
        yield from _temporary()
    if OTHER in kinds:
        yield from _others()


def surplus(limits: prune.Limits, *, dry_run: bool) -> Iterator[tuple[Item, str]]:
    """Remove what exceeds `limits`, and what killed commands left; yield each with the reason. `dry_run`: only yield
    it."""
    remove = (lambda entry: not prune.is_in_use(entry)) if dry_run else prune.remove
    for entry, why in prune.surplus(limits, remove):
        yield _item(entry), why
    for item in _temporary():
        if not item.is_in_use and item.remove and (dry_run or item.remove()):
            yield item, "its command was killed"


def _item(entry: prune.Entry) -> Item:
    kind = entry.name.partition("/")[0]
    return Item(
        kind=PREBUILT if kind == BUILDS and _is_prebuilt(entry.path) else kind,
        name=entry.name,
        size=entry.size,
        used=entry.used,
        is_in_use=prune.is_in_use(entry),
        remove=partial(prune.remove, entry),
    )


def _is_prebuilt(build: Path) -> bool:
    with contextlib.suppress(HarnessError):
        return names_prebuilt(load_record(build).kernel.source.spec)
    return False


def _workspaces() -> Iterator[Item]:
    for path in _directories(cache_root() / WORKSPACES):
        yield _of(WORKSPACES, path, is_in_use=is_workspace_in_use(path), remove=partial(remove_workspace, path))


def _ccaches() -> Iterator[Item]:
    for name in _CCACHES:
        if (path := cache_root() / name).is_dir():
            found = _of(CCACHE, path, is_in_use=_is_built(), remove=partial(_empty_ccache, path))
            yield dataclasses.replace(
                found, used=max(found.used, *_times(path.glob("*")), *_times(path.glob("*/stats")))
            )


def _times(paths: Iterable[Path]) -> list[float]:
    """When each was changed last."""
    found = [0.0]
    for path in paths:
        with contextlib.suppress(OSError):
            found.append(path.stat().st_mtime)
    return found


def _is_built() -> bool:
    """Whether any kernel is being built."""
    return any(map(is_workspace_in_use, _directories(cache_root() / WORKSPACES)))


def _empty_ccache(path: Path) -> bool:
    """Remove what is in a ccache. A build that begins meanwhile compiles what it does not find there; the directory
    itself stays where its sandbox found it."""
    if _is_built():
        return False
    for inner in _directories(path):
        shutil.rmtree(inner, ignore_errors=True)
    return True


def _temporary() -> Iterator[Item]:
    for kind in scratch_kinds():
        for path in _directories(cache_root() / kind):
            is_in_use = is_locked(path.with_name(f"{path.name}.lock"))
            yield _of(TEMPORARY, path, is_in_use=is_in_use, remove=partial(_clear, kind, path))
    builds = cache_root() / BUILDS
    for path in (*builds.glob(".*.partial"), *builds.glob(f"{prune.GONE}*")):
        with nobody_uses(path) as is_free:
            pass
        yield _of(TEMPORARY, path, is_in_use=not is_free, remove=partial(_clear_build, path))


def _clear(kind: str, path: Path) -> bool:
    clear_scratch(kind)
    return not path.exists()


def _clear_build(path: Path) -> bool:
    prune.clear_left_over(path.parent)
    return not path.exists()


def _others() -> Iterator[Item]:
    known = {*_MANAGED, WORKSPACES, *_CCACHES, *scratch_kinds()}
    for path in _directories(cache_root()):
        if path.name not in known:
            yield _of(OTHER, path)


def limit_lines() -> list[str]:
    """Describe the limits, and how to set them. Raises UserError for a setting that is none."""
    limits = prune.limits_from_environment()
    return [
        f"size: {limits.size / 1e9:g} GB of {', '.join(_MANAGED)} together; the least recently used ones go. Set "
        f"{prune.SIZE_VARIABLE} to a number of GB",
        f"age: {limits.age / _DAY_S:g} days since the last use of these and of {WORKSPACES}. Set {prune.AGE_VARIABLE} "
        "to a number of days",
        f"{WORKSPACES}: {KEEP_WORKSPACES}, and {KEEP_CONFIGURATIONS} configurations of each kernel; fixed",
        f"{CCACHE}: ccache's own limit. Set CCACHE_MAXSIZE, as CCACHE_MAXSIZE=20G",
        "They hold at the end of each build, and whenever `harness cache clean` is called.",
    ]


def _directories(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    return []


def _of(kind: str, path: Path, *, is_in_use: bool = False, remove: Callable[[], bool] | None = None) -> Item:
    size, used = 0, time.time()
    with contextlib.suppress(OSError):  # it is being removed
        used = path.stat().st_mtime
        size = prune.size_of(path)
    name = str(path.relative_to(cache_root()))
    return Item(kind=kind, name=name, size=size, used=used, is_in_use=is_in_use, remove=remove)
