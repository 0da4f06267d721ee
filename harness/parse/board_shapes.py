"""The shape of boards.yaml: the keys, their types, and the objects that they become."""

from __future__ import annotations

import abc
from typing import Annotated, Any, Literal
from urllib.parse import quote

import pydantic

from harness.model import board as model
from harness.parse import document
from harness.parse.boot_shapes import Boot
from harness.parse.shape_types import (
    Address,
    Fragment,
    HeaderName,
    HeaderValue,
    Host,
    HttpMethod,
    Milliseconds,
    Port,
    Seconds,
    SwitchUrl,
)

_MOST_OUTLETS = 10_000
Words = Annotated[list[str], pydantic.Field(min_length=1)]
Command = str | Words


class Limits(document.Strict):
    boot: Seconds = model.Limits.boot
    silence: Seconds = model.Limits.silence


class Serial(document.Strict):
    kind: Literal["serial"]
    device: str
    baud: int = pydantic.Field(model.SerialConsole.baud, ge=50, le=50_000_000)
    flow: Literal["none", "rtscts", "xonxoff"] = "none"
    slow_send_ms: Milliseconds = 0

    def made(self) -> model.SerialConsole:
        return model.SerialConsole(
            device=self.device, baud=self.baud, flow=self.flow, slow_send_ms=float(self.slow_send_ms)
        )


class Network(document.Strict):
    kind: Literal["tcp", "telnet"]
    host: Host
    port: Port
    slow_send_ms: Milliseconds = 0

    def made(self) -> model.NetworkConsole:
        return model.NetworkConsole(
            host=self.host, port=self.port, telnet=self.kind == "telnet", slow_send_ms=float(self.slow_send_ms)
        )


class CommandConsole(document.Strict):
    kind: Literal["command"]
    run: Command
    slow_send_ms: Milliseconds = 0

    def made(self) -> model.CommandConsole:
        return model.CommandConsole(argv=argv(self.run), slow_send_ms=float(self.slow_send_ms))


class Switch(document.Strict, abc.ABC):
    off_seconds: Seconds = model.Power.off_seconds
    check_silence: bool = True

    @abc.abstractmethod
    def switch(self) -> model.CommandSwitch | model.HttpSwitch | model.PduSwitch:
        """Return the switch that these keys describe."""

    def made(self) -> model.Power:
        return model.Power(switch=self.switch(), off_seconds=float(self.off_seconds), check_silence=self.check_silence)


class CommandPower(Switch):
    kind: Literal["command"]
    on: Command
    off: Command

    def switch(self) -> model.CommandSwitch:
        return model.CommandSwitch(on=argv(self.on), off=argv(self.off))


class Request(document.Strict):
    url: SwitchUrl
    method: HttpMethod = "GET"
    body: str = ""
    headers: dict[HeaderName, HeaderValue] = pydantic.Field(default_factory=dict)
    expect: str = ""

    def made(self) -> model.HttpRequest:
        headers = tuple(self.headers.items())
        return model.HttpRequest(url=self.url, method=self.method, body=self.body, headers=headers, expect=self.expect)


class HttpPower(Switch):
    kind: Literal["http"]
    on: Request
    off: Request
    user: str = ""
    password: str = ""

    def switch(self) -> model.HttpSwitch:
        return model.HttpSwitch(on=self.on.made(), off=self.off.made(), user=self.user, password=self.password)


class Tasmota(Switch):
    kind: Literal["tasmota"]
    host: Host
    outlet: int = pydantic.Field(1, ge=1, le=_MOST_OUTLETS)
    user: str = "admin"
    password: str = ""

    def switch(self) -> model.HttpSwitch:
        # {"POWER":"ON"} or {"POWER1":"ON"}; after a wrong password {"WARNING":"…"}
        return model.HttpSwitch(
            on=self._request("%20On", expect='"ON"'),
            off=self._request("%20Off", expect='"OFF"'),
            query=self._request("", expect='"POWER'),
            password=self.password,
        )

    def _request(self, state: str, *, expect: str) -> model.HttpRequest:
        quoted = (quote(text, safe="") for text in (self.user, self.password))
        login = "user={}&password={}&".format(*quoted) if self.password else ""
        server, command = f"http://{self.host}/cm?", f"cmnd=Power{self.outlet}{state}"
        return model.HttpRequest(url=f"{server}{login}{command}", expect=expect, masked=f"{server}{command}")


class Shelly(Switch):
    kind: Literal["shelly"]
    host: Host
    outlet: int = pydantic.Field(0, ge=0, le=_MOST_OUTLETS)
    generation: Literal[1, 2] = 2
    user: str = "admin"
    password: str = ""

    def switch(self) -> model.HttpSwitch:
        if self.generation == 1:
            urls = [f"http://{self.host}/relay/{self.outlet}?turn={turn}" for turn in ("on", "off")]
            requests = [
                _open_request(url, expect=expect)
                for url, expect in zip(urls, ('"ison":true', '"ison":false'), strict=True)
            ]
            query = _open_request(urls[0].partition("?")[0], expect='"ison":')
        else:
            base = f"http://{self.host}/rpc/Switch.Set?id={self.outlet}&on="
            requests = [_open_request(f"{base}{turn}", expect="was_on") for turn in ("true", "false")]
            status = f"http://{self.host}/rpc/Switch.GetStatus?id={self.outlet}"
            query = _open_request(status, expect='"output":')
        on, off = requests
        return model.HttpSwitch(on=on, off=off, query=query, user=self.user, password=self.password)


def _open_request(url: str, *, expect: str) -> model.HttpRequest:
    """Return a request whose URL contains no secret."""
    return model.HttpRequest(url=url, expect=expect, masked=url)


class Pdudaemon(Switch):
    kind: Literal["pdudaemon"]
    host: Host
    port: Port = 16421
    pdu: str
    outlet: str | Annotated[int, pydantic.Field(ge=0, le=_MOST_OUTLETS)]

    def switch(self) -> model.PduSwitch:
        return model.PduSwitch(host=self.host, port=self.port, pdu=self.pdu, outlet=str(self.outlet))


class Labgrid(document.Strict):
    coordinator: str = pydantic.Field(pattern=r"^[^\s/]+$")
    place: str = pydantic.Field(min_length=1)
    serial: str = ""
    power: str = ""
    ssh: str = ""
    slow_send_ms: Milliseconds = 0
    off_seconds: Seconds = model.LabgridPlace.off_seconds
    check_silence: bool = True

    def made(self) -> model.LabgridPlace:
        seconds = {"slow_send_ms": float(self.slow_send_ms), "off_seconds": float(self.off_seconds)}
        return model.LabgridPlace(**{**self.model_dump(), **seconds})


class Ssh(document.Strict):
    host: Host = model.Ssh.host
    port: Port = model.Ssh.port
    address: Address = model.Ssh.address
    gateway: Host = model.Ssh.gateway
    user: str = model.Login.user
    key: str = ""
    password: str = ""
    host_key: str = ""

    def made(self) -> model.Ssh:
        login = model.Login(**self.model_dump(include={"user", "key", "password", "host_key"}))
        where = self.model_dump(include={"host", "port", "address", "gateway"})
        return model.Ssh(**where, login=login, given=frozenset(self.model_fields_set))


Console = Annotated[Serial | Network | CommandConsole, pydantic.Field(discriminator="kind")]
Power = Annotated[CommandPower | HttpPower | Tasmota | Shelly | Pdudaemon, pydantic.Field(discriminator="kind")]


class Board(document.Strict):
    description: str = ""
    boot: Boot
    console: Console | None = None
    power: Power | None = None
    ssh: Ssh | None = None
    labgrid: Labgrid | None = None
    pool: str = ""
    cmdline: str = ""
    kconfigs: list[Fragment] | None = None
    limits: Limits = Limits()

    @property
    def fragments(self) -> tuple[str, ...]:
        """Return the kconfig fragments that its kernel needs."""
        return self.boot.default_kconfigs if self.kconfigs is None else tuple(self.kconfigs)

    def has(self, key: str) -> bool:
        """Return whether `key` has a value; ``ssh.host`` is the key `host` of `ssh`."""
        outer, _, inner = key.partition(".")
        part = getattr(self, outer)
        return bool(getattr(part, inner) if part and inner else part)

    def was_given(self, key: str) -> bool:
        """Return whether the file has `key`; unlike `has`, an empty value counts, and a default does not."""
        outer, _, inner = key.partition(".")
        part = getattr(self, outer)
        return inner in part.model_fields_set if part and inner else bool(part)


class Boards(document.Strict):
    boards: dict[str, Board]


class Raw(document.Strict):
    boards: dict[str, dict[str, Any]]
    defaults: dict[str, dict[str, Any]] = pydantic.Field(default_factory=dict)


def argv(command: Command) -> tuple[str, ...]:
    """A list is a program and its arguments, a string a shell command line."""
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command)
