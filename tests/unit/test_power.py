"""Power switches, and whether a board that was switched off is off."""

from __future__ import annotations

import http.server
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.model.board import CommandSwitch, HttpRequest, HttpSwitch, PduSwitch, Power, SwitchSpec
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.power import BoardPower, CommandPower, digest_authorization, power_off, switch_of
from tests.faults.catalogue import Blame, fault


def power(switch: SwitchSpec, **more: Any) -> BoardPower:
    return BoardPower(name="b", spec=Power(switch=switch, off_seconds=0.01, **more), restarts=False)


def command(on: str = "true", off: str = "true") -> CommandSwitch:
    return CommandSwitch(on=("sh", "-c", on), off=("sh", "-c", off))


def test_commands(tmp_path: Path) -> None:
    log = tmp_path / "log"
    switch = switch_of(power(command(f"echo on >> {log}", f"echo off >> {log}")))
    switch.off()
    switch.on()
    assert log.read_text() == "off\non\n"


@fault("a power command fails", where="power", blame=Blame.INFRA, survives="its last words")
def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(InfraError, match=r"b\.power\.on: `.*` ended with exit code 3: no outlet 9"):
        switch_of(power(command("echo no outlet 9; exit 3"))).on()


@fault("a power command hangs", where="power", blame=Blame.INFRA, survives="the time limit; no process of its is left")
def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    """Whoever has the fifo open for reading at its other end sees the last of them go."""
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    hangs = command(f"exec 5> {tmp_path / 'alive'}; (sleep 600; true) & sleep 600; true")
    with pytest.raises(InfraError, match=r"b\.power\.on: `.*` did not end within 1 s"):
        CommandPower(hangs, place="b.power", limit=1.0).on()
    assert select.select([reader], [], [], 30.0)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_command_that_is_not_there() -> None:
    missing = CommandSwitch(on=("no-such-program",), off=("true",))
    with pytest.raises(InfraError, match=r"b\.power\.on: .*no-such-program"):
        switch_of(power(missing)).on()


class SwitchServer:
    """An HTTP switch on loopback: `answers` are (status, headers, body), one for each request; keeps what was asked."""

    def __init__(self, *answers: tuple[int, dict[str, str], str]) -> None:
        self.asked: list[tuple[str, str, str, str]] = []
        left = list(answers)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                outer.asked.append((self.command, self.path, self.headers.get("Authorization", ""), body))
                status, headers, answer = left.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.encode())

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> SwitchServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def http_switch(url: str, **more: Any) -> HttpSwitch:
    request = HttpRequest(url=f"{url}/on?outlet=1", **more)
    return HttpSwitch(on=request, off=request, user="admin", password="s3cret")


def test_http() -> None:
    with SwitchServer((200, {}, '{"POWER": "ON"}')) as server:
        switch_of(power(http_switch(server.url, method="POST", body="x", expect='"POWER":"ON"'))).on()
        assert server.asked == [("POST", "/on?outlet=1", "", "x")]


def test_an_answer_that_is_not_the_expected_one() -> None:
    with (
        SwitchServer((200, {}, '{"POWER":"OFF"}')) as server,
        pytest.raises(InfraError, match=r"""expected an answer with '"ON"', found"""),
    ):
        switch_of(power(http_switch(server.url, expect='"ON"'))).on()


def test_the_login_is_given_when_it_is_asked_for() -> None:
    challenge = {"WWW-Authenticate": 'Digest qop="auth", realm="shelly", nonce="60b1", algorithm=SHA-256'}
    with SwitchServer((401, challenge, ""), (200, {}, "ok")) as server:
        switch_of(power(http_switch(server.url))).on()
        assert [asked[2][:22] for asked in server.asked] == ["", 'Digest username="admin']
    with SwitchServer((401, {"WWW-Authenticate": "Basic realm=x"}, ""), (401, {}, "")) as server:
        with pytest.raises(InfraError, match="refuses the login") as caught:
            switch_of(power(http_switch(server.url))).on()
        assert server.asked[1][2] == "Basic YWRtaW46czNjcmV0"
        assert "s3cret" not in caught.value.message


@fault(
    "a switch, or whoever took its address, redirects a request with the login to another port or host",
    where="network",
    blame=Blame.INFRA,
    survives="the login and the headers: the other server is not asked at all",
)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/on", "http://localhost:{port}/on", "//127.0.0.1:{port}/"])
def test_nobody_else_gets_the_login(code: int, target: str) -> None:
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    with SwitchServer((200, {}, "ok")) as stranger:
        away = {"Location": target.format(port=stranger.port)}
        with SwitchServer((401, challenge, ""), (code, away, "")) as server:
            switch = switch_of(power(http_switch(server.url, headers=(("X-Key", "swordfish"),))))
            with pytest.raises(InfraError, match=r"it redirects to http://.*: if that is the switch, write") as caught:
                switch.on()
            assert server.asked[1][2].startswith("Basic ")
        assert stranger.asked == []
    assert "swordfish" not in caught.value.message


@pytest.mark.parametrize("target", ["https://127.0.0.1/", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://["])
def test_nothing_else_is_asked(target: str) -> None:
    with SwitchServer((302, {"Location": target}, "")) as server:
        with pytest.raises(InfraError, match=r"b\.power\.on: http://127\.0\.0\.1:\d+/…: "):
            switch_of(power(http_switch(server.url))).on()
        assert len(server.asked) == 1


def test_a_redirect_on_the_switch_itself_is_followed_with_the_login() -> None:
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    answers: tuple[tuple[int, dict[str, str], str], ...] = (
        (302, {"Location": "/other?outlet=1"}, ""),
        (401, challenge, ""),
        (302, {"Location": "/other?outlet=1"}, ""),
        (200, {}, "ok"),
    )
    with SwitchServer(*answers) as server:
        switch_of(power(http_switch(server.url))).on()
        assert [path for _, path, _, _ in server.asked] == ["/on?outlet=1", "/other?outlet=1"] * 2
        assert [asked[2][:5] for asked in server.asked] == ["", "", "Basic", "Basic"]


@fault(
    "a switch redirects from one of its pages to the next without end",
    where="network",
    blame=Blame.INFRA,
    survives="the time limit: a few requests, then a message",
)
def test_a_switch_that_only_redirects() -> None:
    with SwitchServer(*((302, {"Location": f"/{number}"}, "") for number in range(9))) as server:
        with pytest.raises(InfraError, match=r"b\.power\.on: .*: expected an answer, the switch redirects more than 4"):
            switch_of(power(http_switch(server.url))).on()
        assert len(server.asked) == 5


@fault(
    "a server at the switch's address answers with what is no HTTP",
    where="network",
    blame=Blame.INFRA,
    survives="a message that names the switch",
)
def test_a_switch_that_speaks_another_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(InfraError, match=r"b\.power\.on: .*: the switch does not answer: SSH-2.0-x"):
            switch_of(power(http_switch(f"http://127.0.0.1:{server.getsockname()[1]}"))).on()
        thread.join(10.0)


@fault(
    "a token in the path or the query of power.on.url, and a switch that refuses it or is off",
    where="power",
    blame=Blame.INFRA,
    survives="the secret: messages show the host alone",
)
@pytest.mark.parametrize("secret", ["abc", "swordfish-1"])
def test_messages_do_not_show_what_may_be_secret_in_a_url(secret: str) -> None:
    with SwitchServer((403, {}, "no")) as server:
        request = HttpRequest(url=f"{server.url}/hook/{secret}?token={secret}")
        switch = switch_of(power(HttpSwitch(on=request, off=request)))
        with pytest.raises(InfraError, match=r"http://127\.0\.0\.1:\d+/…: expected the switch to accept") as refused:
            switch.on()
        assert secret in server.asked[0][1]
        assert secret not in repr(request)
    with pytest.raises(InfraError, match="the switch does not answer") as gone:
        switch.on()
    assert secret not in refused.value.message + gone.value.message


def test_a_command_is_shown_without_its_secrets() -> None:
    switch = CommandSwitch(on=("false", "-P", "ab"), off=("true",), masked_on=("false", "-P", "***"))
    with pytest.raises(InfraError, match=r"b\.power\.on: `false -P '\*\*\*'` ended with exit code 1"):
        switch_of(power(switch)).on()


def test_the_digest_is_rfc_7616s_example() -> None:
    challenge = (
        'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    answer = digest_authorization(
        HttpRequest(url="http://www.example.org/dir/index.html"),
        challenge,
        user="Mufasa",
        password="Circle of Life",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in answer


def test_pdudaemon() -> None:
    with SwitchServer((200, {}, "OK - accepted request")) as server:
        switch = PduSwitch(host="127.0.0.1", port=server.port, pdu="rack 1", outlet="3")
        switch_of(power(switch)).off()
        assert server.asked[0][1] == "/power/control/off?hostname=rack%201&port=3"


@fault(
    "a network power switch does not answer",
    where="power",
    blame=Blame.INFRA,
    survives="its address in the message",
)
def test_a_switch_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InfraError, match="the switch does not answer"):
        switch_of(power(http_switch(f"http://127.0.0.1:{port}"))).on()


@pytest.fixture
def line() -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="line")
    yield console, theirs
    console.close()
    theirs.close()


def test_a_board_that_is_silent_is_off(line: tuple[Console, socket.socket]) -> None:
    console, theirs = line
    theirs.sendall(b"its last words")
    assert console.expect("its last", timeout=5.0)
    power_off(power(command()), switch_of(power(command())), console)


@fault(
    "a board still answers after it was switched off",
    where="power",
    blame=Blame.INFRA,
    survives="nothing is booted on it",
)
def test_a_board_that_answers_is_on(line: tuple[Console, socket.socket]) -> None:
    console, theirs = line

    def answer() -> None:
        if theirs.recv(10):
            theirs.sendall(b"\r\n=> ")

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(InfraError, match=r"b\.power: expected the board to be silent .* still answers on its console"):
        power_off(power(command()), switch_of(power(command())), console)


def test_a_board_whose_line_is_another_machines_is_not_asked(line: tuple[Console, socket.socket]) -> None:
    console, theirs = line
    power_off(power(command(), check_silence=False), switch_of(power(command())), console)
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(10)
