#!/usr/bin/env bash
# gcc takes into account that a function with NOPs at its entry may be patched to do anything, but only if the NOPs
# come from the option -fpatchable-function-entry. Where they come from the attribute patchable_function_entry, which
# is meant to do the same for a single function, -fipa-ra stays in force: callers in that file know which registers the
# function uses and keep values in the others over the call, call-clobbered ones too. Whatever is patched in there has
# to keep registers that no ABI asks it to; of arm64's ftrace the first instruction overwrites x9. -Q does not tell: it
# says that -fipa-ra is enabled also where the option has switched it off.
#
# Seen with: gcc-12-aarch64-linux-gnu 12.2.0-14cross1, binutils-aarch64-linux-gnu 2.40-2 (Debian 12). It printed:
#   option: 2 NOPs in the callee; of x9 to x15 the caller keeps values in: none
#   attribute: 2 NOPs in the callee; of x9 to x15 the caller keeps values in: x11 x9 x10
#   -Q with the option: -fipa-ra [enabled]
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
#ifdef ATTRIBUTE
#define TRACED __attribute__((patchable_function_entry(2)))
#else
#define TRACED
#endif
extern int sink;
TRACED static __attribute__((noinline)) void leaf(int x) { sink = x; }
TRACED long caller(long a, long b, long c, long d, long e, long f, long g, long h)
{
	long p = a * b, q = c * d, r = e * f, s = g * h;
	leaf(a);
	return ((((p ^ a) + (q ^ b)) ^ c) + ((r ^ d) * (s ^ e)) ^ f) + (g ^ h);
}
C
show() {
    aarch64-linux-gnu-gcc-12 -O2 "$2" -c a.c -o a.o
    aarch64-linux-gnu-objdump -d --no-show-raw-insn a.o > listing
    nops=$(sed -n '/<leaf>:/,/ret/p' listing | grep -c 'nop$')
    # those of x9 to x15 that an instruction behind the call reads before any has written them
    kept=$(sed -n '/<caller>:/,/ret/p' listing | awk -F '	' '
        $2 == "bl" { after = 1; next }
        after { split($3, word, /, */)
            for (i = 2; i in word; i++) if (word[i] ~ /^x(9|1[0-5])$/ && !(word[i] in known)) kept = kept " " word[i]
            for (i in word) known[word[i]] }
        END { print kept ? kept : " none" }')
    echo "$1: $nops NOPs in the callee; of x9 to x15 the caller keeps values in:$kept"
}
{
    show option -fpatchable-function-entry=2
    show attribute -DATTRIBUTE
    echo "-Q with the option: $(aarch64-linux-gnu-gcc-12 -O2 -fpatchable-function-entry=2 -Q --help=optimizers |
        awk '$1 == "-fipa-ra" { print $1, $2 }')"
} | tee seen
diff seen - <<'EXPECTED'
option: 2 NOPs in the callee; of x9 to x15 the caller keeps values in: none
attribute: 2 NOPs in the callee; of x9 to x15 the caller keeps values in: x11 x9 x10
-Q with the option: -fipa-ra [enabled]
EXPECTED
echo "as described: with the attribute alone callers rely on the registers of the function as it was compiled"
