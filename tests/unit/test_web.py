"""The web server of the harness's own: what it gives away, what it tells, and when it ends."""

from __future__ import annotations

import http.client
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.boot import HttpServe
from harness.target.holding import lock
from harness.target.serving import http as web
from harness.target.serving import httpclient as webclient
from tests import damage
from tests.faults.catalogue import Blame, fault


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def spec() -> HttpServe:
    return HttpServe(address="127.0.0.1", port=free_port())


@pytest.fixture
def server(spec: HttpServe, tmp_path: Path) -> Iterator[web.WebServer]:
    with closing(web.WebServer(spec, place="b", log=tmp_path / "http.log")) as running:
        yield running


def answer(spec: HttpServe, path: str, *, verb: str = "GET") -> tuple[int, str | None, bytes]:
    with closing(http.client.HTTPConnection(spec.address, spec.port, timeout=30)) as connection:
        connection.request(verb, path)
        got = connection.getresponse()
        return got.status, got.getheader("Content-Length"), got.read()


def test_what_is_offered_is_given_and_nothing_else(spec: HttpServe, server: web.WebServer, tmp_path: Path) -> None:
    (tmp_path / "Image").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "other").write_text("a secret")
    name = server.offer(tmp_path / "Image")
    content = (tmp_path / "Image").read_bytes()
    assert answer(spec, f"/{name}") == (200, "256000", content)
    assert answer(spec, f"//{name}") == (200, "256000", content)  # as lwIP asks where it is given HOST:/PATH
    assert answer(spec, f"/{name}", verb="HEAD") == (200, "256000", b"")
    for path in ("/other", "/", f"/{name}/../other", f"{tmp_path}/other"):
        status, _, body = answer(spec, path)
        assert (status, b"secret" in body) == (404, False)
    log = (tmp_path / "http.log").read_text()
    assert re.search(rf"^[\d:]{{8}} 127\.0\.0\.1 /{name}: 256000 bytes sent$", log, re.MULTILINE), log
    assert "404" in log


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            how,
            id=name,
            marks=fault(
                f"a file that our web server offers is {name} before the board asks for it",
                where="network",
                blame=Blame.INFRA,
                survives="the log, which says so; the board gets no file instead of a damaged one",
            ),
        )
        for name, how in damage.HOW.items()
    ],
)
def test_what_changed_after_it_was_offered_is_not_served(
    spec: HttpServe, server: web.WebServer, tmp_path: Path, how: Callable[[Path], None]
) -> None:
    (tmp_path / "Image").write_bytes(b"kernel" * 1000)
    os.utime(tmp_path / "Image", (1, 1))  # the clock's steps are larger than the moment until it is damaged
    name = server.offer(tmp_path / "Image")
    assert answer(spec, f"/{name}")[0] == 200
    how(tmp_path / "Image")
    assert answer(spec, f"/{name}")[0] == 500
    assert re.search(r"code 500, message Image (was changed|can not be read)", (tmp_path / "http.log").read_text())


@fault(
    "a client of our web server asks for a path of escape sequences and line ends",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="http.log: one printable line for each request",
)
def test_what_strangers_ask_for_is_logged_in_printable_lines(
    spec: HttpServe, server: web.WebServer, tmp_path: Path
) -> None:
    with socket.create_connection((spec.address, spec.port), timeout=30) as client:
        client.sendall(b"GET /\x1b[2J\x1b]0;title\x07\x9b31m%0d%0aHEAD\xc2\x9b HTTP/1.0\r\n\r\n")
        while client.recv(1 << 16):
            pass
    text = (tmp_path / "http.log").read_text()
    assert "404" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert all(re.match(r"[\d:]{8} 127\.0\.0\.1 ", line) for line in text.splitlines())


def test_two_files_of_one_name_are_two(spec: HttpServe, server: web.WebServer, tmp_path: Path) -> None:
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "Image").write_text(directory)
    names = [server.offer(tmp_path / directory / "Image") for directory in ("a", "b")]
    assert [answer(spec, f"/{name}")[2] for name in names] == [b"a", b"b"]


def test_a_transfer_that_still_runs_ends_with_the_server(
    spec: HttpServe, server: web.WebServer, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(1 << 28)
    with socket.create_connection((spec.address, spec.port), timeout=30) as client:
        client.sendall(f"GET /{server.offer(tmp_path / 'large')} HTTP/1.0\r\n\r\n".encode())
        came = len(client.recv(1 << 16))
        server.close()
        try:
            while data := client.recv(1 << 20):
                came += len(data)
        except ConnectionResetError:
            pass
    assert came < 1 << 28
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((spec.address, spec.port), timeout=30)


@fault(
    "another server has the HTTP port",
    where="network",
    blame=Blame.INFRA,
    survives="its address and port in the message",
)
def test_a_port_that_is_taken_is_told(spec: HttpServe, server: web.WebServer) -> None:
    with pytest.raises(InfraError, match=rf"b: port {spec.port} of 127\.0\.0\.1 is taken; .*boot.http_root"):
        web.check(spec, place="b")


def test_a_port_is_free_again_at_once(spec: HttpServe, server: web.WebServer, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert answer(spec, f"/{server.offer(tmp_path / 'f')}")[2] == b"x"
    server.close()
    web.check(spec, place="b")


def test_boards_that_are_served_at_one_port_take_turns(
    spec: HttpServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    said, waits = list[str](), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    def load() -> None:
        with web.served(spec, place="b2.boot.http_serve", log=tmp_path / "log", say=say):
            said.append("serves")

    second = threading.Thread(target=load)
    with web.served(spec, place="b1.boot.http_serve", log=tmp_path / "log", say=said.append):
        second.start()
        assert waits.wait(30.0)
    second.join(30.0)
    waiting, serves = said
    assert re.fullmatch(r"b2\.boot\.http_serve: waiting for .*: b1\.boot\.http_serve: a board loads", waiting)
    assert serves == "serves"


def test_a_harness_that_serves_there_now_is_no_hindrance(
    spec: HttpServe, server: web.WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    with lock.acquired("b1", f"http {spec.address}:{spec.port}", purpose="a board loads"):
        web.check(spec, place="b2")
    with pytest.raises(InfraError, match="is taken"):
        web.check(spec, place="b2")


def test_a_client_tells_what_is_wrong(spec: HttpServe) -> None:
    with pytest.raises(InfraError, match=rf"http://127.0.0.1:{spec.port}/x: no answer: Connection refused"):
        webclient.fetch(f"http://127.0.0.1:{spec.port}/x")
    mute = socket.create_server((spec.address, spec.port))
    with mute, pytest.raises(InfraError, match="no answer: timed out"):
        webclient.fetch(f"http://127.0.0.1:{spec.port}/x", timeout=0.05)
