#!/usr/bin/env bash
# /dev/kmsg takes at most ten messages in five seconds from one open file, and drops the rest without an error: write()
# returns the full length. A test that keeps a descriptor open and marks its steps in the kernel log loses marks when
# the steps are quick. Only when the file is closed does a line with the number of dropped messages appear; a shell
# that opens the file anew for each message (`echo … > /dev/kmsg`) loses none, because the limit is the open file's. It
# is on by default; printk.devkmsg=on on the command line, or the sysctl kernel.printk_devkmsg, switches it off.
#
# Seen with: Linux 6.1.192-2 of Debian 12 (amd64), qemu-system-x86 1:7.2+dfsg-7+deb12u18, busybox-static 1:1.35.0-4. It
# printed:
#   one descriptor: 30 writes succeeded, 10 lines in the log
#   the log: printk: init: 20 output lines suppressed due to ratelimiting
#   opened for each: 30 writes succeeded, 30 lines in the log
#   one descriptor, printk_devkmsg=on: 30 writes succeeded, 30 lines in the log
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 on amd64 and dpkg-deb.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
qemu='=1:7.2+dfsg-7+deb12u18*'
pinned=("qemu-system-x86$qemu" "qemu-system-common$qemu" "qemu-system-data$qemu" seabios=1.16.2-1
    busybox-static='1:1.35.0-4+deb12u1*' linux-image-6.1.0-56-amd64-unsigned=6.1.192-2)
mapfile -t needed < <(apt-get -s --no-install-recommends install "${pinned[@]:0:4}" |
    awk '/^Inst/ && $2 !~ /^(qemu-system-(x86|common|data)|seabios)$/ { print $2 }')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}" "${needed[@]}"
for package in ./*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$work" --exclude=./lib/modules --one-top-level=root -x
done
mkdir -p guest/bin guest/proc guest/sys
cp root/bin/busybox guest/bin/
cat > guest/init <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
thirty() {
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do "$@"; done
}
mark() { echo "$1 $i" >&3 && succeeded=$((succeeded + 1)); }
mark_anew() { echo "$1 $i" > /dev/kmsg && succeeded=$((succeeded + 1)); }
told() { echo "seen: $1: $succeeded writes succeeded, $(dmesg | grep -c "$2") lines in the log"; succeeded=0; }
succeeded=0
exec 3> /dev/kmsg
thirty mark first
exec 3>&-
told 'one descriptor' 'first '
echo "seen: the log: $(dmesg | sed -n 's/.*\] \(.*suppressed.*\)/\1/p')"
thirty mark_anew second
told 'opened for each' 'second '
echo on > /proc/sys/kernel/printk_devkmsg
exec 3> /dev/kmsg
thirty mark third
exec 3>&-
told 'one descriptor, printk_devkmsg=on' 'third '
poweroff -f
INIT
chmod +x guest/init
(cd guest && find . | ../root/bin/busybox cpio -o -H newc 2> /dev/null) > initramfs
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH QEMU_MODULE_DIR=$work/root/usr/lib/x86_64-linux-gnu/qemu
timeout 300 root/usr/bin/qemu-system-x86_64 -L root/usr/share/qemu -L root/usr/share/seabios -M pc -m 512 \
    -nodefaults -display none -no-reboot -serial stdio -kernel root/boot/vmlinuz-* -initrd initramfs \
    -append 'console=ttyS0 quiet panic=-1' < /dev/null | tr -d '\r' > console
sed -n 's/^seen: //p' console | tee seen
diff seen - <<'EXPECTED'
one descriptor: 30 writes succeeded, 10 lines in the log
the log: printk: init: 20 output lines suppressed due to ratelimiting
opened for each: 30 writes succeeded, 30 lines in the log
one descriptor, printk_devkmsg=on: 30 writes succeeded, 30 lines in the log
EXPECTED
echo "as described: /dev/kmsg drops what it has accepted"
