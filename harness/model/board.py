"""What boards.yaml says of one machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits of one board, in seconds. `boot`: from power-on to a shell that answers; `silence`: how long
    console and shell may both be quiet during a test before the kernel is asked whether it lives."""

    boot: float = 90.0
    silence: float = 30.0


@dataclass(frozen=True, kw_only=True)
class QemuBoot:
    """Boot method ``qemu``: a virtual machine started by the harness, kernel loaded directly.

    `memory_mib`: MiB; `accel`: ``auto`` (KVM on an arm64 host where /dev/kvm works, else TCG), ``kvm`` or ``tcg``.
    """

    machine: str = "virt"
    cpu: str = "neoverse-n1"
    cpus: int = 2
    memory_mib: int = 1024
    accel: str = "auto"
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Board:
    """One machine: how it boots (with its console and power, which for QEMU belong to the boot method), its
    kernel command line beyond what the boot method needs, its limits and the kconfig fragments it needs."""

    name: str
    boot: QemuBoot
    description: str = ""
    cmdline: str = ""
    kconfigs: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
