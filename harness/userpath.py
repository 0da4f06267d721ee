"""Paths as users write them, in options and files: with ~ for a home directory, and with mistakes."""

from __future__ import annotations

import errno
from pathlib import Path

from harness.errors import UserError


def user_path(text: str | Path, *, beside: Path = Path()) -> Path:
    """Return the path that `text` names, relative to the directory `beside`. Nothing need be there. Raises UserError
    for ~ of an unknown user, and for what can't be the name of a file."""
    shown = str(text)[:100]
    try:
        path = beside / Path(text).expanduser()
        path.lstat()
    except RuntimeError:
        raise UserError(f"{shown}: expected a path, found ~ of a user that this host does not know") from None
    except ValueError as error:
        raise UserError(f"{shown!r}: expected a path, found what no file can be called: {error}") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise UserError(f"{shown}: expected a path, can't use it: {error.strerror}") from None
    return path
