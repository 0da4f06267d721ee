#!/usr/bin/env bash
# KEEP() on a section that is tied to another one (SHF_LINK_ORDER), as each record in __patchable_function_entries is
# tied to its function's text, means opposite things to the two linkers with which the kernel is built. GNU ld keeps
# the text as well, so --gc-sections removes no function that can be traced. lld removes both. A linker script that has
# the line for one of them, in order not to lose records, gets no dead code elimination from the other.
#
# Seen with: gcc-12-aarch64-linux-gnu 12.2.0-14cross1, binutils-aarch64-linux-gnu 2.40-2 (Debian 12), lld-16
# 1:16.0.6-15~deb12u1. It printed, for an object with one unused function:
#   aarch64-linux-gnu-ld, …: start 1 records
#   ld.lld-16, …: start 1 records
#   aarch64-linux-gnu-ld, KEEP(…): start unused 2 records
#   ld.lld-16, KEEP(…): start 1 records
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 and dpkg-deb.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
pinned=({gcc,cpp}-12-aarch64-linux-gnu=12.2.0-14cross1 binutils-aarch64-linux-gnu=2.40-2 lld-16='1:16.0.6-15~deb12u1*')
mapfile -t needed < <(apt-get -s --no-install-recommends install "${pinned[@]}" |
    awk '/^Inst/ && $2 !~ /^((gcc|cpp)-12-aarch64-linux-gnu|binutils-aarch64-linux-gnu|lld-16)$/ { print $2 }')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}" "${needed[@]}"
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
PATH=$work/root/usr/bin:$PATH
export LD_LIBRARY_PATH PATH
# the assembler code of two functions, each with a section and a record of its own
for name in start unused; do
    echo ".section .text.$name,\"ax\"; .globl $name; .type $name, %function; $name: nop; nop; ret; .size $name, .-$name"
    echo ".section __patchable_function_entries,\"awo\",%progbits,.text.$name; .8byte $name"
done > a.s
aarch64-linux-gnu-as a.s -o a.o
RECORDS='*(__patchable_function_entries)'
for records in "$RECORDS" "KEEP($RECORDS)"; do
    table="first = .; $records; last = .;"
    echo "SECTIONS { .text : { *(.text .text.*) } . = 0x10000; .records : { $table } }" > script.lds
    for linker in aarch64-linux-gnu-ld ld.lld-16; do
        "$linker" --gc-sections -e start -T script.lds a.o -o linked
        aarch64-linux-gnu-nm linked > symbols
        size=$((0x$(awk '$3 == "last" { print $1 }' symbols) - 0x$(awk '$3 == "first" { print $1 }' symbols)))
        kept=$(awk '$3 ~ /^(start|unused)$/ { printf "%s ", $3 }' symbols)
        echo "$linker, ${records/"$RECORDS"/…}: $kept$((size / 8)) records"
    done
done | tee seen
diff seen - <<'EXPECTED'
aarch64-linux-gnu-ld, …: start 1 records
ld.lld-16, …: start 1 records
aarch64-linux-gnu-ld, KEEP(…): start unused 2 records
ld.lld-16, KEEP(…): start 1 records
EXPECTED
echo "as described: KEEP of the records keeps dead functions with GNU ld, not with lld"
