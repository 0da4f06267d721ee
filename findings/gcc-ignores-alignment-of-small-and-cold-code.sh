#!/usr/bin/env bash
# -falign-functions=8 is ignored by gcc for whatever it optimizes for size: everything at -Os, and at -O2 the functions
# that are marked cold. What relies on it, like the pointer that arm64's ftrace keeps in NOPs before each function, is
# then misaligned in some of them only, by chance. There is no warning, and -Q says at -Os both that it is disabled and
# that it is 8. (gcc 14 and later have another option for this, -fmin-function-alignment; clang obeys the old one.)
#
# Seen with: gcc-12-aarch64-linux-gnu 12.2.0-14cross1, binutils-aarch64-linux-gnu 2.40-2 (Debian 12). It printed:
#   -O2: .text is aligned to 8
#   -O2: .text.unlikely is aligned to 4
#   -Os: .text is aligned to 4
#   -Os: .text.unlikely is aligned to 4
#   -Q at -Os: -falign-functions [disabled]
#   -Q at -Os: -falign-functions= 8
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
void hot(void) { sink++; }
void hot_too(void) { sink += 2; }
__attribute__((cold)) void chilly(void) { sink -= 3; sink *= 3; }
__attribute__((cold)) void chilly_too(void) { sink--; }
C
{
    for level in -O2 -Os; do
        aarch64-linux-gnu-gcc-12 -ffreestanding $level -falign-functions=8 -c a.c -o a.o
        aarch64-linux-gnu-readelf -SW a.o | sed 's/\[ *//' |
            awk -v level=$level '$2 ~ /^.text/ && $6 != "000000" { print level ": " $2 " is aligned to " $NF }'
    done
    aarch64-linux-gnu-gcc-12 -Os -falign-functions=8 -Q --help=optimizers |
        awk '/-falign-functions/ { print "-Q at -Os: " $1, $2 }'
} | tee seen
diff seen - <<'EXPECTED'
-O2: .text is aligned to 8
-O2: .text.unlikely is aligned to 4
-Os: .text is aligned to 4
-Os: .text.unlikely is aligned to 4
-Q at -Os: -falign-functions [disabled]
-Q at -Os: -falign-functions= 8
EXPECTED
echo "as described: cold functions and -Os know no -falign-functions"
