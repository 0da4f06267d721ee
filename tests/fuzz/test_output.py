"""What targets and builds print: no parser fails, whatever comes; each test gets one verdict; a log in pieces means
what it means as a whole."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example
from hypothesis import strategies as st

from harness.model.fault import Fault, FaultSignature
from harness.parse import ftracetest, graphtime, kselftest, livepatch_log, make_log, trace, transition
from harness.parse.oops.lines import clean
from harness.parse.oops.scanner import MAX_FAULTS, FaultScanner, scan
from harness.target.line.textlines import LineSplitter
from tests.fuzz.fuzzing import fuzzed, lines_of, pieces_of

COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")  # of a compiler that was told to use some; errors are told without
OOPS_WORDS = (
    "[    1.234567] ", "[    1.234567][  T123] ", "[    1.234568][    C1] ", "<4>",
    "------------[ cut here ]------------",
    "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2", "BUG: ", "kernel BUG at mm/y.c:2!", "Unable to handle kernel ",
    "paging request", "Internal error: Oops: 0000000096000004 [#1]", "Kernel panic - not syncing: ", "Fatal exception",
    "pc : f+0x1/0x2", "lr : g+0x1/0x2", "Call trace:", " h+0x10/0x20 [mod]", "---[ end trace 0000000000000000 ]---",
    "---[ end Kernel panic - not syncing", "INFO: task a:1 blocked for more than 120 seconds.", "rcu: INFO: rcu_sched ",
    "self-detected stall on CPU", "BUG: KASAN: use-after-free in f+0x1", "=" * 60, "watchdog: BUG: soft lockup - CPU#0",
    "possible recursive locking detected", "Booting Linux on physical CPU", "U-Boot 2024.01", "\r", "\x1b[31m", "\x1b]",
    "refcount_t: underflow", "UBSAN: a in b.c:1", "kmemleak: 1 new suspected memory leaks", "Modules linked in:",
)  # fmt: skip


def _faults(scanner: FaultScanner) -> tuple[Fault, ...]:
    scanner.finish()
    return scanner.take()


@fuzzed(lines_of(*OOPS_WORDS), st.lists(st.integers(0, 400), max_size=8), examples=120)
@example("[    1.0] BUG: x\nab", [17, 18])
def test_a_kernel_log_in_pieces(text: str, cuts: list[int]) -> None:
    """In whatever pieces a log arrives, the same is found in it."""
    whole, pieces = FaultScanner(), FaultScanner()
    whole.feed_text(text)
    places = [0, *sorted(cuts), len(text)]
    for begin, end in pairwise(places):
        pieces.feed_text(text[begin:end])
    found, cleaned = _faults(whole), clean(text)
    assert _faults(pieces) == found
    assert scan(text.split("\n")) == found
    assert not whole.begun
    assert len(found) <= MAX_FAULTS
    for fault in found:
        assert fault.title == " ".join(fault.title.split())
        assert FaultSignature.parse(str(fault.signature)) == fault.signature
        assert all(line in cleaned for line in fault.lines)


@fuzzed(st.lists(pieces_of("a", "\r\n", "\n", "\r", "\r\r\n", " "), max_size=10))
def test_lines_in_pieces(pieces: list[str]) -> None:
    whole, parts = LineSplitter(), LineSplitter()
    text = "".join(pieces)
    block = whole.take(text)
    assert "".join(map(parts.take, pieces)) + parts.partial == block + whole.partial
    assert not block or block.endswith("\n")
    assert block.count("\n") == text.count("\n")


# -- tests --------------------------------------------------------------------------------------------------------


FTRACETEST_WORDS = (
    "begin", " again", ": ", "/a.tc", "/b.tc", "end", "0", "4", "9" * 12, "ok 1 x", "++ echo x", "\t[PASS]",
)  # fmt: skip
LIVEPATCH_WORDS = ("begin: ", "a", "b", "end: ok", "end: not ok", "SKIP: x", "ERROR: y", "TEST: a ... ", "ok", "- x")
PROGRAM_WORDS = (
    "# RUN  ", "a.b", "c", " ...", "ok ", "not ok ", "1", "2", "9" * 12, " # ", "SKIP x", "# a.c:1:a:x",
)  # fmt: skip


@fuzzed(st.lists(pieces_of(*FTRACETEST_WORDS), max_size=12))
def test_ftracetest(lines: list[str]) -> None:
    stream = ftracetest.FtracetestStream()
    marks: list[object] = []
    for line in lines:
        stream.feed(line)
        marks += stream.said(line)
    assert _alternate(["begun" if isinstance(mark, ftracetest.Begun) else "ended" for mark in marks])


def _alternate(marks: list[str]) -> bool:
    """Whether each test begins before it ends, and ends once."""
    return all(mark == ("begun", "ended")[number % 2] for number, mark in enumerate(marks))


@fuzzed(st.lists(pieces_of(*LIVEPATCH_WORDS)), st.sampled_from([0, 1, 4, 255, -9]))
def test_livepatch(lines: list[str], status: int) -> None:
    """Each TEST of the script gets one verdict."""
    names = ["a", "b", "b (2)"]
    stream = livepatch_log.LivepatchStream(names)
    ended: list[livepatch_log.TestEnded] = []
    for line in lines:
        stream.feed(line)
        ended += stream.said(line)
    ended += stream.finish(status)
    for name in names:
        assert len([test for test in ended if test.name == name]) == 1


@fuzzed(st.lists(st.sampled_from(["a", "b", "a (2)", "a (3)"]), max_size=8))
def test_names_of_a_livepatch_script(printed: list[str]) -> None:
    names = livepatch_log.names_in("".join(f'start_test "{name}"\n' for name in printed))
    assert len({*names}) == len(names) == len(printed)
    assert all(name.startswith(before) for name, before in zip(names, printed, strict=True))
    assert all(name == before for name, before in zip(names, printed, strict=True) if printed.count(before) == 1)


@fuzzed(st.lists(pieces_of(*PROGRAM_WORDS)), st.sampled_from(["", "a.b"]), st.sampled_from([0, 1, 4]))
def test_programs(lines: list[str], only: str, status: int) -> None:
    stream = kselftest.ProgramStream(only)
    marks: list[object] = [mark for line in lines for mark in stream.feed(line)]
    marks += [ended for ended in [stream.finish(status)] if ended]
    told = ["begun" if isinstance(mark, kselftest.Begun) else "ended" for mark in marks]
    assert _alternate(told)


C_WORDS = (
    "TEST(a)",
    "TEST_F(a, b)",
    "FIXTURE_VARIANT_ADD(a, v)",
    "/*",
    "*/",
    "//",
    '"',
    "'",
    "\\",
    "\n",
    " ",
    "(",
    ",",
)
SYMBOLS = ("\0wrapper_a\0", "\0wrapper_a_b\0", "\0_a_fixture_object\0", "\0wrapper_a_teardown\0")


@fuzzed(pieces_of(*C_WORDS), pieces_of(*SYMBOLS).map(lambda text: text.encode("utf-8", "replace")), examples=120)
def test_names_of_programs(source: str, program: bytes) -> None:
    names = kselftest.names_in(source, program)
    assert all(name and " " not in name for name in names)


# -- traces and builds --------------------------------------------------------------------------------------------

_word = st.from_regex(r"[a-z_][a-z_0-9.]{0,12}", fullmatch=True)
_module = st.from_regex(r"[a-z_][a-z_0-9]{0,12}", fullmatch=True)
_task = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=15)


@fuzzed(_task, st.integers(0, 4 << 20), st.integers(0, 255), _word, _word, st.none() | _module)
@example("a-1 [0]", 2, 3, "f", "g", None)
def test_a_call_in_a_trace(task: str, pid: int, cpu: int, function: str, parent: str, module: str | None) -> None:
    named = f"{function} [{module}]" if module else function
    (call,) = trace.function_calls(f"{task:>16}-{pid:<7} [{cpu:03}] d..2.    12.345678: {named} <-{parent}")
    assert (call.function, call.parent, call.pid, call.cpu, call.module) == (function, parent, pid, cpu, module)


TRACE_WORDS = (
    "  bash-71 ", "[001] ", "d..2. ", " 12.345678: ", "vfs_read", "+0x1/0x2", " [mod]", " <-", "ksys_read", " => ",
    "<stack trace>", " 1) ", "0.512 us ", "|  ", "f();", "g() {", "}", "} /* g ret=0x0 */", " cat-123 ", "9" * 5000,
    "#", " 1234.567890 | ",
)  # fmt: skip


@fuzzed(_task, st.integers(0, 4 << 20), st.integers(0, 255), _word, st.integers(0, 10**12))
def test_a_timed_call(task: str, pid: int, cpu: int, function: str, at_us: int) -> None:
    task = task.replace("|", "-")
    line = f" {at_us // 1_000_000}.{at_us % 1_000_000:06} |   {cpu})  {task}-{pid}    | + 12.345 us   |  {function}();"
    (event,) = graphtime.graph_events([line])
    assert (event.phase, event.function, event.at_us, event.cpu) == ("X", function, at_us, cpu)
    assert (event.task, event.pid, event.duration_us) == (task, pid, 12.345)


@fuzzed(lines_of(*TRACE_WORDS), examples=120)
def test_traces(text: str) -> None:
    lines = text.count("\n") + 1
    assert len([*trace.function_calls(text)]) <= lines
    assert len([*graphtime.graph_events(text.split("\n"))]) <= lines
    assert all(re.fullmatch(r"[\w.]+(:mod:[\w.]+)?", name) for name in graphtime.functions_in(text.split("\n")))
    assert sum(map(len, trace.stack_traces(text))) <= lines
    calls = pending = trace.graph_calls(text)
    total = 0
    while pending:
        total += len(pending)
        pending = [inner for call in pending for inner in call.calls]
    assert total <= lines
    assert all(call.function for call in calls)


@fuzzed(lines_of("livepatch: klp_try_switch_task: ", "a", ":", "1", "9" * 5000, " is sleeping", " has x"))
def test_held_tasks(text: str) -> None:
    assert all(held.pid >= 0 and held.comm and held.reason for held in transition.held_tasks(text))


MAKE_WORDS = (
    "a.c:1:2: error: x", "ld: a.o: ", "undefined reference ", "modpost: x: ", "make[1]: *** ", "  CC [M]  a.o", "   |",
    "   12 | x", "error: ", "ld-", "make: *** Waiting for", "FAILED x: ",
)  # fmt: skip


@fuzzed(lines_of(*MAKE_WORDS), st.integers(0, 5))
def test_builds(text: str, most: int) -> None:
    lines = text.split("\n")
    found = make_log.errors(lines, most=most)
    assert len(found) <= most
    assert set(found) <= {COLOUR.sub("", line) for line in lines}
    assert found == make_log.errors(lines)[:most]
    assert all(step is None or step in line for line in lines for step in [make_log.step(line)])
