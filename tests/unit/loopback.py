"""A file server on the loopback that can misbehave in the ways real ones do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What is served and how. `requests`: (path, Range header) of each request."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    etag: str = '"one"'
    cut_after: list[int] = field(default_factory=list)
    """For each of the next answers: break the connection after so many bytes of it."""
    failures: list[int] = field(default_factory=list)
    """Status codes for the next answers."""
    ranges: bool = True
    tells_length: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(server, self)

        def log_message(self, *_: object) -> None:
            """Not into the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def answer(server: Server, request: BaseHTTPRequestHandler) -> None:
    wanted = request.headers["Range"]
    server.requests.append((request.path, wanted))
    if server.failures:
        request.send_error(server.failures.pop(0))
        return
    if request.path not in server.files:
        request.send_error(404)
        return
    content = server.files[request.path]
    start = 0
    if wanted and server.ranges and request.headers["If-Range"] in (None, server.etag):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if start and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if server.etag:
        request.send_header("ETag", server.etag)
    if server.tells_length:
        request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    body = content[start:]
    request.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)
