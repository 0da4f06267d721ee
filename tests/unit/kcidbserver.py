"""A stand-in for KCIDB's server on the loopback: it takes submissions as kcidb-restd does, and keeps objects by their
ids, as the database behind it does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "a.token-of_this.test"


@dataclass
class KcidbServer:
    """What it took, for each address (what is before ``/submit``). `answers`: (status, body) of the next answers, in
    place of its own. `on_submit`: called with ``begun`` when a request has begun, ``kept`` when its objects are kept,
    and ``answered``. `token`: None: it wants none. `asked`: the headers of each request."""

    url: str = ""
    token: str | None = TOKEN
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    objects: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    on_submit: Callable[[str], None] = lambda _when: None
    asked: list[dict[str, str]] = field(default_factory=list)

    def take(self, address: str, body: bytes) -> str:
        """Keep the objects of a submission; return its id."""
        for kind, members in json.loads(body).items():
            for member in members if isinstance(members, list) else []:
                self.objects[address][f"{kind} {member['id']}"] = member
        self.bodies[address].append(body)
        return f"{len(self.bodies[address]):032}"


@contextlib.contextmanager
def kcidb_server() -> Iterator[KcidbServer]:
    server = KcidbServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with contextlib.suppress(OSError):  # the client was killed
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


def answer(server: KcidbServer, request: BaseHTTPRequestHandler) -> None:
    server.on_submit("begun")
    server.asked.append(dict(request.headers.items()))
    length = int(request.headers["Content-Length"])
    body = request.rfile.read(length)
    address, _, verb = request.path.rpartition("/")
    if len(body) < length:  # the client was killed: a real server does not take half a request either
        return
    if server.answers:
        status, text = server.answers.pop(0)
    elif verb != "submit":
        status, text = 404, b"not found"
    elif server.token is not None and request.headers["Authorization"] != f"Bearer {server.token}":
        status, text = 401, b'{"id":"0","status":"error","message":"JWT is required"}'
    else:
        told = {"id": server.take(address, body), "status": "ok", "message": "Received"}
        status, text = 200, json.dumps(told).encode()
    server.on_submit("kept")
    request.send_response(status)
    for name, value in server.headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text)
    request.wfile.flush()
    server.on_submit("answered")
