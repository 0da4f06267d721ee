#!/usr/bin/env bash
# From binutils 2.44 on `ld -r` no longer merges sections of one name that are tied to different sections
# (SHF_LINK_ORDER), as lld never did. clang, and gcc from 13 on, make one __patchable_function_entries for each
# function, so an object that was linked from others has as many sections of that name, where 2.40 left one. Tools that
# ask for a section by its name get one of them, and do not say that there are more: objcopy --dump-section writes the
# first, pyelftools' get_section_by_name() returns the last, so each sees one function of two. And objcopy
# --update-section replaces the content of the first, but drops the relocations of all.
#
# Seen with: binutils-aarch64-linux-gnu 2.40-2 (Debian 12) and 2.44-3 (Debian 13), pyelftools 0.33. It printed, for an
# object with two functions:
#   ld 2.40 -r: 1 sections, 2 relocations
#   ld 2.44 -r: 2 sections, 2 relocations
#   objcopy --dump-section: 8 bytes
#   objcopy --update-section: 0 relocations left
#   pyelftools: number 2 of 2, 8 bytes
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 on amd64, dpkg-deb and python3 with its venv module.
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
unpack bookworm binutils-aarch64-linux-gnu=2.40-2
unpack trixie binutils-aarch64-linux-gnu=2.44-3
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pyelftools==0.33
# the assembler code of two functions, each with a section and a record of its own
for name in one two; do
    echo ".section .text.$name,\"ax\"; .globl $name; .type $name, %function; $name: nop; nop; ret; .size $name, .-$name"
    echo ".section __patchable_function_entries,\"awo\",%progbits,.text.$name; .8byte $name"
done > a.s
cat > by_name.py <<'PYTHON'
import sys

from elftools.elf.elffile import ELFFile

with open(sys.argv[1], "rb") as stream:
    file = ELFFile(stream)
    section = file.get_section_by_name("__patchable_function_entries")
    of_all = [at for at in range(file.num_sections()) if file.get_section(at).name == section.name]
    at = next(at for at in of_all if file.get_section(at)["sh_offset"] == section["sh_offset"])
    print(f"number {of_all.index(at) + 1} of {len(of_all)}, {section['sh_size']} bytes")
PYTHON
records() { in_suite "$1" aarch64-linux-gnu-readelf -SW "$2" | grep -c ' __patchable_function_entries '; }
relocations() { in_suite "$1" aarch64-linux-gnu-readelf -rW "$2" | grep -c R_AARCH64_ABS64 || true; }
head -c 8 /dev/zero > zeros
NAME=__patchable_function_entries
{
    for suite in bookworm trixie; do
        version=$(in_suite $suite aarch64-linux-gnu-ld --version | sed -n '1s/.* //p')
        in_suite $suite aarch64-linux-gnu-as a.s -o a.o
        in_suite $suite aarch64-linux-gnu-ld -r a.o -o whole-$suite.o
        echo "ld $version -r: $(records $suite whole-$suite.o) sections," \
            "$(relocations $suite whole-$suite.o) relocations"
    done
    in_suite trixie aarch64-linux-gnu-objcopy --dump-section "$NAME=dumped" whole-trixie.o
    echo "objcopy --dump-section: $(stat -c %s dumped) bytes"
    in_suite trixie aarch64-linux-gnu-objcopy --update-section "$NAME=zeros" whole-trixie.o updated.o
    echo "objcopy --update-section: $(relocations trixie updated.o) relocations left"
    echo "pyelftools: $(venv/bin/python by_name.py whole-trixie.o)"
} | tee seen
diff seen - <<'EXPECTED'
ld 2.40 -r: 1 sections, 2 relocations
ld 2.44 -r: 2 sections, 2 relocations
objcopy --dump-section: 8 bytes
objcopy --update-section: 0 relocations left
pyelftools: number 2 of 2, 8 bytes
EXPECTED
echo "as described: an object linked by ld -r has several sections of one name, and tools see one"
