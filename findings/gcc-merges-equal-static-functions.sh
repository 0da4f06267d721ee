#!/usr/bin/env bash
# At -O2 gcc makes one function of two static ones with the same body (-fipa-icf), although both have NOPs for tracing
# and live patching, and calls to the second become calls to the first. Both names are left in the symbol table, at one
# address, with one record in __patchable_function_entries. So a filter or a probe on the second name fires for the
# callers of the first, and a live patch that is made for one of them replaces both. Only -flive-patching or
# -fno-ipa-icf keeps them apart, and the kernel is built with neither.
#
# Seen with: gcc-12-aarch64-linux-gnu 12.2.0-14cross1, binutils-aarch64-linux-gnu 2.40-2 (Debian 12). It printed:
#   -O2: first at 0x0000, second at 0x0000, 3 records, calls_second calls <first>
#   -flive-patching: first at 0x0000, second at 0x0030, 4 records, calls_second calls <second>
#   -fno-ipa-icf: first at 0x0000, second at 0x0030, 4 records, calls_second calls <second>
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
extern int a, use(int);
static __attribute__((noinline)) int first(int x) { return use(x) * 3 + a; }
static __attribute__((noinline)) int second(int x) { return use(x) * 3 + a; }
int calls_first(int x) { return first(x); }
int calls_second(int x) { return second(x) + 1; }
C
show() {
    aarch64-linux-gnu-gcc-12 -O2 -fpatchable-function-entry=2 -fno-optimize-sibling-calls "${@:2}" -c a.c -o a.o
    aarch64-linux-gnu-objdump -d --no-show-raw-insn a.o > listing
    called=$(sed -n '/<calls_second>:/,/ret/s/.*bl\t[0-9a-f]* //p' listing)
    at=$(aarch64-linux-gnu-nm a.o | awk '$3 == "first" || $3 == "second" { printf " %s at 0x%s,", $3, substr($1, 13) }')
    records=$(aarch64-linux-gnu-readelf -rW a.o | sed -n '/patchable/,/^$/p' | grep -c R_AARCH64_ABS64)
    echo "$1:$at $records records, calls_second calls $called"
}
{
    show -O2
    show -flive-patching -flive-patching=inline-clone
    show -fno-ipa-icf -fno-ipa-icf
} | tee seen
diff seen - <<'EXPECTED'
-O2: first at 0x0000, second at 0x0000, 3 records, calls_second calls <first>
-flive-patching: first at 0x0000, second at 0x0030, 4 records, calls_second calls <second>
-fno-ipa-icf: first at 0x0000, second at 0x0030, 4 records, calls_second calls <second>
EXPECTED
echo "as described: two static functions of one body have one entry to trace or patch"
