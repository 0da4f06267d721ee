"""Which lines of a source tree a series has changed: worked out while both forms of its files are there, and kept with
the build."""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness import jsonfile
from harness.build.command import run
from harness.build.patches import patched_files
from harness.errors import InfraError, UserError
from harness.limits import APPLY_SECONDS
from harness.model.coverage import Ranges

CHANGED = "changed.json"  # in the directory of a build whose source was changed
_VERSION = 1
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


def keep_changed_lines(tree: Path, *, state: Path, directory: Path) -> None:
    """Write to `directory` which lines the series that is recorded in `state` has changed in `tree`, if there is one.
    Raises InfraError, OSError."""
    found = {path: _changed(state / "pristine" / path, tree / path) for path in sorted(patched_files(state))}
    lines = {path: ranges for path, ranges in found.items() if ranges}
    if found:
        (directory / CHANGED).write_text(json.dumps({"version": _VERSION, "lines": lines}, indent=1) + "\n")


def changed_lines(directory: Path) -> dict[str, Ranges]:
    """Return the changed lines of the build in `directory`, by path: first and last line (from 1) of each range.
    Raises UserError if they are not on record."""
    file = directory / CHANGED
    try:
        data = jsonfile.read_object(file)["lines"]
        return {str(path): tuple((int(first), int(last)) for first, last in ranges) for path, ranges in data.items()}
    except FileNotFoundError:
        raise UserError(
            f"{directory}: expected a record of the lines that its patches have changed ({CHANGED}), found none: it "
            "has no patches, or was built by an older harness (then remove it, and build it again)"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InfraError(
            f"{file}: expected the changed lines by path, found: {error}; build the kernel again"
        ) from None


def _changed(before: Path, after: Path) -> list[tuple[int, int]]:
    """The lines of `after` that `before` does not have. Where lines were only removed, the one that took their place:
    whoever executes it has passed there."""
    if after.is_symlink() or not after.is_file():
        return []
    old = before if before.is_file() and not before.is_symlink() else Path("/dev/null")
    done = run(["diff", "--text", "--unified=0", "--", old, after], timeout=APPLY_SECONDS.value)
    if done.status > 1:
        raise InfraError(f"diff: {after}: ended with exit code {done.status}", details=done.last_lines())
    ranges = []
    for first, count in _HUNK.findall(done.stdout):
        start, length = int(first), int(count or 1)
        ranges.append((start, start + length - 1) if length else (start + 1, start + 1))
    return ranges
