#!/usr/bin/env bash
# busybox's `timeout` does not say that the time was up. GNU's ends with 124, which is what callers compare with (the
# kernel's kselftest/runner.sh does, to report a TIMEOUT); busybox's ends as the program does: with 143 when SIGTERM
# has killed it, as if somebody else had done so, and with 0 when the program cleans up on SIGTERM and exits normally.
# A test that hangs and has such a trap then counts as passed on a target with busybox.
#
# Seen with: busybox-static 1:1.35.0-4, coreutils 9.1-1 (Debian 12), dash as sh. It printed:
#   killed by SIGTERM: coreutils 124, busybox 143
#   exits on SIGTERM: coreutils 124, busybox 0
# Exits with 0 as long as it behaves so. Needs apt of Debian 12 and dpkg-deb.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User="$(id -un)" download 'busybox-static=1:1.35.0-4+deb12u1*' 'coreutils=9.1-1*'
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
cat > killed <<'TEST'
read -r line < pipe
TEST
cat > cleans <<'TEST'
trap 'kill $!; exit 0' TERM
sleep 60 > /dev/null 2>&1 &
wait
TEST
mkfifo pipe
GNU=root/usr/bin/timeout BUSYBOX=root/bin/busybox
of() {
    local status=0
    "$@" 2> /dev/null || status=$?
    echo "$status"
}
{
    echo "killed by SIGTERM: coreutils $(of "$GNU" 1 sh killed), busybox $(of "$BUSYBOX" timeout 1 sh killed)"
    echo "exits on SIGTERM: coreutils $(of "$GNU" 1 sh cleans), busybox $(of "$BUSYBOX" timeout 1 sh cleans)"
} | tee seen
diff seen - <<'EXPECTED'
killed by SIGTERM: coreutils 124, busybox 143
exits on SIGTERM: coreutils 124, busybox 0
EXPECTED
echo "as described: busybox's timeout does not tell that the time was up"
