"""QEMU's gdb stub: as much of gdb's remote protocol as it takes to stop one emulated CPU and let the others go on."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STOPPED = re.compile(r"T[0-9a-f]{2}(?:thread:p?(?:[0-9a-f]+\.)?(?P<thread>[0-9a-f]+);)?")
_INTERRUPT = b"\x03"
_REGISTERS = struct.Struct("<33Q")  # x0 to x30, sp, pc
_INSTRUCTION = 4  # bytes


@dataclass(frozen=True)
class Registers:
    """The general registers of an arm64 CPU."""

    x: tuple[int, ...]
    sp: int
    pc: int


class GdbStub:
    """A connection to the stub that listens on the Unix socket `path`. Connecting stops the whole machine.

    CPUs are numbered from 0 here, threads from 1 in the protocol. Every answer is awaited for at most `timeout`
    seconds; after that, TimeoutError."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._received = b""
        self._ask("qXfer:features:read:target.xml:0,ffb")  # without it QEMU refuses to write a register

    def close(self) -> None:
        self._socket.close()

    def stop_at(self, address: int) -> None:
        """Stop the machine whenever a CPU is about to execute the instruction at `address`."""
        self._order(f"Z1,{address:x},{_INSTRUCTION}")

    def no_longer_stop_at(self, address: int) -> None:
        self._order(f"z1,{address:x},{_INSTRUCTION}")

    def resume(self, cpus: Sequence[int]) -> None:
        """Let these CPUs go on, and only these. The machine counts as running."""
        self._send("vCont;" + ";".join(f"c:{cpu + 1:x}" for cpu in cpus))

    def wait_for_stop(self) -> int:
        """Wait until the machine stops; return the CPU that is the reason."""
        return self._stopped(self._receive())

    def interrupt(self) -> None:
        """Stop the machine wherever it is."""
        self._socket.sendall(_INTERRUPT)
        self._stopped(self._receive())

    def registers(self, cpu: int) -> Registers:
        self._order(f"Hg{cpu + 1:x}")
        values = _REGISTERS.unpack(bytes.fromhex(self._ask("g"))[: _REGISTERS.size])
        return Registers(x=values[:31], sp=values[31], pc=values[32])

    def set_pc(self, cpu: int, address: int) -> None:
        self._order(f"Hg{cpu + 1:x}")
        self._order(f"P20={struct.pack('<Q', address).hex()}")

    def instruction(self, cpu: int, address: int) -> int:
        """Return the instruction at a virtual address, as `cpu` would read it."""
        self._order(f"Hg{cpu + 1:x}")
        word: int = struct.unpack("<I", bytes.fromhex(self._ask(f"m{address:x},{_INSTRUCTION}")))[0]
        return word

    def _order(self, packet: str) -> None:
        if (answer := self._ask(packet)) != "OK":
            raise RuntimeError(f"gdb stub: {packet}: expected OK, found {answer!r}")

    def _ask(self, packet: str) -> str:
        self._send(packet)
        return self._receive()

    def _send(self, packet: str) -> None:
        data = packet.encode()
        self._socket.sendall(b"$%s#%02x" % (data, sum(data) % 256))
        while (start := self._take(1)) != b"+":
            self._rest_of_packet(start)  # that the machine stopped when we connected

    def _receive(self) -> str:
        return self._rest_of_packet(self._take(1))

    def _rest_of_packet(self, start: bytes) -> str:
        if start != b"$":
            raise RuntimeError(f"gdb stub: expected a packet, found {start!r}")
        data = b""
        while not data.endswith(b"#"):
            data += self._take(1)
        self._take(2)  # the checksum of a local socket
        self._socket.sendall(b"+")
        return data[:-1].decode()

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            block = self._socket.recv(4096)
            if not block:
                raise RuntimeError("gdb stub: the connection closed: QEMU has ended")
            self._received += block
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    @staticmethod
    def _stopped(answer: str) -> int:
        found = _STOPPED.match(answer)
        if not found:
            raise RuntimeError(f"gdb stub: expected that the machine stops, found {answer!r}")
        return int(found["thread"] or "1", 16) - 1
