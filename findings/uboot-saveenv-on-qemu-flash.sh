#!/usr/bin/env bash
# U-Boot's manual keeps the environment of its QEMU machines in a second flash (-drive if=pflash,index=1). With the QEMU
# of Debian 12 `saveenv` fails there, every time, and what was saved before is lost as well: the sectors are erased first,
# so the next boot has neither the new environment nor the old one, only the defaults. The likely cause is a change to
# block writes of that flash which a stable update of QEMU brought ("hw/pflash: implement update buffer for block
# writes"). A test that prepares U-Boot has to write the flash's content itself, as this script does for the first boot.
#
# Seen with: qemu-system-arm 1:7.2+dfsg-7+deb12u18, u-boot-qemu 2023.01+dfsg-2+deb12u3 (Debian 12). It printed:
#   first boot:  colour=red
#   saveenv:     Flash buffer write timeout at address 4000000 data 623e6f62
#   saveenv:     Failed (1)
#   second boot: Loading Environment from Flash... *** Warning - bad CRC, using default environment
#   second boot: ## Error: "colour" not defined
# Exits with 0 as long as it behaves so. Needs apt of Debian 12, dpkg-deb and python3.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
pinned=('qemu-system-arm=1:7.2+dfsg-7+deb12u18*' 'u-boot-qemu=2023.01+dfsg-2+deb12u3')
mapfile -t needed < <(apt-get -s --no-install-recommends install "${pinned[@]}" |
    awk '/^Inst/ && $2 != "qemu-system-arm" && $2 != "u-boot-qemu" { print $2 }')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}" "${needed[@]}"
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h:' | tr -d '\n')${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH
python3 - <<'PYTHON'
import re
import socket
import subprocess
import time
import zlib

SIZE = 0x40000  # of the environment
body = b"bootcmd=true\0bootdelay=2\0colour=red\0".ljust(SIZE - 4, b"\0")
with open("flash", "wb") as file:
    file.write(zlib.crc32(body).to_bytes(4, "little") + body)
    file.truncate(64 << 20)


def boot(*commands: str) -> str:
    """Boot U-Boot, run the commands, and return all that it said."""
    ours, qemus = socket.socketpair()
    qemu = subprocess.Popen(
        ["root/usr/bin/qemu-system-aarch64", "-L", "root/usr/share/qemu", "-nodefaults", "-display", "none",
         "-M", "virt", "-cpu", "cortex-a57", "-m", "256", "-bios", "root/usr/lib/u-boot/qemu_arm64/u-boot.bin",
         "-drive", "if=pflash,format=raw,index=1,file=flash",
         "-chardev", f"socket,id=line,fd={qemus.fileno()}", "-serial", "chardev:line"],
        pass_fds=(qemus.fileno(),), stdin=subprocess.DEVNULL,
    )
    said, left = "", ["", *commands]

    def hear(until: str) -> None:
        nonlocal said
        start, ends = len(said), time.monotonic() + 60
        while until not in said[start:]:
            ours.settimeout(max(0.1, ends - time.monotonic()))
            said += ours.recv(4096).decode(errors="replace").replace("\r", "")

    try:
        hear("stop autoboot")
        for command in left:
            ours.sendall(f"{command}\r".encode())
            hear("\n=> ")
    finally:
        qemu.kill()
        qemu.wait()
    return said


def show(when: str, pattern: str, said: str) -> None:
    found = re.search(pattern, said)
    if not found:
        raise SystemExit(f"{when}: expected {pattern!r}; the behaviour has changed:\n{said}")
    print(f"{when + ':':12} {found[0]}")


first = boot("printenv colour", "setenv colour blue", "saveenv")
show("first boot", r"colour=red", first)
show("saveenv", r"Flash buffer write timeout at address .*", first)
show("saveenv", r"Failed \(1\)", first)
second = boot("printenv colour")
show("second boot", r"Loading Environment from Flash\.\.\. \*\*\* Warning - bad CRC, using default environment", second)
show("second boot", r'## Error: "colour" not defined', second)
PYTHON
echo "as described: a saveenv that fails has taken the old environment with it"
