#!/usr/bin/env python
"""Whether parsers take time in proportion to their input: each gets inputs of n and 2n characters, in turns.

    .venv/bin/python bench/linear.py [--runs 5] [--seconds 0.1] [NAME …]

The inputs are made to be slow: a form that repeats within one line or file, and does not end as a parser hopes. n grows
until a parser takes --seconds of CPU time. The figure is the median of the ratios of CPU times of neighbouring runs: 2
is linear, 4 quadratic, 8 cubic. Limits on length are off. Needs no kernel and no QEMU; tests/unit/test_linear.py runs
every case on a small input.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe
from harness import limits, shortage
from harness.build.applydiff import _likeliest
from harness.build.loosediff import restored
from harness.errors import UserError
from harness.parse import (
    document,
    elf,
    entry_table,
    events,
    expectations,
    flowed,
    ftracetest,
    graphtime,
    inspection,
    kallsyms,
    kconfig,
    kconfig_expr,
    kconfig_lang,
    kernel_strings,
    kselftest,
    livepatch_log,
    loaded,
    make_log,
    module_log,
    moduledep,
    mutant,
    packages,
    rangediff,
    rawimage,
    series,
    trace,
    transition,
    unquote,
    warnings,
    zboot,
)
from harness.parse.diff import find_diff, normalize_diff, parse_diff
from harness.parse.instrumentation import Flavour, Instrumentation
from harness.parse.oops import scanner
from harness.report.text import clean
from tests.unit.tinydwarf import ADVANCE, with_lines
from tests.unit.tinyelf import NOP, REL, RET, TinyElf

TIMED = " 1234.567890 |   0)    cat-123    |   1.234 us    |  vfs_read();"
_LARGEST = 64 << 20
_SMALLEST = 1 << 10
_MOST = 3.2  # 2 is linear; caches that are exceeded, and other load, make it up to 3


@dataclass(frozen=True)
class Case:
    """`run` gets `unit` repeated up to the wanted size, between `before` and `after`."""

    name: str
    run: Callable[[str], object]
    unit: str
    before: str = ""
    after: str = ""

    def text(self, size: int) -> str:
        return self.before + self.unit * (size // len(self.unit) + 1) + self.after


def _mailbox(text: str) -> object:
    return series.patches_from_mails(series.split_mbox(text.encode()), place="x")


def _file(text: str) -> object:
    return series.patches_from_file(text.encode(), name="x.mbox")


def _diff(text: str) -> object:
    return normalize_diff(find_diff(text) or "", name="x")


def _added(text: str) -> object:
    return _diff(f"--- a/k\n+++ b/k\n@@ -0,0 +1,{text.count('+')} @@\n{text}")


def _events(text: str) -> object:
    return list(events.parse_events(text.split("\n")))


def _flowed(text: str) -> object:
    return flowed.unflowed(text, delsp=True)


def _quoted(text: str) -> object:
    return unquote.unquote(text, name="x")


def _quoted_hunk(text: str) -> object:
    count = text.count("\n> ")
    return _quoted(f"> --- a/k\n> +++ b/k\n> @@ -1,{count} +1,{count} @@\n{text}")


def _loose(text: str) -> object:
    """Of a file in which each hunk's lines are in many places."""
    (diff,) = parse_diff("--- a/k\n+++ b/k\n@@ -1,3 +1,4 @@\n a\n b\n+c\n x\n", name="x")
    return restored(text.encode(), diff, who="x")


def _new_warnings(text: str) -> object:
    found = warnings.warnings([text, text + "x"])
    return warnings.new_warnings(found, found)


def _hunk(text: str) -> object:
    lines = text.split("\n")
    return _likeliest(lines, [*reversed(lines)], near=0)


def _kconfig(text: str) -> object:
    return kconfig_lang.parse_kconfig(lambda path: text if path == "Kconfig" else None)


@functools.lru_cache(maxsize=2)  # making one is not what is measured
def _elf(text: str) -> bytes:
    file = TinyElf(REL)
    file.code(".text", RET)
    for name in text.split():
        file.symbol(name, 0)
    return file.bytes()


def _symbols(text: str) -> object:
    return len(elf.Elf(io.BytesIO(_elf(text)), name="x").symbols)


@functools.lru_cache(maxsize=2)
def _dwarf(text: str) -> bytes:
    return with_lines(text, path="a.c").bytes()


def _lines(text: str) -> object:
    deadline = limits.Deadline.start(limits.INSPECT_SECONDS)
    return elf.Elf(io.BytesIO(_dwarf(text)), name="x").lines_of(["a.c"], deadline=deadline)


def _loaded(text: str) -> object:
    file = elf.Elf(io.BytesIO(_elf(text)), name="x")
    return loaded.loaded_digest(file), loaded.code_size(file)


def _kallsyms(text: str) -> object:
    deadline = limits.Deadline.start(limits.INSPECT_SECONDS)
    return kallsyms.find_kallsyms(text.encode("latin-1"), name="x", deadline=deadline)


def _relocations(text: str) -> object:
    return len(rawimage._relocations(text.encode("latin-1")))


def _zboot(text: str) -> object:
    return zboot.zboot_payload(text.encode("latin-1"), name="x")


def _inspected(text: str) -> object:
    return inspection.inspect_elf(elf.Elf(io.BytesIO(_module(text)), name="x"), inspection.Facts(form="x"))


def _strings(text: str) -> object:
    data = text.encode("latin-1")
    return kernel_strings.banner_in(data), kernel_strings.config_in(data)


@functools.lru_cache(maxsize=2)
def _module(text: str) -> bytes:
    """A module of functions inside of functions, each with a record in the wrong place."""
    file = TinyElf(REL)
    count = len(text)
    code = file.code(".text", *[NOP] * count)
    for number in range(count):
        file.symbol("f", 4 * number, size=4 * (count - number), section=code)
    table = file.section("__patchable_function_entries", bytes(8 * count))
    file.relocations(table, *((8 * number, 257, number + 1, 4) for number in range(count)))
    return file.bytes()


def _records(text: str) -> object:
    file = elf.Elf(io.BytesIO(_module(text)), name="x")
    code = Instrumentation(file, entry_table.flavour_in(file) or Flavour(0, 2, bti=True))
    return len(code.records), len(code.nameless_nops()), [code.spare_nops(function) for function in code.functions]


def _fed(stream: Callable[[], Any], text: str) -> object:
    follows = stream()
    says = getattr(follows, "said", lambda words: ())
    return [(follows.feed(line), says(line)) for line in text.split("\n")]


def _scanned(text: str) -> object:
    found = scanner.FaultScanner()
    found.feed_text(text)
    found.finish()
    return found.take()


def _ordered(text: str) -> object:
    return moduledep.parse_dependencies(text).order_for(["a"])


_ftracetest = functools.partial(_fed, ftracetest.FtracetestStream)
_livepatch = functools.partial(_fed, lambda: livepatch_log.LivepatchStream(["a", "b"]))
_program = functools.partial(_fed, kselftest.ProgramStream)
_yaml = functools.partial(document.load, place="x")
_mutant = functools.partial(mutant.parse_mutant, name="x", place="x")
_expectations = functools.partial(expectations.parse_expectations, place="x")
_fragment = functools.partial(kconfig.parse_fragment, name="x")

_FROM = "From a Mon Sep 17 00:00:00 2001\n"
_MULTIPART = "Content-Type: multipart/mixed"
_DIFF = "--- a/k.c\n+++ b/k.c\n@@ -1 +1 @@\n-a\n+b\n"
_GIT = "diff --git a/k.c b/k.c\nindex 1..2 100644\n"
_BEGUN = "begin: /a.tc\n"

CASES = (
    # series, mail
    Case("mailbox: a From line", _mailbox, "00:00 20 ", "From a ", f"\nSubject: x\n\n{_DIFF}"),
    Case("mailbox: lines", _file, "\n", after=_DIFF),
    Case("mailbox: mails", _mailbox, f"{_FROM}Subject: re: x\n\n{_DIFF}", after=f"{_FROM}Subject: y\n\n{_DIFF}"),
    Case("mailbox: headers", _file, "X-A: b\n c\n", _FROM, f"\n{_DIFF}"),
    Case("mailbox: prose", _file, "a: b c\n", "x\n", _DIFF),
    Case("mail: parts", _file, "--b\n\nx\n", f"{_FROM}{_MULTIPART}; boundary=b\n\n", f"--b--\n{_DIFF}"),
    Case("mail: lines in nested parts", _file, "x\n",
         _FROM + "".join(f"{_MULTIPART}; boundary={n}\n\n--{n}\n" for n in range(30)), _DIFF),
    Case("mail: base 64", _file, "QUFB\n", f"{_FROM}Content-Transfer-Encoding: base64\n\n"),
    Case("quilt: series", lambda text: series.parse_series(text, place="x"), "# x\n", after="a -p1\n"),
    # diff
    Case("diff: lines of a hunk", _added, "+a\n"),
    Case("diff: files", _diff, _DIFF),
    Case("diff: git headers", _diff, "diff --git a/k b/k\n"),
    Case("diff: prose", _diff, "--- a\n+++ b\n", after=_DIFF),
    Case("diff: blanks behind a name", _diff, " ", "--- a/k.c", "x\n+++ b/k.c\n@@ -1 +1 @@\n-a\n+b\n"),
    Case("diff: a time", _diff, "Jan 1 ", "--- a/k.c\t", "\n+++ b/k.c\n@@ -1 +1 @@\n-a\n+b\n"),
    Case("diff: quotes in a name", _diff, '\\"', 'diff --git "a/', f"\nold mode 100644\n{_DIFF}"),
    Case("flowed: one paragraph", _flowed, "x \n"),
    Case("flowed: a quoted paragraph", _flowed, "> > x \n"),
    Case("flowed: quote marks", _flowed, "> "),
    # unquote, with quoted_head, quoted_lines and quoted_reader
    Case("unquote: lines of a hunk", _quoted_hunk, "> a\n"),
    Case("unquote: lines that may be context", _quoted_hunk, "> - a\n", after="> b\n"),
    Case("unquote: comments", _quoted_hunk, "\nx\n\n>  a\n"),
    Case("unquote: files", _quoted, "> --- a/k\n> +++ b/k\n> @@ -1 +1 @@\n> -a\n> +b\n"),
    Case("unquote: diffstat", _quoted, "> ...k | 1 +\n", after="> --- a/k\n> +++ b/k\n> @@ -1 +1,2 @@\n>  a\n> +b\n"),
    Case("unquote: quotes in a line", _quoted, "> "),
    Case("loose: equal lines", _loose, "a\nb\n"),
    Case("diff: hunk that does not apply", _hunk, "a\nb\n"),
    Case("diff: hunk of equal lines", _hunk, "a\n"),
    # YAML
    Case("yaml: lists", _yaml, "- x\n"),
    Case("yaml: one line", _yaml, "x, ", "[", "]"),
    Case("yaml: aliases", _yaml, "- *a\n", "- &a x\n"),
    Case("yaml: brackets", _yaml, "["),
    Case("yaml: a string", _yaml, "\\n", '"', '"'),
    Case("yaml: base 60", _yaml, ":1", "a: 1"),
    Case("expectations", _expectations, "- {test: a, verdict: FAIL, reason: r}\n", "expectations:\n"),
    Case("mutant: header", _mutant, "Kernel: a        b\n", after=_DIFF),
    Case("mutant: blanks", _mutant, " ", "Kernel: a", f"b\n{_DIFF}"),
    # Kconfig
    Case("kconfig: symbols", _kconfig, "config A\n\tbool\n\tdepends on B\n"),
    Case("kconfig: dependencies", _kconfig, "\tdepends on B\n", "config A\n"),
    Case("kconfig: a continued line", _kconfig, "x \\\n", "config A\n\tdepends on "),
    Case("kconfig: strings", _kconfig, '\\"', 'config A\n\tbool "a" # "'),
    Case("kconfig: macros", _kconfig, "$(a", "config A\n\tbool x #"),
    Case("kconfig: expression", kconfig_expr.parse_expr.__wrapped__, "A && !B || ", after="C"),
    Case("kconfig: parentheses", kconfig_expr.parse_expr.__wrapped__, "("),
    Case("kconfig: fragment", _fragment, "CONFIG_A=y # x\n"),
    Case("kconfig: mark", _fragment, " ", "CONFIG_A=y # if-available", "x"),
    Case("kconfig: .config", kconfig.parse_dotconfig, 'CONFIG_A="\\"\n'),
    # events
    Case("events: lines", _events, '{"v": 2, "kind": "note", "time": 1}\n'),
    Case("events: a damaged line", _events, '{"v": '),
    Case("events: a text", _events, "\\u0041", '{"v": 2, "kind": "note", "x": "', '"}'),
    # output of tests
    Case("ftracetest: lines", _ftracetest, "++ echo x\n", _BEGUN),
    Case("ftracetest: verdicts in a line", _ftracetest, "ok 1 x ", _BEGUN, "\t[\nend: 1"),
    Case("ftracetest: names in a line", _ftracetest, "begin: /a", _BEGUN),
    Case("ftracetest: runs", _ftracetest, "begin: /a\nx\nend: 1\n"),
    Case("ftracetest: errors in a line", _ftracetest, "error ", _BEGUN, "\nend: 1"),
    Case("livepatch: names in a line", _livepatch, "TEST: a ... ", after="ok"),
    Case("livepatch: beginnings", _livepatch, "begin: a\nTEST: a ... x\nend: ok\n"),
    Case("livepatch: lines", _livepatch, "SKIP: x\n"),
    Case("livepatch: a script", livepatch_log.names_in, 'start_test "a"\n'),
    Case("kselftest: runs in a line", _program, "#  RUN  a ", after="\n"),
    Case("kselftest: verdicts in a line", _program, "ok 1 a # ", "# RUN a ...\n"),
    Case("kselftest: lines", _program, "# a.c:1:a:Expected b\n", "# RUN a ...\n"),
    Case("kselftest: comments", kselftest.names_in, "/* "),
    Case("kselftest: strings", kselftest.names_in, '\\"', 'TEST("'),
    Case("kselftest: macros", kselftest.names_in, "TEST_F(a, b   \n"),
    Case("kselftest: a program", lambda text: kselftest.names_in("TEST(a)", text.encode()),
         "\0wrapper_a_b_c_d\0\0_a_b_fixture_object\0"),
    Case("make: names in a line", lambda text: make_log.errors([text]), "ld-"),
    Case("make: Kconfig in a line", lambda text: make_log.errors([text]), "Kconfig"),
    Case("warnings: lines", lambda text: warnings.warnings(text.split("\n")), "a.c:1: warning: x\n"),
    Case("warnings: places in a line", _new_warnings, ":1:2-3.4", "a.c:1: warning: "),
    Case("warnings: a long name", _new_warnings, "a", after=":1"),
    Case("loaded: symbols", _loaded, "ab "),
    Case("range-diff: lines", rangediff.parse_range_diff, "1:  abcd = 1:  abcd x\n"),
    Case("range-diff: dashes in a line", rangediff.parse_range_diff, "-", "-: "),
    Case("series: base-commit", series.base_commit_in, "base-commit: 0123\n"),
    Case("make: lines", lambda text: make_log.errors(text.split("\n")), "a.c:1: error: x\n"),
    Case("modules: errors", lambda text: module_log.faults(text.split("\n"), ["a"], failed=True),
         "a.c:1: error: x\nmake[1]: *** [x: a.o] Error 1\n"),
    Case("modules: dependencies", _ordered, "a.ko: b.ko\n"),
    Case("modules: names that one needs", _ordered, " b.ko", "a.ko:"),
    Case("modules: wishes", lambda text: moduledep.parse_dependencies("a.ko:\n", softdep=text).order_for(["a"]),
         "softdep a pre: a\n"),
    Case("modules: aliases", lambda text: moduledep.parse_dependencies("a.ko:\n", softdep="softdep a pre: b",
         alias=text).order_for(["a"]), "alias b a\n"),
    Case("packages", packages.parse_packages, "Package: a\n\n"),
    Case("packages: dependencies", lambda text: packages.parse_packages(
         f"Package: a\nVersion: 1\nSize: 1\nSHA256: {'0' * 64}\nDepends: {text}"), "a (= 1), "),
    Case("packages: a gap", packages.parse_packages, " \n"),
    Case("modules: names in a line", lambda text: module_log.faults([text], ["a"], failed=True), "a.ko ", "ERROR: "),
    Case("modules: a long name", lambda text: module_log.faults([text], ["a"], failed=True), ".oo", "ERROR: "),
    Case("modules: colons in a warning", lambda text: module_log.faults([text], ["a"], failed=True), "a:", "WARNING: "),
    Case("host: words in a line", lambda text: shortage.said([text], what="x"), "fork: *** "),
    Case("host: programs in a line", lambda text: shortage.lost_program([text], bool, what="x"),
         "error trying to exec "),
    Case("make: steps", make_log.step, " ", "  CC"),
    Case("graphtime: lines", lambda text: list(graphtime.graph_events(text.splitlines())), f"{TIMED}\n"),
    Case("graphtime: tasks in a line", lambda text: list(graphtime.graph_events([text])), "a-1", " 1.000000 | 0) "),
    Case("graphtime: blanks in a line", lambda text: list(graphtime.graph_events([text])), " ", " 1.000000 | 0) a-1 |"),
    Case("graphtime: functions in a line", lambda text: graphtime.functions_in([text]), "f+0x1/0x"),
    Case("graphtime: names in a line", lambda text: graphtime.functions_in([text]), "f.$"),
    Case("trace: calls in a line", lambda text: list(trace.function_calls(text)), "a-1 [0] 1: f("),
    Case("trace: times in a line", lambda text: list(trace.function_calls(text)), " 1.1: f(", "a-1 [0] "),
    Case("trace: blanks in a line", lambda text: trace.graph_calls(text), " ", after="a-1"),
    Case("trace: tasks in a line", lambda text: trace.graph_calls(text), "a-1 "),
    Case("trace: graph", lambda text: trace.graph_calls(text), " 1) | f() {\n"),
    Case("transition", transition.held_tasks, "livepatch: klp_try_switch_task: a:1 "),
    # kernel logs
    Case("oops: lines", _scanned, "[    1.000000] BUG: x\n[    1.000000] x\n"),
    Case("oops: stamps in a line", _scanned, "[    1.000000] BUG: x "),
    Case("oops: escapes", _scanned, "\x1b]", "BUG: "),
    Case("oops: no stamps", _scanned, "[ 1", "[    1.000000] BUG: "),
    Case("report: escapes", clean, "\x1b]"),
    # ELF
    Case("elf: symbols", _symbols, "a "),
    Case("dwarf: lines", _lines, ADVANCE),
    Case("image: digits", _kallsyms, "0\0001\0002\0003\0004\0005\0006\0007\0008\0009\000"),
    Case("image: relocations", _relocations, "\x03\x04\0\0\0\0\0\0"),
    Case("image: zboot", _zboot, "x", "MZ\0\0zimg\x34\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0gzip" + 28 * "\0"),
    Case("inspection: records", _inspected, "a"),
    Case("image: banners", _strings, "Linux version 1 x"),
    Case("image: configurations", _strings, "IKCFG_ST\x1f\x8b"),
    Case("instrumentation: records", _records, "a"),
)  # fmt: skip


def seconds(case: Case, text: str) -> float:
    """CPU time of one run; a refusal is a result."""
    begun = time.process_time()
    with contextlib.suppress(UserError):
        case.run(text)
    return time.process_time() - begun


def ratio(case: Case, *, runs: int, enough: float) -> tuple[int, float, float]:
    """(n, seconds for n, median ratio of 2n to n)."""
    size = _SMALLEST
    while size < _LARGEST and seconds(case, case.text(size)) < enough:
        size *= 2
    one, two = case.text(size), case.text(2 * size)
    pairs = [(seconds(case, one), seconds(case, two)) for _ in range(runs)]
    return size, min(first for first, _ in pairs), statistics.median(second / first for first, second in pairs if first)


def chosen(names: Iterable[str]) -> list[Case]:
    wanted = tuple(names)
    return [case for case in CASES if not wanted or case.name.startswith(wanted)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of cases' names")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1)
    options = parser.parse_args()
    from harness.limits import LIMITS

    # What depth and digits cost is no question of a document's length; they stay limited.
    lengths = [each for each in LIMITS if not each.name.endswith(("_NESTED", "_PASSES", "_SECONDS", "_DIGITS"))]
    os.environ.update({each.variable: str(10**17) for each in lengths})
    print(describe())
    print("| case | n, kB | ms | 2n : n |\n|---|---|---|---|")
    slow = []
    for case in chosen(options.names):
        size, first, doubled = ratio(case, runs=options.runs, enough=options.seconds)
        print(f"| {case.name} | {size >> 10} | {first * 1000:.0f} | {doubled:.1f} |", flush=True)
        if doubled > _MOST:
            slow.append(case.name)
    if slow:
        sys.exit(f"more than {_MOST} times the time for twice the input: {', '.join(slow)}")


if __name__ == "__main__":
    main()
