"""Which changed lines tests execute: what a series has changed, what became of it, what QEMU's plugin notes."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from harness.build.changedcode import changed_code, make_probe
from harness.build.changedlines import CHANGED, changed_lines, keep_changed_lines
from harness.build.patches import apply_series
from harness.campaign.local import check
from harness.campaign.reaching import hint
from harness.campaign.request import BuildOptions, RunRequest
from harness.errors import InfraError, UserError
from harness.limits import INSPECT_SECONDS, LINE_CODE, LINE_TABLE_BYTES, Deadline
from harness.model.board import Limits
from harness.model.coverage import HITS, ChangedCode, CodeLine, Coverage, Probe, Probing
from harness.model.kernel import DEFAULT_SOURCE, Build
from harness.model.record import BoardRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.parse.dwarf import LineCode
from harness.parse.elf import Elf
from harness.report.coverage import coverage_json, coverage_notes
from harness.run.coverage import LINES, Hits, learn_addresses, read_coverage, write_coverage
from harness.run.eventlog import EVENTS
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.store.database import opened
from harness.store.ingest import add_run
from harness.target.methods.qemu import QEMU
from harness.target.methods.qemuoptions import probing as with_probe
from tests.compilers import GNU_LD, Compiler, require
from tests.faketarget import FakeTarget
from tests.faults.catalogue import Blame, fault
from tests.unit.numbered import create, make_numbered, patch
from tests.unit.tinydwarf import ADVANCE, with_lines

GCC = Compiler("gcc-12")
FILE = "kernel/trace/ours.c"
SOURCE = """\
int sink;
__attribute__((noinline)) int first(int x)
{
	sink = x;
	return x + 1;
}
__attribute__((noinline, section(".init.text"))) int starting(int x)
{
	return x + 2;
}
int second(int x)
{
	return first(x) + starting(x);
}
"""


def built(directory: Path, changed: dict[str, list[list[int]]]) -> Build:
    """A kernel of three functions, with a record of what was changed."""
    require(GCC)
    source = directory / "tree" / FILE
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    GCC.compile(source.parent, str(source), "ours.o", "-g", "-O1")
    places = (
        "-Ttext=0xffff800080010000",
        "--section-start=.init.text=0xffff800080cd0000",
        "--defsym=_text=0xffff800080010000",
    )
    GCC.run(source.parent, GNU_LD, *places, "-e", "0", "ours.o", "-o", str(directory / "vmlinux"))
    (directory / CHANGED).write_text(json.dumps({"version": 1, "lines": changed}))
    return Build(directory=directory, release="7.3.4", key="k")


def line(number: int, *addresses: int, function: str = "f", path: str = "kernel/a.c") -> CodeLine:
    return CodeLine(path=path, line=number, function=function, addresses=addresses)


# -- what was changed ------------------------------------------------------------------------------------------------


def test_changed_lines_are_those_of_the_tree_with_the_whole_series(tmp_path: Path) -> None:
    """The second patch moves what the first one has changed."""
    tree, state, out = make_numbered(tmp_path / "tree"), tmp_path / "series", tmp_path / "out"
    out.mkdir()
    replaced = "@@ -20,3 +20,4 @@\n line 20\n-line 21\n+one\n+two\n line 22\n"
    added, removed = "@@ -2,2 +2,3 @@\n line 2\n+new\n line 3\n", "@@ -9,3 +9,2 @@\n line 9\n-line 10\n line 11\n"
    series = [
        patch(f"--- a/kernel/a.c\n+++ b/kernel/a.c\n{replaced}"),
        patch(f"--- a/kernel/a.c\n+++ b/kernel/a.c\n{added}"),
        patch(f"--- a/kernel/b.c\n+++ b/kernel/b.c\n{removed}"),
        create("kernel/new.c", "alone"),
    ]
    apply_series(tree, series, state=state)
    keep_changed_lines(tree, state=state, directory=out)
    assert changed_lines(out) == {
        "kernel/a.c": ((3, 3), (22, 23)),
        "kernel/b.c": ((10, 10),),
        "kernel/new.c": ((1, 1),),
    }


def test_a_build_without_patches_has_no_record(tmp_path: Path) -> None:
    tree, state = make_numbered(tmp_path / "tree"), tmp_path / "series"
    apply_series(tree, [], state=state)
    keep_changed_lines(tree, state=state, directory=tmp_path)
    with pytest.raises(
        UserError, match=r"expected a record of the lines .* it has no patches, or was built by an older"
    ):
        changed_lines(tmp_path)


@fault(
    "the record of a build's changed lines is damaged",
    where="cache",
    blame=Blame.INFRA,
    survives="nothing: no line is told as executed or not",
)
@pytest.mark.parametrize(
    "text", ["", "[]", '{"lines": 3}', '{"lines": {"a.c": [[1]]}}', '{"lines": {"a.c": [["x", 1]]}}']
)
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / CHANGED).write_text(text)
    with pytest.raises(InfraError, match=r"expected the changed lines by path, found: .*build the kernel again"):
        changed_lines(tmp_path)


# -- its code --------------------------------------------------------------------------------------------------------


def test_changed_lines_become_code_of_a_function(tmp_path: Path) -> None:
    code = changed_code(built(tmp_path, {FILE: [[4, 5], [12, 12]], "Documentation/x.rst": [[1, 9]]}))
    assert code.text == 0xFFFF800080010000
    assert [(each.path, each.line, each.function) for each in code.lines] == [
        (FILE, 4, "first"),
        (FILE, 5, "first"),
        (FILE, 12, "second"),
    ]
    assert all(address >= code.text and address % 4 == 0 for address in code.addresses)
    assert not code.not_known


def test_what_can_not_be_seen_is_named_with_its_reason(tmp_path: Path) -> None:
    code = changed_code(built(tmp_path, {FILE: [[9, 9]], "lib/livepatch/module.c": [[1, 2]], "README": [[1, 1]]}))
    assert not code.lines
    assert code.not_known == {
        f"{FILE}: starting": "it runs only while the kernel boots",
        "lib/livepatch/module.c": "vmlinux has no code of it: it belongs to modules, or is not built",
    }


def test_without_debug_information_nothing_is_claimed(tmp_path: Path) -> None:
    build = built(tmp_path, {FILE: [[4, 4]]})
    GCC.run(tmp_path, "aarch64-linux-gnu-strip", "-g", "vmlinux")
    with pytest.raises(UserError, match=r"expected debug information \(CONFIG_DEBUG_INFO\), found none"):
        changed_code(build)


FIRST, DEADLINE = 0xFFFF800080010000, Deadline.start(INSPECT_SECONDS)


def test_each_line_has_its_code() -> None:
    elf = Elf(with_lines(ADVANCE * 2, path="/x/kernel/a.c").stream(), name="x")
    assert elf.lines_of(["kernel/a.c"], deadline=DEADLINE) == (LineCode("kernel/a.c", 2, FIRST + 16, FIRST + 32),)
    assert elf.lines_of(["a.c/kernel", "el/a.c"], deadline=DEADLINE) == ()


def test_debug_information_that_is_made_to_take_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    elf = Elf(with_lines(ADVANCE * 200, path="a.c").stream(), name="x")
    monkeypatch.setenv(LINE_TABLE_BYTES.variable, "100")
    with pytest.raises(UserError, match=LINE_TABLE_BYTES.variable):
        elf.lines_of(["a.c"], deadline=DEADLINE)


def test_more_code_than_can_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = built(tmp_path, {FILE: [[1, 20]]})
    monkeypatch.setenv(LINE_CODE.variable, "3")
    with pytest.raises(UserError, match=LINE_CODE.variable):
        changed_code(build)


# -- where it runs ---------------------------------------------------------------------------------------------------


def machine(answer: str, tmp_path: Path) -> Machine:
    target = FakeTarget(lambda command: [answer] if "kallsyms" in command else [])
    return Machine(lambda: (target, 1.0), limits=Limits(), recorder=Recorder.of(tmp_path))


def probing(tmp_path: Path, *lines: CodeLine) -> Probing:
    code = ChangedCode(lines=lines, text=0xFFFF800080000000)
    return Probing(
        code=code, probe=Probe(plugin=tmp_path / "p.so", table=tmp_path / "table", count=len(code.addresses))
    )


def test_addresses_are_those_of_the_kernel_that_runs(tmp_path: Path) -> None:
    """KASLR has moved it by 0x41600000."""
    watched = probing(tmp_path, line(2, 0xFFFF800080010008), line(1, 0xFFFF800080010000, 0xFFFF800080010008))
    assert learn_addresses(machine("ffff8000c1600000 T _text", tmp_path), watched) == ""
    assert struct.unpack("=2Q", watched.probe.table.read_bytes()) == (0xFFFF8000C1610000, 0xFFFF8000C1610008)


@pytest.mark.parametrize("answer", ["0000000000000000 T _text", "", "grep: /proc/kallsyms: No such file or directory"])
def test_without_the_kernels_address_nothing_is_watched(answer: str, tmp_path: Path) -> None:
    watched = probing(tmp_path, line(1, 0xFFFF800080010000))
    assert "expected the address of _text, found" in learn_addresses(machine(answer, tmp_path), watched)
    assert not watched.probe.table.exists()


def test_qemu_gets_the_plugin_once_the_addresses_are_known(tmp_path: Path) -> None:
    probe = probing(tmp_path, line(1, 0xFFFF800080010000, 0xFFFF800080010004)).probe
    assert with_probe(probe, tmp_path) == []
    probe.table.write_bytes(bytes(16))
    option, told = with_probe(probe, tmp_path)
    assert (option, (tmp_path / HITS).stat().st_size) == ("-plugin", 2)
    assert told == f"file={probe.plugin},table={probe.table},hits={tmp_path / HITS}"


# Switches the machine off. The instruction behind the first branch is never executed.
BARE = """
	.global _start
_start:	nop
	b	1f
missed:	nop
1:	mov	w0, #0x0008
	movk	w0, #0x8400, lsl #16
	hvc	#0
"""


@pytest.mark.skipif(not shutil.which(QEMU), reason="no QEMU")
def test_the_plugin_notes_what_the_machine_executes(tmp_path: Path) -> None:
    require(GCC)
    (tmp_path / "bare.s").write_text(BARE)
    GCC.compile(tmp_path, "bare.s", "bare.o")
    GCC.run(tmp_path, GNU_LD, "-Ttext=0x40400000", "bare.o", "-o", "bare")
    addresses = (0x40400000, 0x40400004, 0x40400008, 0x4040000C)
    code = ChangedCode(lines=tuple(line(number, address) for number, address in enumerate(addresses)))
    probe = make_probe(code, tmp_path)
    probe.table.write_bytes(struct.pack("=4Q", *addresses))
    words = [
        QEMU,
        "-M",
        "virt",
        "-cpu",
        "cortex-a57",
        "-display",
        "none",
        "-nodefaults",
        "-kernel",
        str(tmp_path / "bare"),
    ]
    done = subprocess.run(
        [*words, *with_probe(probe, tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / HITS).read_bytes() == b"\1\1\0\1"


# -- which tests execute it ------------------------------------------------------------------------------------------

CODE = ChangedCode(lines=(line(1, 0x1000, 0x1004), line(2, 0x1004), line(5, 0x1008)))


@pytest.fixture
def hits(tmp_path: Path) -> Hits:
    def fail(error: OSError, path: Path) -> None:
        raise AssertionError((error, path))

    return Hits(Probe(plugin=Path("p"), table=Path("t"), count=3), logs=tmp_path, run_dir=tmp_path, fail=fail)


def ran(test: str, bytes_: bytes, hits: Hits, tmp_path: Path) -> None:
    """A test whose machine executes these."""
    hits.clear()
    file = tmp_path / HITS
    file.touch()
    with file.open("r+b") as opened:
        opened.write(bytes_)
    hits.keep(test)


def test_each_line_has_the_tests_that_execute_any_of_its_instructions(hits: Hits, tmp_path: Path) -> None:
    hits.clear()  # before there was a machine
    hits.keep("no machine")
    ran("a", b"\1\0\0", hits, tmp_path)
    ran("b", b"\0\1\0", hits, tmp_path)
    ran("none", b"\0\0\0", hits, tmp_path)
    ran("a", b"\0\1\0", hits, tmp_path)
    assert read_coverage(CODE, tmp_path).tests == (("a", "b"), ("b", "a"), ())


def test_what_one_test_has_executed_is_not_the_next_ones(hits: Hits, tmp_path: Path) -> None:
    ran("a", b"\1\1\1", hits, tmp_path)
    hits.clear()
    hits.keep("b")
    assert read_coverage(CODE, tmp_path).tests == (("a",),) * 3


@fault(
    "a worker is killed while it writes which lines its test has executed",
    where="killed",
    blame=Blame.NOBODY,
    survives="what was written before",
)
def test_half_a_line_is_passed_over(hits: Hits, tmp_path: Path) -> None:
    ran("a", b"\1\1\1", hits, tmp_path)
    with (tmp_path / LINES).open("a") as file:
        file.write('{"test": "b", "hi')
    assert read_coverage(CODE, tmp_path).tests == (("a",),) * 3


@fault(
    "which lines a test has executed can't be written",
    where="disk",
    blame=Blame.INFRA,
    survives="what was written before; the verdicts",
)
def test_what_can_not_be_written_is_told(tmp_path: Path) -> None:
    told: list[Path] = []
    probe = Probe(plugin=Path("p"), table=Path("t"), count=3)
    hits = Hits(probe, logs=tmp_path, run_dir=tmp_path / "gone", fail=lambda _error, path: told.append(path))
    ran("a", b"\1\1\1", hits, tmp_path)
    assert told == [tmp_path / "gone" / LINES]


# -- what people read ------------------------------------------------------------------------------------------------


def test_missed_lines_are_named_by_function() -> None:
    lines = (
        *(line(number, number * 4, function="f") for number in (3, 4, 5, 8)),
        line(1, 100, function="g", path="b.c"),
    )
    coverage = Coverage(code=ChangedCode(lines=lines), tests=((), (), (), (), ("t",)))
    assert coverage_notes(coverage) == ["coverage: no test executed 4 of 5 changed lines: kernel/a.c:3-5,8 (f)"]


def test_many_missed_functions_are_counted() -> None:
    lines = tuple(line(number, number * 4, function=f"f{number}") for number in range(20))
    (note,) = coverage_notes(Coverage(code=ChangedCode(lines=lines), tests=((),) * 20))
    assert note.endswith("kernel/a.c:7 (f7); and in 12 more functions")


@pytest.mark.parametrize(
    ("code", "tests", "notes"),
    [
        (ChangedCode(lines=(line(1, 4),)), (("t",),), ["coverage: tests executed all 1 changed lines"]),
        (ChangedCode(lines=()), (), ["coverage: the patches change no code"]),
        (ChangedCode(lines=(), not_known={"lib/x.c": "why"}), (), ["coverage: not known for lib/x.c: why"]),
    ],
)
def test_what_else_a_run_says(code: ChangedCode, tests: tuple[tuple[str, ...], ...], notes: list[str]) -> None:
    assert coverage_notes(Coverage(code=code, tests=tests)) == notes


def test_programs_read_it_all(hits: Hits, tmp_path: Path) -> None:
    ran("a", b"\1\0\0", hits, tmp_path)
    recorder = Recorder.of(tmp_path)
    write_coverage(CODE, tmp_path, recorder)
    recorder.close()
    told = json.loads((tmp_path / "coverage.json").read_text())
    assert told == json.loads(coverage_json(read_coverage(CODE, tmp_path)))
    assert told["lines"][0] == {"path": "kernel/a.c", "line": 1, "function": "f", "tests": ["a"]}
    assert [each["tests"] for each in told["lines"]] == [["a"], [], []]
    assert "no test executed 2 of 3 changed lines: kernel/a.c:2,5 (f)" in (tmp_path / EVENTS).read_text()


def test_a_test_that_reached_a_missed_function_before_is_named(tmp_path: Path) -> None:
    now, before, old = (tmp_path / name for name in ("now", "before", "old"))
    lines = tuple(line(number, number * 4, function=name) for number, name in enumerate(("f", "g", "h", "f")))
    for directory, tests in (
        (now, ((), (), ("x",), ())),
        (before, ((), (), (), ("a", "b"))),
        (old, ((), ("c",), (), ("d",))),
    ):
        directory.mkdir()
        (directory / "coverage.json").write_text(coverage_json(Coverage(code=ChangedCode(lines=lines), tests=tests)))
    history = tmp_path / "history"
    for number, directory in enumerate((old, before, tmp_path / "gone", now)):
        record = RunRecord(id=f"run{number}", board=BoardRecord(name="b"))
        result = Result(test="t", verdict=Verdict.PASS)
        results = RunResults(
            record=record, results=(result,), started=1000.0 + number, ended=RunEnd(kind=EndKind.COMPLETE)
        )
        with opened(history, writable=True) as connection:
            add_run(connection, results, directory=directory)
    assert hint(now, history=history) == [
        "coverage: f was executed in run run1 by a, b",
        "coverage: g was executed in run run0 by c",
    ]
    assert hint(before, history=tmp_path / "none") == []
    assert hint(tmp_path / "gone", history=history) == []


# -- who can't have it -----------------------------------------------------------------------------------------------

OPTIONS = BuildOptions(
    build_dir=None, kernel=DEFAULT_SOURCE, patches=(), kconfigs=(), toolchain=None, allow_plain_ftrace=False, jobs=None
)
BOARDS = """
boards:
  kvm: {boot: {method: qemu, accel: kvm}}
  real:
    boot: {method: kexec}
    ssh: {host: real.example.org}
    console: {kind: serial, device: /dev/null}
    power: {kind: command, on: "true", off: "true"}
  emulated: {boot: {method: qemu, accel: tcg}}
"""


@pytest.mark.parametrize(
    ("board", "why"),
    [
        ("kvm", "--coverage: expected a board that is emulated by QEMU, found kvm"),
        ("real", "--coverage: expected a board that is emulated by QEMU, found real"),
        ("emulated", "--coverage: expected --patches, or --build with a kernel that has some, found neither"),
    ],
)
def test_where_it_is_not_to_be_had_it_is_refused_at_once(board: str, why: str, tmp_path: Path) -> None:
    boards = tmp_path / "boards.yaml"
    boards.write_text(BOARDS)
    request = RunRequest(kernel=OPTIONS, board_name=board, boards_file=boards, coverage=True)
    with pytest.raises(UserError) as caught:
        check(request, boots=False)
    assert caught.value.message.startswith(why)
