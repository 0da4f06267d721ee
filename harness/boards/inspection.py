"""Checks of a board without booting it: `harness boards check`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NoReturn

from harness.boards.lease import access_before, locked_entry
from harness.errors import InfraError, UserError
from harness.layout import KCONFIGS
from harness.model.board import Access, BoardEntry, BoardSpec
from harness.target.methods.checks import Check, Finding, Outcome, findings
from harness.target.methods.table import boot_method


def inspect(entry: BoardEntry) -> Iterator[Finding]:
    """Check everything that the board needs. Its entry may be incomplete."""
    board = entry.board
    method = boot_method(board)
    checks = [
        *method.checks(board, board.access),
        Check(name="kconfigs", key="kconfigs", look=partial(_kconfigs, board)),
    ]
    if board.labgrid:
        on_place = _OnPlace(board)
        checks = [replace(c, look=partial(on_place.look, c.name)) if c.key == "ssh" else c for c in checks]
        checks.append(Check(name="labgrid", key="labgrid", look=on_place.describe))
    with ExitStack() as until_seen:
        try:
            until_seen.enter_context(locked_entry(entry))
        except InfraError as error:  # somebody else uses its line
            busy = partial(_fail, error)
            checks = [replace(check, look=busy) if check.key == "console" else check for check in checks]
        yield from findings(entry, checks)


def what_is_wrong(entry: BoardEntry) -> str:
    """Check the board, and return what failed; empty if nothing did."""
    failed = (finding for finding in inspect(entry) if finding.outcome is Outcome.FAILED)
    return "; ".join(f"{finding.name}: {finding.text}" for finding in failed)


class _OnPlace:
    """A board as its labgrid place describes it. Only one check at a time asks labgrid, because two would disturb each
    other."""

    def __init__(self, board: BoardSpec) -> None:
        self._board = board
        self._asking = threading.Lock()
        self._access: Access | None = None

    def _asked(self) -> Access:
        with self._asking:
            self._access = self._access or access_before(self._board)
            return self._access

    def describe(self) -> str:
        """Return the finding about the place itself."""
        self._asked()
        named = self._board.labgrid
        assert named
        return f"{named.coordinator} has the place {named.place}, free or ours, with console and power"

    def look(self, name: str) -> str:
        """Run the check `name` at the address that the place gives."""
        checks = boot_method(self._board).checks(self._board, self._asked())
        [check] = [check for check in checks if check.name == name]
        return check.look()


def _fail(error: InfraError) -> NoReturn:
    raise error


def _kconfigs(board: BoardSpec) -> str:
    missing = [name for name in board.kconfigs if not (KCONFIGS / name).is_file()]
    if missing:
        raise UserError(f"{board.name}.kconfigs: expected files below {KCONFIGS}, found no {', '.join(missing)}")
    return ", ".join(board.kconfigs) or "none"
