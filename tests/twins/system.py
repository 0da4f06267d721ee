"""A server's own system for a twin: Debian's kernel, an SSH server and kexec-tools, all in memory; and a disk from
which GRUB boots it.

python -m tests.twins.system DIR    makes DIR/Image, DIR/initrd, and DIR/key, with which root logs in; DIR/disk, which
                                    has the first two too, and Debian's GRUB, and becomes the system's /boot
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.build import apt
from harness.build.cache import cache_dir, locked
from harness.build.initramfs import _entry, _write_directory, _write_tree

SUITE = "bookworm"
PACKAGES = (
    *("linux-image-cloud-arm64", "kexec-tools", "dropbear-bin", "openssh-sftp-server"),
    *("busybox", "dash", "coreutils", "findutils", "grep", "mount", "util-linux", "iproute2", "kmod"),
    *("grub-common", "grub-efi-arm64-bin"),
)
_NOT_NEEDED = (
    "boot",
    "lib/modules",
    "usr/lib/modules",
    "usr/share",
    "var",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/grub",
)
INIT = """\
#!/bin/dash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /run /var/tmp /root
mount -t devpts devpts /dev/pts
for module in $(cat /twin/modules); do insmod "/twin/$module"; done
[ ! -b /dev/vda1 ] || { mkdir -p /boot; mount /dev/vda1 /boot; }
ip link set lo up
for card in /sys/class/net/e*; do card=${card##*/}; done
ip link set "$card" up
ip address add 10.0.2.15/24 dev "$card"
ip route add default via 10.0.2.2
dropbearconvert openssh dropbear /twin/host-key /run/host-key
dropbear -E -s -r /run/host-key
busybox arping -q -c 2 -w 1 -A -I "$card" 10.0.2.15
printf '\\n\\nThe own system of a twin ttyAMA0\\n\\ntwin login: '
while :; do sleep 1000; done
"""
REBOOT = """\
#!/bin/dash
echo 'The twin goes down.' > /dev/kmsg
umount /boot
echo b > /proc/sysrq-trigger
"""
# what grub-install leaves for the firmware, and grub-mkconfig for GRUB; 41_custom's part is Debian's own
GRUB_FOUND = """\
search --no-floppy --file --set=root /grub/grub.cfg
set prefix=($root)'/grub'
configfile $prefix/grub.cfg
"""
GRUB_CFG = """\
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="0"
fi
set timeout=1
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {
	linux	/Image rdinit=/twin-init panic=30
	initrd	/initrd
}
"""
_DISK_SIZE, _DISK_START = 320 << 20, 1 << 20


def make(directory: Path) -> None:
    """Leave Image, initrd and the key that may log in in `directory`."""
    base = _base()
    directory.mkdir(parents=True, exist_ok=True)
    private, public = _new_key()
    (directory / "key").write_bytes(private)
    (directory / "key").chmod(0o600)
    host_key, _ = _new_key()
    shutil.copyfile(base / "Image", directory / "Image")
    with gzip.open(directory / "keys", "wb", compresslevel=1) as out:
        for name in ("root", "root/.ssh", "twin"):
            _write_directory(out, name)
        out.write(_entry("root/.ssh/authorized_keys", stat.S_IFREG | 0o600, public))
        out.write(_entry("twin/host-key", stat.S_IFREG | 0o600, host_key))
        out.write(_entry("TRAILER!!!", 0))
    with (directory / "initrd").open("wb") as whole:
        for part in (base / "initrd", directory / "keys"):
            whole.write(part.read_bytes())
            whole.write(bytes(-whole.tell() % 4))
    _make_disk(directory, base)


def _make_disk(directory: Path, base: Path) -> None:
    """A disk with one partition, from which U-Boot's EFI starts GRUB, and GRUB the system."""
    tree = directory / "boot"
    for name in ("efi/boot", "EFI/debian", "grub"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(base / "grubaa64.efi", tree / "efi/boot/bootaa64.efi")
    (tree / "EFI/debian/grub.cfg").write_text(GRUB_FOUND)
    (tree / "grub/grub.cfg").write_text(GRUB_CFG + (base / "41_custom").read_text())
    for name in ("Image", "initrd"):
        (tree / name).unlink(missing_ok=True)
        (tree / name).hardlink_to(directory / name)
    disk = directory / "disk"
    entry = struct.pack("<B3sB3sII", 0x80, b"", 0x83, b"", _DISK_START // 512, (_DISK_SIZE - _DISK_START) // 512)
    with disk.open("wb") as file:
        file.truncate(_DISK_SIZE)
        file.seek(446)
        file.write(entry)
        file.seek(510)
        file.write(b"\x55\xaa")
    # GRUB 2.06 reads no file system with a checksum seed
    how = ["-t", "ext4", "-O", "^metadata_csum", "-E", f"offset={_DISK_START}", "-d", str(tree)]
    _run("mke2fs", "-q", *how, str(disk), f"{(_DISK_SIZE - _DISK_START) >> 10}k")
    shutil.rmtree(tree)


def _new_key() -> tuple[bytes, bytes]:
    """Private and public half, as OpenSSH's files have them."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"


def _base() -> Path:
    """What every such system has in common, from the cache."""
    made = cache_dir("twins") / f"system-{SUITE}-2"
    with locked(made.with_suffix(".lock")):
        if not made.is_dir():
            with tempfile.TemporaryDirectory(dir=made.parent, prefix="making-") as scratch:
                _make_base(Path(scratch, "tree"), Path(scratch, "done"))
                Path(scratch, "done").rename(made)
    return made


def _make_base(tree: Path, done: Path) -> None:
    as_root = os.geteuid() == 0
    _run("mmdebstrap", f"--mode={'root' if as_root else 'unshare'}", "--architectures=arm64", "--variant=extract",
         "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={','.join(PACKAGES)}", "--quiet",
         SUITE, f"{tree}.tar", apt.mirror_for(SUITE))  # fmt: skip
    tree.mkdir()
    _run("tar", "-C", str(tree), "--no-same-owner", "-xf", f"{tree}.tar")
    done.mkdir()
    (kernel,) = tree.glob("boot/vmlinuz-*")
    shutil.copyfile(kernel, done / "Image")
    version = kernel.name.partition("-")[2]
    _run("depmod", "-b", str(tree), version)
    modules = _modules(tree, version)
    (tree / "twin").mkdir()
    for module in modules:
        shutil.copyfile(module, tree / "twin" / module.name)
    (tree / "twin/modules").write_text("\n".join(module.name for module in modules))
    shutil.copyfile(tree / "usr/lib/grub/arm64-efi/monolithic/grubaa64.efi", done / "grubaa64.efi")
    (done / "41_custom").write_text(_run("sh", str(tree / "etc/grub.d/41_custom")))
    for name in _NOT_NEEDED:
        shutil.rmtree(tree / name, ignore_errors=True)
    (tree / "etc/passwd").write_text("root:*:0:0:root:/root:/bin/sh\n")
    (tree / "etc/shells").write_text("/bin/sh\n")
    for name in ("proc", "sys", "dev", "tmp", "run", "root"):
        (tree / name).mkdir(exist_ok=True)
    with gzip.open(done / "initrd", "wb", compresslevel=6) as out:
        out.write(_entry("twin-init", stat.S_IFREG | 0o755, INIT.encode()))
        (tree / "usr/sbin/reboot").write_text(REBOOT)
        (tree / "usr/sbin/reboot").chmod(0o755)
        _write_directory(out, "dev")
        out.write(_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
        _write_tree(out, tree, below="")
        out.write(_entry("TRAILER!!!", 0))


def _modules(tree: Path, version: str) -> list[Path]:
    """The modules of a network card and a disk on virtio, in the order in which they are loaded."""
    found: dict[str, Path] = {}
    for wanted in ("virtio_pci", "virtio_net", "virtio_blk", "ext4"):
        told = _run("modprobe", "-d", str(tree), "-S", version, "--show-depends", wanted)
        for line in told.splitlines():
            if line.startswith("insmod "):
                path = Path(line.split()[1])
                found[path.name] = path
    return list(found.values())


def _run(*words: str) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: exit code {done.returncode}: {done.stderr[-800:]}")
    return done.stdout


if __name__ == "__main__":
    make(Path(sys.argv[1]))
