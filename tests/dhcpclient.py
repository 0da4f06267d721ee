"""DHCP as a network card speaks it, and a network to speak it in: a cable between two ends in a network namespace of
its own. `python -m tests.dhcpclient`, inside of such a namespace (`unshare --net`), lays the cable, starts the
harness's server at one end as the JSON object on its command line says, asks at the other end, and prints what came of
it as JSON."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.model.boot import TftpServe
from harness.target.serving import tftp, tftpclient

BOARD, STRANGER = "02:00:00:00:00:01", "02:00:00:00:00:99"
ADDRESS = "10.9.0.1"
DISCOVER, OFFER, REQUEST, NAK = 1, 2, 3, 6
_BROADCAST = b"\xff" * 6
_LIMIT_S = 20.0


def lay_cable(*, default_route: bool) -> None:
    commands = "lo up; va type veth peer name vb; va up; vb up"
    for command in commands.split("; "):
        verb = "add" if " type " in command else "set"
        subprocess.run(["ip", "link", verb, *command.split()], check=True)
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/24", "dev", "va"], check=True)
    if default_route:
        subprocess.run(["ip", "route", "add", "default", "via", "10.9.0.254"], check=True)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(kind: int, mac: str, *, options: bytes = b"") -> bytes:
    """An Ethernet frame: what a card sends that has no address yet. `options`: further ones of DHCP."""
    card = bytes.fromhex(mac.replace(":", ""))
    identity = struct.unpack("!I", card[2:])[0]
    bootp = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, identity, 0, 0x8000) + card.ljust(16, b"\0") + bytes(192)
    bootp += b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + options + b"\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]
    return _BROADCAST + card + b"\x08\x00" + head + udp


def answer(frame: bytes) -> tuple[str, int] | None:
    """Whom a frame answers, and with what; None if it is none of a DHCP server's."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[34:36] != struct.pack("!H", 67):
        return None
    bootp = frame[42:]
    found = re.search(rb"\x63\x82\x53\x63\x35\x01(.)", bootp, re.DOTALL)
    return (bootp[28:34].hex(":"), found[1][0]) if found else None


def asked(line: socket.socket) -> list[tuple[str, int]]:
    """Ask as a stranger for any address and for the one that it had elsewhere, then as the board; return the answers
    until the board has its offer. The server takes one question after the other."""
    line.send(packet(REQUEST, STRANGER, options=bytes([50, 4, 10, 9, 0, 77])))
    line.send(packet(DISCOVER, STRANGER))
    line.send(packet(DISCOVER, BOARD))
    answers: list[tuple[str, int]] = []
    while not answers or answers[-1][0] != BOARD:
        if found := answer(line.recv(2000)):
            answers.append(found)
    return answers


def fetched(name: str) -> str:
    try:
        return tftpclient.fetch(ADDRESS, name).decode()
    except HarnessError as error:
        return error.message


def status_of(process: int) -> dict[str, str]:
    fields = (line.partition(":") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {key: value.strip() for key, _, value in fields}


def main() -> None:
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    lay_cable(default_route=wanted.pop("default_route", False))
    leaves_running = wanted.pop("leaves_running", False)
    is_readable = not wanted.pop("unreadable", False)
    spec = TftpServe(address=ADDRESS, **{**wanted, "dhcp": tuple(wanted.get("dhcp", ()))})
    said: list[str] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "file").write_text("content")
        (root / "secret").write_text("secret")
        (root / "secret").chmod(0o600)
        if not is_readable:
            root.chmod(0o700)
        try:
            tftp.check(spec, root=root, place="b.boot.tftp_serve")
        except HarnessError as error:
            print(json.dumps({"refused": error.message, "exit_code": error.exit_code}))
            return
        line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        line.bind(("vb", 0))
        line.settimeout(_LIMIT_S)
        with tftp.served(spec, root, place="b.boot.tftp_serve", log=root / "log", say=said.append):
            [server] = [
                int(word) for word in subprocess.check_output(["pgrep", "-P", str(os.getpid()), "dnsmasq"]).split()
            ]
            environment = Path(f"/proc/{server}/environ").read_bytes().decode().split("\0")
            told = {"said": said, "server": server, "status": status_of(server), "environment": environment}
            if leaves_running:
                print(json.dumps(told), flush=True)
                time.sleep(600)
            if spec.dhcp:
                told["answers"] = asked(line)
            else:
                told["files"] = [fetched("file"), fetched("secret")]
        told["log"] = (root / "log").read_text()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
