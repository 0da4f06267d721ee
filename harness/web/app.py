"""Answers requests for pages: the one door to werkzeug. It reads the history and writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound, ServiceUnavailable
from werkzeug.wrappers import Request, Response

from harness.errors import HarnessError, UserError
from harness.report.text import one_line
from harness.store.database import opened
from harness.web.address import PAGES, parse
from harness.web.gather import NothingThereError, gather
from harness.web.html import POLICY, error_html, page_html, style
from harness.web.links import STYLE, Served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

METHODS = ("GET", "HEAD")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_HTML = "text/html; charset=utf-8"


class App:
    """The WSGI application over the history at `history`.

    `hosts`: the names by which browsers may ask for it; None: any. What is served on loopback needs it: another web
    site can give a name of its own the address of this machine, and a script of its then reads what is answered there.
    """

    def __init__(self, history: Path, *, hosts: Iterable[str] | None = None) -> None:
        self._history = history
        self._hosts = frozenset(hosts) if hosts is not None else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        response = self._response(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        return response(environ, start_response)

    def _response(self, request: Request) -> Response:
        try:
            if request.method not in METHODS:
                raise MethodNotAllowed(list(METHODS))
            self._check_host(request)
            return self._answer(request)
        except MethodNotAllowed as error:
            response = _error(405, f"{request.method}: expected {' or '.join(METHODS)}; pages are read only")
            response.headers.extend(error.get_headers())
            return response
        except HTTPException as error:
            return _error(error.code or 400, error.description or "")

    def _check_host(self, request: Request) -> None:
        host = request.host.lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._hosts is not None and name.strip("[]") not in self._hosts:
            expected = ", ".join(sorted(self._hosts))
            raise BadRequest(f"Host: expected one of {expected}, found {one_line(name, 100)!r}; docs/web.md says why")

    def _answer(self, request: Request) -> Response:
        name = request.path.removeprefix("/")
        if name == STYLE:
            response = Response(style(), content_type="text/css; charset=utf-8")
        elif name in PAGES or not name:
            response = self._page(name or "index", request)
        else:
            raise NotFound(f"{one_line(name, 100)}: expected one of {', '.join(PAGES)}")
        response.set_etag(hashlib.blake2b(response.get_data(), digest_size=12).hexdigest())
        return response.make_conditional(request)

    def _page(self, name: str, request: Request) -> Response:
        try:
            address = parse(name, list(request.args.items(multi=True)))
        except UserError as error:
            raise BadRequest(error.message) from error
        try:
            with opened(self._history) as connection:
                page = gather(connection, address)
        except NothingThereError as error:
            raise NotFound(error.message) from error
        except HarnessError as error:
            raise ServiceUnavailable(error.message) from error
        return Response(page_html(page, Served()), content_type=_HTML)


def _error(code: int, told: str) -> Response:
    return Response(error_html(f"{code} {HTTPStatus(code).phrase}", told), status=code, content_type=_HTML)
