"""boards.yaml: which machines there are. Text in, Boards out."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

import pydantic

from harness.errors import UserError
from harness.model import board as model

from . import document

Seconds = pydantic.PositiveFloat | pydantic.PositiveInt
Milliseconds = pydantic.NonNegativeFloat | pydantic.NonNegativeInt
Port = Annotated[int, pydantic.Field(ge=1, le=65535)]
Words = Annotated[list[str], pydantic.Field(min_length=1)]
Command = str | Words
Lookup = Callable[[str], str]

# Keys of console and power whose values are no secrets, wherever they come from: messages have to name them.
_PLAIN = {"device", "host", "user", "pdu", "outlet", "key", "host_key", "address", "gateway"}
_FROM_OUTSIDE = re.compile(r"\$\{([^{}]+)\}")


class _Limits(document.Strict):
    boot: Seconds = model.Limits.boot
    silence: Seconds = model.Limits.silence


class _Serial(document.Strict):
    kind: Literal["serial"]
    device: str
    baud: int = pydantic.Field(model.SerialConsole.baud, ge=50)
    flow: Literal["none", "rtscts", "xonxoff"] = "none"
    slow_send_ms: Milliseconds = 0

    def made(self) -> model.SerialConsole:
        return model.SerialConsole(
            device=self.device, baud=self.baud, flow=self.flow, slow_send_ms=float(self.slow_send_ms)
        )


class _Network(document.Strict):
    kind: Literal["tcp", "telnet"]
    host: str
    port: Port
    slow_send_ms: Milliseconds = 0

    def made(self) -> model.NetworkConsole:
        return model.NetworkConsole(
            host=self.host, port=self.port, telnet=self.kind == "telnet", slow_send_ms=float(self.slow_send_ms)
        )


class _CommandConsole(document.Strict):
    kind: Literal["command"]
    run: Command
    slow_send_ms: Milliseconds = 0

    def made(self) -> model.CommandConsole:
        return model.CommandConsole(argv=_argv(self.run), slow_send_ms=float(self.slow_send_ms))


class _Switch(document.Strict, abc.ABC):
    off_seconds: Seconds = model.Power.off_seconds
    check_silence: bool = True

    @abc.abstractmethod
    def switch(self) -> model.CommandSwitch | model.HttpSwitch | model.PduSwitch:
        """The switch that these keys describe."""

    def made(self) -> model.Power:
        return model.Power(switch=self.switch(), off_seconds=float(self.off_seconds), check_silence=self.check_silence)


class _CommandPower(_Switch):
    kind: Literal["command"]
    on: Command
    off: Command

    def switch(self) -> model.CommandSwitch:
        return model.CommandSwitch(on=_argv(self.on), off=_argv(self.off))


class _Request(document.Strict):
    url: str = pydantic.Field(pattern="^https?://")
    method: str = "GET"
    body: str = ""
    headers: dict[str, str] = pydantic.Field(default_factory=dict)
    expect: str = ""

    def made(self) -> model.HttpRequest:
        headers = tuple(self.headers.items())
        return model.HttpRequest(url=self.url, method=self.method, body=self.body, headers=headers, expect=self.expect)


class _HttpPower(_Switch):
    kind: Literal["http"]
    on: _Request
    off: _Request
    user: str = ""
    password: str = ""

    def switch(self) -> model.HttpSwitch:
        return model.HttpSwitch(on=self.on.made(), off=self.off.made(), user=self.user, password=self.password)


class _Tasmota(_Switch):
    kind: Literal["tasmota"]
    host: str
    outlet: int = pydantic.Field(1, ge=1)
    user: str = "admin"
    password: str = ""

    def switch(self) -> model.HttpSwitch:
        login = f"user={quote(self.user)}&password={quote(self.password)}&" if self.password else ""
        url = f"http://{self.host}/cm?{login}cmnd=Power{self.outlet}%20"
        # {"POWER":"ON"} or {"POWER1":"ON"}; after a wrong password {"WARNING":"…"}
        return model.HttpSwitch(
            on=model.HttpRequest(url=f"{url}On", expect='"ON"'),
            off=model.HttpRequest(url=f"{url}Off", expect='"OFF"'),
            query=model.HttpRequest(url=url.removesuffix("%20"), expect='"POWER'),
            password=self.password,
        )


class _Shelly(_Switch):
    kind: Literal["shelly"]
    host: str
    outlet: int = pydantic.Field(0, ge=0)
    generation: Literal[1, 2] = 2
    user: str = "admin"
    password: str = ""

    def switch(self) -> model.HttpSwitch:
        if self.generation == 1:
            urls = [f"http://{self.host}/relay/{self.outlet}?turn={turn}" for turn in ("on", "off")]
            requests = [
                model.HttpRequest(url=url, expect=expect)
                for url, expect in zip(urls, ('"ison":true', '"ison":false'), strict=True)
            ]
            query = model.HttpRequest(url=urls[0].partition("?")[0], expect='"ison":')
        else:
            base = f"http://{self.host}/rpc/Switch.Set?id={self.outlet}&on="
            requests = [model.HttpRequest(url=f"{base}{turn}", expect="was_on") for turn in ("true", "false")]
            status = f"http://{self.host}/rpc/Switch.GetStatus?id={self.outlet}"
            query = model.HttpRequest(url=status, expect='"output":')
        on, off = requests
        return model.HttpSwitch(on=on, off=off, query=query, user=self.user, password=self.password)


class _Pdudaemon(_Switch):
    kind: Literal["pdudaemon"]
    host: str
    port: Port = 16421
    pdu: str
    outlet: str | int

    def switch(self) -> model.PduSwitch:
        return model.PduSwitch(host=self.host, port=self.port, pdu=self.pdu, outlet=str(self.outlet))


class _Labgrid(document.Strict):
    coordinator: str = pydantic.Field(pattern=r"^[^\s/]+$")
    place: str = pydantic.Field(min_length=1)
    serial: str = ""
    power: str = ""
    slow_send_ms: Milliseconds = 0
    off_seconds: Seconds = model.LabgridPlace.off_seconds
    check_silence: bool = True

    def made(self) -> model.LabgridPlace:
        seconds = {"slow_send_ms": float(self.slow_send_ms), "off_seconds": float(self.off_seconds)}
        return model.LabgridPlace(**{**self.model_dump(), **seconds})


class _QemuBoot(document.Strict):
    method: Literal["qemu"]
    machine: str = model.QemuBoot.machine
    cpu: str = model.QemuBoot.cpu
    cpus: int = pydantic.Field(model.QemuBoot.cpus, ge=1, le=512)
    memory_mib: int = pydantic.Field(model.QemuBoot.memory_mib, ge=128)
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    extra_args: list[str] = pydantic.Field(default_factory=list)

    def made(self) -> model.QemuBoot:
        fields = self.model_dump(exclude={"method"})
        return model.QemuBoot(**{**fields, "extra_args": tuple(self.extra_args)})


IPv4 = Annotated[str, pydantic.Field(pattern=r"^\d+\.\d+\.\d+\.\d+$")]


class _TftpServe(document.Strict):
    address: IPv4
    dhcp: Annotated[list[IPv4], pydantic.Field(min_length=2, max_length=2)] | None = None

    def made(self) -> model.TftpServe:
        return model.TftpServe(address=self.address, dhcp=tuple(self.dhcp or ()))


class _UbootBoot(document.Strict):
    method: Literal["uboot"]
    tftp_root: str
    tftp_serve: _TftpServe | None = None
    server: str = ""
    address: str = pydantic.Field("dhcp", pattern=r"^(dhcp|\d+\.\d+\.\d+\.\d+/\d+)$")
    gateway: str = ""
    dtb: str = ""
    fdt: str = model.UbootBoot.fdt
    kernel_at: str = model.UbootBoot.kernel_at
    ramdisk_at: str = model.UbootBoot.ramdisk_at
    dtb_at: str = model.UbootBoot.dtb_at
    before: list[str] = pydantic.Field(default_factory=list)
    stop_text: str = model.UbootBoot.stop_text
    stop_keys: str = model.UbootBoot.stop_keys
    uboot_seconds: Seconds = model.UbootBoot.uboot_seconds
    load_seconds: Seconds = model.UbootBoot.load_seconds

    def made(self) -> model.UbootBoot:
        fields = self.model_dump(exclude={"method"})
        fields |= {"before": tuple(self.before), "tftp_serve": None}
        if self.tftp_serve:
            fields |= {"tftp_serve": self.tftp_serve.made(), "server": self.server or self.tftp_serve.address}
        return model.UbootBoot(**fields)


class _KexecBoot(document.Strict):
    method: Literal["kexec"]
    directory: str = pydantic.Field(model.KexecBoot.directory, pattern="^/")
    dtb: str = ""
    system_seconds: Seconds = model.KexecBoot.system_seconds
    load_seconds: Seconds = model.KexecBoot.load_seconds

    def made(self) -> model.KexecBoot:
        return model.KexecBoot(**self.model_dump(exclude={"method"}))


class _Ssh(document.Strict):
    host: str = ""
    port: Port = model.Ssh.port
    address: str = pydantic.Field("dhcp", pattern=r"^(dhcp|\d+\.\d+\.\d+\.\d+/\d+)$")
    gateway: str = ""
    user: str = model.Login.user
    key: str = ""
    password: str = ""
    host_key: str = ""

    def made(self) -> model.Ssh:
        login = model.Login(**self.model_dump(include={"user", "key", "password", "host_key"}))
        return model.Ssh(**self.model_dump(include={"host", "port", "address", "gateway"}), login=login)


_Console = Annotated[_Serial | _Network | _CommandConsole, pydantic.Field(discriminator="kind")]
_Power = Annotated[_CommandPower | _HttpPower | _Tasmota | _Shelly | _Pdudaemon, pydantic.Field(discriminator="kind")]
_Boot = Annotated[_QemuBoot | _UbootBoot | _KexecBoot, pydantic.Field(discriminator="method")]


class _Board(document.Strict):
    description: str = ""
    boot: _Boot
    console: _Console | None = None
    power: _Power | None = None
    ssh: _Ssh | None = None
    labgrid: _Labgrid | None = None
    cmdline: str = ""
    kconfigs: list[str] | None = None
    limits: _Limits = _Limits()


class _Boards(document.Strict):
    boards: dict[str, _Board]


class _Raw(document.Strict):
    boards: dict[str, dict[str, Any]]
    defaults: dict[str, dict[str, Any]] = pydantic.Field(default_factory=dict)


def parse_boards(text: str, *, place: str, lookup: Lookup | None = None) -> dict[str, model.Board]:
    """Every board in `text`, by name. `place` is what messages call it (the file's name). `lookup` gives the value of a
    ``${NAME}`` or ``${file:PATH}``, or raises LookupError with the reason why there is none.

    Raises UserError: one line for each wrong key or value."""
    data = document.load(text, place=place)
    if data is None:
        raise UserError(f"{place}: expected a mapping with the key `boards`, found an empty document")
    raw = document.shaped(data, _Raw, place=place)
    entries = {name: _inherited(name, entry, raw.defaults, place=place) for name, entry in raw.boards.items()}
    outside = {name: _Outside(lookup or _nothing) for name in entries}
    filled = {name: outside[name].fill(entry) for name, entry in entries.items()}
    shaped = document.shaped({"boards": filled}, _Boards, place=place)
    return {name: _board(name, entry, outside[name], place=place) for name, entry in shaped.boards.items()}


def raw_schema() -> dict[str, Any]:
    """The JSON schema of the entries as pydantic tells it, for parse/boards_schema.py."""
    return _Boards.model_json_schema()


def _inherited(
    name: str, entry: dict[str, Any], defaults: Mapping[str, dict[str, Any]], *, place: str
) -> dict[str, Any]:
    """`entry` laid over the defaults that its key `like` names."""
    if "like" not in entry:
        return entry
    like = entry["like"]
    if not isinstance(like, str) or like not in defaults:
        known = ", ".join(sorted(defaults)) or "none there"
        raise UserError(f"{place}: boards.{name}.like: expected a key of `defaults` ({known}), found {like!r}")
    own = {key: value for key, value in entry.items() if key != "like"}
    return _laid_over(own, defaults[like])


def _laid_over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _laid_over(value, below) if both and below is not None else value
    return merged


class _Outside:
    """Fills one board's entry with what it takes from outside the file."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.unset: list[str] = []
        self.secrets: list[str] = []

    def fill(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: self._filled(value, key, secret=key in ("console", "power", "ssh")) for key, value in entry.items()
        }

    def _filled(self, value: Any, where: str, *, secret: bool) -> Any:
        if isinstance(value, str):
            whole = _FROM_OUTSIDE.fullmatch(value)
            if whole:
                return self._value(whole[1], where, secret=secret)
            return _FROM_OUTSIDE.sub(lambda found: self._value(found[1], where, secret=secret), value)
        if isinstance(value, list):
            return [self._filled(item, where, secret=secret) for item in value]
        if isinstance(value, dict):
            return {key: self._filled(item, f"{where}.{key}", secret=secret) for key, item in value.items()}
        return value

    def _value(self, name: str, where: str, *, secret: bool) -> document.Outside:
        name, has_default, default = name.partition(":-")
        try:
            value = document.Outside(self._lookup(name))
        except LookupError as error:
            if has_default:
                return document.Outside(default)
            self.unset.append(f"{where}: {error.args[0]}")
            value = document.Outside("unset")
            value.is_missing = True
            return value
        if (secret and where.rpartition(".")[2] not in _PLAIN) or name.startswith("file:"):
            self.secrets += [value, quote(value)]
        return value


def _nothing(name: str) -> str:
    raise LookupError(f"${{{name}}} has no value")


def _board(name: str, entry: _Board, outside: _Outside, *, place: str) -> model.Board:
    boot = entry.boot.made()
    _check_keys(name, entry, boot, place=place)
    kconfigs = entry.kconfigs
    if kconfigs is None:
        kconfigs = ["qemu-virt.config"] if isinstance(boot, model.QemuBoot) else []
    return model.Board(
        name=name,
        description=entry.description,
        cmdline=entry.cmdline,
        kconfigs=tuple(kconfigs),
        limits=model.Limits(boot=float(entry.limits.boot), silence=float(entry.limits.silence)),
        boot=boot,
        console=entry.console.made() if entry.console else None,
        power=entry.power.made() if entry.power else None,
        ssh=entry.ssh.made() if entry.ssh else None,
        labgrid=entry.labgrid.made() if entry.labgrid else None,
        unset=tuple(outside.unset),
        secrets=tuple(dict.fromkeys([*outside.secrets, *_passwords(entry)])),
    )


def _check_keys(name: str, entry: _Board, boot: object, *, place: str) -> None:
    """Which of console, power and ssh an entry has to have depends on how it boots."""
    where = f"{place}: boards.{name}"
    keys = {"console": entry.console, "power": entry.power, "ssh": entry.ssh, "labgrid": entry.labgrid}
    for key, given in keys.items():
        if isinstance(boot, model.QemuBoot) and given:
            raise UserError(f"{where}.{key}: belongs to a board; QEMU has its own, remove it")
        of_place = key in ("console", "power") and bool(entry.labgrid)
        if of_place and given:
            raise UserError(f"{where}.{key}: the place that `labgrid` names has it; remove one of them")
        needed = isinstance(boot, model.KexecBoot) if key == "ssh" else key != "labgrid" and not of_place
        if not isinstance(boot, model.QemuBoot) and needed and not given:
            raise UserError(f"{where}.{key}: expected this key, because boot.method is {entry.boot.method}; found none")
    if isinstance(boot, model.KexecBoot) and entry.ssh and not entry.ssh.host:
        raise UserError(f"{where}.ssh.host: expected the address of the board's own system, found none")
    if isinstance(boot, model.UbootBoot) and entry.ssh:
        for key in ("user", "key", "password", "host_key"):
            if key in entry.ssh.model_fields_set:
                raise UserError(f"{where}.ssh.{key}: belongs to a board with a system of its own (boot.method: kexec); "
                                "remove it, the harness makes a key for every boot")  # fmt: skip


def _passwords(entry: _Board) -> list[str]:
    """Secret also where it stands in the file itself."""
    passwords = [getattr(entry.power, "password", ""), getattr(entry.ssh, "password", "")]
    return [form for password in passwords if password for form in (password, quote(password))]


def _argv(command: Command) -> tuple[str, ...]:
    """A list is a program and its arguments, a string a shell command line."""
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command)
