#!/usr/bin/env python3
"""What stands for U-Boot on machines of QEMU that U-Boot can't bring to a network: it understands what one has to say
to U-Boot to boot over TFTP, takes the files out of the directory itself, and then becomes QEMU with that kernel.

    tests/twins/loader.py FD DIR MACHINE    FD: a socket, the machine's serial line; DIR: what a TFTP server would serve
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import tempfile
from pathlib import Path

ADDRESSES = {"kernel_addr_r": "80000", "ramdisk_addr_r": "2700000", "fdt_addr_r": "2600000"}
# A Raspberry Pi's serial line on its pins is the second one, the mini UART.
_LINE = ["-smp", "4", "-serial", "null", "-serial", "chardev:line"]
MACHINES = {"raspi3b": ["-m", "1024", *_LINE], "raspi4b": ["-m", "2048", *_LINE]}


class Loader:
    """A prompt on `line` that knows a dozen words; `booti` does not come back."""

    def __init__(self, line: socket.socket, directory: Path, machine: str) -> None:
        self._line, self._directory, self._machine = line, directory, machine
        self._environment = dict(ADDRESSES)
        self._files: dict[int, Path] = {}

    def serve(self) -> None:
        self._say("\r\n\r\nU-Boot 2023.01 (not the real one)\r\n\r\nHit any key to stop autoboot:  2 ")
        self._line.recv(1)
        self._say("\r\n")
        while True:
            self._say("U-Boot> ")
            typed = self._typed()
            for command in typed.split(";"):
                words = shlex.split(command)
                if words:
                    self._say(self._answer(words))

    def _typed(self) -> str:
        line = ""
        while (key := self._line.recv(1).decode()) != "\r":
            if not key:
                raise SystemExit(0)  # no power
            line = "" if key == "\x03" else line + key
            if key != "\x03":
                self._say(key)
        self._say("\r\n")
        return line.strip()

    def _say(self, text: str) -> None:
        self._line.sendall(text.encode())

    def _answer(self, words: list[str]) -> str:
        name, arguments = words[0], [self._value(word) for word in words[1:]]
        if name == "echo":
            return f"{' '.join(arguments)}\r\n"
        if name == "setenv":
            self._environment[arguments[0]] = " ".join(arguments[1:])
            return ""
        if name == "printenv":
            return f"{arguments[0]}={self._environment[arguments[0]]}\r\n"
        if name == "dhcp":
            return "DHCP client bound to address 10.0.2.15 (1 ms)\r\n"
        if name == "tftpboot":
            path = self._directory / arguments[1]
            if not path.is_file():
                return "TFTP error: 'File not found' (1)\r\n"
            self._files[int(arguments[0], 16)] = path
            return f"Bytes transferred = {path.stat().st_size} ({path.stat().st_size:x} hex)\r\n"
        if name == "booti":
            self._boot(*arguments)
        return f"Unknown command '{name}' - try 'help'\r\n"

    def _value(self, word: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda found: self._environment.get(found[1], ""), word)

    def _boot(self, kernel: str, ramdisk: str, fdt: str) -> None:
        """Become QEMU, with what lies at these addresses."""
        start, size = (int(number, 16) for number in ramdisk.split(":"))
        archives = sorted((at, path) for at, path in self._files.items() if start <= at < start + size)
        # without a name: it is gone with QEMU
        with tempfile.TemporaryFile(dir=self._directory) as initramfs:
            for at, path in archives:
                assert initramfs.tell() == at - start, "the archives have to lie one behind the other"
                initramfs.write(path.read_bytes())
            initramfs.flush()
            self._say("Starting kernel ...\r\n\r\n")
            os.set_inheritable(initramfs.fileno(), True)
            line = self._line.fileno()
            os.set_inheritable(line, True)
            command = [
                *("setpriv", "--pdeathsig", "KILL", "--", "qemu-system-aarch64", "-no-user-config", "-nodefaults"),
                *("-display", "none", "-no-reboot", "-accel", "tcg,thread=multi", "-M", self._machine),
                *("-chardev", f"socket,id=line,fd={line}", *MACHINES[self._machine]),
                *("-kernel", str(self._files[int(kernel, 16)]), "-dtb", str(self._files[int(fdt, 16)])),
                *("-initrd", f"/dev/fd/{initramfs.fileno()}", "-append", self._environment["bootargs"]),
            ]
            os.execvp(command[0], command)


if __name__ == "__main__":
    Loader(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]).serve()
