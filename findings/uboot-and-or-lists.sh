#!/usr/bin/env bash
# In U-Boot's shell (hush) `load && boot || complain` complains only if `boot` fails. When the command before && fails,
# everything up to the end of the list is skipped, what comes after || included; and || skips a && in the same way. In
# any other shell each operator looks at the status of what ran last. So the usual line with a fallback does nothing at
# all in the very case that the fallback is for, without a message; `if`, with the operators left out, does what it
# says.
#
# Seen with: qemu-system-arm 1:7.2+dfsg-7+deb12u18, u-boot-qemu 2023.01+dfsg-2+deb12u3 (Debian 12). It printed:
#   true && yes || no: <yes>
#   false && yes || no: <>
#   true || a && b: <>
#   if false, yes, else no: <no>
# where bash says yes, no, b, no.
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
script='setenv said; true && setenv said yes || setenv said no; echo "seen: true && yes || no: <$said>"'
script+='; setenv said; false && setenv said yes || setenv said no; echo "seen: false && yes || no: <$said>"'
script+='; setenv said; true || setenv said a && setenv said b; echo "seen: true || a && b: <$said>"'
script+='; setenv said; if false; then setenv said yes; else setenv said no; fi'
script+='; echo "seen: if false, yes, else no: <$said>"'
# U-Boot's environment, in the second flash of QEMU's machine: boot with a script, and switch off
python3 - "$script" <<'PYTHON'
import sys
import zlib

SIZE = 0x40000
body = f"bootdelay=0\0bootcmd={sys.argv[1]}; reset\0".encode().ljust(SIZE - 4, b"\0")
with open("flash", "wb") as file:
    file.write(zlib.crc32(body).to_bytes(4, "little") + body)
    file.truncate(64 << 20)
PYTHON
timeout 120 root/usr/bin/qemu-system-aarch64 -L root/usr/share/qemu -nodefaults -display none -no-reboot -M virt \
    -cpu cortex-a57 -m 256 -bios root/usr/lib/u-boot/qemu_arm64/u-boot.bin \
    -drive if=pflash,format=raw,index=1,file=flash -serial stdio < /dev/null | tr -d '\r' > console
sed -n 's/^seen: //p' console | tee seen
diff seen - <<'EXPECTED'
true && yes || no: <yes>
false && yes || no: <>
true || a && b: <>
if false, yes, else no: <no>
EXPECTED
echo "as described: what comes after || does not run where the first command fails"
