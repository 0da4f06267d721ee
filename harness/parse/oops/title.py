"""Removes from titles whatever differs between two equal crashes (syzkaller's rule)."""

from __future__ import annotations

import re

_MAX_INPUT = 400  # characters of a line that are looked at: a title holds half of that
_MAX_TITLE = 200

_TOP = "arch|block|certs|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib|mm|net|rust|security|sound|virt"
_TREE = re.compile(rf"(?:(?:\.\./)+[^/]+|/.*/(?:src|linux[^/]*))/(?=(?:{_TOP})/)|(?:\.{{1,2}}/)+")

_VARYING = (
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),
    (re.compile(r"(?<!exitcode=)\b(?:0x)?[0-9a-f]{8,}\b"), "ADDR"),
    (re.compile(r"\b(kworker|ksoftirqd|migration|cpuhp|swapper|irq)/[^\s/:]+(?::\d+\S*)?"), r"\1"),
    (re.compile(r"\[\S{1,40}:\d+\]|[, ]*\b(?:[Pp]id|PID|[Cc]omm): ?\S+|\bCPU[# ]?\d+\b|\bpfn:\S+"), ""),
    (re.compile(r"(?<=[ :])[\w.-]{1,40}/\d+(?:/\w{1,40}){0,3}(?![\w,)])"), ""),  # comm/pid
    (re.compile(r"\bkmalloc-(rnd|part)-\d+-"), r"kmalloc-\1-"),  # which of the equal caches: random, anew at each boot
    # Numbers that stand alone. 64-bit, kmalloc-64, (0,0), error -6 and refcount_t's "on 0" are names.
    (re.compile(r"(?<=[ =:])(?<! on )(?<! hit )\d+(?:\.\d+)?(?=[smn]?s?\b(?![\w-])|$)|(?<= \()\d+(?=\))"), "N"),
    (re.compile(r"\s+"), " "),
)


def stable(text: str) -> str:
    """Return `text` without what differs between two equal crashes: addresses, processes, CPUs, counters."""
    text = text[:_MAX_INPUT]
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text.strip(" :,.!")[:_MAX_TITLE]


def source_file(place: str) -> str:
    """``kernel/x.c:12`` of whatever __FILE__ was: relative to an object tree beside or far from the kernel's, or an
    out-of-tree module's, which is a path of the build machine."""
    place = place[match.end() :] if (match := _TREE.match(place)) else place
    return place.rpartition("/")[2] if place.startswith("/") else place
