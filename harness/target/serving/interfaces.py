"""Which network an address of this host is on."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from pathlib import Path

_SIOCGIFCONF = 0x8912  # linux/sockios.h
_RECORD_BYTES = 40 if struct.calcsize("P") == 8 else 32  # struct ifreq
_MOST = 256  # addresses
_UP, _REJECT = 0x1, 0x200  # linux/route.h


def interface_of(address: str) -> str:
    """Return the name of the interface that has the IPv4 address `address`; empty if none has it."""
    buffer = array.array("B", bytes(_MOST * _RECORD_BYTES))
    place, _ = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFCONF, struct.pack("@iP", len(buffer), place))
    size, _ = struct.unpack("@iP", answer)
    for start in range(0, size, _RECORD_BYTES):
        record = bytes(buffer[start : start + _RECORD_BYTES])
        if socket.inet_ntoa(record[20:24]) == address:
            return record[:16].partition(b"\0")[0].decode().partition(":")[0]
    return ""


def has_default_route(interface: str, *, proc: Path = Path("/proc/net")) -> bool:
    """Return whether this host reaches other networks over `interface`."""
    for line in _lines(proc / "route"):
        name, destination, _, flags, *_, mask, _, _, _ = line
        is_used = int(flags, 16) & (_UP | _REJECT) == _UP
        if name == interface and destination == mask == "0" * 8 and is_used:
            return True
    for line in _lines(proc / "ipv6_route"):
        destination, length, *_, flags, name = line
        is_used = int(flags, 16) & (_UP | _REJECT) == _UP
        if name == interface and destination == "0" * 32 and length == "00" and is_used:
            return True
    return False


def _lines(path: Path) -> list[list[str]]:
    """Return the words of each line below a headline; none if the host's kernel has no such file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
    return [line for line in lines if line and line[0] != "Iface"]
