"""Reads the records that the harness keeps in files, in its cache and in the directories of runs. Such a file may be
damaged, or be put there by somebody else: reading one always ends, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.limits import RECORD_BYTES
from harness.parse.fields import json_object


def read_bytes(path: Path) -> bytes:
    """Return the content of a record. Raises OSError if it can't be read or is not a regular file, ValueError if it is
    above the limit."""
    try:
        return RECORD_BYTES.read(path)
    except UserError as error:
        raise ValueError(error.message) from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a record. Raises OSError as `read_bytes` does, and ValueError if there is none."""
    return json_object(read_bytes(path))
