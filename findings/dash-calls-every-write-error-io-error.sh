#!/usr/bin/env bash
# When a write of dash's own echo or printf fails, dash says "I/O error" whatever the error was: EINVAL, EBUSY and
# ENOSPC look alike, and like a failing disk. In /sys, /proc and tracefs the error is the kernel's answer, and /bin/sh
# of Debian is dash, so the log of a script (ftracetest's, say) hides why the kernel refused something. The program
# /bin/echo (`env echo …`), bash and busybox's sh name the error.
#
# Seen with: dash 0.5.12-2, bash 5.2.15, busybox-static 1:1.35.0-4 (Debian 12). For a value out of range they printed:
#   dash: echo: I/O error
#   bash: write error: Invalid argument
#   busybox sh: write error: Invalid argument
#   env echo in dash: write error: Invalid argument
# Exits with 0 as long as it behaves so. Needs apt of Debian 12, dpkg-deb, and a /proc with oom_score_adj.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
pinned=(dash=0.5.12-2 'bash=5.2.15-2*' 'busybox-static=1:1.35.0-4+deb12u1*')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}"
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
REFUSED='echo 5000 > /proc/self/oom_score_adj' # at most 1000: EINVAL
of() {
    echo "$1: $(LC_ALL=C "${@:2}" 2>&1 | sed 's/.*\(write error:\|echo: I\)/\1/')"
}
{
    of dash root/bin/dash -c "$REFUSED"
    of bash root/bin/bash -c "$REFUSED"
    of 'busybox sh' root/bin/busybox sh -c "$REFUSED"
    of 'env echo in dash' root/bin/dash -c "env $REFUSED"
} | tee seen
diff seen - <<'EXPECTED'
dash: echo: I/O error
bash: write error: Invalid argument
busybox sh: write error: Invalid argument
env echo in dash: write error: Invalid argument
EXPECTED
echo "as described: dash calls every error of a write an I/O error"
