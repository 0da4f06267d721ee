"""boards.yaml, with the environment variables and files that it refers to; read once per command."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import UserError
from harness.layout import BOARDS, BOARDS_DOCS
from harness.limits import OUTSIDE_BYTES, YAML_BYTES
from harness.model.board import BoardEntry, BoardSpec
from harness.model.names import nearest_first
from harness.parse.boards import parse_boards
from harness.parse.boards_schema import schema
from harness.target.methods.table import boot_method


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The entries of one file by name, in the order of the file."""

    entries: Mapping[str, BoardEntry]

    def entry(self, name: str) -> BoardEntry:
        """Return the entry of the board `name`, which may be incomplete. Raises UserError if there is none."""
        if name not in self.entries:
            raise UserError(f"--board: expected one of {', '.join(nearest_first(name, self.entries))}, found {name!r}")
        return self.entries[name]

    def board(self, name: str) -> BoardSpec:
        """Return the board `name`. Raises UserError if there is none, or if its entry refers to values that are not
        set."""
        entry = self.entry(name)
        if entry.unset:
            first, *more = (f"boards.yaml: {name}.{reason}" for reason in entry.unset)
            raise UserError(first, details=more)
        return entry.board

    def peers_of(self, board: BoardSpec, wanted: int | None) -> list[BoardEntry]:
        """Return the boards that may run tests in parallel with `board`: the others of its pool. `wanted`: the number
        that ``-j`` asks for (None: all). Raises UserError if `board` has no pool and `wanted` is more than one."""
        if wanted == 1 or boot_method(board).snapshots:
            return []
        if board.pool:
            others = (entry for name, entry in self.entries.items() if name != board.name)
            return [entry for entry in others if entry.board.pool == board.pool]
        if wanted is None:
            return []
        raise UserError(
            f"-j {wanted}: expected a board that has equal ones, {board.name} has no `pool`; give equal boards the "
            "same `pool: NAME` in boards.yaml, or leave -j out"
        )


def read_inventory(file: Path | None) -> Inventory:
    """Read the boards of `file`; if it is None, of $HARNESS_BOARDS or the project's own boards.yaml. Raises
    UserError."""
    path = file or Path(os.environ.get("HARNESS_BOARDS") or BOARDS)
    try:
        text = YAML_BYTES.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a file that describes boards, can't read it: {error}") from None
    return Inventory(entries=parse_boards(text, place=path.name, lookup=partial(_from_outside, beside=path.parent)))


def boards_schema() -> str:
    """Return the JSON schema of boards.yaml, the text of docs/boards.schema.json."""
    return json.dumps(schema(BOARDS_DOCS.read_text()), indent=1, ensure_ascii=False)


def _from_outside(name: str, *, beside: Path) -> str:
    """Resolve ``${NAME}`` (environment) or ``${file:PATH}`` (relative to the directory `beside`) in boards.yaml. Raises
    LookupError with the reason."""
    kind, _, path = name.partition(":")
    if kind == "file":
        try:
            return OUTSIDE_BYTES.read(beside / Path(path).expanduser()).decode().strip()
        except UserError as error:
            raise LookupError(error.message) from None
        except UnicodeDecodeError:
            raise LookupError(f"expected a file {path}, can't read it: it is not text") from None
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # among them ~ of no user, and a name that no file can have
            reason = error.strerror if isinstance(error, OSError) else error
            raise LookupError(f"expected a file {path}, can't read it: {reason}") from None
    if name not in os.environ:
        raise LookupError(f"expected the environment variable {name} to be set, found none")
    return os.environ[name]
