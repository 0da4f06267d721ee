#!/usr/bin/env bash
# kernel.ftrace_enabled=0, which stops function tracing, also stops kprobes, although nothing shows that: the write
# succeeds, the events stay enabled, new ones can be enabled, and debugfs's list of kprobes has no [DISABLED] behind
# them. They are just never hit. It concerns the probes that use ftrace ([FTRACE] in that list): on x86 those at the
# first instruction of a function, and so every return probe. One a few bytes further on keeps counting. So a probe
# that counts nothing does not prove that its function was not called.
#
# Seen with: Linux 6.1.192-2 of Debian 12 (amd64), qemu-system-x86 1:7.2+dfsg-7+deb12u18, busybox-static 1:1.35.0-4. It
# printed, with three probes in vfs_read while files were read:
#   ftrace_enabled=1: entry counts, inner counts, return counts
#   ftrace_enabled=0: entry silent, inner counts, return silent
#   list of kprobes: k vfs_read+0x0 [FTRACE]
#   enabled only now: status 0, late silent
#   ftrace_enabled=1: entry counts, inner counts, return counts
#   and late counts
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
mount -t sysfs sysfs /sys
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
cd /sys/kernel/tracing
hits() { sed -n "s/^  $1  *\([0-9]*\) .*/\1/p" kprobe_profile; }
state() {
    before=$(hits "$1")
    read -r line < /proc/version
    [ "$(hits "$1")" = "$before" ] && echo "$1 silent" || echo "$1 counts"
}
told() {
    echo "seen: ftrace_enabled=$(cat /proc/sys/kernel/ftrace_enabled): $(state entry), $(state inner), $(state return)"
}
echo 'p:entry vfs_read' > kprobe_events
echo 'p:inner vfs_read+5' >> kprobe_events
echo 'r:return vfs_read' >> kprobe_events
echo 1 > events/kprobes/enable
told
echo 0 > /proc/sys/kernel/ftrace_enabled
told
listed=$(sed -n 's/^[0-9a-f]*  k  \(vfs_read+0x0\) *\(.*\)/k \1 \2/p' /sys/kernel/debug/kprobes/list)
echo "seen: list of kprobes: $listed"
echo 'p:late ksys_read' >> kprobe_events
echo 1 > events/kprobes/late/enable
echo "seen: enabled only now: status $?, $(state late)"
echo 1 > /proc/sys/kernel/ftrace_enabled
told
echo "seen: and $(state late)"
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
ftrace_enabled=1: entry counts, inner counts, return counts
ftrace_enabled=0: entry silent, inner counts, return silent
list of kprobes: k vfs_read+0x0 [FTRACE]
enabled only now: status 0, late silent
ftrace_enabled=1: entry counts, inner counts, return counts
and late counts
EXPECTED
echo "as described: kprobes that are enabled are never hit"
