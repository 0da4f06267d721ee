#!/usr/bin/env python3
"""A twin of a board: a QEMU machine with real U-Boot, reached as a board is. Standard library only; knows nothing of
the harness, and the harness nothing of it.

    tests/twins/twin.py serve NAME --tftp DIR [--fault FAULT]    until it is ended (Ctrl-C, or by who started it)
    tests/twins/twin.py on|off|reset|status NAME                 what a power switch does

NAME gives the twin its ports: the serial line as a console server has it (telnet), and a power switch that speaks HTTP,
as Tasmota does. With --pty FILE the line is a serial device too: FILE becomes a link to it.

Faults: times: the line is a console server's that puts the time before each line and ends lines in CR CR LF. no-power,
stuck-on: the switch does nothing, or never switches off. deaf, deaf-once: what is typed gets lost,
always or until the second power-on. read-only: its disk is. These begin at once or, with --at TEXT, when the machine
has printed TEXT: noise: one byte in --every is lost or changed; pulled: the serial cable is out for --seconds; no-net:
the network cable is out.

It is at $TWIN_HOST, which is 127.0.0.1 where nothing else is said. With `auto` (or --host auto) it takes a free address
out of 127.0.0.0/8, all of which is loopback, and tells it in its first line: so any number of twins with the same ports
live side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import http.server
import os
import pty
import random
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# name → ports of the serial line, of the power switch, and the one that leads to its SSH server; boards.yaml beside
# this file has the same
PORTS = {
    "uboot": (17341, 17342, 0),
    "serial": (17343, 17344, 0),
    "ssh": (17345, 17346, 17355),
    "rpi3": (17349, 17350, 0),
    "server": (17347, 17348, 17357),
    "grub": (17351, 17352, 17361),
    "rpi4": (17353, 17354, 0),
}
LOADERS = {"rpi3": "raspi3b", "rpi4": "raspi4b"}  # name → machine of QEMU, where loader.py stands for U-Boot
U_BOOT = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
FAULTS = ("none", "times", "stuck-on", "no-power", "deaf-once", "deaf", "noise", "pulled", "no-net", "read-only")
IAC, BRK = 255, 243


@dataclass(frozen=True)
class Faults:
    """What the command line says of faults."""

    kind: str
    at: str
    every: int
    seconds: float
    seed: int


class Machine:
    """The board itself: QEMU while it has power. Its serial line is a socket pair that outlives it."""

    def __init__(self, *, name: str, address: str, tftp: Path, fault: str, system: list[str], tap: str = "") -> None:
        self.line, self._end = socket.socketpair()
        self._tftp, self._log, self._fault = tftp, tftp.parent / f"twin-{name}.log", fault
        self._system, self._model = system, LOADERS.get(name, "")
        port = PORTS[name][2]
        forward = f",hostfwd=tcp:{address}:{port}-:22" if port else ""
        self._network = f"user,id=net,restrict=on,tftp={tftp}{forward}"
        if tap:
            self._network = f"tap,id=net,ifname={tap},script=no,downscript=no"
        self._monitor, self._monitor_end = socket.socketpair()
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
            with contextlib.suppress(BlockingIOError):  # what was sent to the one before is in no UART of this one
                while self._end.recv(1 << 16, socket.MSG_DONTWAIT):
                    pass
            # not this thread's child, which would end with it: see Starter
            self._process = STARTER.start(self._command(), (self._end.fileno(), self._monitor_end.fileno()), self._log)

    def off(self, *, really: bool = False) -> None:
        if self._fault == "stuck-on" and not really:
            return
        with self._lock:
            if self._process:
                self._process.kill()
                self._process.wait()

    def pull_network(self) -> None:
        self._monitor.sendall(b"set_link net off\n")

    def _command(self) -> list[str]:
        fd = self._end.fileno()
        if self._model:
            loader = [sys.executable, str(Path(__file__).with_name("loader.py")), str(fd), str(self._tftp), self._model]
            return ["setpriv", "--pdeathsig", "KILL", "--", *loader]
        return [
            *("setpriv", "--pdeathsig", "KILL", "--", "qemu-system-aarch64", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-M", "virt", "-cpu", "neoverse-n1", "-accel", "tcg,thread=multi"),
            *("-smp", "2", "-m", "1536", *self._system),
            # telnet: a break on the line is one, as on a serial line
            *("-chardev", f"socket,id=line,fd={fd}", "-serial", "chardev:line"),
            *("-chardev", f"socket,id=monitor,fd={self._monitor_end.fileno()}", "-mon", "chardev=monitor"),
            *("-netdev", self._network),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        ]


class Starter:
    """Starts QEMU in the main thread, which lives as long as the twin: the kernel ends a process with pdeathsig when
    the thread that started it ends."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._done = threading.Event()
        self._job: tuple[list[str], tuple[int, ...], Path] | None = None
        self._started: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], fds: tuple[int, ...], log: Path) -> subprocess.Popen[bytes]:
        self._job = (command, fds, log)
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
            command, fds, log = self._job
            with log.open("ab") as output:
                self._started = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=fds
                )
            self._done.set()


STARTER = Starter()


class Trigger:
    """Tells when a fault begins: as soon as the machine has printed `text`, once."""

    def __init__(self, text: str, begin: Callable[[], None]) -> None:
        self._text, self._begin = text.encode(), begin
        self._tail = b""
        if not text:
            self._tell()

    def see(self, data: bytes) -> None:
        if not self._text:
            return
        self._tail += data
        if self._text in self._tail:
            self._tell()
        self._tail = self._tail[-len(self._text) :]

    def _tell(self) -> None:
        self._text = b""
        self._begin()


class Noise:
    """Loses or changes one byte in so many, by a seeded chance."""

    def __init__(self, every: int, *, seed: int) -> None:
        self._chance = random.Random(seed)
        self._every = every
        self.begun = False

    def damage(self, data: bytes) -> bytes:
        if not self.begun or all(self._chance.random() * self._every >= 1 for _ in data):
            return data
        damaged = bytearray(data)
        place = self._chance.randrange(len(damaged))
        if self._chance.random() < 0.5:
            del damaged[place]
        else:
            damaged[place] ^= 1 << self._chance.randrange(8)
        return bytes(damaged)


class Times:
    """Puts a time before each line, as that begins, and one more carriage return at its end."""

    def __init__(self) -> None:
        self._begins = True

    def put(self, data: bytes) -> bytes:
        out = bytearray()
        for line in _lines(data):
            if self._begins:
                out += time.strftime("[%Y-%m-%d %H:%M:%S] ").encode()
            out += line.replace(b"\n", b"\r\n")
            self._begins = line.endswith(b"\n")
        return bytes(out)


def _lines(data: bytes) -> list[bytes]:
    """The lines with their line feeds, the last one as far as it has come."""
    *lines, rest = data.split(b"\n")
    return [line + b"\n" for line in lines] + ([rest] if rest else [])


class Line:
    """The far end of the cable: hands the machine's bytes to whoever is connected, and theirs to it."""

    def __init__(self, machine: Machine, listener: socket.socket, faults: Faults) -> None:
        self._machine = machine
        self._faults = faults
        self._noise_out, self._noise_in = (Noise(faults.every, seed=seed) for seed in (faults.seed, faults.seed + 1))
        self._times = Times() if faults.kind == "times" else None
        self._trigger = Trigger(faults.at, self._begin)
        self._listener = listener
        self._client: socket.socket | None = None
        self._pty: int | None = None
        self._pulled_until = 0.0

    def make_pty(self, link: Path) -> None:
        master, slave = pty.openpty()
        tty.setraw(slave)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        os.close(slave)  # the harness looks who has the device open
        self._pty = master

    def _begin(self) -> None:
        """What was waited for has been printed."""
        if self._faults.kind == "noise":
            self._noise_out.begun = self._noise_in.begun = True
        if self._faults.kind == "no-net":
            self._machine.pull_network()
        if self._faults.kind == "pulled":
            self._pulled_until = time.monotonic() + self._faults.seconds
            if self._client:
                self._client.shutdown(socket.SHUT_RDWR)

    @property
    def _is_pulled(self) -> bool:
        return time.monotonic() < self._pulled_until

    def serve(self) -> None:
        threading.Thread(target=self._pump_out, daemon=True).start()
        if self._pty is not None:
            threading.Thread(target=self._pump_pty, daemon=True).start()
        while True:
            client, _ = self._listener.accept()
            if self._client or self._is_pulled:
                with contextlib.suppress(OSError):
                    client.sendall(b"" if self._is_pulled else b"twin: the console is in use\r\n")
                client.close()
                continue
            self._client = client
            threading.Thread(target=self._pump_in, args=(client,), daemon=True).start()

    def _pump_out(self) -> None:
        while printed := self._machine.line.recv(4096):
            data = self._noise_out.damage(printed)
            data = self._times.put(data) if self._times else data
            self._trigger.see(printed)
            if self._is_pulled:
                continue
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
            self._machine.line.sendall(self._noise_in.damage(data))


def switch_handler(machine: Machine) -> type[http.server.BaseHTTPRequestHandler]:
    """A power switch as Tasmota answers: /cm?cmnd=Power1%20On"""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            wanted = query.get("cmnd", [""])[0].split()[-1:]
            wanted = [{"0": "Off", "1": "On"}.get(word, word) for word in wanted]
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


def machine_of(system: Path | None, disk: Path | None, *, u_boot: str, fault: str) -> list[str]:
    """What QEMU boots: U-Boot, with a disk where there is one; or the Image and initrd that system.py has made."""
    if disk:
        drive = f"file={disk},if=none,id=disk,format=raw,readonly={'on' if fault == 'read-only' else 'off'}"
        return ["-bios", u_boot, "-drive", drive, "-device", "virtio-blk-pci,drive=disk"]
    if not system:
        return ["-bios", u_boot]
    directory = system
    return ["-kernel", f"{directory}/Image", "-initrd", f"{directory}/initrd", "-append", "rdinit=/twin-init panic=30"]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket at `port` of `host`; with `auto` at some loopback address where the port is free."""
    while True:
        address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        try:
            return socket.create_server((address if host == "auto" else host, port))
        except OSError as error:
            if host != "auto" or error.errno != errno.EADDRINUSE:
                raise SystemExit(f"twin: {host}:{port}: {error.strerror}") from None


def serve(name: str, machine: Machine, listener: socket.socket, faults: Faults, *, pty_link: Path | None) -> None:
    """Be the board until a signal comes."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: end with who started us
    serial_port, power_port, _ = PORTS[name]

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    address = listener.getsockname()[0]
    line = Line(machine, listener, faults)
    if pty_link:
        line.make_pty(pty_link)
    switch = http.server.ThreadingHTTPServer((address, power_port), switch_handler(machine))
    for job in (line.serve, switch.serve_forever):
        threading.Thread(target=job, daemon=True).start()
    print(f"twin {name}: at {address}: serial line at port {serial_port}, power switch at {power_port}", flush=True)
    try:
        STARTER.serve()
    finally:
        machine.off(really=True)


def ask(name: str, what: str, *, host: str) -> int:
    url = f"http://{host}:{PORTS[name][1]}/cm?cmnd=Power%20{what.title()}"
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
    parser.add_argument("--system", type=Path, metavar="DIR", help="instead of U-Boot: Image and initrd in it")
    parser.add_argument("--disk", type=Path, metavar="FILE", help="what U-Boot finds to boot from")
    parser.add_argument("--u-boot", default=U_BOOT, metavar="FILE", help="another one, as one with wget")
    parser.add_argument("--tap", default="", help="a network interface instead of QEMU's own network")
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--at", default="", metavar="TEXT")
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--host", default=os.environ.get("TWIN_HOST", "127.0.0.1"))
    given = parser.parse_args()
    if given.what != "serve":
        return ask(given.name, given.what, host=given.host)
    if not given.tftp:
        parser.error("serve needs --tftp DIR")
    tftp = given.tftp.resolve()
    listener = listen(given.host, PORTS[given.name][0])  # whoever has this one has the address's other ports too
    machine = Machine(
        name=given.name,
        address=listener.getsockname()[0],
        tftp=tftp,
        fault=given.fault,
        system=machine_of(given.system, given.disk, u_boot=given.u_boot, fault=given.fault),
        tap=given.tap,
    )
    faults = Faults(given.fault, given.at, given.every, given.seconds, given.seed)
    serve(given.name, machine, listener, faults, pty_link=given.pty)
    return 0


if __name__ == "__main__":
    sys.exit(main())
