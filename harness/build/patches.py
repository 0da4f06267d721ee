"""Apply a patch series to a source tree, replace it by another one, or take it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.era import Edit, fingerprint
from harness.build.patched_tree import Overlay
from harness.build.treefiles import ABSENT, TreeFile, digest, read, remove, write
from harness.errors import InfraError
from harness.model.kernel import Patch

_FORMAT = 1
_SCRATCH = "new"  # in the state directory: a file on its way to its place


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The record about the tree in the state directory (``series.json``).

    `forms`: path → checksums that the file may have: first the pristine one, last the current one, and between them
    those that a killed run may have left. `complete`: False while the tree is being changed. `fixes`: the names of the
    era fixes among the changes."""

    series: tuple[str, ...] = ()
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True
    fixes: tuple[str, ...] = ()


def apply_series(tree: Path, patches: Sequence[Patch], *, state: Path, fixes: Sequence[Edit] = ()) -> bool:
    """Change `tree` from the series recorded in the directory `state` to exactly `patches`, and those `fixes` that
    the patched tree needs. Returns whether a file changed.

    New contents are worked out beside the tree, always from the pristine files kept in `state`, and only files
    that then differ are replaced (by rename, so hard links elsewhere keep the old content; with a new mtime).
    A run that was killed is finished or taken back by the next call. One caller at a time: hold a lock. `state` is on
    the file system of the tree, but not in it.

    The pristine form of a file is the one in which a series first finds it. So before the tree is renewed from its
    origin, the series has to be taken back: ``apply_series(tree, (), state=state)``.

    UserError: a patch does not apply or is unsafe; the tree is as before. InfraError: a file that the series holds
    was changed by somebody else. It is not restored, because that might silently discard an edit or a newer source.
    """
    try:
        record = _load_record(state)
        standing = {path: read(tree, path) for path in record.forms}
        _refuse_foreign(tree, record, standing)
        series = (*(patch.sha256 for patch in patches), *filter(None, [fingerprint(fixes)]))
        settled = all(digest(standing[path]) == forms[-1] for path, forms in record.forms.items())
        if record.complete and record.series == series and settled:
            return False
        overlay = _overlay(tree, record, state=state)
        for patch in patches:
            overlay.apply(patch)
        fixed = _fix(overlay, fixes)
        return _bring(tree, overlay, standing, record=record, series=series, fixed=fixed, state=state)
    except OSError as error:
        unknown = InfraError(f"{tree}: the patch series can't be applied: {error}")
        raise shortage.of(error, where=tree, kept="the tree as it was") or unknown from error


def pristine_overlay(tree: Path, *, state: Path) -> Overlay:
    """Return the tree as it is without the series recorded in `state`, to which others can be applied in memory. Raises
    InfraError as `apply_series` does."""
    return _overlay(tree, _load_record(state), state=state)


def _overlay(tree: Path, record: _Record, *, state: Path) -> Overlay:
    return Overlay(tree, {path: _pristine(state, path, forms[0]) for path, forms in record.forms.items()})


def patched_files(state: Path) -> dict[str, str]:
    """Return the files that the series recorded in `state` changes: path → checksum of the result."""
    return {path: forms[-1] for path, forms in _load_record(state).forms.items()}


def applied_fixes(state: Path) -> tuple[str, ...]:
    """Return the names of the fixes that the tree needed."""
    return _load_record(state).fixes


def _fix(overlay: Overlay, fixes: Sequence[Edit]) -> tuple[str, ...]:
    """Apply those `fixes` that the tree needs, and return their names."""
    needed = [fix for fix in fixes if fix.is_needed(overlay.text)]
    for fix in needed:
        overlay.rewrite(fix.file, fix.applied(overlay.text(fix.file) or ""))
    return tuple(fix.name for fix in needed)


def _bring(
    tree: Path,
    overlay: Overlay,
    standing: dict[str, TreeFile | None],
    *,
    record: _Record,
    series: tuple[str, ...],
    fixed: tuple[str, ...],
    state: Path,
) -> bool:
    """Write what differs, between two writes of the record, so that a kill at any point leaves a recoverable state."""
    scratch = state / _SCRATCH
    for path in sorted(overlay.files.keys() - standing.keys()):
        standing[path] = overlay.base[path]
        if (original := standing[path]) is not None:
            write(state / "pristine" / path, original, top=state, scratch=scratch)
    wanted = {path: overlay.files.get(path, overlay.base[path]) for path in standing}
    pristine = {path: digest(overlay.base[path]) for path in standing}
    forms = {path: (*record.forms.get(path, (pristine[path],)), digest(file)) for path, file in wanted.items()}
    _save_record(state, _Record(series=(), forms=forms, complete=False))
    changed = [path for path in sorted(wanted) if wanted[path] != standing[path]]
    for path in changed:  # removals first: a file may make room for a directory
        if wanted[path] is None:
            remove(tree / path, top=tree)
    for path in changed:
        if (file := wanted[path]) is not None:
            write(tree / path, file, top=tree, scratch=scratch)
    done = {path: (pristine[path], digest(wanted[path])) for path in overlay.files}
    _save_record(state, _Record(series=series, forms=done, fixes=fixed))
    for path in sorted(standing.keys() - overlay.files.keys(), reverse=True):
        remove(state / "pristine" / path, top=state)
    return bool(changed)


def _refuse_foreign(tree: Path, record: _Record, standing: Mapping[str, TreeFile | None]) -> None:
    foreign = sorted(path for path, forms in record.forms.items() if digest(standing[path]) not in forms)
    if foreign:
        raise InfraError(
            f"{tree}: {foreign[0]}: expected the file as the last patch series left it, found it changed since: "
            "put it back, or remove this tree and its state to start afresh",
            details=foreign,
        )


def _load_record(state: Path) -> _Record:
    file = state / "series.json"
    if not file.exists():
        return _Record()
    try:
        data = jsonfile.read_object(file)
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']}")
        forms = {str(path): tuple(map(str, values)) for path, values in data["forms"].items()}
        fixes = tuple(map(str, data.get("fixes", ())))
        return _Record(series=tuple(data["series"]), forms=forms, complete=data["complete"] is True, fixes=fixes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfraError(
            f"{file}: expected the record of a patch series (format {_FORMAT}), found {error}: "
            "remove the source tree and this state to start afresh"
        ) from error


def _save_record(state: Path, record: _Record) -> None:
    data = {
        "format": _FORMAT,
        "complete": record.complete,
        "series": record.series,
        "fixes": record.fixes,
        "forms": dict(record.forms),
    }
    content = json.dumps(data, indent=1).encode()
    write(state / "series.json", TreeFile(content=content, mode=0o644), top=state, scratch=state / _SCRATCH)


def _pristine(state: Path, path: str, form: str) -> TreeFile | None:
    file = None if form == ABSENT else read(state / "pristine", path)
    if digest(file) != form:
        raise InfraError(
            f"{state}: {path}: expected the pristine copy of the file, found it lost or changed: "
            "remove the source tree and this state to start afresh"
        )
    return file
