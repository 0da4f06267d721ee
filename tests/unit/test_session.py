"""A whole run over a scripted target: what is planned, what gets which verdict, what is written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BootError, CrashError, InfraError, UserError
from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.report.summary import summary_lines
from harness.run import inprocess, session
from harness.run.documents import read_results, write_documents
from harness.run.local import LocalRun
from harness.run.suites.marked_livepatch import marked as marked_script
from harness.target.base import Target
from tests.boards import held, spec
from tests.faketarget import HANG, FakeTarget, Kmsg, Step
from tests.faults.catalogue import Blame, fault
from tests.marked import marked
from tests.records import build_json
from tests.unit.small_ftracetest import UPSTREAM

PANIC = Kmsg(
    "[    1.000000] Kernel panic - not syncing: tried to kill init\n"
    "[    1.000000] ---[ end Kernel panic - not syncing: x ]---"
)
SCRIPT = """\
. functions.sh
start_test "one"
check_result "x"
start_test "two"
check_result "y"
"""
NOT_OK = ("TEST: one ... not ok", "ERROR: livepatch kselftest(s) failed")
BOARD = held(spec("fake", boot=QemuBoot()))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run learns about its tests' times is not for who runs these tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A build directory with ftracetest and three .tc files, of which two are re-run in an instance, and one livepatch
    script."""
    directory = tmp_path / "build"
    tests = directory / "selftests/ftrace/test.d/basic"
    tests.mkdir(parents=True)
    (tests / "a.tc").write_text("# description: a\n# flags: instance\n")
    (tests / "b.tc").write_text("# description: b\nping -c 1 localhost\n")
    (tests / "c.tc").write_text("# description: c\n# flags: instance\n")
    (directory / "selftests/ftrace/ftracetest").write_text(UPSTREAM)
    (directory / "selftests/livepatch").mkdir()
    (directory / "selftests/livepatch/test-x.sh").write_text(SCRIPT)
    build_json(directory)
    return Build(directory=directory, release="7.3.4", key="k", config={"LIVEPATCH": "y"})


def ftracetest(command: str, answers: dict[str, list[Step]]) -> list[Step]:
    """What ftracetest prints for the files on its command line; `answers` replaces a file's verdict."""
    steps: list[Step] = ["TAP version 13"]
    files = [word for word in command.split() if word.endswith(".tc")]
    again = [(path, " (instance) ") for path in files if path.endswith(("a.tc", "c.tc"))]
    turns = again if "ftracetest-instances" in command else [*((path, "") for path in files), *again]
    for number, (path, instance) in enumerate(turns, start=1):
        steps += [f"@begin{' again' if instance else ''}: {path}", f"execute{instance}: {path}", f"+ log of {path}"]
        printed = f"ok {number}{instance.rstrip()} fine"
        steps += answers.get(path.rpartition("/")[2] + instance.strip(), [printed, "@end: 0"])
    return marked(command, steps)


def passed(*names: str) -> list[Step]:
    """What a livepatch script prints whose TESTs with these names pass."""
    return [line for name in names for line in (f"@begin: {name}", f"TEST: {name} ... ok", "@end: ok")]


def target(
    *, answers: dict[str, list[Step]] | None = None, livepatch: list[Step] | None = None, missing: tuple[str, ...] = ()
) -> FakeTarget:
    def script(command: str) -> list[Step]:
        if "ftracetest" in command and "-l -" in command:
            return ftracetest(command, answers or {})
        if "./marked-test-x.sh" in command:
            return marked(command, livepatch or passed("one", "two"))
        if "echo release" in command:
            return [*(f"tool {tool}" for tool in missing), "release 7.3.4"]
        return []

    return FakeTarget(script)


SUITES = frozenset(session.SUITES[:2])


def run(
    build: Build,
    *targets: FakeTarget | Exception,
    tmp_path: Path,
    keyword: str = "",
    maxfail: int = 0,
    suites: frozenset[str] = SUITES,
) -> tuple[dict[str, Result], int, Path]:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    waiting = list(targets)

    def boot() -> tuple[Target, float]:
        following = waiting.pop(0)
        if isinstance(following, Exception):
            raise following
        return following, 1.0

    results, code = session.run(
        build,
        session.Selection(suites=suites, keyword=keyword, maxfail=maxfail),
        board=BOARD,
        boot=boot,
        run_dir=run_dir,
        command="harness run",
        display=NoDisplay(),
    )
    return {result.test.removeprefix("selftests/"): result for result in results.results}, code, run_dir


A, B, C = (f"ftrace/test.d/basic/{name}.tc" for name in "abc")
A_AGAIN, C_AGAIN = f"{A}[instance]", f"{C}[instance]"
ONE, TWO = "livepatch/test-x::one", "livepatch/test-x::two"


def test_everything_passes(build: Build, tmp_path: Path) -> None:
    results, code, run_dir = run(build, target(), tmp_path=tmp_path)
    assert list(results) == [A, B, C, A_AGAIN, C_AGAIN, ONE, TWO]
    assert {result.verdict for result in results.values()} == {Verdict.PASS}
    assert code == 0
    log = results[C].log
    assert log is not None
    assert "+ log of /payload/selftests/ftrace/test.d/basic/c.tc" in (run_dir / log).read_text()
    for name in ("events.jsonl", "junit.xml", "results.json", "report.html", "build.json"):
        assert (run_dir / name).stat().st_size


@fault(
    "a panic in the middle of a batch of tests",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the tests before and behind it",
)
def test_a_panic_costs_its_test_and_the_rest_goes_on_elsewhere(build: Build, tmp_path: Path) -> None:
    first = target(answers={"b.tc": [PANIC, HANG]})
    second = target()
    results, code, _ = run(build, first, second, tmp_path=tmp_path)
    assert results[A].verdict is Verdict.PASS
    assert results[B].verdict is Verdict.CRASH
    assert results[B].reason == "panic: tried to kill init"
    assert results[B].fault is not None
    assert {results[name].verdict for name in (C, A_AGAIN, C_AGAIN, ONE, TWO)} == {Verdict.PASS}
    assert code == 1
    assert first.closed
    plain, again = (command for command in second.commands if "-l -" in command)
    assert "/c.tc" in plain
    assert "/a.tc" not in plain
    assert "/b.tc" not in plain
    assert "ftracetest-instances" in again
    assert "/a.tc" in again
    assert "/c.tc" not in again


def test_a_file_that_panics_is_not_run_again_for_another(build: Build, tmp_path: Path) -> None:
    """The plain run of c.tc panics; its re-run in an instance, which does not, must not repeat the plain one."""
    results, _, _ = run(build, target(answers={"c.tc": [PANIC, HANG]}), target(), tmp_path=tmp_path, keyword="basic")
    assert {name: str(result.verdict) for name, result in results.items()} == {
        A: "PASS",
        B: "PASS",
        C: "CRASH",
        A_AGAIN: "PASS",
        C_AGAIN: "PASS",
    }


def test_a_panic_in_another_test_of_the_batch_is_not_booked_on_the_one_awaited(build: Build, tmp_path: Path) -> None:
    """After b.tc panicked, c.tc and its re-run share a process; the re-run panics while a.tc's is awaited."""
    second = target(answers={"c.tc(instance)": [PANIC, HANG]})
    results, _, _ = run(
        build, target(answers={"b.tc": [PANIC, HANG]}), second, target(), tmp_path=tmp_path, keyword="basic"
    )
    assert results[A_AGAIN].verdict is Verdict.PASS
    assert results[C_AGAIN].verdict is Verdict.CRASH
    assert results[C].verdict is Verdict.PASS


@fault("a panic right behind a test's verdict", where="kernel", blame=Blame.KERNEL, survives="that verdict")
def test_a_panic_right_behind_a_verdict_is_the_next_tests(build: Build, tmp_path: Path) -> None:
    first = target(answers={"b.tc": ["ok 2 fine", "@end: 0", PANIC, HANG]})
    results, _, _ = run(build, first, target(), tmp_path=tmp_path, keyword="basic")
    assert results[B].verdict is Verdict.PASS
    assert results[C].verdict is Verdict.CRASH


def test_a_skipped_last_test_does_not_keep_the_shell_busy(build: Build, tmp_path: Path) -> None:
    results, _, _ = run(
        build, target(missing=("ping",)), tmp_path=tmp_path, keyword="a.tc and not instance or b.tc or one"
    )
    assert results[B].verdict is Verdict.SKIP
    assert results[ONE].verdict is Verdict.PASS


def test_one_test_of_a_script_runs_the_whole_script(build: Build, tmp_path: Path) -> None:
    only = target()
    results, _, _ = run(build, only, tmp_path=tmp_path, keyword="two")
    assert results[TWO].verdict is Verdict.PASS
    whole = f"put /payload/selftests/livepatch/marked-test-x.sh {len(marked_script(SCRIPT, name='test-x.sh'))} 755"
    assert [command for command in only.commands if command.startswith("put ")] == [whole]


@fault("a panic before the first test", where="kernel", blame=Blame.KERNEL, survives="all tests, as NOTRUN")
def test_a_panic_before_the_first_test_is_the_kernels(build: Build, tmp_path: Path) -> None:
    dying = FakeTarget(lambda command: [PANIC, HANG] if "echo release" in command else [])
    with pytest.raises(CrashError, match="before the first test: panic: tried to kill init"):
        run(build, dying, tmp_path=tmp_path)
    assert {result.verdict for result in read_results(tmp_path / "run").results} == {Verdict.NOTRUN}


@pytest.mark.parametrize(("keyword", "told"), [("((", "-k: expected an expression"), ("nowhere", "no test of")])
def test_a_choice_of_nothing_is_wrong_input(build: Build, tmp_path: Path, keyword: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        run(build, target(), tmp_path=tmp_path, keyword=keyword)
    with pytest.raises(UserError, match=told):
        session.list_tests(build, session.Selection(suites=SUITES, keyword=keyword), board=BOARD.spec)


def test_a_crash_in_a_livepatch_script_resumes_behind_it(build: Build, tmp_path: Path) -> None:
    second = target(livepatch=passed("two"))
    results, _, _ = run(build, target(livepatch=[PANIC, HANG]), second, tmp_path=tmp_path, keyword="livepatch")
    assert results[ONE].verdict is Verdict.CRASH
    assert results[TWO].verdict is Verdict.PASS
    [put] = [command for command in second.commands if command.startswith("put ")]
    assert 0 < int(put.split()[2]) < len(marked_script(SCRIPT, name="test-x.sh"))


def test_a_failed_livepatch_test_leaves_no_patch_for_the_next(build: Build, tmp_path: Path) -> None:
    first = target(livepatch=["@begin: one", *NOT_OK, "@end: not ok", "exit=1"])
    results, code, _ = run(build, first, tmp_path=tmp_path)
    assert results[ONE].verdict is Verdict.FAIL
    assert results[TWO].verdict is Verdict.NOTRUN
    assert first.closed
    assert code == 1


@fault(
    "the root file system lacks a tool",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="the tests that do not call it",
)
def test_a_missing_tool_skips_what_calls_it_and_is_said_up_front(build: Build, tmp_path: Path) -> None:
    results, code, run_dir = run(build, target(missing=("ping",)), tmp_path=tmp_path)
    assert results[B].verdict is Verdict.SKIP
    assert results[B].reason == "the target lacks ping"
    assert results[C].verdict is Verdict.PASS
    assert code == 0
    assert any("the target lacks ping" in note for note in read_results(run_dir).notes)


def test_a_kernel_without_livepatch_skips_with_the_true_reason(build: Build, tmp_path: Path) -> None:
    without = Build(directory=build.directory, release="6.1.0", key="k", without={"LIVEPATCH": "needs HAVE_LIVEPATCH"})
    results, code, _ = run(without, target(), tmp_path=tmp_path)
    assert results[ONE].verdict is Verdict.SKIP
    assert results[ONE].reason == "no livepatch in 6.1.0 on arm64: needs HAVE_LIVEPATCH"
    assert results[A].verdict is Verdict.PASS
    assert code == 0


def test_keyword_and_maxfail(build: Build, tmp_path: Path) -> None:
    results, _, _ = run(
        build, target(answers={"a.tc": ["not ok 1 a", "@end: 1"]}), tmp_path=tmp_path, keyword="basic", maxfail=1
    )
    assert results[A].verdict is Verdict.FAIL
    assert results[B].verdict is Verdict.NOTRUN
    assert ONE not in results


def test_only_what_was_chosen_runs(build: Build, tmp_path: Path) -> None:
    only = target()
    run(build, only, tmp_path=tmp_path, keyword="c.tc or two")
    command = next(command for command in only.commands if "-l -" in command)
    assert "/c.tc" in command
    assert "/a.tc" not in command


def test_a_batch_is_over_before_the_next_begins(build: Build, tmp_path: Path) -> None:
    """ftracetest puts the system back after its last verdict; a panic there is its last test's."""
    first = target(answers={"c.tc(instance)": ["ok 5 (instance) fine", "@end: 0", PANIC, HANG]})
    results, _, _ = run(build, first, target(), tmp_path=tmp_path)
    assert results[C_AGAIN].verdict is Verdict.CRASH
    assert results[ONE].verdict is Verdict.PASS


@fault(
    "the kernel panics at each boot",
    where="boot",
    blame=Blame.KERNEL,
    survives="all tests, as NOTRUN with the reason; the documents",
)
def test_a_kernel_that_does_not_boot_leaves_all_notrun_with_the_reason(build: Build, tmp_path: Path) -> None:
    with pytest.raises(BootError):
        run(build, BootError("the kernel panicked at boot: VFS"), tmp_path=tmp_path)
    results = read_results(tmp_path / "run")
    assert {result.verdict for result in results.results} == {Verdict.NOTRUN}
    assert all("panicked at boot: VFS" in result.reason for result in results.results)
    assert (tmp_path / "run/junit.xml").is_file()


def test_a_warning_after_a_verdict_is_the_next_tests(build: Build, tmp_path: Path) -> None:
    warning = Kmsg("[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/trace/ftrace.c:123 ftrace_bug+0x10/0x20")
    first = target(answers={"c.tc": ["ok 3 fine", "@end: 0", warning]})
    results, code, _ = run(build, first, target(), tmp_path=tmp_path, keyword="basic")
    crashed = [name for name, result in results.items() if result.verdict is Verdict.CRASH]
    assert len(crashed) == 1
    assert crashed[0] == A_AGAIN  # the verdict of c.tc was there before it
    assert code == 1


@fault(
    "events.jsonl ends in the middle of a line",
    where="killed",
    blame=Blame.NOBODY,
    survives="every verdict before it",
)
def test_a_killed_run_can_be_reported(build: Build, tmp_path: Path) -> None:
    _, _, run_dir = run(build, target(), tmp_path=tmp_path)
    lines = (run_dir / "events.jsonl").read_text().splitlines(keepends=True)
    started_b = next(i for i, line in enumerate(lines) if '"started"' in line and "b.tc" in line)
    (run_dir / "events.jsonl").write_text("".join(lines[: started_b + 1]) + lines[started_b + 1][:20])
    (run_dir / "junit.xml").unlink()
    results = {result.test.removeprefix("selftests/"): result for result in write_documents(run_dir).results}
    assert results[A].verdict is Verdict.PASS
    assert results[B].verdict is Verdict.ERROR
    assert results[C].verdict is Verdict.NOTRUN
    assert (run_dir / "junit.xml").is_file()


def test_listing_boots_nothing(build: Build) -> None:
    tests = session.list_tests(
        build, session.Selection(suites=SUITES, keyword="(a.tc and instance) or two"), board=BOARD.spec
    )
    assert tests == [f"selftests/{A_AGAIN}", f"selftests/{TWO}"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ((), set(session.SUITES)),
        (("selftests",), {"selftests/ftrace", "selftests/livepatch", "selftests/user_events"}),
        (("selftests/ftrace/",), {"selftests/ftrace"}),
        (("testcases/function",), {"testcases/function"}),
    ],
)
def test_suites(names: tuple[str, ...], chosen: set[str]) -> None:
    assert session.choose_suites(names) == chosen


@pytest.mark.parametrize("name", ["no/such/suite", "testcases/../harness", "testcases/none", ""])
def test_unknown_suites_name_the_known_ones(name: str) -> None:
    with pytest.raises(UserError) as caught:
        session.choose_suites((name,))
    assert {"selftests/ftrace", "testcases/function"} <= set(caught.value.message.replace(",", "").split())


@pytest.fixture
def testcase_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a file of testcases, which are all that there are then."""
    directory = tmp_path / "testcases"
    directory.mkdir()
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", directory)

    def write(name: str, text: str) -> None:
        (directory / name).write_text(text)

    return write


LEAK = """\
def test_forgets(guest):
    guest.run("leak")

def test_next(guest):
    pass
"""


def test_a_testcase_that_leaves_something_behind_fails_for_it(
    build: Build, tmp_path: Path, testcase_file: Callable[[str, str], None]
) -> None:
    testcase_file("test_leak.py", LEAK)
    leaked: list[str] = []

    def script(command: str) -> list[Step]:
        if command == "leak":
            leaked.append("current_tracer:function")
        return ["current_tracer:nop", *leaked] if "set_ftrace_filter" in command else ["release 7.3.4"]

    first, second = FakeTarget(script), FakeTarget(lambda _: ["release 7.3.4"])
    results, code, _ = run(build, first, second, tmp_path=tmp_path, suites=frozenset({"testcases"}))
    assert code == 1
    forgot = results["testcases/test_leak.py::test_forgets"]
    assert (forgot.verdict, forgot.reason) == (Verdict.FAIL, "left behind: current_tracer:function")
    assert results["testcases/test_leak.py::test_next"].verdict == Verdict.PASS
    assert first.closed


USED_UP = """\
def test_uses_up(guest):
    guest.run("leak")
    guest.use_up("its modules can't be unloaded")

def test_next(guest):
    pass
"""


def test_a_testcase_that_uses_the_kernel_up_is_followed_by_a_fresh_one(
    build: Build, tmp_path: Path, testcase_file: Callable[[str, str], None]
) -> None:
    """What it says it must leave behind does not count against it, and the next test does not see it."""
    testcase_file("test_uses_up.py", USED_UP)
    leaked: list[str] = []

    def script(command: str) -> list[Step]:
        if command == "leak":
            leaked.append("module klp_caller")
        return ["current_tracer:nop", *leaked] if "set_ftrace_filter" in command else ["release 7.3.4"]

    first, second = FakeTarget(script), FakeTarget(lambda _: ["release 7.3.4"])
    results, code, _ = run(build, first, second, tmp_path=tmp_path, suites=frozenset({"testcases"}))
    assert code == 0
    assert {result.verdict for result in results.values()} == {Verdict.PASS}
    assert first.closed


def test_testcases_are_skipped_where_the_target_lacks_a_tool(
    build: Build, tmp_path: Path, testcase_file: Callable[[str, str], None]
) -> None:
    testcase_file("test_some.py", "def test_some(guest):\n    assert False\n")
    target = FakeTarget(lambda _: ["tool chrt", "release 7.3.4"])
    results, code, _ = run(build, target, tmp_path=tmp_path, suites=frozenset({"testcases"}))
    skipped = results["testcases/test_some.py::test_some"]
    assert (code, skipped.verdict, skipped.reason) == (0, Verdict.SKIP, "the target lacks chrt")


def test_what_a_testcase_can_not_unpack_is_the_kernels_fault(
    build: Build, tmp_path: Path, testcase_file: Callable[[str, str], None]
) -> None:
    testcase_file(
        "test_few.py", "def test_lost():\n    (tree,) = []\n\n\ndef test_ours():\n    __import__('json').loads('no')\n"
    )
    results, _, _ = run(build, tmp_path=tmp_path, suites=frozenset({"testcases"}))
    lost, ours = (results[f"testcases/test_few.py::test_{name}"] for name in ("lost", "ours"))
    assert lost.verdict is Verdict.FAIL
    assert lost.reason.startswith("the kernel's output is not as expected: ValueError: not enough values")
    assert ours.verdict is Verdict.ERROR


INTERRUPTED = """\
def test_one(guest):
    try:
        raise KeyboardInterrupt
    finally:
        raise RuntimeError("the shell is still busy")

def test_two(guest):
    pass
"""


@fault(
    "Ctrl-C during a test, and undoing its changes fails",
    where="killed",
    blame=Blame.INFRA,
    survives="the verdicts until then; the rest as NOTRUN",
)
def test_an_interrupt_ends_the_run_though_putting_back_fails(
    build: Build, tmp_path: Path, testcase_file: Callable[[str, str], None]
) -> None:
    testcase_file("test_long.py", INTERRUPTED)
    results, code, _ = run(build, target(), tmp_path=tmp_path, suites=frozenset({"testcases"}))
    one, two = (results[f"testcases/test_long.py::test_{name}"] for name in ("one", "two"))
    assert (one.verdict, one.reason) == (Verdict.ERROR, "interrupted while this test was running")
    assert two.verdict is Verdict.NOTRUN
    assert code == 3


INTERRUPTED_LATER = """\
def test_one(guest):
    try:
        try:
            assert False, "the kernel is wrong"
        finally:
            raise KeyboardInterrupt
    finally:
        raise RuntimeError("the shell is still busy")

def test_two(guest):
    pass
"""


@fault(
    "Ctrl-C while the changes of a failed test are undone",
    where="killed",
    blame=Blame.INFRA,
    survives="the verdicts until then, with the failed test's; the rest as NOTRUN",
)
def test_an_interrupt_while_a_failed_test_is_undone_ends_the_run(
    build: Build, tmp_path: Path, testcase_file: Callable[[str, str], None]
) -> None:
    """It was lost: the first finding gives the verdict, and the run went on as if there had been nothing else."""
    testcase_file("test_undone.py", INTERRUPTED_LATER)
    results, code, _ = run(build, target(), tmp_path=tmp_path, suites=frozenset({"testcases"}))
    one, two = (results[f"testcases/test_undone.py::test_{name}"] for name in ("one", "two"))
    assert (one.verdict, one.reason) == (Verdict.FAIL, "the kernel is wrong")
    assert two.verdict is Verdict.NOTRUN
    recorded = read_results(tmp_path / "run")
    assert code == recorded.exit_code == 3
    assert summary_lines(recorded, run_dir=tmp_path)[-1].startswith("FAILED: 1 FAIL, 1 NOTRUN")


def test_a_run_that_the_harness_itself_broke_off_is_no_interrupted_one(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_run: object) -> None:
        raise InfraError("no worker started")

    monkeypatch.setattr(LocalRun, "run", broken)
    with pytest.raises(InfraError):
        run(build, tmp_path=tmp_path)
    assert read_results(tmp_path / "run").ended == RunEnd(kind=EndKind.INTERNAL_ERROR, reason="no worker started")
