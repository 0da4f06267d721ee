"""What boards.yaml says of one machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

_SHORTEST = 4  # characters: what is shorter hides nothing, but spoils every message


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits of one board, in seconds. `boot`: from power-on to a shell that answers; where a boot loader fetches
    the kernel, from the kernel's start. `silence`: how long console and shell may both be quiet during a test before
    the kernel is asked whether it lives."""

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
    """A serial line behind a TCP port: plain bytes, or with `telnet` its protocol, which can carry a break too, and
    `baud` (0: as the server has it). `moves`: a file that says where it is now, should that change
    (target/line/placerecord.py)."""

    host: str
    port: int
    telnet: bool = False
    baud: int = 0
    slow_send_ms: float = 0.0
    moves: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class CommandConsole:
    """A program whose standard input and output are the console, as ``ipmitool … sol activate``."""

    argv: tuple[str, ...]
    slow_send_ms: float = 0.0


ConsoleSpec = SerialConsole | NetworkConsole | CommandConsole


@dataclass(frozen=True, kw_only=True)
class CommandSwitch:
    """Power switched by programs."""

    on: tuple[str, ...]
    off: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One request to a switch. `expect`: what its answer must contain."""

    url: str
    method: str = "GET"
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    expect: str = ""


@dataclass(frozen=True, kw_only=True)
class HttpSwitch:
    """Power switched by HTTP requests. `query`: one that only asks, where there is one."""

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


@dataclass(frozen=True, kw_only=True)
class Power:
    """How a board is switched. `off_seconds`: how long it stays off before it is switched on again;
    `check_silence`: whether its console must be silent then."""

    switch: CommandSwitch | HttpSwitch | PduSwitch
    off_seconds: float = 2.0
    check_silence: bool = True


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who logs in, and to whom. `key`: the private key's file, else a password, else what ssh-agent and ~/.ssh have.
    `host_key`: the host key's fingerprint (``SHA256:…``) or the key (``ssh-ed25519 AAAA…``); where it is empty, the
    first one seen is the one from then on."""

    user: str = "root"
    key: str = ""
    password: str = field(default="", repr=False)
    host_key: str = ""


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """Where a board is reached over SSH. `host`: empty where the address that the booted kernel got is the one;
    `address`: how that kernel gets it: ``dhcp``, or the address with prefix length; `gateway` goes with the latter.
    `login`: for the board's own system, where it has one; the booted kernel takes a key made for that boot. `given`:
    which keys the board's entry has. `of_place`: `host` is what the board's place says, and the booted kernel may have
    come to another address."""

    host: str = ""
    port: int = 22
    address: str = "dhcp"
    gateway: str = ""
    login: Login = field(default_factory=Login)
    given: frozenset[str] = field(default=frozenset(), compare=False)
    of_place: bool = False


@dataclass(frozen=True, kw_only=True)
class LabgridPlace:
    """A place of a labgrid coordinator (HOST or HOST:PORT), which is the board's console and power, and tells where it
    is on the network. `serial`, `power`, `ssh`: the names of its resources, where it has several; the rest as in the
    console and `Power`."""

    coordinator: str
    place: str
    serial: str = ""
    power: str = ""
    ssh: str = ""
    slow_send_ms: float = 0.0
    off_seconds: float = Power.off_seconds
    check_silence: bool = True


@dataclass(frozen=True, kw_only=True)
class QemuBoot:
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
class UbootBoot:
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
class OwnSystem:
    """What the boot methods of boards with a system of their own, reached over SSH, have in common; a power cycle
    brings that system back.

    `dtb`: a device tree of the build; empty: the one that the own system runs with. `system_seconds`: from power-on
    until the own system answers over SSH."""

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


@dataclass(frozen=True, kw_only=True)
class Board:
    """One machine: how it boots, its console and power (which for QEMU belong to the boot method), how it is reached
    over SSH where it has a network, its kernel command line beyond what the boot method needs, its limits and the
    kconfig fragments it needs.

    `unset`: what its entry takes from the environment or from files and was not found there, each with the reason; a
    board with any can be listed, not used. `secrets`: what came from there into console and power, for `redacted`.
    `labgrid`: where console and power are to be had from, instead. `holds`: file descriptors that keep the board ours;
    whoever sees to it after our end has to inherit them. `is_guarded`: another process of ours sees to that. `pool`:
    boards that have the same one are equal, and may run the tests of one run side by side; empty: none is."""

    name: str
    boot: QemuBoot | UbootBoot | KexecBoot | GrubBoot | UbootDiskBoot
    console: ConsoleSpec | None = None
    power: Power | None = None
    ssh: Ssh | None = None
    labgrid: LabgridPlace | None = None
    description: str = ""
    cmdline: str = ""
    kconfigs: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    unset: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    holds: tuple[int, ...] = ()
    is_guarded: bool = False
    pool: str = ""

    def redacted(self, text: str) -> str:
        """`text` without the board's secrets: for every message and log."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, "***")
        return text
