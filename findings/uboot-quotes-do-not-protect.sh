#!/usr/bin/env bash
# In U-Boot's shell single quotes do not protect a backslash, and double quotes protect neither a ' in them nor what the
# variable in them holds: the shell reads quotes and backslashes once more, and drops them (one ' that has no second is a
# syntax error). So a text with ' or \ can't be put together from pieces (`setenv bootargs "${bootargs} more"`): what was
# escaped for the first setenv is lost in the next one. Only " in a variable survives.
#
# Seen with: qemu-system-arm 1:7.2+dfsg-7+deb12u18, u-boot-qemu 2023.01+dfsg-2+deb12u3 (Debian 12). It printed, for
# setenv on the console and what printenv shows afterwards:
#   setenv text 'a\b': ab
#   setenv text 'a\\b': a\b
#   setenv copy "$text": ab
#   setenv text "it's five o'clock": its five oclock
#   setenv text 'it'\''s five o'\''clock': it's five o'clock
#   setenv copy "$text": its five oclock
#   setenv text 'a="b c"': a="b c"
#   setenv copy "$text": a="b c"
# where any other shell leaves what is in quotes, and the copies, as they are.
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

COMMANDS = r"""
setenv text 'a\b'
setenv text 'a\\b'
setenv copy "$text"
setenv text "it's five o'clock"
setenv text 'it'\''s five o'\''clock'
setenv copy "$text"
setenv text 'a="b c"'
setenv copy "$text"
"""
ours, qemus = socket.socketpair()
qemu = subprocess.Popen(
    ["root/usr/bin/qemu-system-aarch64", "-L", "root/usr/share/qemu", "-nodefaults", "-display", "none",
     "-M", "virt", "-cpu", "cortex-a57", "-m", "256", "-bios", "root/usr/lib/u-boot/qemu_arm64/u-boot.bin",
     "-chardev", f"socket,id=line,fd={qemus.fileno()}", "-serial", "chardev:line"],
    pass_fds=(qemus.fileno(),), stdin=subprocess.DEVNULL,
)
ENDS = time.monotonic() + 240


def hear(until: str) -> str:
    said = ""
    while until not in said:
        ours.settimeout(max(0.1, ENDS - time.monotonic()))
        if not (more := ours.recv(4096)):
            raise SystemExit("QEMU has ended")
        said += more.decode().replace("\r", "")
    return said


def run(command: str) -> str:
    ours.sendall(f"{command}\r".encode())
    return hear("\n=> ")


try:
    hear("stop autoboot")
    run("")
    for command in COMMANDS.strip().splitlines():
        run(command)
        print(f"{command}: {run('printenv ' + command.split()[1]).splitlines()[1].partition('=')[2]}")
finally:
    qemu.kill()
    qemu.wait()
PYTHON
diff seen - <<'EXPECTED'
setenv text 'a\b': ab
setenv text 'a\\b': a\b
setenv copy "$text": ab
setenv text "it's five o'clock": its five oclock
setenv text 'it'\''s five o'\''clock': it's five o'clock
setenv copy "$text": its five oclock
setenv text 'a="b c"': a="b c"
setenv copy "$text": a="b c"
EXPECTED
echo "as described: quotes and backslashes in quotes and variables are dropped"
