"""Does once, before the target is saved, what every test would otherwise do again on a freshly booted target."""

from __future__ import annotations

from harness.build.made import read_selftest
from harness.errors import HarnessError
from harness.model.kernel import Build
from harness.run.machine import Machine
from harness.run.suites import ftrace, warm_ftracetest

WAITING = "ftracetest-waiting"
_LIMIT_S = 12.0  # seconds on reference hardware
# Reading these files brings them into the page cache: programs, libraries, and the files of the build. Packed modules
# are a distribution's, a hundred megabytes of drivers that no test loads.
_READ = """\
cat /usr/lib/aarch64-linux-gnu/lib*.so.* > /dev/null 2>&1
for tool in awk base64 basename bash cat chmod chrt cmp cp cut date dash dd diff dirname dmesg expr find getconf grep \\
    head id insmod kill ln ls lsmod md5sum mkdir mktemp modinfo modprobe mount mv nproc ping ps readelf rm rmdir \\
    rmmod sed seq sleep sort stat sysctl tac tail taskset tee timeout touch tr umount uname wc which yes; do
    path=$(command -v $tool) && cat $path > /dev/null
done
find /payload -type f -size -4096k ! -name '*.ko.*' -exec cat {} + > /dev/null
true"""


def warm_up(machine: Machine, build: Build, *, with_ftracetest: bool) -> str:
    """Read the files that tests will read and, `with_ftracetest`, start one that waits for its files. Returns why that
    failed, empty if it succeeded."""
    limit = max(120.0, machine.scaled(_LIMIT_S))
    machine.run(_READ, timeout=limit)
    if not with_ftracetest:
        return ""
    try:
        text = warm_ftracetest.warmed(read_selftest(build.selftests / "ftrace/ftracetest"))
    except (OSError, HarnessError) as error:
        return str(error)
    machine.target.put(text.encode(), f"{ftrace.DIRECTORY}/{WAITING}", mode=0o755)
    done = machine.run(warm_ftracetest.waiting_command(ftrace.DIRECTORY, WAITING), timeout=limit)
    machine.has_waiting_ftracetest = done.ok
    return "" if done.ok else f"ftracetest does not wait: {done.output.strip()[-300:]}"
