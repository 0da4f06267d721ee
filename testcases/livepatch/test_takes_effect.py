"""A livepatch takes effect whatever the system is doing, and can be removed again."""

import contextlib

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.process import background

_PATCHED = "patched by klp_version"

# Reads /proc/version over and over and prints what changes: "original", "patched", "original".
_READER = """bash -c 'while read -r line < /proc/version; do
    case "$line" in "patched by klp_version") now=patched;; "Linux version "*) now=original;; *) now="?$line";; esac
    [ "$now" = "$before" ] || echo "$now"
    before=$now
done'"""


def test_function_of_the_kernel_proper(guest: Guest, livepatches: Livepatches) -> None:
    """A function of vmlinux is replaced once the transition is over, and is itself again when the patch is disabled
    (Documentation/livepatch/livepatch.rst; "livepatching the kernel proper does work", cover letter of v4)."""
    original = guest.read("/proc/version")
    with livepatches.load("klp_version") as patch:
        patch.wait(hurry=False)
        assert guest.read("/proc/version").strip() == _PATCHED
        patch.disable(hurry=False)
        assert guest.read("/proc/version") == original


def test_a_heavily_called_function(guest: Guest, livepatches: Livepatches) -> None:
    """Tasks on all CPUs that call the function without a pause see the old one, then the new one, then the old one
    again: each task is switched once, nobody sees something between (qa_test_klp TC3; livepatch.rst, "Consistency
    model": per task)."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(background(guest, _READER)) for _ in range(guest.cpus + 1)]
        guest.wait_until(lambda: all(reader.output == "original" for reader in readers), "all have read")
        with livepatches.in_effect("klp_version") as patch:
            guest.wait_until(lambda: all("patched" in reader.output for reader in readers), "all see the new one")
            patch.disable()
        guest.wait_until(lambda: all(reader.output.count("\n") >= 2 for reader in readers), "all see the old one")
        assert [reader.output.split() for reader in readers] == [["original", "patched", "original"]] * len(readers)


def test_in_quick_succession(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """Livepatches that replace one another, each loaded as soon as the one before is in effect: always the newest is
    in effect, and the one replaced can be unloaded and loaded again at once (qa_test_klp TC5)."""
    with livepatches.at_hand("klp_second") as second, livepatches.at_hand("klp_third") as third:
        for new, old in [(second, third), (third, second), (second, third), (third, second)]:
            new.insert(replace=1)
            new.wait()
            assert target.says == new.name
            if old.loaded:
                old.wait_gone()
                old.remove()
    assert target.says == "original"


def test_busy_user_space(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """CPUs busy in user space, with more tasks than CPUs, do not keep the transition from its end (qa_test_klp
    TC6)."""
    spin = "awk 'BEGIN { while (1) n++ }'"
    with contextlib.ExitStack() as stack:
        for _ in range(guest.cpus + 1):
            stack.enter_context(background(guest, spin))
        with livepatches.in_effect("klp_first"):
            assert target.says == "klp_first"
        assert target.says == "original"


def test_little_memory(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """With little memory left the patch is loaded and taken back all the same (qa_test_klp TC7)."""
    fill = """mount -t tmpfs -o size=100% tmpfs /mnt &&
        free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo) &&
        fallocate -l $((free - 40))M /mnt/fill"""
    try:
        guest.check(fill, seconds=20.0)
        with livepatches.in_effect("klp_first"):
            assert target.says == "klp_first"
            assert int(guest.check("awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo")) < 64
        assert target.says == "original"
    finally:
        guest.run("umount /mnt", seconds=20.0)
