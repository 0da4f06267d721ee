"""The shape of `boot` in boards.yaml, and which other keys each boot method requires or refuses."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic_core import PydanticCustomError

from harness.model import boot
from harness.parse import document
from harness.parse.shape_types import Address, FileName, Host, HttpUrl, IPv4, Mac, Port, Seconds

_MOST_KEYS = 64
_ESCAPED = re.compile(r"\\(?:x[0-9a-fA-F]{2}|[abefnrtv0])")


class BootShape(document.Strict, abc.ABC):
    """A boot method's keys. Of the entry's other keys, `requires` has those that it needs, each with what a message
    says is expected (empty: the key), unless the place that `labgrid` names has them, and `refuses` those that it must
    not have, each with the reason; ``ssh.host`` is the key `host` of `ssh`. `same_in_pool`: which of the method's own
    keys decide on the kernel that a board runs; `default_kconfigs`: the fragments where the entry names none."""

    requires: ClassVar[Mapping[str, str]] = {}
    refuses: ClassVar[Mapping[str, str]] = {}
    same_in_pool: ClassVar[tuple[str, ...]] = ("method",)
    default_kconfigs: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def made(self) -> boot.BootSpec:
        """Return the boot entry that these keys describe."""

    def lacks(self) -> tuple[str, str] | None:
        """Return a missing key that the others require, and the complaint; None if none is missing."""
        return None


class HardwareShape(BootShape, abc.ABC):
    """A board, which has a console and a power switch."""

    requires: ClassVar[Mapping[str, str]] = {"console": "", "power": ""}
    same_in_pool: ClassVar[tuple[str, ...]] = ("method", "dtb")


class OwnSystemShape(HardwareShape, abc.ABC):
    """A board with its own system."""

    requires: ClassVar[Mapping[str, str]] = {
        **HardwareShape.requires,
        "ssh": "",
        "ssh.host": "expected the address of the board's own system, found none",
    }


class QemuBoot(BootShape):
    refuses: ClassVar[Mapping[str, str]] = {
        "pool": "belongs to boards; of QEMU's machines there are as many as -j says, remove it",
        **dict.fromkeys(("console", "power", "ssh", "labgrid"), "belongs to a board; QEMU has its own, remove it"),
    }
    default_kconfigs: ClassVar[tuple[str, ...]] = ("qemu-virt.config",)

    method: Literal["qemu"]
    machine: str = boot.QemuBoot.machine
    cpu: str = boot.QemuBoot.cpu
    cpus: int = pydantic.Field(boot.QemuBoot.cpus, ge=1, le=512)
    memory_mib: int = pydantic.Field(boot.QemuBoot.memory_mib, ge=128, le=1 << 24)
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    threads: Literal["multi", "single"] = "multi"
    extra_args: list[str] = pydantic.Field(default_factory=list)

    def made(self) -> boot.QemuBoot:
        fields = self.model_dump(exclude={"method"})
        return boot.QemuBoot(**{**fields, "extra_args": tuple(self.extra_args)})


Range = Annotated[list[IPv4], pydantic.Field(min_length=2, max_length=2, examples=[["192.0.2.1", "192.0.2.2"]])]


class Serve(document.Strict):
    """A server of the harness's own."""

    address: IPv4
    dhcp: Range | None = None
    mac: Mac | None = None
    dhcp_any: bool = False

    def _fields(self) -> dict[str, Any]:
        return {**self.model_dump(), "dhcp": tuple(self.dhcp or ()), "mac": (self.mac or "").lower()}


class TftpServe(Serve):
    def made(self) -> boot.TftpServe:
        return boot.TftpServe(**self._fields())


class HttpServe(Serve):
    port: Port = boot.HttpServe.port

    def made(self) -> boot.HttpServe:
        return boot.HttpServe(**self._fields())


def _where_load_is(load: str) -> dict[str, Any]:
    return {"properties": {"load": {"const": load}}}


_NOT_EMPTY = pydantic.Field(json_schema_extra={"minLength": 1})  # for editors; the messages are the validators'


def _waited_for(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError(
            "stop_text", "a part of what U-Boot says while it waits (for one that says nothing: stop_from: power-on)"
        )
    return text


def _keys(text: str) -> str:
    if not 1 <= len(text) <= _MOST_KEYS or _ESCAPED.search(text):
        raise PydanticCustomError(
            "stop_keys",
            f"1 to {_MOST_KEYS} keys, control characters in double quotes (in single quotes YAML keeps the backslash)",
        )
    return text


class Uboot(document.Strict):
    """What is to be known of U-Boot, whatever it loads from."""

    dtb: FileName = ""
    fdt: str = boot.UbootBoot.fdt
    kernel_at: str = boot.UbootBoot.kernel_at
    ramdisk_at: str = boot.UbootBoot.ramdisk_at
    dtb_at: str = boot.UbootBoot.dtb_at
    before: list[str] = pydantic.Field(default_factory=list)
    stop_text: Annotated[str, pydantic.AfterValidator(_waited_for), _NOT_EMPTY] = boot.UbootBoot.stop_text
    stop_keys: Annotated[str, pydantic.AfterValidator(_keys), _NOT_EMPTY] = boot.UbootBoot.stop_keys
    stop_from: Literal["text", "power-on"] = "text"
    stop_every_ms: int = pydantic.Field(boot.UbootBoot.stop_every_ms, ge=50, le=5000)
    uboot_seconds: Seconds = boot.UbootBoot.uboot_seconds
    load_seconds: Seconds = boot.UbootBoot.load_seconds


class UbootBoot(Uboot, HardwareShape):
    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "allOf": [
                {"if": _where_load_is("tftp"), "then": {"required": ["tftp_root"]}},
                {
                    "if": {**_where_load_is("http"), "required": ["load"]},
                    "then": {"anyOf": [{"required": ["http_serve"]}, {"required": ["http_root", "http_url"]}]},
                },
            ]
        }
    )
    refuses: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("ssh.user", "ssh.key", "ssh.password", "ssh.host_key"),
        "belongs to a board with a system of its own (boot.method: kexec, grub or uboot-disk); remove it, the harness "
        "makes a key for every boot",
    )

    method: Literal["uboot"]
    load: Literal["tftp", "http"] = "tftp"
    tftp_root: str = ""
    tftp_serve: TftpServe | None = None
    http_root: str = ""
    http_url: HttpUrl | None = None
    http_serve: HttpServe | None = None
    server: Host = boot.UbootBoot.server
    address: Address = boot.UbootBoot.address
    gateway: Host = boot.UbootBoot.gateway

    def made(self) -> boot.UbootBoot:
        fields = self.model_dump(exclude={"method"})
        fields |= {"before": tuple(self.before), "tftp_serve": None, "http_serve": None}
        fields["http_url"] = (self.http_url or "").rstrip("/")
        if self.tftp_serve:
            fields |= {"tftp_serve": self.tftp_serve.made(), "server": self.server or self.tftp_serve.address}
        if self.http_serve:
            ours = self.http_serve.made()
            fields |= {"http_serve": ours, "http_url": f"http://{ours.address}:{ours.port}"}
        return boot.UbootBoot(**fields)

    def lacks(self) -> tuple[str, str] | None:
        if self.load == "tftp":
            needed = {"tftp_root": self.tftp_root}
        else:
            needed = {} if self.http_serve else {"http_root": self.http_root, "http_url": self.http_url or ""}
        instead = ", or http_serve instead" if self.load == "http" else ""
        expected = f"expected this key{instead}, because boot.load is {self.load}; found none"
        return next(((key, expected) for key, value in needed.items() if not value), None)


class KexecBoot(OwnSystemShape):
    method: Literal["kexec"]
    directory: str = pydantic.Field(boot.KexecBoot.directory, pattern="^/")
    dtb: FileName = ""
    system_seconds: Seconds = boot.KexecBoot.system_seconds
    load_seconds: Seconds = boot.KexecBoot.load_seconds

    def made(self) -> boot.KexecBoot:
        return boot.KexecBoot(**self.model_dump(exclude={"method"}))


class GrubBoot(OwnSystemShape):
    method: Literal["grub"]
    directory: str = pydantic.Field(boot.GrubBoot.directory, pattern="^(/.*)?$")
    dtb: FileName = ""
    system_seconds: Seconds = boot.GrubBoot.system_seconds

    def made(self) -> boot.GrubBoot:
        return boot.GrubBoot(**self.model_dump(exclude={"method"}))


class UbootDiskBoot(Uboot, OwnSystemShape):
    method: Literal["uboot-disk"]
    partition: str = pydantic.Field(pattern=r"^\S+ [0-9a-f]+(:[0-9a-f]+)?$")
    directory: str = pydantic.Field(boot.UbootDiskBoot.directory, pattern="^/")
    system_seconds: Seconds = boot.UbootDiskBoot.system_seconds

    def made(self) -> boot.UbootDiskBoot:
        own = ("partition", "directory", "dtb", "system_seconds", "load_seconds")
        uboot = {**self.model_dump(exclude={"method", *own}), "before": tuple(self.before), "tftp_root": ""}
        return boot.UbootDiskBoot(**self.model_dump(include=set(own)), uboot=boot.UbootBoot(**uboot))


Boot = Annotated[QemuBoot | UbootBoot | KexecBoot | GrubBoot | UbootDiskBoot, pydantic.Field(discriminator="method")]
