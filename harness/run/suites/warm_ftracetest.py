"""A copy of ftracetest that does its start-up once and then waits for the files to run.

Under emulation, a fifth of a trivial test's cost is ftracetest's start-up, and three fifths are three identical resets
of an untouched tracefs (`initialize_system`). In a machine's snapshot taken while the copy waits, the start-up and the
first reset are already done. How to use it:

1. `warmed` makes the copy's text from the marked one (`marked_ftracetest.py`); the copy is put beside it.
2. `waiting_command` starts the copy and ends when the copy waits. Its output goes to a FIFO, which keeps unread output.
3. The snapshot is taken. In each restored machine `going_command` passes the files and marks and takes its place: it
   prints the same lines and ends when ftracetest ends.

Differences from ftracetest: the files to run plainly and those to run in an instance are given separately; the first
plain test finds tracefs already reset and is not preceded by a reset of its own (its log lacks those lines); the reset
between plain tests and re-runs happens only if there are both; no totals are printed at the end. The reset after the
last test stays, because only there can a kernel fail to undo what a test did; but it does not read the trigger and
filter file of every event if the kernel reports that none is set. sched_rt_runtime_us has its original value while the
copy waits, so the same snapshot can be used for other tests.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from harness.errors import InfraError
from harness.run.suites.marked_ftracetest import marked
from harness.run.suites.marks import DESCRIPTOR, Marks

_READY = "ftracetest waits"
_ENDED = "ftracetest ended with"
# The reset reads the trigger and the filter file of every event; newer kernels list in two files which are set.
_QUICK = (
    "nothing_in show_event_triggers && reset_trigger() { :; }; "
    "nothing_in show_event_filters && reset_events_filter() { :; };"
)
_FILES = "/run/ftracetest.files"
_OUTPUT = "/run/ftracetest.output"

_WAIT = rf"""
# Whether the kernel keeps a list of what is set, and it is empty.
nothing_in() {{ [ -r "$1" ] && ! grep -q . "$1"; }}
# Kept ready: reset once, then wait for two lines, plain tests and re-runs in an instance.
RESET=
(cd $TRACING_DIR; set -e; @RESET@)
[ $? -eq 0 ] && RESET=done
echo $sched_rt_runtime_orig > $sched_rt_runtime
echo "{_READY}"
exec {DESCRIPTOR}< {_FILES}  # behind the two lines stand the marks
rm -f {_FILES}
{{ read -r PLAIN_CASES; read -r INSTANCE_CASES; }} <&{DESCRIPTOR}
setup
"""
# Each: what it does, the pattern (which must match exactly once), its replacement, whether older kernels lack it.
_CHANGES = (
    ("wait", r"^\. \$TEST_DIR/functions\n", lambda m: m[0] + _WAIT, False),
    (
        "plan",
        r"^  casecount=`echo \$TEST_CASES \| wc -w`\n(?:.*\n)*?  done\n",
        lambda m: "  set -- $PLAIN_CASES $INSTANCE_CASES\n  casecount=$#\n",
        True,
    ),
    (
        "plain tests",
        r"^(# Main loop\nfor t in )\$TEST_CASES(; do\n  run_test \$t\n)",
        lambda m: f"{m[1]}$PLAIN_CASES{m[2]}  RESET=\n",
        False,
    ),
    (
        "reset between",
        r"^(# Test on instance loop\n)(\(cd \$TRACING_DIR; initialize_system\)\n)",
        lambda m: f'{m[1]}[ -z "$PLAIN_CASES" ] || [ -z "$INSTANCE_CASES" ] || {m[2]}',
        True,
    ),
    (
        "re-runs",
        r"^(# Test on instance loop\n(?:.*\n)*?for t in )\$TEST_CASES(; do\n)",
        lambda m: f"{m[1]}$INSTANCE_CASES{m[2]}  RESET=\n",
        False,
    ),
    (
        "reset at the end",
        r"^\(cd \$TRACING_DIR; (finish_\w+)\)( #.*)\n(?=\nprlog)",
        lambda m: f"(cd $TRACING_DIR; {_QUICK} {m[1]}){m[2]}\n",
        False,
    ),
    ("totals", r'^prlog ""\n(?:.*\n)*?(?=^cleanup\n)', lambda m: "", False),
    (
        "reset before a test",
        r"(checkreq \$1; )(initialize_(?:system|ftrace))(; \. \$1\))",
        lambda m: f'{m[1]}[ "$RESET" ] || {m[2]}{m[3]}',
        False,
    ),
)


def warmed(text: str) -> str:
    """The text of an ftracetest that waits, from the text of the upstream one.

    Raises InfraError for an ftracetest that differs from the known ones (6.1, 7.3)."""
    text = marked(text)
    reset = re.search(r"checkreq \$1; (initialize_\w+);", text)
    for what, pattern, becomes, may_lack in _CHANGES:
        text, count = re.subn(pattern, becomes, text, flags=re.MULTILINE)
        if count != 1 and not (may_lack and count == 0):
            raise InfraError(
                f"ftracetest: expected one place for '{what}', found {count}; run it as it is, or adapt {__name__}"
            )
    return text.replace("@RESET@", reset[1] if reset else "")


def waiting_command(directory: str, program: str) -> str:
    """The shell command that starts the copy `program` in the selftests' `directory`; it ends when the copy waits, or
    fails with what the copy said."""
    # setsid -f, not &, which would make the tests ignore SIGINT
    start = f"""setsid -f sh -c "./{program} $k -l -; echo {_ENDED}"' $?' < /dev/null 1<> {_OUTPUT} 2>&1 8<&-"""
    return (
        f"cd {shlex.quote(directory)} && rm -f {_FILES} {_OUTPUT} && mkfifo {_FILES} {_OUTPUT} || exit 1; "
        f"k=; grep -q -e --ktap {program} && k=-K; exec 8<> {_OUTPUT}; {start}; "
        f'while read -r said <&8; do case $said in "{_READY}") exit 0;; "{_ENDED} "*) echo "$said"; exit 1;; '
        '*) echo "$said";; esac; done'
    )


def going_command(plain: Sequence[str], again: Sequence[str], marks: Marks) -> str:
    """The shell command that gives the waiting copy the .tc files (absolute paths): `plain`, then those `again` in an
    instance. It prints what the copy prints, `marks` included, and ends with it."""
    lines = " ".join([*(shlex.quote(" ".join(files)) for files in (plain, again)), *marks.words])
    # open its output first: if the copy ends before anybody reads, its output is lost
    return rf"exec 8< {_OUTPUT}; printf '%s\n' {lines} > {_FILES}; cat <&8"
