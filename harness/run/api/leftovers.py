"""What a testcase left behind: tracing that is still on, filters, probes, instances, modules, livepatches."""

from __future__ import annotations

from harness.run.api.guest import Guest
from harness.run.api.tracefs import ROOT

_FILES = (
    *("current_tracer", "tracing_on", "set_ftrace_filter", "set_ftrace_notrace", "set_ftrace_pid"),
    *("set_graph_function", "set_graph_notrace", "max_graph_depth", "dynamic_events", "enabled_functions"),
    "function_profile_enabled",
)
_DIRECTORIES = (f"{ROOT}/instances", "/sys/kernel/livepatch")
# Only shell built-ins: starting a process is expensive under emulation, and this runs for every test. A few lines of
# each file suffice: what is left behind can be all functions.
_LOOK = f"""\
cd {ROOT}
for file in {" ".join(_FILES)}; do
    [ ! -e $file ] || for n in 1 2 3 4 5 6 7 8 9; do
        read -r line || break
        case $line in '#'*) ;; *) echo "$file:$line";; esac
    done < $file
done
for entry in {" ".join(f"{directory}/*" for directory in _DIRECTORIES)}; do [ ! -e $entry ] || echo $entry; done
while read -r module rest; do echo "module $module"; done < /proc/modules"""


def state(guest: Guest) -> frozenset[str]:
    """The present state of everything that a test can leave behind: a line for each setting, instance, module and
    livepatch."""
    return frozenset(guest.check(_LOOK).splitlines())


def left_behind(before: frozenset[str], after: frozenset[str]) -> str:
    """The differences, for a message; empty if there are none."""
    new = sorted(after - before)
    gone = sorted(before - after)
    parts = [f"left behind: {', '.join(new[:5])}"] if new else []
    parts += [f"gone: {', '.join(gone[:5])}"] if gone else []
    return "; ".join(parts)
