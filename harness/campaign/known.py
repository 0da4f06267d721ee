"""Known issues, written down from a run. Which of them are no longer seen: stale.py."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from harness.campaign.gitconfig import git_config
from harness.errors import UserError
from harness.layout import KNOWN_ISSUES
from harness.limits import YAML_BYTES
from harness.parse.document import entry as as_text
from harness.parse.known_entry import known_entry, with_entry
from harness.run.documents import read_results


def add_known(
    run_dir: Path, test: str, *, file: Path | None, reason: str, issue: str, who: str, until: str
) -> tuple[Path, str]:
    """Write down a failed test of a run; return the file and the new entry."""
    path = file or KNOWN_ISSUES
    results = read_results(run_dir)
    result = next((each for each in results.results if each.test == test), None)
    if result is None:
        raise UserError(f"{test}: expected the id of a test of {run_dir}, found none; results.json lists them")
    entry = known_entry(
        result,
        results.record,
        reason=reason or result.reason or f"fails in {results.record.kernel.release}",
        issue=issue,
        who=who or git_config("user.name"),
        since=datetime.now(UTC).date().isoformat(),
        until=until,
    )
    _replace(path, with_entry(_read(path), entry, place=str(path)))
    return path, as_text(entry)


def _read(path: Path) -> str:
    if not path.exists():
        return "expectations: []\n"
    try:
        return YAML_BYTES.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a file of known issues, can't read it: {error}") from None


def _replace(path: Path, text: str) -> None:
    """Write `path` whole or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(name).replace(path)
    except OSError as error:
        raise UserError(f"{path}: expected a file to write to, found: {error.strerror}; name one with --file") from None
