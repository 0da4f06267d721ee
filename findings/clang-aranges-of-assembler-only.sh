#!/usr/bin/env bash
# .debug_aranges says which unit of the debug information code belongs to, so that a reader need not open them all. gcc
# writes an entry for each unit. clang writes none for C (it would take -gdwarf-aranges), but its assembler writes one for
# each .S file. So in a kernel that clang has made the section is there, well-formed, and knows the assembler files only:
# who takes it for complete finds no source for any C function, and no error.
#
# Seen with: clang-19 and lld-19 1:19.1.7-3~deb12u1, gcc-12-aarch64-linux-gnu 12.2.0-14cross1,
# binutils-aarch64-linux-gnu 2.40-2 (Debian 12). It printed:
#   gcc: 2 units, 2 of them in .debug_aranges: a.c b.S
#   clang: 2 units, 1 of them in .debug_aranges: b.S
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 and dpkg-deb.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
pinned=({clang,lld}-19=1:19.1.7-3~deb12u1 {gcc,cpp}-12-aarch64-linux-gnu=12.2.0-14cross1
    binutils-aarch64-linux-gnu=2.40-2)
also=(lib{clang-cpp,llvm}19=1:19.1.7-3~deb12u1 libclang-common-19-dev=1:19.1.7-3~deb12u1)
mapfile -t needed < <(apt-get -s --no-install-recommends install "${pinned[@]}" |
    awk '/^Inst/ && $2 !~ /^((clang|lld)-19|(gcc|cpp)-12-aarch64-linux-gnu|binutils-aarch64-linux-gnu|libclang.*19.*|libllvm19.*)$/ { print $2 }')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}" "${also[@]}" "${needed[@]}"
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
PATH=$work/root/usr/bin:$PATH
export LD_LIBRARY_PATH PATH
echo 'int c_function(int x) { return x + 1; }' > a.c
cat > b.S <<'S'
	.text
	.globl	asm_function
	.type	asm_function, %function
asm_function:
	ret
	.size	asm_function, .-asm_function
S
show() { # NAME LINKER COMPILER...
    for source in a.c b.S; do
        "${@:3}" -g -O1 -c "$source" -o "${source%.*}.o"
    done
    "$2" -e c_function a.o b.o -o linked
    aarch64-linux-gnu-readelf --wide --debug-dump=info linked |
        awk '/Compilation Unit @ offset/ { unit = $5; sub(/:$/, "", unit); named = 0 }
             /DW_AT_name/ && !named { print unit, $NF; named = 1 }' | sed 's/^0 /0x0 /' > units
    aarch64-linux-gnu-readelf --debug-dump=aranges linked | awk '/Offset into/ { print $NF }' | sed 's/^0$/0x0/' > listed
    names=$(grep -wFf listed units | awk '{ print $2 }' | sort | tr '\n' ' ')
    echo "$1: $(wc -l < units) units, $(wc -l < listed) of them in .debug_aranges: ${names% }"
}
{
    show gcc aarch64-linux-gnu-ld aarch64-linux-gnu-gcc-12
    show clang ld.lld-19 clang-19 --target=aarch64-linux-gnu
} | tee seen
diff seen - <<'EXPECTED'
gcc: 2 units, 2 of them in .debug_aranges: a.c b.S
clang: 2 units, 1 of them in .debug_aranges: b.S
EXPECTED
echo "as described: the table is there, and lacks what clang has compiled from C"
