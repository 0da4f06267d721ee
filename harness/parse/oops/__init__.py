"""Kernel reports in a stream of console lines: panics, oopses, warnings, lockups, stalls, sanitizer findings.

Written for arm64, kernels 5.10 to 7.x. `lines` cuts the stream into printk lines, `rules` know the lines that reports
begin with, `backtrace` and `functions` where it happened, `title` what can be said of it that the next report of the
same bug says too; `report` is one that is being read, `scanner` finds them.
"""

from harness.parse.oops.scanner import MAX_FAULTS, FaultScanner, scan

__all__ = ["MAX_FAULTS", "FaultScanner", "scan"]
