"""Boards as public boot logs show them, each described in tests/data/uboot/*.yaml by what is special about it.

board       what it is                        special     what differs from the others
settings    its keys below `boot`             says        what it prints before it can be stopped
asks        what it prints while it waits     keys        what stops it: any, or the characters
countdown   what it prints meanwhile          prompt      its prompt
menu        what a key leads to, and `leaves` the key that leaves it
stages      several of these, one after the other; each may end with `resets`
buffered    keys typed before it waits count, and it waits for no more
silent      nothing is printed until it is stopped
line_end    of each line                      time        before each line; `behind_prompt`: before the echo, too
chatter     a line that comes between the prompt and the first command
colours     around the prompt                 answers     commands and what they print
boots       what it prints when it boots by itself
refuses     the harness can't stop it; the message (a regular expression)
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.model.boot import UbootBoot
from harness.parse.boot_shapes import UbootBoot as Shape
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport

DATA = Path(__file__).parents[1] / "data/uboot"
COUNT_S = 0.25  # for each number of a countdown: a second would only take longer
PATIENCE_S = 20.0  # for the last number, where a key is to come: this host may be busy
NOBODYS = "a key that nobody has"
LOADED = "Bytes transferred = 1234 (4d2 hex)\n"
ANSWERS = {
    r"echo (\w+)": r"\1\n",
    "version": "U-Boot 2023.01 (Jan 01 2023 - 00:00:00 +0000)\n\ngcc 12\n",
    r"printenv (\w+)": r"\1=0x40400000\n",
    "setenv autoload no; dhcp": "BOOTP broadcast 1\nDHCP client bound to address 10.0.0.7 (12 ms)\n",
    "tftpboot .*": f"Using eth0 device\nLoading: *#####\n\t 4.1 MiB/s\ndone\n{LOADED}",
    "crc32 .*": "crc32 for 40400000 ... 404004d1 ==> 0badcafe\n",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one boot loader does until it is stopped, resets or starts the next one."""

    says: str = ""
    asks: str = ""
    keys: str = "any"
    countdown: tuple[str, ...] = ("\b\b\b 1 ", "\b\b\b 0 ")
    menu: str = ""
    leaves: str = ""
    buffered: bool = False
    silent: bool = False
    resets: str = ""

    @property
    def waits(self) -> bool:
        """Whether it looks at keys at all."""
        return bool(self.asks) or self.silent


@dataclass(frozen=True, kw_only=True)
class Board:
    """A described board; the fields are explained above."""

    board: str
    special: str
    stages: tuple[Stage, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = "=> "
    line_end: str = "\r\n"
    time: str = ""
    behind_prompt: bool = False
    chatter: str = ""
    colours: tuple[str, str] = ("", "")
    answers: Mapping[str, str] = field(default_factory=dict)
    refuses: str = ""
    boots: str = "\nStarting kernel ...\n\n[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd034]\n"

    @property
    def spec(self) -> UbootBoot:
        """Its entry, as boards.yaml has it."""
        return Shape.model_validate(
            {"method": "uboot", "tftp_root": "/t", "uboot_seconds": 6.0, **self.settings}
        ).made()


def described() -> Iterator[Board]:
    """Yield all boards."""
    own = {each.name for each in Stage.__dataclass_fields__.values()}
    for path in sorted(DATA.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()):
            stages = entry.pop("stages", None) or [{key: entry.pop(key) for key in own & entry.keys()}]
            for stage in stages:
                stage["countdown"] = tuple(stage.get("countdown", Stage.countdown))
            entry["colours"] = tuple(entry.get("colours", ("", "")))
            yield Board(**entry, stages=tuple(Stage(**stage) for stage in stages))


class ScriptedBoard:
    """A described board from power-on; `console`: our side of its line. `typed`: all that arrived; `commands`: what was
    run at the prompt; `booted`: it booted by itself."""

    def __init__(self, board: Board) -> None:
        ours, self._theirs = socket.socketpair()
        self.console = Console(SocketTransport(ours), log=None, name="board")
        self.typed = b""
        self.commands: list[str] = []
        self.booted = False
        self._board = board
        self._begins_line = True
        self._seconds = 0.0
        self._answers = {**board.answers, **{key: value for key, value in ANSWERS.items() if key not in board.answers}}
        self._thread = threading.Thread(target=self._live, daemon=True)

    def switch_on(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.console.close()
        self._thread.join(timeout=5.0)
        self._theirs.close()

    def _live(self) -> None:
        try:
            for stage in self._board.stages:
                if not self._stage(stage):
                    continue
                self._shell()
                return
            self.booted = True
            self._say(self._board.boots)
            while self._key():
                pass
        except OSError:  # our side has closed the line
            pass

    def _stage(self, stage: Stage) -> bool:
        """Return whether it was stopped."""
        if not stage.silent:
            self._say(stage.says)
        window = self._typed_meanwhile() if stage.buffered else ""
        self._drop()
        if stage.asks:
            self._say(stage.asks)
        stopped = bool(window) and stage.keys in ("any", window[-len(stage.keys) :])
        numbers = () if stage.buffered else ("", *stage.countdown)
        for left, text in zip(reversed(range(len(numbers))), numbers, strict=True):
            if text and not stage.silent:
                self._say(text)
            is_last = not left and stage.keys != NOBODYS and stage.waits
            ends = time.monotonic() + (PATIENCE_S if is_last else COUNT_S)
            while not stopped and (key := self._key(max(0.0, ends - time.monotonic()))):
                window += key
                stopped = stage.keys == "any" or window.endswith(stage.keys)
        if stopped and stage.menu:
            self._say(stage.menu)
            while (key := self._key()) != stage.leaves:
                if not key:
                    return False
        if not stage.silent or stopped:
            self._say("\n" if stage.asks else "")
        self._say(stage.resets)
        return stopped and not stage.resets

    def _key(self, seconds: float | None = None) -> str:
        """The next key; empty if none comes, or the line is closed."""
        self._theirs.settimeout(seconds if seconds is None else max(seconds, 0.001))
        try:
            data = self._theirs.recv(1)
        except TimeoutError:
            return ""
        self.typed += data
        return data.decode("latin-1")

    def _typed_meanwhile(self) -> str:
        typed = self._key(PATIENCE_S)
        ends = time.monotonic() + COUNT_S
        while (left := ends - time.monotonic()) > 0:
            typed += self._key(left)
        return typed

    def _drop(self) -> None:
        while self._key(0.0):
            pass

    def _say(self, text: str) -> None:
        said = ""
        for piece in text.splitlines(keepends=True):
            if self._begins_line:
                said += self._stamp()
            said += piece.replace("\n", self._board.line_end)
            self._begins_line = piece.endswith("\n")
        self._theirs.sendall(said.encode())

    def _stamp(self) -> str:
        self._seconds += 0.017
        return self._board.time and (self._board.time % self._seconds if "%" in self._board.time else self._board.time)

    def _prompt(self) -> None:
        if not self._board.behind_prompt:
            self._say("")
            before = self._stamp() if self._begins_line else ""
        else:
            before = ""
        on, off = self._board.colours
        self._theirs.sendall(f"{before}{on}{self._board.prompt}{off}".encode())
        self._begins_line = self._board.behind_prompt

    def _shell(self) -> None:
        self._prompt()
        line, chatter = "", self._board.chatter
        while key := self._key():
            if key == "\x03":
                self._say("<INTERRUPT>\n")
                self._prompt()
                line = ""
            elif key == "\r":
                self._say("\n")
                self._run(line.strip())
                self._prompt()
                line = ""
                if chatter and self.commands:
                    self._say(f"{chatter}\n")
                    chatter = ""
            elif key.isprintable():
                self._say(key)
                line += key

    def _run(self, command: str) -> None:
        if not command:
            return
        self.commands.append(command)
        for pattern, answer in self._answers.items():
            found = re.fullmatch(pattern, command)
            if found:
                self._say(found.expand(answer) if "\\1" in answer else answer)
                return
        if not command.startswith(("setenv ", "booti ", "usb ")):
            self._say(f"Unknown command '{command.split()[0]}' - try 'help'\n")
        if command.startswith("booti "):
            self._say(self._board.boots)
