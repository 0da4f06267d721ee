"""Sends documents to a KCIDB server as kcidb-restd takes them: POST /submit, with a token in a header."""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from harness.errors import HarnessError, InfraError, UserError
from harness.parse.fields import json_object
from harness.publish.limited import within
from harness.publish.queue import Refused
from harness.report.text import one_line

LIMIT_S = 120.0
_LATE_S = 5.0
_LARGEST_BYTES = 64 * 1024
_INVALID = (400, 413, 415, 422)  # this document, each time
_DENIED = (401, 403)
_NO_SERVER = (404, 405, 410)


@dataclass(frozen=True, kw_only=True)
class KcidbServer:
    """A server. `url`: that of its root. `token`: empty where it wants none."""

    url: str
    token: str = field(default="", repr=False)
    limit: float = LIMIT_S

    def checked(self) -> KcidbServer:
        """Return this server. Raises UserError if the address or the token can't be used."""
        try:
            parts = urlsplit(self.url)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_good = False
        if not is_good or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise UserError(f"--server: expected an address such as https://kcidb.example.org, found {self._shown!r}")
        if "@" in parts.netloc:
            raise UserError(
                "--server: expected an address without a token in it, found one; give that with --token-file or "
                "HARNESS_KCIDB_TOKEN"
            )
        if not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise UserError("the token for KCIDB: expected one line of printable characters without blanks")
        if self.token and parts.scheme == "http" and not _is_here(parts.hostname or ""):
            raise UserError(f"--server: expected an https address, found {self._shown!r}: the token would be readable")
        return self

    @property
    def _shown(self) -> str:
        """The address without what may be a login."""
        scheme, separator, rest = one_line(self.url, 200).partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

    def post(self, document: bytes) -> str:
        """Send a document; return the server's id for it. Raises Refused if the server never takes it, UserError if it
        does not know the token or is no such server, InfraError for what may pass."""
        late = f"{self._shown}: expected KCIDB's server to answer within {self.limit:.0f} s, it did not in full"
        status, answer = within(self.limit, lambda: self._exchange(document), late=late)
        if not 200 <= status < 300:
            raise self._refusal(status, answer)
        return self._id(answer)

    def _exchange(self, document: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "User-Agent": "arm64-ftrace-harness"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.url.rstrip('/')}/submit"
        request = urllib.request.Request(url, data=document, headers=headers, method="POST")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if _is_here(urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            try:
                response = urllib.request.build_opener(*handlers).open(request, timeout=self.limit + _LATE_S)
            except urllib.error.HTTPError as error:
                response = error  # an answer as well, which may break off like any other
            with response:
                return response.status, response.read(_LARGEST_BYTES)
        except HarnessError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", None) or error
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            raise InfraError(f"{self._shown}: expected KCIDB's server to answer, found: {one_line(reason)}") from None

    def _id(self, answer: bytes) -> str:
        """A page of something else in the way, such as a portal of the network, is no acknowledgement."""
        try:
            told = json_object(answer)
        except ValueError:
            told = {}
        if told.get("status") != "ok" or not isinstance(told.get("id"), str):
            raise InfraError(
                f"{self._shown}: expected KCIDB's answer with status and id, found: {one_line(_text(answer), 120)!r}"
            )
        return one_line(str(told["id"]), 100)

    def _refusal(self, status: int, answer: bytes) -> HarnessError:
        words = f"{status} {one_line(_said(answer), 200)}".strip()
        if status in _INVALID:
            return Refused(f"{self._shown}: expected KCIDB's server to take the document, it answers {words}")
        if status in _DENIED:
            return UserError(
                f"{self._shown}: expected a token that KCIDB's server knows, it answers {words}; see --token-file and "
                "HARNESS_KCIDB_TOKEN"
            )
        if status in _NO_SERVER:
            return UserError(f"--server: expected KCIDB's server at {self._shown}, it answers {words}")
        return InfraError(f"{self._shown}: expected KCIDB's server to take the document, it answers {words}")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace")


def _said(answer: bytes) -> str:
    """The message in the server's answer, or all of it."""
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        return _text(answer)
    return str(told.get("message") or told) if isinstance(told, dict) else _text(answer)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would send the token to any server that an answer names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        fp.close()
        raise UserError(
            f"--server: expected KCIDB's server itself, it redirects to {one_line(newurl, 120)}; if that is the "
            "server, give its address"
        )
