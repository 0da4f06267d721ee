#!/usr/bin/env python3
"""A twin of a board: a QEMU machine with real U-Boot, reached as a board is. Standard library only; knows nothing of
the harness, and the harness nothing of it.

    tests/twins/twin.py serve NAME --tftp DIR [--fault FAULT]    until it is ended (Ctrl-C, or by who started it)
    tests/twins/twin.py on|off|reset|status NAME                 what a power switch does

NAME gives the twin its ports on loopback: the serial line as a console server has it (telnet), and a power switch that
speaks HTTP, as Tasmota does. With --pty FILE the line is a serial device too: FILE becomes a link to it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.server
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

# name → (port of the serial line, port of the power switch); boards.yaml beside this file has the same
PORTS = {"uboot": (17341, 17342), "serial": (17343, 17344), "rpi3": (17345, 17346)}
LOADERS = {"rpi3": "raspi3b"}  # name → machine of QEMU, where loader.py stands for U-Boot
U_BOOT = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
FAULTS = ("none", "stuck-on", "no-power", "deaf-once", "deaf")
IAC, BRK = 255, 243


class Machine:
    """The board itself: QEMU while it has power. Its serial line is a socket pair that outlives it."""

    def __init__(self, *, tftp: Path, log: Path, fault: str, model: str = "", tap: str = "") -> None:
        self.line, self._end = socket.socketpair()
        self._model = model
        self._network = f"user,id=net,restrict=on,tftp={tftp}"
        if tap:
            self._network = f"tap,id=net,ifname={tap},script=no,downscript=no"
        self._tftp, self._log, self._fault = tftp, log, fault
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.power_ons = 0

    @property
    def is_on(self) -> bool:
        return bool(self._process and self._process.poll() is None)

    @property
    def is_deaf(self) -> bool:
        """Whether what is typed gets lost."""
        return self._fault == "deaf" or (self._fault == "deaf-once" and self.power_ons < 2)

    def on(self) -> None:
        with self._lock:
            if self.is_on or self._fault == "no-power":
                return
            self.power_ons += 1
            # not this thread's child, which would end with it: see Starter
            self._process = STARTER.start(self._command(), self._end.fileno(), self._log)

    def off(self, *, really: bool = False) -> None:
        if self._fault == "stuck-on" and not really:
            return
        with self._lock:
            if self._process:
                self._process.kill()
                self._process.wait()

    def _command(self) -> list[str]:
        fd = self._end.fileno()
        if self._model:
            loader = [sys.executable, str(Path(__file__).with_name("loader.py")), str(fd), str(self._tftp), self._model]
            return ["setpriv", "--pdeathsig", "KILL", "--", *loader]
        return [
            *("setpriv", "--pdeathsig", "KILL", "--", "qemu-system-aarch64", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-M", "virt", "-cpu", "neoverse-n1", "-accel", "tcg,thread=multi"),
            *("-smp", "2", "-m", "1536", "-bios", U_BOOT),
            # telnet: a break on the line is one, as on a serial line
            *("-chardev", f"socket,id=line,fd={fd}", "-serial", "chardev:line"),
            *("-netdev", self._network),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        ]


class Starter:
    """Starts QEMU in the main thread, which lives as long as the twin: the kernel ends a process with pdeathsig when
    the thread that started it ends."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._done = threading.Event()
        self._job: tuple[list[str], int, Path] | None = None
        self._started: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], fd: int, log: Path) -> subprocess.Popen[bytes]:
        self._job = (command, fd, log)
        self._done.clear()
        self._asked.set()
        self._done.wait()
        assert self._started
        return self._started

    def serve(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            assert self._job
            command, fd, log = self._job
            with log.open("ab") as output:
                self._started = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(fd,)
                )
            self._done.set()


STARTER = Starter()


class Line:
    """The far end of the cable: hands the machine's bytes to whoever is connected, and theirs to it."""

    def __init__(self, machine: Machine, port: int) -> None:
        self._machine = machine
        self._listener = socket.create_server(("127.0.0.1", port))
        self._client: socket.socket | None = None
        self._pty: int | None = None

    def make_pty(self, link: Path) -> None:
        master, slave = pty.openpty()
        tty.setraw(slave)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        os.close(slave)  # the harness looks who has the device open
        self._pty = master

    def serve(self) -> None:
        threading.Thread(target=self._pump_out, daemon=True).start()
        if self._pty is not None:
            threading.Thread(target=self._pump_pty, daemon=True).start()
        while True:
            client, _ = self._listener.accept()
            if self._client:
                client.sendall(b"twin: the console is in use\r\n")
                client.close()
                continue
            self._client = client
            threading.Thread(target=self._pump_in, args=(client,), daemon=True).start()

    def _pump_out(self) -> None:
        while data := self._machine.line.recv(4096):
            with contextlib.suppress(OSError):
                if self._client:
                    self._client.sendall(data.replace(b"\xff", b"\xff\xff"))
                elif self._pty is not None and select.select([], [self._pty], [], 1.0)[1]:
                    os.write(self._pty, data)  # nobody there who reads: it is lost, as on a cable

    def _pump_in(self, client: socket.socket) -> None:
        """Telnet: its commands are dropped (a break too: QEMU takes none over a socket pair)."""
        with contextlib.suppress(OSError):
            while data := client.recv(4096):
                self._type(data.replace(b"\r\0", b"\r").replace(bytes((IAC, BRK)), b"").replace(b"\xff\xff", b"\xff"))
        self._client = None
        client.close()

    def _pump_pty(self) -> None:
        assert self._pty is not None
        while True:
            try:
                self._type(os.read(self._pty, 4096))
            except OSError:  # nobody has the device open
                time.sleep(0.05)
            else:
                select.select([self._pty], [], [])

    def _type(self, data: bytes) -> None:
        if self._machine.is_on and not self._machine.is_deaf:
            self._machine.line.sendall(data)


def switch_handler(machine: Machine) -> type[http.server.BaseHTTPRequestHandler]:
    """A power switch as Tasmota answers: /cm?cmnd=Power1%20On"""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            wanted = query.get("cmnd", [""])[0].split()[-1:]
            if query.get("password", ["twin"]) != ["twin"]:
                self._answer(401, '{"WARNING":"Need user=<username>&password=<password>"}')
                return
            if wanted in (["Off"], ["Reset"]):
                machine.off()
            if wanted in (["On"], ["Reset"]):
                machine.on()
            state = wanted[0].upper() if wanted in (["On"], ["Off"]) else ("ON" if machine.is_on else "OFF")
            self._answer(200, f'{{"POWER1":"{state}"}}')

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            print(f"twin: {format % args}", flush=True)

    return Handler


def serve(name: str, *, tftp: Path, fault: str, pty_link: Path | None, tap: str = "") -> None:
    """Be the board until a signal comes."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: end with who started us
    serial_port, power_port = PORTS[name]
    machine = Machine(
        tftp=tftp, log=tftp.parent / f"twin-{name}.log", fault=fault, model=LOADERS.get(name, ""), tap=tap
    )

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    line = Line(machine, serial_port)
    if pty_link:
        line.make_pty(pty_link)
    switch = http.server.ThreadingHTTPServer(("127.0.0.1", power_port), switch_handler(machine))
    for job in (line.serve, switch.serve_forever):
        threading.Thread(target=job, daemon=True).start()
    print(f"twin {name}: serial line at 127.0.0.1:{serial_port}, power switch at 127.0.0.1:{power_port}", flush=True)
    try:
        STARTER.serve()
    finally:
        machine.off(really=True)


def ask(name: str, what: str) -> int:
    url = f"http://127.0.0.1:{PORTS[name][1]}/cm?cmnd=Power%20{what.title()}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            print(answer.read().decode())
    except (OSError, urllib.error.URLError) as error:
        print(f"twin {name}: no answer: {error}; is `twin.py serve {name}` running?", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("serve", "on", "off", "reset", "status"))
    parser.add_argument("name", choices=PORTS)
    parser.add_argument("--tftp", type=Path)
    parser.add_argument("--pty", type=Path)
    parser.add_argument("--tap", default="", help="a network interface instead of QEMU's own network")
    parser.add_argument("--fault", choices=FAULTS, default="none")
    given = parser.parse_args()
    if given.what != "serve":
        return ask(given.name, given.what)
    if not given.tftp:
        parser.error("serve needs --tftp DIR")
    serve(given.name, tftp=given.tftp.resolve(), fault=given.fault, pty_link=given.pty, tap=given.tap)
    return 0


if __name__ == "__main__":
    sys.exit(main())
