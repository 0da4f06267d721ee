"""U-Boot that loads over HTTP, from a web server that the harness starts and from the lab's own, at the other end of a
cable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.build.apt import PrivateApt
from harness.build.host import ensure_host
from harness.errors import HarnessError
from tests.e2e.conftest import Boots
from tests.faults.catalogue import Blame, fault
from tests.twins.twin import U_BOOT

BOARDS = """
boards:
  twin:
    console: {kind: telnet, host: 127.0.0.1, port: 17341}
    power: {kind: tasmota, host: "127.0.0.1:17342"}
    boot: {method: uboot, load: http, WHERE}
    limits: {boot: 120}
"""
OURS = "http_serve: {address: 10.77.0.1, dhcp: [10.77.0.10, 10.77.0.20]}"
THEIRS = "http_root: ROOT, http_url: http://10.77.0.1:8080/tftp, address: 10.77.0.5/24"
# Sends so many bytes, then ends (-) or sends no more (+).
SERVER = """
import http.server, os, signal, sys, threading
class Handler(http.server.SimpleHTTPRequestHandler):
    left = int(sys.argv[1])
    def copyfile(self, source, outputfile):
        while Handler.left and (data := source.read(min(65536, abs(Handler.left)))):
            outputfile.write(data)
            Handler.left -= len(data) * (1 if Handler.left > 0 else -1)
        if not Handler.left:
            os.kill(os.getpid(), signal.SIGKILL if sys.argv[1][0] == "-" else signal.SIGSTOP)
            threading.Event().wait()  # this thread may be faster than the signal
server = http.server.ThreadingHTTPServer(("10.77.0.1", 8080), Handler)
print("serves", flush=True)
server.serve_forever()
"""
EVERYTHING = 1 << 40


def has_wget(u_boot: str | Path) -> bool:
    return b"boot image via network using HTTP" in Path(u_boot).read_bytes()


@pytest.fixture(scope="session")
def u_boot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Boot with wget: this host's, which has it from trixie on, else trixie's own, beside it. HARNESS_TEST_U_BOOT
    names another one."""
    ensure_host(needed_for={"qemu", "u-boot"})
    if other := os.environ.get("HARNESS_TEST_U_BOOT"):
        return Path(other)
    if has_wget(U_BOOT):
        return Path(U_BOOT)
    apt = PrivateApt("trixie")
    try:
        apt.update()
        package = apt.download(apt.newest("u-boot-qemu"))
    except HarnessError as error:
        pytest.skip(f"needs a U-Boot with wget: {error.message}")
    directory = tmp_path_factory.mktemp("u-boot")
    subprocess.run(["dpkg-deb", "-x", package, directory], check=True)
    return directory / Path(U_BOOT).relative_to("/")


@pytest.fixture
def web_server(inside: list[str], tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Starts the lab's web server, with the directory tftp in it."""
    started: list[subprocess.Popen[str]] = []

    def start(sends: int) -> None:
        words = [*inside, sys.executable, "-c", SERVER, str(sends)]
        started.append(subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout
        assert started[0].stdout.readline() == "serves\n"

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def test_a_board_gets_its_address_and_its_kernel_from_the_harness(
    cabled: Callable[..., Boots], u_boot: Path, inside: list[str], tmp_path: Path
) -> None:
    ensure_host(needed_for={"tftp"})
    done = cabled(BOARDS.replace("WHERE", OURS), "--u-boot", u_boot)("echo up")
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["up"]), done.stderr
    log = next(tmp_path.glob("out/boot-*/http.log")).read_text()
    assert re.search(r"^[\d:]{8} 10\.77\.0\.[12]\d /0/Image: \d+ bytes sent$", log, re.MULTILINE), log
    assert "DHCPACK(tap0)" in next(tmp_path.glob("out/boot-*/dhcp.log")).read_text()
    assert not list((tmp_path / "tftp").iterdir())
    listening = subprocess.run([*inside, "cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
    assert ":0050 00000000:0000 0A" not in listening


def test_a_board_loads_from_the_labs_web_server_at_a_port_of_its_own(
    cabled: Callable[..., Boots], u_boot: Path, web_server: Callable[[int], None], tmp_path: Path
) -> None:
    harness = cabled(BOARDS.replace("WHERE", THEIRS), "--u-boot", u_boot)
    web_server(EVERYTHING)
    looked_at = harness(verb=("boards", "check")).stdout
    root = (tmp_path / "tftp").resolve()
    assert re.search(rf"ok +web server +http://10.77.0.1:8080/tftp is {root}", looked_at), looked_at
    done = harness("echo up")
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["up"]), done.stderr


SILENT = "the web server at 10.77.0.1, port 8080, does not answer; see whether it runs, boot.http_root"


@pytest.mark.parametrize(
    ("where", "sends", "told"),
    [
        (THEIRS.replace("/tftp", "/other"), EVERYTHING, "404.*: the web server has no such file; see boot.http_root"),
        (THEIRS, 0, SILENT),
        (THEIRS, -20_000_000, rf"expected \d+ bytes, (\d+|not all) came; see whether the web server still|{SILENT}"),
        (f"{THEIRS}, load_seconds: 15", 20_000_000, rf"did not end within 15 s; see whether the web server|{SILENT}"),
    ],
    ids=["missing", "no-server", "ended", "stalled"],
)
def test_what_goes_wrong_with_a_web_server_is_told(
    cabled: Callable[..., Boots], u_boot: Path, web_server: Callable[[int], None], where: str, sends: int, told: str
) -> None:
    harness = cabled(BOARDS.replace("WHERE", where), "--u-boot", u_boot)
    if sends:
        web_server(sends)
    done = harness("true")
    assert done.returncode == 3, done.stderr
    assert re.search(told, done.stderr), done.stderr


@fault(
    "a U-Boot without wget, of a board that loads over HTTP",
    where="boot",
    blame=Blame.INFRA,
    survives="what to set instead",
)
def test_a_u_boot_that_knows_no_http_is_told(cabled: Callable[..., Boots], u_boot: Path) -> None:
    if has_wget(U_BOOT):
        pytest.skip("this host's U-Boot has wget")
    done = cabled(BOARDS.replace("WHERE", THEIRS))("true")
    assert done.returncode == 3, done.stderr
    assert "Unknown command 'wget': this U-Boot can't load over HTTP; set boot.load: tftp" in done.stderr
