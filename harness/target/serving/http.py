"""Our own web server, used with boot.http_serve: it serves the files that a board has to load, and nothing else, while
the board loads them."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.errors import InfraError
from harness.model.boot import HttpServe
from harness.model.names import as_name
from harness.report.text import one_line
from harness.target.base import Say
from harness.target.holding import lock
from harness.target.serving import tftp
from harness.target.serving.ports import check_tcp

_STALLED_S = 60.0  # after which a transfer ends if the client accepts no byte
_LONGEST_ENTRY = 1000  # characters of a line of the log
_POLL_S = 0.05  # the longest delay when the server is closed


def check(spec: HttpServe, *, place: str) -> None:
    """Check that our server could start; raises InfraError with what to do if it could not. Another harness that serves
    there now is no obstacle: we wait for our turn."""
    if not lock.holder_of(_machine(spec)):
        _check_port(spec, place)
    tftp.check(spec, root=None, place=place)


def _machine(spec: HttpServe) -> str:
    """Return the name under which the address and port are locked."""
    return f"http {spec.address}:{spec.port}"


def _check_port(spec: HttpServe, place: str) -> None:
    instead = "let it serve a directory (boot.http_root, boot.http_url) and remove boot.http_serve"
    check_tcp(spec.address, spec.port, place=place, instead=instead)


@contextlib.contextmanager
def served(spec: HttpServe, *, place: str, log: Path, say: Say) -> Iterator[WebServer]:
    """Run a web server, and DHCP if configured, for the length of the ``with``. Only one harness on this host at a time
    serves on an address and port; the others wait for their turn and report that to `say`."""
    with contextlib.ExitStack() as until_loaded:
        purpose = f"{place}: a board loads"
        until_loaded.enter_context(lock.acquired(place, _machine(spec), purpose=purpose, wait=tftp.TURN_S, say=say))
        if spec.dhcp:
            addresses = log.with_name("dhcp.log")
            until_loaded.enter_context(tftp.served(spec, None, place=place, log=addresses, say=say))
        yield until_loaded.enter_context(contextlib.closing(WebServer(spec, place=place, log=log)))


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """A file, and what identifies the content that was offered."""

    path: Path
    stamp: tuple[int, ...]


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ino


class WebServer:
    """A Shelf that serves its own files, in threads of this process, so it ends with the harness in any case. `log`
    records who fetched what."""

    def __init__(self, spec: HttpServe, *, place: str, log: Path) -> None:
        _check_port(spec, place)
        self._files: dict[str, _Offer] = {}
        self._log, self._writing = log, threading.Lock()
        try:
            self._server = _Server((spec.address, spec.port), _handler(self._files, self._write))
        except OSError as error:  # another process took the port first
            raise InfraError(f"{place}: can't listen at {spec.address}:{spec.port}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), daemon=True)
        self._thread.start()

    def offer(self, path: Path) -> str:
        name = f"{len(self._files)}/{as_name(path.name)}"  # U-Boot's shell reads it
        try:
            self._files[name] = _Offer(path=path, stamp=_stamp(path.stat()))
        except OSError as error:
            raise InfraError(
                f"{path}: expected a file for the board to load, can't read it: {error.strerror}"
            ) from None
        return name

    def _write(self, text: str) -> None:
        line = one_line(text, _LONGEST_ENTRY)  # it has what strangers ask for
        # a full disk costs lines of this log, not the board its kernel
        with self._writing, contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def close(self) -> None:
        """Stop the server; running transfers are aborted."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    """A server that aborts its running transfers when it is closed."""

    def __init__(self, *arguments: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            with contextlib.suppress(OSError):  # over by now
                request.shutdown(socket.SHUT_RDWR)  # its thread closes it: its number must not be another file's before

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected; the handler has logged it."""


def _handler(files: dict[str, _Offer], write: Any) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _STALLED_S

        def do_GET(self) -> None:
            self._send(body=True)

        def do_HEAD(self) -> None:
            self._send(body=False)

        def _send(self, *, body: bool) -> None:
            offer = files.get(unquote(self.path).lstrip("/"))
            if not offer:
                self.send_error(404)
                return
            with contextlib.ExitStack() as until_sent:
                try:
                    file = until_sent.enter_context(offer.path.open("rb"))
                    status = os.fstat(file.fileno())
                except OSError as error:
                    self.send_error(500, f"{offer.path.name} can not be read any more: {error.strerror}")
                    return
                if _stamp(status) != offer.stamp:
                    self.send_error(500, f"{offer.path.name} was changed after it was offered")
                    return
                size = status.st_size
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(size))
                self.end_headers()
                if not body:
                    return
                try:
                    self.connection.sendfile(file)
                except OSError as error:
                    self.log_message("%s: broke off after %d of %d bytes: %s", self.path, file.tell(), size, error)
                    raise
                self.log_message("%s: %d bytes sent", self.path, size)

        def log_message(self, format: str, *args: object) -> None:
            write(f"{self.client_address[0]} {format % args}")

    return Handler
