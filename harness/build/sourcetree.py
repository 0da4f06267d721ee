"""The source tree in a workspace: brought to a source, and what a series would make of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.build.keys import configuration_name
from harness.build.materialize import held_source, materialize
from harness.build.patches import apply_series, pristine_overlay
from harness.build.treefiles import TreeFile
from harness.build.workspace import Workspace, workspace_for
from harness.errors import UserError
from harness.model.kernel import KernelSpec, Patch, Source
from harness.model.progress import Progress
from harness.parse.diff import parse_diff


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What applying a patch on top of those before it came to. `error`: why it does not apply, and `details`;
    `paths`: of the files that it changes; `before`, `after`: those files (None: there is none)."""

    patch: Patch
    paths: tuple[str, ...] = ()
    error: str = ""
    details: tuple[str, ...] = ()
    before: Mapping[str, TreeFile | None] = field(default_factory=dict)
    after: Mapping[str, TreeFile | None] = field(default_factory=dict)


def bring_source(source: Source, workspace: Workspace, progress: Progress) -> None:
    """Have the tree in a workspace be of `source`; a series that is applied to it stays, if the tree was already."""
    held = held_source(workspace.source).get("identity")
    if held is None:  # a build was killed while it renewed the tree; now every file is restored
        shutil.rmtree(workspace.series, ignore_errors=True)
    elif held != source.identity:
        apply_series(workspace.source, (), state=workspace.series)
    materialize(source, workspace.source, progress=progress)


def try_series(
    base: KernelSpec, patches: Sequence[Patch], *, progress: Progress, is_sandboxed: bool = True
) -> tuple[Tried, ...]:
    """Apply `patches` to the kernel `base` in memory, one after the other, up to the first that does not apply; the
    tree on the disk stays as it is, and so does what is compiled of it. Era fixes are left out."""
    configuration = configuration_name(base)
    with workspace_for(
        base.source, configuration=configuration, is_sandboxed=is_sandboxed, progress=progress
    ) as workspace:
        bring_source(base.source, workspace, progress)
        overlay = pristine_overlay(workspace.source, state=workspace.series)
        for patch in base.patches:
            overlay.apply(patch)
        tried: list[Tried] = []
        for patch in patches:
            standing = dict(overlay.files)
            try:
                diffs = parse_diff(patch.text, name=patch.name)
                paths = sorted({path for diff in diffs for path in (diff.old, diff.new) if path})
                overlay.apply(patch)
            except UserError as error:
                tried.append(Tried(patch=patch, error=error.message, details=error.details))
                break
            tried.append(
                Tried(
                    patch=patch,
                    paths=tuple(paths),
                    before={path: standing.get(path, overlay.base.get(path)) for path in paths},
                    after={path: overlay.files.get(path, overlay.base.get(path)) for path in paths},
                )
            )
        return tuple(tried)
