#!/usr/bin/env bash
# Where gcc has specialised a static function (helper.constprop.0), pahole writes BTF for it under its source name and
# with its source prototype, the parameter that gcc removed included, when called as the kernel's build calls it. No
# symbol has that name, and the arguments behind the removed one are in other registers than the prototype says: in the
# example x1 has `size`, which by the BTF is in x2. A BPF or fprobe program that takes the BTF for the truth reads the
# wrong argument. The option consistent_func, which is there to leave out what does not follow the calling convention,
# does not see it. The pahole of Debian 12 writes nothing for such functions.
#
# Seen with: pahole 1.30-1 (Debian 13), gcc-12-aarch64-linux-gnu 12.2.0-14cross1, bpftool 7.1.0 (Debian 12). It
# printed:
#   symbol: helper.constprop.0
#   one(thing, size) calls it with its own x0 and x1: yes
#   pahole 1.24: no helper
#   pahole 1.30: 'helper'( 'thing' 'mode' 'size' )
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 on amd64 and dpkg-deb.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# unpack SUITE PACKAGE…: the packages and all that they need, into SUITE/root; this machine's own state is left alone
unpack() {
    local options=(-qq -o "Dir::Cache=$work/$1" -o "Dir::State::status=$work/$1/status" -o APT::Install-Recommends=false
        -o "APT::Sandbox::User=$(id -un)")
    mkdir -p "$1/archives/partial" "$1/lists/partial" "$1/root"
    : > "$1/status"
    if [ "$1" != bookworm ]; then
        echo "deb $mirror $1 main" > "$1/sources.list"
        options+=(-o "Dir::State::lists=$work/$1/lists" -o "Dir::Etc::sourcelist=$work/$1/sources.list"
            -o Dir::Etc::sourceparts=/dev/null -o Acquire::Languages=none)
        apt-get "${options[@]}" update
    fi
    apt-get "${options[@]}" --download-only install "${@:2}" > /dev/null
    for package in "$1"/archives/*.deb; do
        dpkg-deb -x "$package" "$1/root"
    done
}

# in_suite SUITE PROGRAM…: run it with that suite's libraries
in_suite() {
    local root=$work/$1/root
    "$(find "$root" -name ld-linux-x86-64.so.2 | head -n 1)" \
        --library-path "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/$2" "${@:3}"
}

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' |
    head -n 1)
unpack trixie pahole=1.30-1
unpack bookworm gcc-12-aarch64-linux-gnu=12.2.0-14cross1 bpftool='7.1.0+6.1.*' pahole=1.24-4.1
FEATURES=encode_force,var,float,enum64,decl_tag,type_tag,optimized_func,consistent_func # as in scripts/Makefile.btf
cat > a.c <<'C'
struct thing { int count; };
extern int sink, use(int, int);
static __attribute__((noinline)) int helper(struct thing *thing, int mode, int size)
{
	sink = mode;
	return use(thing->count, size) + use(mode, thing->count);
}
int one(struct thing *thing, int size) { return helper(thing, 4, size) + 1; }
int two(struct thing *thing, int size) { return helper(thing, 4, size) + 2; }
C
bookworm() {
    local root=$work/bookworm/root
    PATH=$root/usr/sbin:$root/usr/bin:$PATH \
        LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu "$@"
}
bookworm aarch64-linux-gnu-gcc-12 -g -O2 -c a.c -o a.o
btf() {
    bookworm bpftool btf dump file "$1" > types
    echo "$2: $(awk '
        $2 == "FUNC_PROTO" { id = $1; next }
        /^\t/ { parameters[id] = parameters[id] " " $1; next }
        $2 == "FUNC" && $3 ~ /helper/ { sub("type_id=", "", $4); print $3 "(" parameters["[" $4 "]"] " )"; found = 1 }
        END { if (!found) print "no helper" }' types)"
}
{
    bookworm aarch64-linux-gnu-nm a.o | awk '/helper/ { print "symbol: " $3 }'
    bookworm aarch64-linux-gnu-objdump -d --no-show-raw-insn a.o | awk -F '\t' '
        /<one>:/, /\tbl\t/ { if ($3 ~ /^[wx][0-7],/) moved++ }
        END { print "one(thing, size) calls it with its own x0 and x1: " (moved ? "no" : "yes") }'
    cp a.o old.o
    bookworm pahole -J --btf_gen_floats old.o
    btf old.o 'pahole 1.24'
    cp a.o new.o
    in_suite trixie pahole -J --btf_features="$FEATURES" new.o
    btf new.o 'pahole 1.30'
} | tee seen
diff seen - <<'EXPECTED'
symbol: helper.constprop.0
one(thing, size) calls it with its own x0 and x1: yes
pahole 1.24: no helper
pahole 1.30: 'helper'( 'thing' 'mode' 'size' )
EXPECTED
echo "as described: the BTF of a clone has a parameter that the clone does not have"
