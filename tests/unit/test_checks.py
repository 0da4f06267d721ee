"""What is seen of a board without booting it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.model.board import (
    BoardEntry,
    CommandConsole,
    CommandSwitch,
    ConsoleSpec,
    HttpRequest,
    HttpSwitch,
    NetworkConsole,
    PduSwitch,
    Power,
    SerialConsole,
    SwitchSpec,
)
from harness.model.boot import HttpServe, TftpServe, UbootBoot
from harness.parse.boards import parse_boards
from harness.target.methods import checks, netboot_checks
from harness.target.methods.checks import Check, Finding, Outcome, Unseen, findings
from harness.target.methods.table import boot_method
from harness.target.serving import tftp, tftpclient
from tests.boards import is_a, spec
from tests.unit.test_power import SwitchServer

OK, FAILED, UNSEEN = Outcome.OK, Outcome.FAILED, Outcome.UNSEEN


@pytest.fixture(autouse=True)
def lines_that_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `cat` ends no sooner when it is watched for longer."""
    monkeypatch.setattr(checks, "_STAYS_S", 0.05)


def board(
    tmp_path: Path, switch: SwitchSpec | None = None, console: ConsoleSpec | None = None, **more: Any
) -> BoardEntry:
    power = Power(switch=switch or CommandSwitch(on=("true",), off=("sh", "-c", "A=1 cd x; y")))
    console = console or CommandConsole(argv=("cat",))
    boot = UbootBoot(**{"tftp_root": str(tmp_path), **more})
    return BoardEntry(board=spec(boot=boot, power=power, console=console))


def look(entry: BoardEntry) -> list[Finding]:
    board = entry.board
    return list(findings(entry, boot_method(board).checks(board, board.access)))


def seen(entry: BoardEntry) -> dict[str, tuple[Outcome, str]]:
    return {found.name: (found.outcome, found.text) for found in look(entry)}


def test_a_board_that_is_as_it_should_be(tmp_path: Path) -> None:
    assert seen(board(tmp_path)) == {
        "console": (OK, "cat can be opened"),
        "power": (OK, "cd is installed, true is installed"),
        "tftp_root": (OK, f"{tmp_path} is writable"),
        "tftp server": (UNSEEN, "boot.server is empty, so only DHCP knows the server"),
    }
    assert list((tmp_path / "harness").iterdir()) == []


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    missing = CommandSwitch(on=("no-such-program",), off=("true",))
    found = seen(board(tmp_path / "nowhere", missing, SerialConsole(device="/dev/serial/by-id/x"), server="127.0.0.1"))
    assert [outcome for outcome, _ in found.values()] == [FAILED, FAILED, FAILED, UNSEEN]
    told = " ".join(text for _, text in found.values())
    assert "b.console: expected a serial device at /dev/serial/by-id/x, found none; plug in" in told
    assert "b.power.on: expected a program no-such-program, found none; install it" in told
    assert (
        f"b.boot.tftp_root: expected a directory to write to at {tmp_path}/nowhere, can't write harness/check-" in told
    )


def test_a_line_that_ends_at_once_is_told_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_STAYS_S", 60.0)
    refuses = CommandConsole(argv=("sh", "-c", "echo SOL payload already active"))
    outcome, told = seen(board(tmp_path, console=refuses))["console"]
    assert outcome is FAILED
    assert "it ended at once, after it said: SOL payload already active; see whether somebody else uses it" in told


def test_a_console_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        console = NetworkConsole(host="127.0.0.1", port=port)
        assert seen(board(tmp_path, console=console))["console"] == (OK, f"127.0.0.1:{port} can be opened")
        connection, _ = server.accept()
        connection.close()
    assert seen(board(tmp_path, console=console))["console"][0] is FAILED


POWERS = {
    "tasmota": ("outlet: 2, password: s3cret", "/cm?user=admin&password=s3cret&cmnd=Power2", '{"POWER2":"OFF"}'),
    "shelly": ("outlet: 1", "/rpc/Switch.GetStatus?id=1", '{"id":1, "output":false}'),
    "shelly1": ("outlet: 1, generation: 1", "/relay/1", '{"ison":true}'),
}


@pytest.mark.parametrize("kind", POWERS)
def test_a_switch_is_asked_not_switched(kind: str, tmp_path: Path) -> None:
    keys, path, answer = POWERS[kind]
    with SwitchServer((200, {}, answer), (200, {}, '{"WARNING":"Need user"}')) as server:
        text = f"{{kind: {kind.rstrip('1')}, host: '127.0.0.1:{server.port}', {keys}}}"
        entry = (
            f"{{boot: {{method: uboot, tftp_root: {tmp_path}}}, console: {{kind: command, run: cat}}, power: {text}}}"
        )
        made = parse_boards(f"boards: {{b: {entry}}}", place="f")["b"]
        assert seen(made)["power"] == (OK, f"the switch answers {answer}")
        outcome, told = seen(made)["power"]
        assert outcome is FAILED
        assert "Need user" in told
        assert "s3cret" not in told
        assert [asked[1] for asked in server.asked] == [path, path]


@pytest.mark.parametrize("kind", ["http", "pdudaemon"])
def test_a_switch_that_can_only_switch_is_only_connected_to(kind: str, tmp_path: Path) -> None:
    with SwitchServer() as server:
        request = HttpRequest(url=f"{server.url}/on")
        switches: dict[str, SwitchSpec] = {
            "http": HttpSwitch(on=request, off=request),
            "pdudaemon": PduSwitch(host="127.0.0.1", port=server.port, pdu="p", outlet="1"),
        }
        told = f"127.0.0.1:{server.port} accepts connections (its outlets were not checked)"
        assert seen(board(tmp_path, switches[kind]))["power"] == (OK, told)
        assert server.asked == []
    outcome, told = seen(board(tmp_path, switches[kind]))["power"]
    assert outcome is FAILED
    assert f"expected a switch at 127.0.0.1:{server.port}, can't connect" in told


def test_where_values_are_missing_the_rest_is_looked_at(tmp_path: Path) -> None:
    unset = replace(
        board(tmp_path), unset=("power.password: expected the environment variable X to be set, found none",)
    )
    listed = look(unset)
    assert [(found.name, found.outcome) for found in listed] == [
        ("values", FAILED),
        ("console", OK),
        ("power", UNSEEN),
        ("tftp_root", OK),
        ("tftp server", UNSEEN),
    ]
    assert "environment variable X" in listed[0].text


def test_one_that_hangs_or_breaks_does_not_keep_the_others(tmp_path: Path) -> None:
    over = threading.Event()

    def unseen() -> str:
        raise Unseen("dark")

    try:
        odd = [
            Check(name="hangs", key="a", look=lambda: f"{over.wait(60)}"),
            Check(name="breaks", key="b", look=lambda: f"{1 // 0}"),
            Check(name="dark", key="c", look=unseen),
            Check(name="fine", key="d", look=lambda: "fine"),
        ]
        started = time.monotonic()
        found = {found.name: (found.outcome, found.text) for found in findings(board(tmp_path), odd, limit=0.5)}
        assert time.monotonic() - started < 30.0
        assert found == {
            "hangs": (FAILED, "the check did not finish within 0 s"),
            "breaks": (FAILED, "internal error: ZeroDivisionError: integer division or modulo by zero"),
            "dark": (UNSEEN, "dark"),
            "fine": (OK, "fine"),
        }
    finally:
        over.set()


@contextlib.contextmanager
def tftp_server(root: Path, *, mute: int = 0, answer: bytes = b"") -> Iterator[int]:
    """A TFTP server on loopback for files of one block: its port. It ignores the first `mute` requests."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        left = [mute]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while request := door.recvfrom(1000):
                    data, client = request
                    if left[0]:
                        left[0] -= 1
                        continue
                    if data == b"end":
                        return
                    name = is_a(re.Match, re.match(rb"\x00\x01([^\x00]+)\x00octet\x00", data))[1].decode()
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as transfer:
                        file = root / name
                        lost = struct.pack("!HH", 5, 1) + b"File not found\0"
                        there = struct.pack("!HH", 3, 1) + (file.read_bytes() if file.exists() else b"")
                        transfer.sendto(answer or (there if file.exists() else lost), client)

        thread = threading.Thread(target=serve)
        thread.start()
        port = door.getsockname()[1]
        try:
            yield port
        finally:
            left[0] = 0
            door.sendto(b"end", ("127.0.0.1", port))
            thread.join()


def test_the_tftp_server_is_asked_for_a_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tftp_server(tmp_path) as port:
        monkeypatch.setattr(netboot_checks, "_TFTP_PORT", port)
        here = board(tmp_path, server="127.0.0.1")
        assert seen(here)["tftp server"] == (OK, f"127.0.0.1 serves {tmp_path}")
        (tmp_path / "other").mkdir()
        outcome, told = seen(board(tmp_path / "other", server="127.0.0.1"))["tftp server"]
        assert outcome is FAILED
        assert "the server answers: File not found (1); see whether it runs and serves that directory" in told
        assert list((tmp_path / "harness").iterdir()) == []


def test_the_web_server_is_asked_for_a_file_of_ours(tmp_path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "boot")
    with loopback_server(handler) as port:
        url = f"http://127.0.0.1:{port}"
        for name in ("boot", "other"):
            (tmp_path / name).mkdir()
        here = board(tmp_path, load="http", http_root=str(tmp_path / "boot"), http_url=url)
        found = seen(here)
        assert found["http_root"] == (OK, f"{tmp_path}/boot is writable")
        assert found["web server"] == (OK, f"{url} is {tmp_path}/boot")
        there = board(tmp_path, load="http", http_root=str(tmp_path / "other"), http_url=url)
        outcome, told = seen(there)["web server"]
        assert outcome is FAILED
        assert f"b.boot.http_url: expected a file below {tmp_path}/other from a web server: {url}/harness/" in told
        assert "the server answers: 404 File not found; see whether it runs and serves that directory" in told
        nowhere = board(tmp_path, load="http", http_root=str(tmp_path / "nowhere"), http_url=url)
        assert [seen(nowhere)[name][0] for name in ("http_root", "web server")] == [FAILED, UNSEEN]
        ours = board(tmp_path, load="http", http_serve=HttpServe(address="127.0.0.1", port=port))
        assert "is taken" in seen(ours)["web server"][1]
    assert seen(ours)["web server"] == (OK, "the harness can serve at 127.0.0.1")
    assert "tftp_root" not in seen(ours)


def test_a_tftp_server_of_ours_is_not_asked_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tftp, "check", lambda _spec, root, place: None)
    ours = board(tmp_path, tftp_serve=TftpServe(address="127.0.0.1"), server="127.0.0.1")
    assert seen(ours)["tftp server"] == (OK, "the harness can serve at 127.0.0.1")
    for mac, whom in (("", "every machine there"), ("02:00:00:00:00:01", "02:00:00:00:00:01")):
        serve = TftpServe(address="127.0.0.1", dhcp=("127.0.0.2", "127.0.0.3"), mac=mac)
        told = f"the harness can serve at 127.0.0.1; it answers DHCP of {whom}"
        assert seen(board(tmp_path, tftp_serve=serve, server="127.0.0.1"))["tftp server"] == (OK, told)


@contextlib.contextmanager
def loopback_server(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_lost_packet_is_sent_again(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content")
    with tftp_server(tmp_path, mute=1) as port:
        assert tftpclient.fetch("127.0.0.1", "f", port=port, timeout=0.5) == b"content"


def test_a_server_that_is_none(tmp_path: Path) -> None:
    with (
        tftp_server(tmp_path, mute=3) as port,
        pytest.raises(InfraError, match=f"no answer from 127.0.0.1, port {port}"),
    ):
        tftpclient.fetch("127.0.0.1", "f", port=port, timeout=0.05)
    with tftp_server(tmp_path, answer=b"x") as port, pytest.raises(InfraError, match="none of TFTP's: b'x'"):
        tftpclient.fetch("127.0.0.1", "f", port=port)
