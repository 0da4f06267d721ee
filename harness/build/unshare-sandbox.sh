# What bubblewrap does, where only unshare(1) is installed: run in new namespaces, makes a root with nothing but what is
# named, and runs a program there. Arguments: a directory to mount the root on; the size of /tmp in bytes; then
# `ro PATH PATH`, `rw PATH PATH`, `link TARGET PATH`, as often as needed; `--`; the program.
set -eu
umask 022
base=$1 size=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$base"
mkdir "$base/proc" "$base/dev" "$base/tmp" "$base/.old"
mount -t tmpfs -o "mode=1777,nosuid,nodev,size=$size" tmpfs "$base/tmp"
mkdir -m 1777 "$base/tmp/home"
mount -t proc -o nosuid,nodev,noexec proc "$base/proc"
# To root, files here would stand open by their modes alone.
for path in sys sysrq-trigger irq bus; do
    if [ -e "$base/proc/$path" ]; then
        mount --bind "$base/proc/$path" "$base/proc/$path"
        mount -o remount,bind,ro,nosuid,nodev,noexec "$base/proc/$path"
    fi
done
for name in null zero full random urandom; do
    : > "$base/dev/$name"
    mount --bind "/dev/$name" "$base/dev/$name"
done
ln -s /proc/self/fd "$base/dev/fd"
ln -s fd/0 "$base/dev/stdin"
ln -s fd/1 "$base/dev/stdout"
ln -s fd/2 "$base/dev/stderr"
mkdir "$base/dev/shm"
mount -t tmpfs -o "mode=1777,nosuid,nodev,size=$size" tmpfs "$base/dev/shm"
while [ "$1" != -- ]; do
    at=$base$3
    mkdir -p "${at%/*}"
    case $1 in
        link) ln -s "$2" "$at" ;;
        *)
            if [ -d "$2" ]; then mkdir -p "$at"; else : > "$at"; fi
            mount --rbind "$2" "$at"
            if [ "$1" = ro ]; then mount -o remount,bind,ro,nosuid,nodev "$at"
            else mount -o remount,bind,nosuid,nodev "$at"; fi
            ;;
    esac
    shift 3
done
shift
cd "$base"
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
mkdir /.root
mount -o remount,bind,ro,nosuid,nodev /
# The kernel refuses user namespaces, in which a program would have capabilities again, to whoever has another root
# directory than the mount namespace.
mount --rbind / /.root
exec chroot /.root "$@"
