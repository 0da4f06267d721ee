"""Switching a board on and off. Each kind of switch is a small class; a cycle is a function over them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import secrets
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from harness.errors import InfraError
from harness.model.board import CommandSwitch, HttpRequest, HttpSwitch, PduSwitch, Power
from harness.report.text import one_line
from harness.target.line.console import Console
from harness.tied import run_tied

_LIMIT_S = 30.0
_QUIET_S = 0.7  # without a byte that count as silence
_SETTLE_S = 5.0  # for a board that was switched off to fall silent
_LATE_S = 1.0  # beyond a time limit of urllib's own, whose message says more
_LARGEST_BYTES = 1 << 16  # of an answer
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = 4  # that one request may follow


class Switch(Protocol):
    """The power switch of one board. Its methods raise InfraError if it can't be switched."""

    def on(self) -> None: ...

    def off(self) -> None: ...


class CommandPower:
    def __init__(self, spec: CommandSwitch, *, place: str, limit: float = _LIMIT_S) -> None:
        self._spec = spec
        self._place = place
        self._limit = limit

    def on(self) -> None:
        self._run(self._spec.on, self._spec.masked_on, "on")

    def off(self) -> None:
        self._run(self._spec.off, self._spec.masked_off, "off")

    def _run(self, argv: tuple[str, ...], masked: tuple[str, ...], what: str) -> None:
        words = shlex.join(masked or argv)
        try:
            code, output = run_tied(argv, limit=self._limit)
        except subprocess.TimeoutExpired:
            raise InfraError(f"{self._place}.{what}: `{words}` did not end within {self._limit:.0f} s") from None
        except OSError as error:
            raise InfraError(f"{self._place}.{what}: can't start `{words}`: {error.strerror}") from None
        if code:
            said = output.strip().splitlines()
            last = f": {said[-1]}" if said else ""
            raise InfraError(f"{self._place}.{what}: `{words}` ended with exit code {code}{last}")


class HttpPower:
    def __init__(self, spec: HttpSwitch, *, place: str, limit: float = _LIMIT_S) -> None:
        self._spec = spec
        self._place = place
        self._limit = limit

    def state(self) -> str:
        """Return the switch's answer to a request that changes nothing."""
        assert self._spec.query
        return self._ask(self._spec.query, "query")

    def on(self) -> None:
        self._ask(self._spec.on, "on")

    def off(self) -> None:
        self._ask(self._spec.off, "off")

    def _ask(self, request: HttpRequest, what: str) -> str:
        where = f"{self._place}.{what}: {request.shown}"
        status, challenge, answer = self._exchange(request, "", where)
        if status == 401 and self._spec.password:
            authorization = self._authorization(request, challenge)
            status, _, answer = self._exchange(request, authorization, where)
        if status == 401:
            raise InfraError(f"{where}: the switch refuses the login; see power.user and power.password")
        if status >= 300:
            raise InfraError(
                f"{where}: expected the switch to accept the request, it answers {status}: {answer[:120]!r}"
            )
        if request.expect.replace(" ", "") not in answer.replace(" ", ""):
            raise InfraError(f"{where}: expected an answer with {request.expect!r}, found {answer[:120]!r}")
        return answer

    def _exchange(self, request: HttpRequest, authorization: str, where: str) -> tuple[int, str, str]:
        """Return the status, the server's authentication challenge and the body of the answer. urllib's time limit is
        for each piece of an answer alone, and a switch may send one byte after the other."""
        answer: Future[tuple[int, str, str]] = Future()

        def work() -> None:
            try:
                answer.set_result(self._sent(request, authorization, where))
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                told = f"{where}: the switch does not answer: {reason}; see whether it is on the network"
                answer.set_exception(InfraError(told))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=work, name="switch", daemon=True).start()
        try:
            return answer.result(timeout=self._limit + _LATE_S)
        except TimeoutError:
            raise InfraError(f"{where}: the switch did not answer in full within {self._limit:.0f} s") from None

    def _sent(self, request: HttpRequest, authorization: str, where: str) -> tuple[int, str, str]:
        headers = {**dict(request.headers), **({"Authorization": authorization} if authorization else {})}
        data = request.body.encode() or None
        asked = urllib.request.Request(request.url, data=data, headers=headers, method=request.method)
        # no proxy: the switch is in the local network
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameHost(where))
        try:
            with opener.open(asked, timeout=self._limit) as response:
                return response.status, "", response.read(_LARGEST_BYTES).decode(errors="replace")
        except urllib.error.HTTPError as error:
            told = error.headers.get("WWW-Authenticate", "")
            return error.code, told, error.read(_LARGEST_BYTES).decode(errors="replace")

    def _authorization(self, request: HttpRequest, challenge: str) -> str:
        user, password = self._spec.user, self._spec.password
        if challenge.lower().startswith("digest"):
            return digest_authorization(request, challenge, user=user, password=password, cnonce=secrets.token_hex(8))
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the host and port that were asked, and no others: urllib would send the login, and whatever
    else a switch's headers contain, to any server that the answer names."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._followed = 0

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        asked, told = _end_of(req.full_url), _end_of(newurl)
        if told != asked:
            raise InfraError(
                f"{self._where}: expected an answer of the switch itself, it redirects to {one_line(told, 100)}; no "
                "redirect to another host, port or scheme is followed, because the login would go there: if that is "
                "the switch, write its address into boards.yaml"
            )
        self._followed += 1
        if self._followed > _REDIRECTS:
            raise InfraError(f"{self._where}: expected an answer, the switch redirects more than {_REDIRECTS} times")
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        fp.close()  # urllib would read it to its end, which may not come
        return followed


def _end_of(url: str) -> str:
    """Return scheme, host and port of `url`, without a login."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{(parts.hostname or '')}:{parts.port or _PORTS.get(parts.scheme, 0)}"


def digest_authorization(request: HttpRequest, challenge: str, *, user: str, password: str, cnonce: str) -> str:
    """Answer `challenge` as RFC 7616 says, with SHA-256 (which Shelly's second generation requires) or MD5. urllib's
    own digest authentication lacks SHA-256 in some of the Python versions that we support."""
    given = {key: quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)}
    algorithm = given.get("algorithm", "MD5")

    def hashed(text: str) -> str:
        return hashlib.new("sha256" if algorithm == "SHA-256" else "md5", text.encode()).hexdigest()

    parts = urlsplit(request.url)
    uri = parts.path + (f"?{parts.query}" if parts.query else "")
    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    secret = hashed(f"{user}:{realm}:{password}")
    response = hashed(f"{secret}:{nonce}:00000001:{cnonce}:auth:{hashed(f'{request.method}:{uri}')}")
    return (
        f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", algorithm={algorithm}, '
        f'qop=auth, nc=00000001, cnonce="{cnonce}", response="{response}"'
    )


class PduPower(HttpPower):
    """pdudaemon queues a request and answers at once, so only the console shows whether it worked."""

    def __init__(self, spec: PduSwitch, *, place: str) -> None:
        base = f"http://{spec.host}:{spec.port}/power/control"
        query = f"?hostname={quote(spec.pdu)}&port={quote(spec.outlet)}"
        urls = (f"{base}/{what}{query}" for what in ("on", "off"))
        on, off = (HttpRequest(url=url, masked=url) for url in urls)
        super().__init__(HttpSwitch(on=on, off=off), place=place)


@dataclass(frozen=True, kw_only=True)
class BoardPower:
    """The power of the board `name`. `restarts`: switch it on again when it is released, because its users expect it to
    come up with its own system."""

    name: str
    spec: Power
    restarts: bool


def switch_of(power: BoardPower) -> Switch:
    """Return the driver for the board's switch."""
    place = f"{power.name}.power"
    spec = power.spec.switch
    match spec:
        case CommandSwitch():
            return CommandPower(spec, place=place)
        case HttpSwitch():
            return HttpPower(spec, place=place)
        case PduSwitch():
            return PduPower(spec, place=place)


def leave(power: BoardPower, switch: Switch) -> None:
    """Switch a board off when it is released; one with its own system is switched on again."""
    switch.off()
    if power.restarts:
        time.sleep(power.spec.off_seconds)
        switch.on()


def power_off(power: BoardPower, switch: Switch, line: Console) -> None:
    """Switch off and verify it: the console falls silent and does not answer a line end.

    Raises InfraError if the board keeps talking."""
    switch.off()
    switched = time.monotonic()
    if power.spec.check_silence:
        while line.expect(r"[\s\S]+", timeout=_QUIET_S):
            if time.monotonic() > switched + _SETTLE_S:
                raise _still_on(power.name, "output continues on its console")
        line.send(b"\r")
        if line.expect(r"\S", timeout=_QUIET_S):
            raise _still_on(power.name, "it still answers on its console")
    left = switched + power.spec.off_seconds - time.monotonic()
    time.sleep(max(0.0, left))  # capacitors discharge without an event to wait for


def _still_on(board: str, finding: str) -> InfraError:
    return InfraError(
        f"{board}.power: expected the board to be silent after it was switched off, but {finding}; see whether "
        "the switch is the board's, or set power.check_silence: false where another machine talks on that line"
    )
