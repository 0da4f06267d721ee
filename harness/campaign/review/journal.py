"""What a review has found out, on disk: it goes on from there after it was interrupted or killed.

Each note is a file that is written whole or not at all. It says what it was found out from, so that a note about
another kernel counts for nothing. Runs are directories of their own, with the files of `harness run`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.checksum import write_atomically


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """How compiling a kernel went. `warnings`: those that its parent does not have; `digest`: of what is loaded (empty:
    it does not build); `error`: that it does not build, with the compiler's messages in `details`; `is_configured`:
    whether the configuration was made."""

    warnings: tuple[str, ...] = ()
    digest: str = ""
    error: str = ""
    details: tuple[str, ...] = ()
    is_configured: bool = True


class Journal:
    """The notes below a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def compiled(self, key: str, *, parent: str) -> Compiled | None:
        """Return what is known of the kernel `key` as a child of `parent`; None if nothing is."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = jsonfile.read_object(self._file(key, parent))
            if (found["version"], found["key"], found["parent"]) == (1, key, parent):
                return Compiled(
                    warnings=_texts(found["warnings"]),
                    digest=str(found["digest"]),
                    error=str(found["error"]),
                    details=_texts(found["details"]),
                    is_configured=found["is_configured"] is True,
                )
        return None

    def keep(self, key: str, compiled: Compiled, *, parent: str) -> None:
        """Write down what is known of a kernel."""
        text = json.dumps({"version": 1, "key": key, "parent": parent, **vars(compiled)}, indent=1)
        with shortage.reported(self._directory, kept="what was written before"):
            self._directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(key, parent), f"{text}\n")

    def _file(self, key: str, parent: str) -> Path:
        return self._directory / f"{key}-on-{parent or 'nothing'}.json"


def _texts(found: Sequence[object]) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise TypeError
    return tuple(map(str, found))
