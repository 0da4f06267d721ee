"""What can be seen of a board without booting it and without switching its power."""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import HarnessError, InfraError
from harness.model.board import (
    Board,
    CommandSwitch,
    HttpRequest,
    HttpServe,
    HttpSwitch,
    PduSwitch,
    TftpServe,
    UbootBoot,
)
from harness.report.text import one_line
from harness.target.line.open import open_line, where
from harness.target.methods import netboot
from harness.target.power import HttpPower
from harness.target.serving import httpclient as webclient
from harness.target.serving import tftpclient

_LIMIT = 8.0  # seconds for all checks together
_CONNECT_LIMIT = 5.0
_STAYS = 1.0  # seconds after which a line that was opened counts as one that stays open
_TFTP_PORT = tftpclient.PORT
_PORTS = {"http": 80, "https": 443}


class Unseen(Exception):
    """It can't be seen from here, for the reason given."""


class Outcome(enum.Enum):
    OK = "ok"
    FAILED = "FAILED"
    UNSEEN = "unseen"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing to look at. `key`: the key of the board's entry that it is about; a check is left out where values of
    that entry are missing. `look` says what it found; it raises HarnessError where that is wrong, with what to do, and
    Unseen where nothing can be told."""

    name: str
    key: str
    look: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Finding:
    name: str
    outcome: Outcome
    told: str


def findings(board: Board, checks: Sequence[Check], *, limit: float = _LIMIT) -> Iterator[Finding]:
    """What the checks find, in their order. They run side by side, within `limit` seconds together."""
    deadline = time.monotonic() + limit
    missing = {reason.partition(":")[0].partition(".")[0] for reason in board.unset}
    for reason in board.unset:
        yield Finding(name="values", outcome=Outcome.FAILED, told=reason)
    # daemons: one that hangs must not keep the process
    found: dict[int, Finding] = {}
    threads = [
        threading.Thread(target=lambda n=number, c=check: found.update({n: _looked(c, board)}), daemon=True)
        for number, check in enumerate(checks)
    ]
    for thread, check in zip(threads, checks, strict=True):
        if check.key not in missing:
            thread.start()
    for number, (thread, check) in enumerate(zip(threads, checks, strict=True)):
        if check.key in missing:
            yield Finding(name=check.name, outcome=Outcome.UNSEEN, told=f"not looked at: values of {check.key} missing")
            continue
        thread.join(max(0.0, deadline - time.monotonic()))
        late = Finding(name=check.name, outcome=Outcome.FAILED, told=f"nothing was heard within {limit:.0f} s")
        yield found.get(number, late)


def _looked(check: Check, board: Board) -> Finding:
    try:
        outcome, told = Outcome.OK, check.look()
    except HarnessError as error:
        outcome, told = Outcome.FAILED, " ".join([error.message, *error.details])
    except Unseen as reason:
        outcome, told = Outcome.UNSEEN, str(reason)
    except Exception as error:  # the others are still worth to be seen
        outcome, told = Outcome.FAILED, f"internal error: {type(error).__name__}: {error}"
    return Finding(name=check.name, outcome=outcome, told=one_line(board.redacted(told)))


def common(board: Board) -> list[Check]:
    """What any board with a console and a power switch has to look at."""
    checks = []
    if board.console:
        checks.append(Check(name="console", key="console", look=lambda: stays_open(board)))
    if board.power:
        checks.append(Check(name="power", key="power", look=lambda: _power(board)))
    return checks


def uboot(board: Board) -> list[Check]:
    """`common`, and where it loads from."""
    spec = board.boot
    assert isinstance(spec, UbootBoot)
    is_tftp = spec.load == "tftp"
    key, root = ("tftp_root", spec.tftp_root) if is_tftp else ("http_root", spec.http_root)
    ours = spec.tftp_serve if is_tftp else spec.http_serve
    server, ask = ("tftp server", _tftp_server) if is_tftp else ("web server", _web_server)
    checks = common(board)
    if is_tftp or not ours:
        checks.append(Check(name=key, key="boot", look=lambda: _root(board, root, key)))
    look = functools.partial(_ours, board, ours) if ours else functools.partial(ask, board, spec)
    return [*checks, Check(name=server, key="boot", look=look)]


def own_system(board: Board, look: Callable[[Board], str]) -> list[Check]:
    """`common`, and what `look` sees of the board's own system."""
    return [*common(board), Check(name="own system", key="ssh", look=lambda: look(board))]


def stays_open(board: Board) -> str:
    """Open the board's line and see that it stays open for a moment, as a command that can't start does not."""
    line = open_line(board)
    said, ended = bytearray(), threading.Event()

    def read() -> None:
        while len(said) < 1 << 16 and (data := line.receive()):
            said.extend(data)
        ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        over = ended.wait(_STAYS) and len(said) < 1 << 16
    finally:
        line.shut()
        reader.join(_STAYS)
        line.close()
    if over:
        last = f", after it said: {said[-200:].decode(errors='replace').strip()}" if said else ""
        raise InfraError(
            f"{board.name}.console: {where(board)}: expected it to stay open, it ended at once{last}; see whether "
            "somebody else has it"
        )
    return f"{where(board)} can be opened"


def _power(board: Board) -> str:
    assert board.power
    place = f"{board.name}.power"
    match board.power.switch:
        case CommandSwitch(on=on, off=off):
            return ", ".join(
                f"{_program(argv, f'{place}.{what}')} is there" for what, argv in (("off", off), ("on", on))
            )
        case HttpSwitch(query=HttpRequest()) as switch:
            return f"the switch answers {HttpPower(switch, place=place, limit=_CONNECT_LIMIT).state()[:80]}"
        case HttpSwitch(on=on_request, off=off_request):
            ends = [urlsplit(request.url) for request in (on_request, off_request)]
            hosts = dict.fromkeys((url.hostname or "", url.port or _PORTS[url.scheme]) for url in ends)
            return ", ".join(_answers(host, port, place) for host, port in hosts)
        case PduSwitch(host=host, port=port):
            return _answers(host, port, place)
        case _:
            raise Unseen("this kind of switch can't be asked")


def _program(argv: tuple[str, ...], place: str) -> str:
    """The program that `argv` starts; of a shell line its first word."""
    word = argv[0]
    if argv[:2] == ("sh", "-c"):
        try:
            word = next(word for word in shlex.split(argv[2]) if "=" not in word)
        except (ValueError, StopIteration):
            raise Unseen(f"{place}: a shell line that only a shell can tell") from None
    told = subprocess.run(
        ["sh", "-c", 'command -v -- "$1"', "sh", word], capture_output=True, timeout=_CONNECT_LIMIT, check=False
    )
    if told.returncode:
        raise InfraError(f"{place}: expected a program {word}, found none; install it or correct {place}")
    return word


def _answers(host: str, port: int, place: str) -> str:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_LIMIT).close()
    except OSError as error:
        raise InfraError(
            f"{place}: expected a switch at {host}:{port}, can't connect: {error.strerror or error}; see whether it is "
            "on the network"
        ) from None
    return f"{host}:{port} takes connections (not asked what it switches)"


def _root(board: Board, root: str, key: str) -> str:
    with _probe_file(board, root, key):
        return f"{root} can be written to"


def _ours(board: Board, serve: TftpServe | HttpServe) -> str:
    netboot.check(board)
    return f"the harness can serve at {serve.address}"


def _tftp_server(board: Board, spec: UbootBoot) -> str:
    if not spec.server:
        raise Unseen("boot.server is empty, only DHCP knows which one it is")
    place, told = f"{board.name}.boot.server", f"from a TFTP server at {spec.server}"
    with _probe_file_to_ask_for(board, spec.tftp_root, "tftp_root") as file:
        _same(file, lambda name: tftpclient.fetch(spec.server, name, port=_TFTP_PORT), place=place, told=told)
    return f"{spec.server} serves {spec.tftp_root}"


def _web_server(board: Board, spec: UbootBoot) -> str:
    place, told = f"{board.name}.boot.http_url", "from a web server"
    with _probe_file_to_ask_for(board, spec.http_root, "http_root") as file:
        _same(file, lambda name: webclient.fetch(f"{spec.http_url}/{name}"), place=place, told=told)
    return f"{spec.http_url} is {spec.http_root}"


def _same(file: Path, fetch: Callable[[str], bytes], *, place: str, told: str) -> None:
    """See that what a server gives away is `file`."""
    try:
        content = fetch(f"{file.parent.name}/{file.name}")
    except InfraError as error:
        raise InfraError(
            f"{place}: expected a file below {file.parents[1]} {told}: {error.message}; see whether it runs and serves "
            "that directory"
        ) from None
    if content != file.read_bytes():
        raise InfraError(f"{place}: expected {file} as it is, found another content; see what the server serves")


@contextlib.contextmanager
def _probe_file_to_ask_for(board: Board, root: str, key: str) -> Iterator[Path]:
    with contextlib.ExitStack() as until_asked:
        try:
            file = until_asked.enter_context(_probe_file(board, root, key))
        except InfraError:
            raise Unseen(f"not asked: there is nothing to ask for without boot.{key}") from None
        yield file


@contextlib.contextmanager
def _probe_file(board: Board, root: str, key: str) -> Iterator[Path]:
    """A file as booting puts them there, for the length of the ``with``."""
    directory = Path(root, "harness")
    file = directory / f"check-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        directory.mkdir(exist_ok=True)
        file.write_text(f"{secrets.token_hex(16)}\n")
        file.chmod(0o644)
    except OSError as error:
        raise InfraError(
            f"{board.name}.boot.{key}: expected a directory to write to at {root}, can't write "
            f"{file.relative_to(root)}: {error.strerror}; make it and give it to {_me()}"
        ) from None
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def _me() -> str:
    return f"user id {os.getuid()}"
