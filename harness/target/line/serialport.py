"""A serial device of this host as the transport of a console. The only module that imports pyserial."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import serial

from harness.errors import InfraError
from harness.model.board import SerialConsole

_SEND_LIMIT_S = 30.0
_MEMORY_DEVICES = 1  # the major number of /dev/null, /dev/zero and the like (Documentation/admin-guide/devices.txt)


class SerialTransport:
    """An open serial device; nobody else can open it at the same time."""

    def __init__(self, spec: SerialConsole, *, place: str) -> None:
        device = Path(spec.device)
        if not device.exists():
            raise InfraError(f"{place}: expected a serial device at {device}, found none; {_others(device)}")
        if not device.is_char_device() or os.major(device.stat().st_rdev) == _MEMORY_DEVICES:
            raise InfraError(
                f"{place}: expected a serial device at {device}, found something else; correct console.device"
            )
        holder = _holder(device)
        if holder:
            raise InfraError(f"{place}: {device} is in use by {holder}; end that first")
        try:
            self._port = serial.Serial(
                str(device),
                spec.baud,
                exclusive=True,
                rtscts=spec.flow == "rtscts",
                xonxoff=spec.flow == "xonxoff",
                write_timeout=_SEND_LIMIT_S,
            )
        except (serial.SerialException, ValueError, OSError) as error:
            raise InfraError(f"{place}: {device}: can't open it: {_reason(device, error)}") from None

    def receive(self) -> bytes:
        try:
            first = self._port.read(1)
            return bytes(first + self._port.read(self._port.in_waiting)) if first else b""
        except (serial.SerialException, OSError, TypeError):  # TypeError: closed while it reads
            return b""

    def send(self, data: bytes) -> None:
        self._port.write(data)  # what it raises is an OSError

    def send_break(self) -> bool:
        try:
            self._port.send_break(0.25)
        except (serial.SerialException, OSError):
            return False
        return True

    def shut(self) -> None:
        with contextlib.suppress(Exception):
            self._port.cancel_read()

    def close(self) -> None:
        with contextlib.suppress(serial.SerialException, OSError):
            self._port.close()


def _others(device: Path) -> str:
    """Return advice for a device that does not exist."""
    try:
        beside = sorted(path.name for path in device.parent.iterdir() if path.name.startswith(("tty", "usb-")))
    except OSError:
        beside = []
    serials = [name for name in beside if name.startswith(("ttyUSB", "ttyACM", "ttyAMA", "usb-"))]
    hint = f"; there are: {', '.join(serials[:6])}" if serials else ""
    return f"plug in the adapter, or correct console.device{hint}"


def _holder(device: Path) -> str:
    """Return which process has the device open, as far as we may see; empty if none does."""
    real = os.path.realpath(device)
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError, KeyError):  # KeyError: an owner without a name
            if any(os.path.realpath(entry) == real for entry in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().split(b"\0")
                command = b" ".join(words[:6]).decode(errors="replace").strip()
                return f"`{command}` (process {process.name}, {process.owner()})"
    return ""


def _reason(device: Path, error: Exception) -> str:
    if not os.access(device, os.R_OK | os.W_OK):
        return f"you may not read and write it; become a member of group {device.group()}"
    if "lock" in str(error):
        return "another user's process has it open; ask them to end it"
    return str(error)
