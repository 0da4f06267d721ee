#!/usr/bin/env bash
# With -mbranch-protection=bti gcc leaves the landing pad out of a static function whose address nobody takes. So in
# one object the record in __patchable_function_entries, the address of the first NOP, is the function's address in
# some functions and 4 bytes behind it in others. Neither "record minus 4" nor a lookup of the symbol at the record's
# address finds the function of every record, and whether it is the one or the other changes when somebody takes the
# function's address in another place of the file.
#
# Seen with: gcc-12-aarch64-linux-gnu 12.2.0-14cross1, binutils-aarch64-linux-gnu 2.40-2 (Debian 12). It printed:
#   address not taken: record of local at +0
#   address not taken: record of global at +4
#   address taken: record of local at +4
#   address taken: record of global at +4
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
static __attribute__((noinline)) void local(int x) { sink += x; }
void global(int x) { sink -= x; local(x * 3); local(x); }
#ifdef TAKEN
void (*pointer)(int) = local;
#endif
C
show() {
    aarch64-linux-gnu-gcc-12 -O2 -mbranch-protection=bti -fpatchable-function-entry=2 "${@:2}" -c a.c -o a.o
    aarch64-linux-gnu-nm a.o > symbols
    aarch64-linux-gnu-readelf -rW a.o | sed -n '/patchable/,/^$/s/.*R_AARCH64_ABS64.* //p' > records
    for name in local global; do
        at=$((0x$(awk -v name=$name '$3 == name { print $1 }' symbols)))
        offset=$(while read -r record; do
            if ((0x$record - at < 8 && 0x$record >= at)); then echo $((0x$record - at)); fi
        done < records)
        echo "$1: record of $name at +$offset"
    done
}
{
    show 'address not taken'
    show 'address taken' -DTAKEN
} | tee seen
diff seen - <<'EXPECTED'
address not taken: record of local at +0
address not taken: record of global at +4
address taken: record of local at +4
address taken: record of global at +4
EXPECTED
echo "as described: records are at +0 and at +4 in one object"
