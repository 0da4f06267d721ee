"""U-Boot at its prompt on a serial line: make it load files and boot, and explain its error messages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import InfraError
from harness.model.boot import UbootBoot
from harness.target.line.console import Console
from harness.target.line.plaintext import PlainText
from harness.target.methods.autoboot import Autoboot, check_line
from harness.target.methods.fetch import Complaints, fetch_of

_COMMAND_LIMIT_S = 10.0
_NETWORK_LIMIT_S = 60.0
_ECHO_LIMIT_S = 2.0
_TYPING_TRIES = 5
_ADDRESS = re.compile(r"(?:0x)?[0-9a-fA-F]{1,16}")
_LONGEST_COMMAND = 480  # characters; CONFIG_SYS_CBSIZE is 512 in many a configuration
_LONGEST_PIECE = 200  # characters of a long text set by one command; in older configurations CONFIG_SYS_CBSIZE is 256

# U-Boot's error messages and their meanings. Checked in this order, on the output of one command.
_COMPLAINTS: Complaints = (
    (r"trying to overwrite reserved memory", "the address is not free memory; see boot.kernel_at, boot.ramdisk_at and "
     "boot.dtb_at"),
    (r"ARP Retry count exceeded", "the server's address does not answer; see boot.server and the cable"),
    (r"Retry (?:count|time) exceeded", "the server does not answer; see whether a DHCP and a TFTP server run and reach "
     "the board"),
    (r"No ethernet found", "U-Boot has no network here; see boot.before, as `usb start`"),
    (r"TIMEOUT !|[Cc]ould not (?:establish|get) link|link is down|Cable .*(?:removed|not)", "no link; plug in the "
     "network cable"),
    (r"\*\*\* ERROR: `?\w+'? (?:address )?not set", "the network is not set up; see boot.address and boot.server"),
    (r"Bad Linux ARM64 Image magic", "the Image is not one of arm64, or arrived broken"),
    (r"[Dd]id not find a cmdline Flattened Device Tree|bad magic|FDT_ERR_\w+", "there is no device tree; name one with "
     "boot.dtb, or where U-Boot has its own with boot.fdt"),
    (r"Ramdisk image is corrupt|Wrong Ramdisk Image Format", "the initramfs arrived broken"),
    (r"ramdisk - allocation error|Failed to (?:allocate|reserve)|device tree - allocation error", "the board's memory "
     "has no room for it; see boot.kernel_at and boot.ramdisk_at"),
    (r"Unknown command '(?:booti|dhcp)'", "this U-Boot lacks a command that is needed; build it with CMD_BOOTI and "
     "CMD_DHCP"),
)  # fmt: skip


class NotFinished(InfraError):
    """A command did not return to the prompt in time."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """A file to load: its `name` on the server, and its destination, an address or the name of a U-Boot variable that
    contains one."""

    name: str
    size: int
    address: str
    key: str  # the entry of boards.yaml that says the address
    crc32: int | None = None  # to be compared with what arrived


class Uboot:
    """A conversation with U-Boot on `line`. `place`: the board's name in messages."""

    def __init__(self, line: Console, spec: UbootBoot, *, place: str) -> None:
        self._line = line
        self._text = PlainText(line)
        self._spec = spec
        self._place = place
        self._prompt = ""
        self._fetch = fetch_of(spec)

    def forget(self) -> None:
        """Discard what the board has printed so far; to be called before it is switched on."""
        self._text.drop()

    def stop(self, *, after: str = "") -> None:
        """After power-on: wait for U-Boot and stop it before it boots by itself; learn its prompt.

        `after`: where keys are sent from power-on, the output (a regular expression) before which they are not. Raises
        InfraError if it never shows up, NotStopped if it does not react to the keys."""
        self._prompt = Autoboot(self._line, self._text, self._spec, place=self._place).stop(after=after)
        self._text.prompt = self._prompt

    def _check_line(self) -> None:
        check_line(self._line, self._place)

    def command(self, text: str, *, timeout: float = _COMMAND_LIMIT_S, gives_up: str = "") -> str:
        """Run one command and return its output. Raises InfraError if U-Boot prints an error or does not return to its
        prompt; output that matches `gives_up` means that it will not return."""
        if len(text) > _LONGEST_COMMAND:
            raise InfraError(f"{self._place}: too long for U-Boot ({len(text)} characters): {text[:60]}…")
        self._type(text)
        self._line.send(b"\r")
        ends = rf"[\r\n]{re.escape(self._prompt)}|(?P<last>{gives_up or '(?!)'})"
        found = self._text.expect(rf"(?s)(?P<output>.*?)(?:{ends})", timeout=timeout)
        if not found:
            self._check_line()
            output = "\n".join(self._line.tail(8))
            self._complain(text, output)
            raise NotFinished(
                f"{self._place}: U-Boot did not finish `{text}` within {timeout:.0f} s", details=self._line.tail(8)
            )
        output = (found["output"] + (found["last"] or "")).replace("\r", "")
        self._complain(text, output)
        return output.partition("\n")[2]

    def _type(self, text: str) -> None:
        """Type `text` at the prompt, and verify by the echo that U-Boot has read exactly that before it is run."""
        for _ in range(_TYPING_TRIES):
            self._line.send(text.encode())
            # firmware beside U-Boot may print a line of its own in front of it
            if self._text.expect(rf"(?:\A|[\r\n]){re.escape(text)}", timeout=_ECHO_LIMIT_S):
                return
            self._check_line()
            self._line.send(b"\x03")
            self._text.expect(rf"[\r\n]{re.escape(self._prompt)}", timeout=_ECHO_LIMIT_S)
        tail = self._line.tail(8)
        why = "the serial line loses or changes bytes: see its cable and ground, console.baud and console.slow_send_ms"
        if any(text in line for line in tail):
            why = "something else came between the prompt and the echo; see the last lines, and what else uses the line"
        raise InfraError(
            f"{self._place}: U-Boot did not echo `{text}` as it was typed, {_TYPING_TRIES} times in a row; {why}",
            details=tail,
        )

    def _complain(self, command: str, output: str) -> None:
        fetches = self._fetch.word in command.split()
        for pattern, meaning in (*(self._fetch.complaints if fetches else ()), *_COMPLAINTS):
            found = re.search(pattern, output)
            if found:
                details = _last_words(output)
                raise InfraError(f"{self._place}: U-Boot: `{command}`: {found[0].strip()}: {meaning}", details=details)

    def network(self) -> None:
        """Set the board's network address, by DHCP or from its entry."""
        for before in self._spec.before:
            self.command(before, timeout=_NETWORK_LIMIT_S)
        if self._spec.address == "dhcp":
            output = self.command("setenv autoload no; dhcp", timeout=_NETWORK_LIMIT_S)
            if "bound to address" not in output:
                raise InfraError(
                    f"{self._place}: U-Boot: `dhcp`: expected an address, found none; see whether a DHCP server runs, "
                    "or set boot.address and boot.server",
                    details=output.splitlines()[-8:],
                )
        else:
            own = ipaddress.ip_interface(self._spec.address)
            self.command(f"setenv ipaddr {own.ip}; setenv netmask {own.netmask}")
            if self._spec.gateway:
                self.command(f"setenv gatewayip {self._spec.gateway}")
        if self._spec.server:
            self.command(f"setenv serverip {self._spec.server}")
        self._fetch.prepare(lambda text: self._twice(lambda: self.command(text)) or "")

    def load(self, file: Load) -> str:
        """Load a file and return its address in U-Boot's notation."""
        address, seconds = self._address(file), self._spec.load_seconds
        try:
            output = self.command(
                self._fetch.command(address, file.name), timeout=seconds, gives_up=self._fetch.gives_up
            )
        except NotFinished as error:
            raise InfraError(
                f"{self._place}: U-Boot: {file.name}: the transfer did not end within {seconds:.0f} s; see whether the "
                f"{self._fetch.server} still runs and the network cable is in; where it is only slow, raise "
                "boot.load_seconds",
                details=error.details,
            ) from None
        found = re.search(r"Bytes transferred = (\d+)", output)
        came = found[1] if found else ""
        if came != str(file.size):
            raise InfraError(
                f"{self._place}: U-Boot: {file.name}: expected {file.size} bytes, {self._fetch.finding(output, came)}",
                details=_last_words(output),
            )
        self._check(file, address)
        return address

    def _check(self, file: Load, address: str) -> None:
        """Compare checksums, if the file has one and U-Boot can compute it."""
        if file.crc32 is None:
            return
        expected, command = f"{file.crc32:08x}", f"crc32 {address} {file.size:x}"
        told = self._twice(lambda: _checksum(self.command(command, timeout=_NETWORK_LIMIT_S)), unless=expected)
        if told not in (expected, None):
            raise InfraError(
                f"{self._place}: U-Boot: {file.name}: expected the checksum {expected}, found {told}: it arrived "
                "damaged; see the network's cables, or set boot.load: tftp"
            )

    def _address(self, file: Load) -> str:
        return self.value(file.address, key=file.key)

    def value(self, text: str, *, key: str) -> str:
        """Return `text` if it is an address, else the value of the U-Boot variable of that name."""
        if re.fullmatch(r"(?:0x)?[0-9a-fA-F]*[0-9][0-9a-fA-F]*", text):
            return text  # not `abc`, which is a variable
        told = self._twice(lambda: self._variable(text))
        if not told:
            raise InfraError(
                f"{self._place}: U-Boot has no variable {text}; set {key} to an address, or to a variable it has"
            )
        if not _ADDRESS.fullmatch(told):
            raise InfraError(
                f"{self._place}: U-Boot: {text}: expected an address, found {told[:40]!r}; set {key} to one"
            )
        return told

    def _twice(self, ask: Callable[[], str | None], *, unless: str = "") -> str | None:
        """Ask until U-Boot gives the same answer twice in a row, or the answer `unless`: on a line that changes bytes a
        single answer proves nothing. None if that never happens."""
        told: str | None = ""
        for _ in range(_TYPING_TRIES):
            before, told = told, ask()
            if told == before or (unless and told == unless):
                return told
        return None

    def _variable(self, name: str) -> str | None:
        found = re.search(rf"^{re.escape(name)}=(\S+)", self.command(f"printenv {name}"), re.MULTILINE)
        return found[1] if found else None

    def boot(self, kernel: str, ramdisk: str, fdt: str, *, arguments: str) -> None:
        """Start the kernel. `ramdisk` is address:size in hex. Returns when U-Boot hands over.

        Raises InfraError if U-Boot does not get that far."""
        self._set_long("bootargs", arguments)
        command = f"booti {kernel} {ramdisk} {fdt}"
        self._type(command)
        self._line.send(b"\r")
        # some versions print nothing at the end, so the kernel's first message counts, too
        found = self._text.expect(
            rf"(?s).*?(?:Starting kernel|Booting Linux|EFI stub|(?P<prompt>[\r\n]{re.escape(self._prompt)}$))",
            timeout=_COMMAND_LIMIT_S * 3,
        )
        if not found or found["prompt"]:
            self._complain(command, found[0].replace("\r", "") if found else "")
            raise InfraError(f"{self._place}: U-Boot: `{command}` started no kernel", details=self._line.tail(12))

    def _set_long(self, name: str, value: str) -> None:
        """Set a variable to a text that may exceed the longest command, in pieces. Raises InfraError if U-Boot's shell
        makes something else of it."""
        pieces = [""]
        for character in value:
            quoted = "'\\''" if character == "'" else character
            if len(pieces[-1] + quoted) > _LONGEST_PIECE:
                pieces.append("")
            pieces[-1] += quoted
        self.command(f"setenv {name} '{pieces[0]}'")
        for piece in pieces[1:]:
            self.command(f"setenv {name} \"${{{name}}}\"'{piece}'")
        if "'" in value or "\\" in value:  # dropped by some versions: in single quotes, or where a variable is expanded
            found = self.command(f"printenv {name}").removeprefix(f"{name}=")
            if found != value:
                raise InfraError(
                    f"{self._place}: cmdline: U-Boot's shell drops quotes and backslashes: expected {name} `{value}`, "
                    f"found `{found}`; leave ' and \\ out of cmdline"
                )


def _last_words(output: str) -> list[str]:
    """Return the last lines of a command's output, without progress marks."""
    lines = (re.sub(r"(?:\| ?){2,}", "", line) for line in output.splitlines())
    return [line for line in lines if line.strip(" #*|\t")][-8:]


def _checksum(output: str) -> str | None:
    found = re.search(r"==> ([0-9a-f]{8})\b", output)
    return found[1] if found else None
