#!/usr/bin/env bash
# In U-Boot `test $variable = value` is true if the variable is not set. Without quotes it vanishes, `test` is left
# with two arguments, and U-Boot's `test` takes the missing comparison for a success; a POSIX shell calls it an error,
# and takes the other branch. The same holds for !=, -eq, -lt and -gt, all of them at once, and for a value of two
# words. So a script that boots something else where a variable says so does that also where nobody has ever set it.
# With quotes it is right.
#
# Seen with: qemu-system-arm 1:7.2+dfsg-7+deb12u18, u-boot-qemu 2023.01+dfsg-2+deb12u3 (Debian 12). It printed:
#   unset = b: true
#   unset != b: true
#   unset -eq 5: true
#   unset -lt 5: true
#   unset -gt 5: true
#   unset, quoted = b: false
#   two words = b: true
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
script='setenv slot'
for comparison in '= b' '!= b' '-eq 5' '-lt 5' '-gt 5'; do
    script+="; if test \$slot $comparison; then echo 'seen: unset $comparison: true'"
    script+="; else echo 'seen: unset $comparison: false'; fi"
done
script+='; if test "$slot" = b; then echo "seen: unset, quoted = b: true"'
script+='; else echo "seen: unset, quoted = b: false"; fi'
script+='; setenv slot a a; if test $slot = b; then echo "seen: two words = b: true"'
script+='; else echo "seen: two words = b: false"; fi'
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
unset = b: true
unset != b: true
unset -eq 5: true
unset -lt 5: true
unset -gt 5: true
unset, quoted = b: false
two words = b: true
EXPECTED
echo "as described: every comparison with an unset variable is true"
