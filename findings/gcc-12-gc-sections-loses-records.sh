#!/usr/bin/env bash
# gcc 12 puts the records of all functions of an object into one section __patchable_function_entries, even with
# -ffunction-sections, and ties that section to the text of the first function (SHF_LINK_ORDER). If the linker collects
# that function as garbage, the records of all others go with it, without a warning: they keep their NOPs, and are in
# no table, so they can't be traced. Whether a function is traceable then hangs on whether another one is used. (gcc 13
# and later give each function a section of its own.)
#
# Seen with: gcc-12-aarch64-linux-gnu 12.2.0-14cross1, binutils-aarch64-linux-gnu 2.40-2 (Debian 12). It printed:
#   without the unused function: 2 functions begin with NOPs, 2 have a record
#   with it as the first: 2 functions begin with NOPs, 0 have a record
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 and dpkg-deb.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
pinned=({gcc,cpp}-12-aarch64-linux-gnu=12.2.0-14cross1 binutils-aarch64-linux-gnu=2.40-2)
mapfile -t needed < <(apt-get -s --no-install-recommends install "${pinned[@]}" |
    awk '/^Inst/ && $2 !~ /^((gcc|cpp)-12-aarch64-linux-gnu|binutils-aarch64-linux-gnu)$/ { print $2 }')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}" "${needed[@]}"
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
PATH=$work/root/usr/bin:$PATH
export LD_LIBRARY_PATH PATH
cat > a.c <<'C'
int sink;
#ifdef UNUSED
__attribute__((noinline)) int unused(int x) { sink = x; return x; }
#endif
__attribute__((noinline)) int used(int x) { sink = x; return x + 1; }
int start(int x) { return used(x); }
C
show() {
    aarch64-linux-gnu-gcc-12 -O2 -ffreestanding -ffunction-sections -fpatchable-function-entry=2 "${@:2}" -c a.c -o a.o
    aarch64-linux-gnu-ld --gc-sections --fatal-warnings -e start a.o -o linked
    nops=$(aarch64-linux-gnu-objdump -d --no-show-raw-insn linked | grep -A 1 '>:$' | grep -c 'nop$')
    size=$(aarch64-linux-gnu-readelf -SW linked | sed -n 's/.* __patchable_function_entries *//p' | awk '{ print $4 }')
    echo "$1: $nops functions begin with NOPs, $((0x${size:-0} / 8)) have a record"
}
{
    show 'without the unused function'
    show 'with it as the first' -DUNUSED
} | tee seen
diff seen - <<'EXPECTED'
without the unused function: 2 functions begin with NOPs, 2 have a record
with it as the first: 2 functions begin with NOPs, 0 have a record
EXPECTED
echo "as described: the records of live functions go with a dead one"
