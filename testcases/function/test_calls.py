"""The function tracer tells callee and caller."""

from harness.run.api.guest import Guest
from harness.run.api.tracefs import Tracefs


def test_callee_and_caller(guest: Guest, tracefs: Tracefs) -> None:
    """A read from a file is seen as vfs_read called by ksys_read (Documentation/trace/ftrace.rst, "function")."""
    with tracefs.filter("vfs_read"), tracefs.tracer("function") as trace:
        guest.check("cat /proc/version")
        parents = {call.parent for call in trace.calls_of("vfs_read")}
    assert "ksys_read" in parents


def test_ip_is_the_functions_entry(guest: Guest, tracefs: Tracefs) -> None:
    """The ip handed to tracers is the patch site at the function's start, never the address behind the call: what
    v6 of the series mended ("fix mentioned pc in x0 to hold the start address of the call site"). A bti or paciasp
    may stand before the site, so up to two instructions are its place."""
    with tracefs.option("sym-offset", True), tracefs.filter("vfs_read"), tracefs.tracer("function") as trace:
        guest.check("cat /proc/version")
        offsets = {call.offset for call in trace.calls_of("vfs_read")}
    assert offsets, "no call of vfs_read was recorded"
    assert offsets <= {0, 4, 8}


def test_filter_keeps_others_out(guest: Guest, tracefs: Tracefs) -> None:
    """set_ftrace_filter limits what is traced (ftrace.rst, "dynamic ftrace")."""
    with tracefs.filter("vfs_open"), tracefs.tracer("function") as trace:
        guest.check("cat /proc/version")
        assert trace.calls_of("vfs_open")
        assert not trace.calls_of("vfs_read")


def test_nothing_is_traced_afterwards(guest: Guest, tracefs: Tracefs) -> None:
    """With the nop tracer the call sites are NOPs again: no function is enabled (ftrace.rst, "enabled_functions")."""
    with tracefs.filter("vfs_*"), tracefs.tracer("function") as trace:
        guest.check("cat /proc/version")
        assert trace.calls_of("vfs_read")
    assert tracefs.read("enabled_functions").strip() == ""
