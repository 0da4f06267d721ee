"""How machines are booted: a type for each boot method, with what boards.yaml says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class BootSpec:
    """What the boot methods have in common. `method`: its name in boards.yaml; `has_own_system`: whether the board
    comes up with a system of its own when it is switched on, reached over SSH."""

    method: ClassVar[str]
    has_own_system: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class QemuBoot(BootSpec):
    """Boot method ``qemu``: a virtual machine started by the harness, kernel loaded directly.

    `memory_mib`: MiB; `accel`: ``auto`` (KVM on an arm64 host where /dev/kvm works, else TCG), ``kvm`` or ``tcg``.
    `threads`: emulated CPUs run side by side (``multi``) or in turns, on one thread of the host (``single``).
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
    it gives to boards, empty where another server does that."""

    address: str
    dhcp: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HttpServe:
    """A web server that the harness starts, on this `address` and `port` of the host. `dhcp`: as of `TftpServe`."""

    address: str
    port: int = 80
    dhcp: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UbootBoot(BootSpec):
    """Boot method ``uboot``: U-Boot fetches kernel, device tree and an initramfs, over `load`: ``tftp`` or ``http``.

    `tftp_root`: the directory that the TFTP server serves, as this host sees it; `tftp_serve`: that server where it
    is ours to start. `server`: its address, empty where DHCP tells. `http_root`: the directory of a web server, as
    this host sees it, and `http_url` as the board does; `http_serve`: a server of ours instead, at `http_url` too,
    which needs no directory. `address`: ``dhcp`` or the board's own address with prefix length; `gateway` goes with
    the latter. `dtb`: the name of a device tree of the build, empty where U-Boot has one at `fdt`. `fdt`,
    `kernel_at`, `ramdisk_at`, `dtb_at`: addresses, or names of variables of U-Boot's environment that hold them.
    `before`: U-Boot commands that the network needs first, as ``usb start``. `stop_text`, `stop_keys`: what U-Boot
    says when it waits, and what stops it. Seconds: `uboot_seconds` from power-on to U-Boot, `load_seconds` for one
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
    uboot_seconds: float = 30.0
    load_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class OwnSystem(BootSpec):
    """What the boot methods of boards with a system of their own, reached over SSH, have in common; a power cycle
    brings that system back.

    `dtb`: a device tree of the build; empty: the one that the own system runs with. `system_seconds`: from power-on
    until the own system answers over SSH."""

    has_own_system: ClassVar[bool] = True
    dtb: str = ""
    system_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class KexecBoot(OwnSystem):
    """Boot method ``kexec``: the board's own system loads the kernel and starts it. `directory`: where kernel and
    initramfs are put there; `load_seconds`: for loading them."""

    method: ClassVar[str] = "kexec"
    directory: str = "/var/tmp/harness"
    load_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class GrubBoot(OwnSystem):
    """Boot method ``grub``: GRUB starts the kernel when the own system reboots, once. `directory`: where grub.cfg is;
    empty: in /boot/grub or /boot/grub2. `system_seconds` is also how long it may take from the own system's reboot to
    the kernel."""

    method: ClassVar[str] = "grub"
    directory: str = ""


@dataclass(frozen=True, kw_only=True)
class UbootDiskBoot(OwnSystem):
    """Boot method ``uboot-disk``: U-Boot loads the kernel from the own system's disk, told so on the console.

    `partition`: what U-Boot calls the partition (``mmc 0:1``) that has `directory`, where kernel and initramfs are put.
    `uboot`: what is to be known of U-Boot. `system_seconds` is also how long the own system may take to go down;
    `load_seconds` is for one file."""

    method: ClassVar[str] = "uboot-disk"
    directory: str = "/boot/harness"
    partition: str
    uboot: UbootBoot
    load_seconds: float = 120.0
