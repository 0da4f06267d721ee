"""Boards that are places of a labgrid coordinator: look them up, and acquire them while they are in use.

labgrid itself runs in a separate process, labgrid.py."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, InfraError, UserError
from harness.model.board import Access, BoardSpec
from harness.target.base import Say
from harness.target.holding.guard import outliving
from harness.target.holding.resources import PROGRAM, access_before, access_to, place_of

_LOOK_S = 25.0  # for a whole look at a place; each of its steps has its own limit
_ACQUIRE_S = 75.0
_RELEASE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Acquired:
    """An acquired place: how its board is reached, and a descriptor that holds the place while any process has it
    open."""

    access: Access
    descriptor: int


def look_up(board: BoardSpec, *, records: Path) -> Access:
    """Check that the place exists, is free or ours, and has the resources we need. Raises UserError or InfraError
    within seconds. Returns what is already known about reaching the board: its network address."""
    try:
        done = subprocess.run(
            [*PROGRAM, "look"],
            input=_request(board, records, purpose=""),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LOOK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _silent(board, _LOOK_S) from None
    found = _understood(done.stdout, board)
    with _names_absent(found["absent"]):
        return access_before(board, found["resources"])


@contextlib.contextmanager
def acquired(board: BoardSpec, *, records: Path, say: Say) -> Iterator[Acquired]:
    """Acquire the board's place, and release it at the end, even if the harness is killed.

    `records`: the directory in which the harnesses of this host record their places. A place that the user has already
    acquired with labgrid-client is used and not released. Raises UserError or InfraError."""
    keeper = _Keeper(board, records, say)
    try:
        found = keeper.acquired()
        place = place_of(board)
        say(f"{board.name}: labgrid place {place.place} at {place.coordinator}: {_HELD[found['held']]}")
        record = _record(board, records) if found["held"] == "acquired" else None  # labgrid-client's are not recorded
        with _names_absent(found["absent"]):
            access = access_to(board, found["resources"], record=record)
        yield Acquired(access=access, descriptor=keeper.handle)
    finally:
        trouble = keeper.release()
        if trouble:
            say(trouble)


@contextlib.contextmanager
def _names_absent(absent: Sequence[str]) -> Iterator[None]:
    """Add to an InfraError what the coordinator does not have of a place: a missing resource may be one of these."""
    try:
        yield
    except InfraError as error:
        if not absent:
            raise
        why = f"the coordinator does not have {'; '.join(absent)}: see whether labgrid-exporter runs"
        raise InfraError(f"{error.message}; {why}", details=error.details) from None


_HELD = {"acquired": "acquired", "ours": "you have already acquired it; it is not released afterwards"}


def _record(board: BoardSpec, records: Path) -> Path:
    place = place_of(board)
    told = f"{place.coordinator} {place.place}"
    return records / f"{re.sub(r'[^A-Za-z0-9]+', '-', told)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"


def _request(board: BoardSpec, records: Path, *, purpose: str) -> bytes:
    place = place_of(board)
    wanted = {
        "board": board.name,
        "coordinator": place.coordinator,
        "place": place.place,
        "serial": place.serial,
        "record": str(_record(board, records)),
        "purpose": purpose,
    }
    return json.dumps(wanted).encode() + b"\n"


def _silent(board: BoardSpec, limit: float) -> InfraError:
    place = place_of(board)
    return InfraError(
        f"{board.name}: labgrid place {place.place}: no answer within {limit:.0f} s; see whether "
        f"labgrid-client -x {place.coordinator} places works"
    )


def _understood(line: bytes, board: BoardSpec) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        place = place_of(board)
        raise InfraError(
            f"{board.name}: labgrid place {place.place}: the process that talks to labgrid ended without a word; see "
            f"what it prints: {shlex.join(PROGRAM)} look"
        ) from None
    if "error" in answer:
        kind = UserError if answer["error"] == "user" else InfraError
        raise kind(answer["message"], details=answer["details"])
    return answer


class _Keeper:
    """The process that acquires a place and holds it for us. It releases the place on request, or when the other end of
    its pipe is closed everywhere: here and in the guard, which first switches the board off."""

    def __init__(self, board: BoardSpec, records: Path, say: Say) -> None:
        self._board, self._say = board, say
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [*PROGRAM, "keep"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C reaches the harness only
            env=outliving(),
        )
        assert self._process.stdin
        assert self._process.stdout
        self.handle = self._process.stdin.fileno()
        self._has_place = False
        threading.Thread(target=self._listen, name="labgrid place", daemon=True).start()
        self._send(_request(board, records, purpose=f"process {os.getpid()}, {shlex.join(sys.argv[1:])[:80]}"))

    def _send(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError, ValueError):  # it has ended; its answer, or the lack of one, says why
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _listen(self) -> None:
        """Read what it prints: answers, an empty one at its end, and news, which are shown to the user at once."""
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    if news := json.loads(line).get("news"):
                        self._say(news)
                        continue
                self._answers.put(line)
        self._answers.put(b"")

    def acquired(self) -> dict[str, Any]:
        """Wait for the acquisition and return what was acquired."""
        answer = self._answer(_ACQUIRE_S)
        self._has_place = True
        return answer

    def _answer(self, limit: float) -> dict[str, Any]:
        try:
            return _understood(self._answers.get(timeout=limit), self._board)
        except queue.Empty:
            raise _silent(self._board, limit) from None

    def release(self) -> str:
        """Release the place and return what went wrong, empty if nothing did. After a failure the keeper keeps trying
        for some minutes."""
        trouble = ""
        if self._has_place:
            self._send(b"release\n")
            try:
                self._answer(_RELEASE_S)
            except HarnessError as error:
                trouble = f"{error.message}; the release is retried for five more minutes"
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if not trouble:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_RELEASE_S)
        return trouble
