"""`harness web` as a process: what it listens on, several browsers at once, slow ones, and how it ends."""

from __future__ import annotations

import concurrent.futures
import http.client
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import simulated
from tests.browser import serving
from tests.faults.catalogue import Blame, fault


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("server") / "history"
    simulated.write(path)
    return path


@pytest.fixture(scope="module")
def address(history: Path) -> Iterator[tuple[str, int]]:
    with serving(history) as url:  # which also asserts that SIGTERM ends it with exit code 0
        found = re.fullmatch(r"http://(127\.0\.0\.1):(\d+)/", url)
        assert found
        yield found[1], int(found[2])


def get(address: tuple[str, int], path: str, *, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_several_browsers_at_once(address: tuple[str, int]) -> None:
    pages = ["/", "/runs", "/tests", "/faults", "/boards"] * 4
    with concurrent.futures.ThreadPoolExecutor(len(pages)) as pool:
        answers = list(pool.map(lambda page: get(address, page), pages))
    assert {status for status, _ in answers} == {200}
    assert len({text for _, text in answers}) == 5


def test_another_address_of_loopback_is_answered_by_its_own_name(history: Path) -> None:
    with serving(history, listen="127.0.0.2:0") as url:
        found = re.fullmatch(r"http://(127\.0\.0\.2):(\d+)/", url)
        assert found
        assert get((found[1], int(found[2])), "/")[0] == 200


@fault("browsers connect and say nothing, or only half of a request", where="network", blame=Blame.NOBODY,
       survives="answers to everybody else")  # fmt: skip
def test_slow_browsers_keep_nobody_waiting(address: tuple[str, int]) -> None:
    slow = [socket.create_connection(address, timeout=60) for _ in range(20)]
    try:
        for number, connection in enumerate(slow):
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert get(address, "/")[0] == 200
    finally:
        for connection in slow:
            connection.close()


def test_requests_that_are_too_large_are_refused(address: tuple[str, int]) -> None:
    assert get(address, f"/?board={'x' * 20_000}")[0] == 431
    assert get(address, "/", method="POST", body="x" * 5000)[0] == 413
    assert get(address, f"/?board={'x' * 2500}")[0] == 400


def test_a_port_that_is_in_use_is_told(history: Path, address: tuple[str, int]) -> None:
    listen = f"{address[0]}:{address[1]}"
    command = [sys.executable, "-m", "harness", "web", "--listen", listen, "--history", str(history)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    expected = f"harness: --listen {listen}: can't listen there: Address already in use; choose another port\n"
    assert (done.returncode, done.stderr) == (3, expected)


def test_other_names_of_this_machine_are_not_answered(address: tuple[str, int]) -> None:
    with closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.request("GET", "/", headers={"Host": f"rebound.example:{address[1]}"})
        assert connection.getresponse().status == 400
