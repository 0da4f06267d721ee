"""What boards.yaml says about one machine."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, urlsplit

from harness.model.boot import BootSpec

_SHORTEST = 4  # characters: searching texts for a shorter secret would garble every message


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits of one board, in seconds. `boot`: from power-on to a shell that answers; if a boot loader fetches the
    kernel, from the kernel's start. `silence`: how long console and shell may both be silent during a test before the
    harness checks whether the kernel is alive."""

    boot: float = 90.0
    silence: float = 30.0


@dataclass(frozen=True, kw_only=True)
class SerialConsole:
    """A serial device of this host. `flow`: ``none``, ``rtscts`` or ``xonxoff``; `slow_send_ms`: milliseconds between
    two characters, for UARTs that lose them."""

    device: str
    baud: int = 115200
    flow: str = "none"
    slow_send_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NetworkConsole:
    """A serial line behind a TCP port: plain bytes or, with `telnet`, the telnet protocol, which can also send a break
    and set `baud` (0: the server's setting). `moves`: a file with the line's current address, if that can change
    (target/line/placerecord.py)."""

    host: str
    port: int
    telnet: bool = False
    baud: int = 0
    slow_send_ms: float = 0.0
    moves: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class CommandConsole:
    """A program whose standard input and output are the console, such as ``ipmitool … sol activate``. `masked`: the
    same without its secrets, if it has any."""

    argv: tuple[str, ...]
    slow_send_ms: float = 0.0
    masked: tuple[str, ...] = field(default=(), compare=False)

    @property
    def shown(self) -> str:
        """What messages show of it."""
        return shlex.join(self.masked or self.argv)


ConsoleSpec = SerialConsole | NetworkConsole | CommandConsole


@dataclass(frozen=True, kw_only=True)
class CommandSwitch:
    """Power switched by programs. `masked_on`, `masked_off`: the same without their secrets, if they have any."""

    on: tuple[str, ...]
    off: tuple[str, ...]
    masked_on: tuple[str, ...] = field(default=(), compare=False)
    masked_off: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One request to a switch. `expect`: text that the answer must contain. `masked`: the URL without its secrets, if
    it is known which part of it they are."""

    url: str = field(repr=False)
    method: str = "GET"
    body: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    expect: str = ""
    masked: str = field(default="", compare=False)

    @property
    def shown(self) -> str:
        """What messages show of the URL. Path and query of a switch that we know nothing about may be a secret: tokens
        are found in both."""
        if self.masked:
            return self.masked
        parts = urlsplit(self.url)
        rest = "/…" if parts.path.strip("/") or parts.query else ""
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{rest}"


@dataclass(frozen=True, kw_only=True)
class HttpSwitch:
    """Power switched by HTTP requests. `query`: a request that only reads the state, if there is one."""

    on: HttpRequest
    off: HttpRequest
    query: HttpRequest | None = None
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class PduSwitch:
    """An outlet of a PDU that a pdudaemon server switches. `pdu` and `outlet` are the server's names for it."""

    host: str
    port: int
    pdu: str
    outlet: str


SwitchSpec = CommandSwitch | HttpSwitch | PduSwitch


@dataclass(frozen=True, kw_only=True)
class Power:
    """How a board is switched. `off_seconds`: how long it stays off before it is switched on again; `check_silence`:
    whether its console must be silent while it is off."""

    switch: SwitchSpec
    off_seconds: float = 2.0
    check_silence: bool = True


@dataclass(frozen=True, kw_only=True)
class Login:
    """Credentials, and the expected host. `key`: the private key's file; without it the password is used, and without
    that the keys in ssh-agent and ~/.ssh. `host_key`: the host key's fingerprint (``SHA256:…``) or the key
    (``ssh-ed25519 AAAA…``); if empty, the first one seen is remembered and required from then on."""

    user: str = "root"
    key: str = ""
    password: str = field(default="", repr=False)
    host_key: str = ""


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """How a board is reached over SSH. `host`: empty to use the address that the booted kernel got; `address`: how that
    kernel gets it: ``dhcp``, or the address with prefix length, for which `gateway` may be needed. `login`: for the
    board's installed system, if it has one; the booted kernel accepts a key made for that boot. `given`: the keys that
    the board's entry sets. `of_place`: `host` comes from the board's place, and the booted kernel may have another
    address."""

    host: str = ""
    port: int = 22
    address: str = "dhcp"
    gateway: str = ""
    login: Login = field(default_factory=Login)
    given: frozenset[str] = field(default=frozenset(), compare=False)
    of_place: bool = False


@dataclass(frozen=True, kw_only=True)
class LabgridPlace:
    """A place of a labgrid coordinator (HOST or HOST:PORT), which provides the board's console, power and network
    address. `serial`, `power`, `ssh`: the names of its resources, if it has several; the other fields as in the console
    and `Power`."""

    coordinator: str
    place: str
    serial: str = ""
    power: str = ""
    ssh: str = ""
    slow_send_ms: float = 0.0
    off_seconds: float = Power.off_seconds
    check_silence: bool = True


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a board is reached: its console, its power switch, and SSH if it has a network. None: it has none (as QEMU's
    machines), or a labgrid place has yet to provide it. `secrets`: the passwords and the like in these fields, for
    `redacted`."""

    console: ConsoleSpec | None = None
    power: Power | None = None
    ssh: Ssh | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def redacted(self, text: str) -> str:
        """`text` without the board's secrets, for what other programs, servers and libraries say. Short ones stay: what
        the harness itself says of a command, a URL or a login has them masked, however short they are."""
        forms = {form for secret in self.secrets if len(secret) >= _SHORTEST for form in _written(secret)}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "***")
        return text


def _written(secret: str) -> tuple[str, ...]:
    """Return the ways in which messages may write `secret`: plain, in a URL, a Python or JSON string, a shell line."""
    return (
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        shlex.quote(secret).strip("'"),
    )


@dataclass(frozen=True, kw_only=True)
class BoardSpec:
    """One machine as boards.yaml describes it: a value, the same in every process and on every host.

    `boot`: its boot method; `access`: how it is reached, as far as its entry says, and `labgrid`: the place that
    provides the rest; `cmdline`: kernel arguments in addition to those of the boot method; `kconfigs`: the fragments
    that its kernel needs. `pool`: boards with the same pool are equal, and may run the tests of one run in parallel;
    empty: no other board is equal."""

    name: str
    boot: BootSpec
    access: Access = field(default_factory=Access)
    labgrid: LabgridPlace | None = None
    description: str = ""
    cmdline: str = ""
    kconfigs: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    pool: str = ""


@dataclass(frozen=True, kw_only=True)
class BoardEntry:
    """A board's entry in boards.yaml. `unset`: environment variables and files that it refers to and that are missing,
    each with the reason; if there are any, `board` contains placeholders: it can be listed and checked, but not
    used."""

    board: BoardSpec
    unset: tuple[str, ...] = ()
