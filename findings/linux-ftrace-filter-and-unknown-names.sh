#!/usr/bin/env bash
# A mistyped function in ftrace's set_ftrace_filter may go unnoticed, and then all functions are traced instead of one.
# The kernel looks a name up when the white space behind it arrives. The last word of a write that ends without any is
# looked up only when the file is closed, where an error can no longer be told: `printf name > set_ftrace_filter`
# succeeds whatever the name is. With a line end the write does fail; but `>` has emptied the filter before, and an
# empty filter means every function, so a script that goes on after the error traces the whole kernel. Only `>>` leaves
# what was there. ftrace_filter= on the kernel's command line says nothing either (ftrace_graph_filter= does).
#
# Seen with: Linux 6.1.192-2 of Debian 12 (amd64), qemu-system-x86 1:7.2+dfsg-7+deb12u18, busybox-static 1:1.35.0-4. It
# printed (status: the shell's, of the command; behind it the first line of set_ftrace_filter afterwards):
#   booted with ftrace_filter=no_such_function: #### all functions enabled ####
#   echo schedule >: status 0, schedule
#   echo no_such_function >>: status 1, schedule
#   echo no_such_function >: status 1, #### all functions enabled ####
#   printf no_such_function >: status 0, #### all functions enabled ####
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
exec 2> /dev/null
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tracefs tracefs /sys/kernel/tracing
cd /sys/kernel/tracing
filter() { head -n 1 set_ftrace_filter; }
echo "seen: booted with ftrace_filter=no_such_function: $(filter)"
echo schedule > set_ftrace_filter
echo "seen: echo schedule >: status $?, $(filter)"
echo no_such_function >> set_ftrace_filter
echo "seen: echo no_such_function >>: status $?, $(filter)"
echo no_such_function > set_ftrace_filter
echo "seen: echo no_such_function >: status $?, $(filter)"
echo schedule > set_ftrace_filter
printf no_such_function > set_ftrace_filter
echo "seen: printf no_such_function >: status $?, $(filter)"
poweroff -f
INIT
chmod +x guest/init
(cd guest && find . | ../root/bin/busybox cpio -o -H newc 2> /dev/null) > initramfs
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH QEMU_MODULE_DIR=$work/root/usr/lib/x86_64-linux-gnu/qemu
timeout 300 root/usr/bin/qemu-system-x86_64 -L root/usr/share/qemu -L root/usr/share/seabios -M pc -m 512 \
    -nodefaults -display none -no-reboot -serial stdio -kernel root/boot/vmlinuz-* -initrd initramfs \
    -append 'console=ttyS0 quiet panic=-1 ftrace_filter=no_such_function' < /dev/null | tr -d '\r' > console
sed -n 's/^seen: //p' console | tee seen
diff seen - <<'EXPECTED'
booted with ftrace_filter=no_such_function: #### all functions enabled ####
echo schedule >: status 0, schedule
echo no_such_function >>: status 1, schedule
echo no_such_function >: status 1, #### all functions enabled ####
printf no_such_function >: status 0, #### all functions enabled ####
EXPECTED
echo "as described: an unknown name may be accepted, and leaves every function traced"
