#!/usr/bin/env bash
# A command that is longer than U-Boot's line buffer (CONFIG_SYS_CBSIZE) is not refused: for each character too many
# the console gets a BEL instead of an echo, and Enter runs what fits. A long `setenv bootargs …` typed by a test loses
# its last parameters, and what follows a `;`, and succeeds. Whoever types has to compare the echo before Enter.
#
# Seen with: qemu-system-arm 1:7.2+dfsg-7+deb12u18, u-boot-qemu 2023.01+dfsg-2+deb12u3 (Debian 12). It printed, for
# `setenv bootargs`, 600 characters, and `; setenv after yes`, in one line:
#   the console: 496 echoed, 122 BEL
#   kept of bootargs: 496 of 600 characters
#   after: not set
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
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH
python3 - <<'PYTHON' | tee seen
import socket
import subprocess
import time

LONG = 600
ours, qemus = socket.socketpair()
qemu = subprocess.Popen(
    ["root/usr/bin/qemu-system-aarch64", "-L", "root/usr/share/qemu", "-nodefaults", "-display", "none",
     "-M", "virt", "-cpu", "cortex-a57", "-m", "256", "-bios", "root/usr/lib/u-boot/qemu_arm64/u-boot.bin",
     "-chardev", f"socket,id=line,fd={qemus.fileno()}", "-serial", "chardev:line"],
    pass_fds=(qemus.fileno(),), stdin=subprocess.DEVNULL,
)
ENDS = time.monotonic() + 240


def hear(enough) -> bytes:
    said = b""
    while not enough(said):
        ours.settimeout(max(0.1, ENDS - time.monotonic()))
        if not (more := ours.recv(4096)):
            raise SystemExit("QEMU has ended")
        said += more
    return said


def type_in(line: str) -> bytes:
    # without Enter, and never faster than it is echoed
    echo = b""
    for at in range(0, len(line), 16):
        part = line[at : at + 16].encode()
        ours.sendall(part)
        echo += hear(lambda said: len(said) >= len(part))
    return echo


def run() -> str:
    ours.sendall(b"\r")
    return hear(lambda said: said.endswith(b"\n=> ")).decode().replace("\r", "")


try:
    hear(lambda said: b"stop autoboot" in said)
    ours.sendall(b" ")
    hear(lambda said: said.endswith(b"\n=> "))
    start = "setenv bootargs "
    echo = type_in(start + "x" * LONG + "; setenv after yes")
    print(f"the console: {len(echo) - echo.count(7) - len(start)} echoed, {echo.count(7)} BEL")
    run()
    type_in("printenv bootargs")
    print(f"kept of bootargs: {run().count('x')} of {LONG} characters")
    type_in("printenv after")
    print("after:", "not set" if '"after" not defined' in run() else "set")
finally:
    qemu.kill()
    qemu.wait()
PYTHON
diff seen - <<'EXPECTED'
the console: 496 echoed, 122 BEL
kept of bootargs: 496 of 600 characters
after: not set
EXPECTED
echo "as described: a line that is too long is cut and run"
