"""Which tests matter for a patch."""

from __future__ import annotations

import pytest

from harness.layout import TESTCASES
from harness.model.matters import MATTERS, OTHERS, Matter, is_documentation, sets_for
from harness.model.review import TestSet
from harness.run.session import choose_suites


@pytest.mark.parametrize("matter", [*MATTERS, OTHERS], ids=lambda matter: matter.what)
def test_every_suite_that_is_named_is_there(matter: Matter) -> None:
    suites = (*matter.suites, *(suite for suite, _ in matter.selected))
    assert suites
    choose_suites(suites)


def test_every_directory_of_testcases_matters_for_something() -> None:
    """But the load, which takes as long as it is asked to."""
    ours = {f"testcases/{path.parent.name}" for path in TESTCASES.glob("*/test_*.py")}
    assert ours - {suite for each in (*MATTERS, OTHERS) for suite in each.suites} == {"testcases/hammer"}


@pytest.mark.parametrize(
    ("path", "suite", "why"),
    [
        ("arch/arm64/kernel/entry-ftrace.S", "testcases/regs", "arm64's ftrace"),
        ("kernel/trace/ftrace.c", "testcases/function", "the function tracer"),
        ("kernel/trace/fgraph.c", "testcases/function_graph", "function_graph"),
        ("kernel/livepatch/transition.c", "selftests/livepatch", "livepatch"),
        ("arch/arm64/kernel/stacktrace.c", "testcases/livepatch", "stack traces and what livepatch asks of them"),
        ("arch/arm64/kernel/module-plts.c", "testcases/module_trampolines", "modules and their trampolines"),
        ("kernel/bpf/trampoline.c", "testcases/bpf", "BPF trampolines"),
        ("kernel/trace/trace_events_user.c", "selftests/user_events", "user events"),
        ("tools/testing/selftests/livepatch/test-state.sh", "selftests/livepatch", "the livepatch selftests"),
        ("mm/slub.c", "testcases/function", "other code"),
    ],
)
def test_what_matters_for_a_file(path: str, suite: str, why: str) -> None:
    sets = sets_for([path])
    assert suite in [each for tests in sets for each in tests.suites]
    assert why in [each for tests in sets for each in tests.why]


def test_sets_of_several_files_are_joined() -> None:
    whole, some = sets_for(["kernel/trace/ftrace.c", "kernel/trace/fgraph.c", "Documentation/trace/ftrace.rst"])
    assert len(set(whole.suites)) == len(whole.suites)
    assert some == TestSet(suites=("selftests/ftrace",), keyword="test.d/ftrace/ or fgraph")
    assert some.why == ("the function tracer", "function_graph")


def test_a_whole_suite_needs_no_selection_of_it() -> None:
    (tests,) = (each for each in sets_for(["tools/testing/selftests/ftrace/ftracetest", "kernel/trace/fgraph.c"]))
    assert (tests.keyword, set(tests.suites)) == ("", {"selftests/ftrace", "testcases/function_graph"})


@pytest.mark.parametrize(
    ("paths", "is_one"),
    [
        (["Documentation/trace/ftrace.rst", "MAINTAINERS"], True),
        (["Documentation/trace/ftrace.rst", "kernel/trace/ftrace.c"], False),
        (["Documentation/Kconfig"], False),
        (["Documentation/Makefile"], False),
        (["kernel/trace/README"], True),
        (["Makefile"], False),
        ([], False),
    ],
)
def test_what_is_documentation(paths: list[str], is_one: bool) -> None:
    assert is_documentation(paths) is is_one
    if is_one:
        assert sets_for(paths) == ()


@pytest.mark.parametrize(
    ("ours", "other", "covers"),
    [
        (TestSet(), TestSet(suites=("selftests/ftrace",), keyword="x"), True),
        (TestSet(suites=("testcases",)), TestSet(suites=("testcases/function", "testcases/regs")), True),
        (TestSet(suites=("testcases",)), TestSet(suites=("selftests/ftrace",)), False),
        (TestSet(suites=("testcases",)), TestSet(), False),
        (TestSet(suites=("selftests",)), TestSet(suites=("selftests/ftrace",), keyword="x"), True),
        (TestSet(keyword="x"), TestSet(suites=("testcases",)), False),
        (TestSet(keyword="x"), TestSet(suites=("testcases",), keyword="x"), True),
        (TestSet(suites=("testcases/function",)), TestSet(suites=("testcases/function_graph",)), False),
    ],
)
def test_which_set_has_the_tests_of_another(ours: TestSet, other: TestSet, covers: bool) -> None:
    assert ours.covers(other) is covers
