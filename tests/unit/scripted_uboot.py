"""U-Boot's side of a serial line, scripted: an echo, a prompt, and answers to commands."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport

BANNER = "\r\n\r\nU-Boot 2023.01 (Jun 22 2026)\r\n\r\nDRAM:  1.5 GiB\r\n"
AUTOBOOT = "Hit any key to stop autoboot:  2 "
LOADED = "Loading: *####\r\n\t 25.8 MiB/s\r\ndone\r\nBytes transferred = 1234 (4d2 hex)\r\n"


class ScriptedUboot:
    """`answers`: command (a regular expression) to output; others are answered by nothing. `stops`: whether a key
    stops autoboot; else the kernel of the disk starts."""

    def __init__(self, answers: dict[str, str] | None = None, *, prompt: str = "=> ", banner: str = BANNER + AUTOBOOT,
                 stops: bool = True) -> None:  # fmt: skip
        ours, self._theirs = socket.socketpair()
        self.console = Console(SocketTransport(ours), log=None, name="board")
        self.commands: list[str] = []
        self._answers = {r"echo (\w+)": r"\1" + "\r\n", **(answers or {})}
        self._prompt, self._stops = prompt, stops
        self.hangs_at = ""  # a command that does not end
        self.hanging = "\r\nLoading: ####T T T "  # what it prints
        self._at_prompt = banner.endswith(prompt)
        self._say(banner)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed before
            self._theirs.shutdown(socket.SHUT_RDWR)
        self.console.close()
        self._thread.join(timeout=5.0)
        self._theirs.close()

    def _say(self, text: str) -> None:
        self._theirs.sendall(text.encode())

    def _serve(self) -> None:
        if not self._at_prompt:
            if not self._theirs.recv(100):
                return
            if not self._stops:
                self._say("0\r\nStarting kernel ...\r\n")
                return
            self._say(f"0\r\n{self._prompt}")
        line = ""
        while data := self._theirs.recv(1):
            key = data.decode()
            if key == "\x03":
                line = ""
                self._say(f"<INTERRUPT>\r\n{self._prompt}")
            elif key == "\r" and self.hangs_at and line.startswith(self.hangs_at):
                self._say(self.hanging)
            elif key == "\r":
                self._say(f"\r\n{self._answer(line.strip())}{self._prompt}")
                line = ""
            else:
                line += key
                self._say(key)

    def _answer(self, command: str) -> str:
        if command:
            self.commands.append(command)
        for pattern, answer in self._answers.items():
            found = re.fullmatch(pattern, command)
            if found:
                return found.expand(answer) if "\\1" in answer else answer
        return ""
