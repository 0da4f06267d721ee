"""Checks of a board that neither boot it nor switch its power."""

from __future__ import annotations

import enum
import functools
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.errors import HarnessError, InfraError
from harness.model.board import (
    Access,
    BoardEntry,
    BoardSpec,
    CommandSwitch,
    ConsoleSpec,
    HttpRequest,
    HttpSwitch,
    PduSwitch,
    SwitchSpec,
)
from harness.report.text import one_line
from harness.target.line.open import open_line, where
from harness.target.power import HttpPower

_LIMIT_S = 8.0  # for all checks together
_CONNECT_LIMIT_S = 5.0
_STAYS_S = 1.0  # after which an open line counts as one that stays open
_ENDS_S = 1.0  # for a line that was shut to end
_PORTS = {"http": 80, "https": 443}


class Unseen(Exception):
    """Something can't be checked from here, for the given reason."""


class Outcome(enum.Enum):
    OK = "ok"
    FAILED = "FAILED"
    UNSEEN = "unseen"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check. `key`: the key of the board's entry that it is about; the check is skipped if values of that key are
    missing. `look` returns what it found; it raises HarnessError, with what to do, if that is wrong, and Unseen if it
    can't be checked."""

    name: str
    key: str
    look: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Finding:
    name: str
    outcome: Outcome
    text: str


def findings(entry: BoardEntry, checks: Sequence[Check], *, limit: float = _LIMIT_S) -> Iterator[Finding]:
    """Yield the findings of an entry's checks in their order. The checks run in parallel, for at most `limit` seconds
    in all."""
    deadline = time.monotonic() + limit
    missing = {reason.partition(":")[0].partition(".")[0] for reason in entry.unset}
    for reason in entry.unset:
        yield Finding(name="values", outcome=Outcome.FAILED, text=reason)
    # daemons: a hanging check must not keep the process alive
    found: dict[int, Finding] = {}
    threads = [
        threading.Thread(
            target=lambda n=number, c=check: found.update({n: _looked(c, entry.board.access)}), daemon=True
        )
        for number, check in enumerate(checks)
    ]
    for thread, check in zip(threads, checks, strict=True):
        if check.key not in missing:
            thread.start()
    for number, (thread, check) in enumerate(zip(threads, checks, strict=True)):
        if check.key in missing:
            yield Finding(
                name=check.name, outcome=Outcome.UNSEEN, text=f"not checked: values of {check.key} are missing"
            )
            continue
        thread.join(max(0.0, deadline - time.monotonic()))
        late = Finding(name=check.name, outcome=Outcome.FAILED, text=f"the check did not finish within {limit:.0f} s")
        yield found.get(number, late)


def _looked(check: Check, access: Access) -> Finding:
    try:
        outcome, text = Outcome.OK, check.look()
    except HarnessError as error:
        outcome, text = Outcome.FAILED, " ".join([error.message, *error.details])
    except Unseen as reason:
        outcome, text = Outcome.UNSEEN, str(reason)
    except Exception as error:  # the findings of the others are still useful
        outcome, text = Outcome.FAILED, f"internal error: {type(error).__name__}: {error}"
    return Finding(name=check.name, outcome=outcome, text=one_line(access.redacted(text)))


def common(board: BoardSpec, access: Access) -> list[Check]:
    """Return the checks of any board with a console and a power switch."""
    checks = []
    if access.console:
        checks.append(
            Check(name="console", key="console", look=functools.partial(stays_open, access.console, board=board.name))
        )
    if access.power:
        switch = access.power.switch
        checks.append(Check(name="power", key="power", look=lambda: _power(switch, place=f"{board.name}.power")))
    return checks


def own_system(board: BoardSpec, access: Access, look: Callable[[BoardSpec, Access], str]) -> list[Check]:
    """Return `common`, and a check `look` of the board's own system."""
    return [*common(board, access), Check(name="own system", key="ssh", look=lambda: look(board, access))]


def stays_open(console: ConsoleSpec, *, board: str) -> str:
    """Open the line of `board` and check that it stays open for a moment; a command that can't start closes it at
    once."""
    line = open_line(console, board=board)
    said, ended = bytearray(), threading.Event()

    def read() -> None:
        while len(said) < 1 << 16 and (data := line.receive()):
            said.extend(data)
        ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        over = ended.wait(_STAYS_S) and len(said) < 1 << 16
    finally:
        line.shut()
        reader.join(_ENDS_S)
        line.close()
    if over:
        last = f", after it said: {said[-200:].decode(errors='replace').strip()}" if said else ""
        raise InfraError(
            f"{board}.console: {where(console)}: expected it to stay open, it ended at once{last}; see whether "
            "somebody else uses it"
        )
    return f"{where(console)} can be opened"


def _power(switch: SwitchSpec, *, place: str) -> str:
    match switch:
        case CommandSwitch(on=on, off=off):
            return ", ".join(
                f"{_program(argv, f'{place}.{what}')} is installed" for what, argv in (("off", off), ("on", on))
            )
        case HttpSwitch(query=HttpRequest()):
            return f"the switch answers {HttpPower(switch, place=place, limit=_CONNECT_LIMIT_S).state()[:80]}"
        case HttpSwitch(on=on_request, off=off_request):
            ends = [urlsplit(request.url) for request in (on_request, off_request)]
            hosts = dict.fromkeys((url.hostname or "", url.port or _PORTS[url.scheme]) for url in ends)
            return ", ".join(_answers(host, port, place) for host, port in hosts)
        case PduSwitch(host=host, port=port):
            return _answers(host, port, place)
        case _:
            raise Unseen("this kind of switch has no status request")


def _program(argv: tuple[str, ...], place: str) -> str:
    """Return the program that `argv` starts; for a shell line, its first word."""
    word = argv[0]
    if argv[:2] == ("sh", "-c"):
        try:
            word = next(word for word in shlex.split(argv[2]) if "=" not in word)
        except (ValueError, StopIteration):
            raise Unseen(f"{place}: a shell line whose program only a shell can find") from None
    found = subprocess.run(
        ["sh", "-c", 'command -v -- "$1"', "sh", word], capture_output=True, timeout=_CONNECT_LIMIT_S, check=False
    )
    if found.returncode:
        raise InfraError(f"{place}: expected a program {word}, found none; install it or correct {place}")
    return word


def _answers(host: str, port: int, place: str) -> str:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_LIMIT_S).close()
    except (OSError, UnicodeError) as error:  # the latter: a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise InfraError(
            f"{place}: expected a switch at {host}:{port}, can't connect: {reason}; see whether it is on the network"
        ) from None
    return f"{host}:{port} accepts connections (its outlets were not checked)"
