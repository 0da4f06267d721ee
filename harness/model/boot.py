"""How machines are booted: a type for each boot method, with its keys in boards.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class BootSpec:
    """What the boot methods have in common. `method`: the name in boards.yaml; `has_own_system`: whether the board,
    when switched on, boots an installed system that is reached over SSH."""

    method: ClassVar[str]
    has_own_system: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class QemuBoot(BootSpec):
    """Boot method ``qemu``: a virtual machine started by the harness, kernel loaded directly.

    `memory_mib`: MiB; `accel`: ``auto`` (KVM on an arm64 host where /dev/kvm works, else TCG), ``kvm`` or ``tcg``.
    `threads`: emulated CPUs run in parallel (``multi``) or in turns, on one thread of the host (``single``).
    """

    method: ClassVar[str] = "qemu"
    machine: str = "virt"
    cpu: str = "neoverse-n1"
    cpus: int = 2
    memory_mib: int = 1024
    accel: str = "auto"
    threads: str = "multi"
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TftpServe:
    """A TFTP server that the harness starts, on this `address` of the host. `dhcp`: the first and the last address that
    it assigns to boards; empty if another server does that. `mac`: of the board's network card, which alone gets an
    answer; empty: every machine on that network gets one. `dhcp_any`: that is meant, even where the network is the one
    by which the host reaches others."""

    address: str
    dhcp: tuple[str, ...] = ()
    mac: str = ""
    dhcp_any: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpServe:
    """A web server that the harness starts, on this `address` and `port` of the host. The other keys are those of
    `TftpServe`."""

    address: str
    port: int = 80
    dhcp: tuple[str, ...] = ()
    mac: str = ""
    dhcp_any: bool = False


FROM_TEXT, FROM_POWER_ON = "text", "power-on"


@dataclass(frozen=True, kw_only=True)
class UbootBoot(BootSpec):
    """Boot method ``uboot``: U-Boot fetches kernel, device tree and an initramfs, over `load`: ``tftp`` or ``http``.

    `tftp_root`: the TFTP server's directory on this host; `tftp_serve`: the server, if the harness is to start it.
    `server`: its address, empty if DHCP provides it. `http_root`: a web server's directory on this host, and `http_url`
    its URL for the board; `http_serve`: the harness's own server instead, also at `http_url`, which needs no directory.
    `address`: ``dhcp``, or the board's address with prefix length, for which `gateway` may be needed. `dtb`: the name
    of a device tree of the build; empty: the one that U-Boot has at `fdt`. `fdt`, `kernel_at`, `ramdisk_at`, `dtb_at`:
    addresses, or the names of variables in U-Boot's environment. `before`: U-Boot commands that the network needs
    first, such as ``usb start``. `stop_text`, `stop_keys`: what U-Boot prints while it waits, and what stops it; the
    keys are sent every `stop_every_ms` milliseconds until the prompt comes, from that text on or, with `stop_from`
    ``power-on``, from power-on. Seconds: `uboot_seconds` from power-on to U-Boot's prompt, `load_seconds` for one
    file."""

    method: ClassVar[str] = "uboot"
    load: str = "tftp"
    tftp_root: str = ""
    tftp_serve: TftpServe | None = None
    http_root: str = ""
    http_url: str = ""
    http_serve: HttpServe | None = None
    server: str = ""
    address: str = "dhcp"
    gateway: str = ""
    dtb: str = ""
    fdt: str = "fdtcontroladdr"
    kernel_at: str = "kernel_addr_r"
    ramdisk_at: str = "ramdisk_addr_r"
    dtb_at: str = "fdt_addr_r"
    before: tuple[str, ...] = ()
    stop_text: str = "stop autoboot"
    stop_keys: str = " "
    stop_from: str = FROM_TEXT
    stop_every_ms: int = 100
    uboot_seconds: float = 30.0
    load_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class OwnSystem(BootSpec):
    """What the boot methods of boards with an installed system, reached over SSH, have in common; a power cycle brings
    that system back.

    `dtb`: a device tree of the build; empty: the one that the installed system is running with. `system_seconds`: from
    power-on until the installed system answers over SSH."""

    has_own_system: ClassVar[bool] = True
    dtb: str = ""
    system_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class KexecBoot(OwnSystem):
    """Boot method ``kexec``: the board's installed system loads the kernel and starts it. `directory`: where kernel and
    initramfs are put on it; `load_seconds`: for loading them."""

    method: ClassVar[str] = "kexec"
    directory: str = "/var/tmp/harness"
    load_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class GrubBoot(OwnSystem):
    """Boot method ``grub``: GRUB starts the kernel once, when the installed system reboots. `directory`: where grub.cfg
    is; empty: /boot/grub or /boot/grub2. `system_seconds` is also the limit from the installed system's reboot to the
    kernel."""

    method: ClassVar[str] = "grub"
    directory: str = ""


@dataclass(frozen=True, kw_only=True)
class UbootDiskBoot(OwnSystem):
    """Boot method ``uboot-disk``: U-Boot, controlled on the console, loads the kernel from the installed system's disk.

    `partition`: U-Boot's name of the partition (``mmc 0:1``) with `directory`, where kernel and initramfs are put.
    `uboot`: the settings for U-Boot. `system_seconds` is also the limit for the installed system to go down;
    `load_seconds` is for one file."""

    method: ClassVar[str] = "uboot-disk"
    directory: str = "/boot/harness"
    partition: str
    uboot: UbootBoot
    load_seconds: float = 120.0
