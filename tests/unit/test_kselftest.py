"""Programs made with kselftest_harness.h: the tests that their sources and symbols tell of, and what they print."""

from __future__ import annotations

import pytest

from harness.model.result import Verdict
from harness.parse.kselftest import Begun, Ended, ProgramStream, names_in
from tests.faults.catalogue import Blame, fault

SOURCE = r"""
/* TEST_F(old, gone) is no test any more:
TEST_F(user, commented_out)
*/
// TEST(neither)
static const char *pattern = "/sys/*";  /* no comment begins in that string */
FIXTURE(user) { int fd; };
FIXTURE_VARIANT(user_twice) { int size; };
FIXTURE_VARIANT_ADD(user_twice, small) { .size = 1 };
FIXTURE_VARIANT_ADD(user_twice, large) { .size = 2 };
TEST_F(user, enablement) {
	ASSERT_EQ(0, wait("TEST(in_a_string)"));
}
#ifdef SOMETHING_ELSE
TEST_F_TIMEOUT(user, not_compiled, 60) {
}
#endif
TEST_F(user_twice, sizes)
{
}
TEST_F_SIGNAL(user, dies, SIGSEGV) { }
TEST(plain) { }
TEST_SIGNAL(plain_dies, SIGABRT) { }
const char *end = "*/";
"""
ALL = [
    *("user.enablement", "user.not_compiled", "user_twice.small.sizes", "user_twice.large.sizes", "user.dies"),
    *("global.plain", "global.plain_dies"),
]


def program(*tests: str, fixtures: tuple[str, ...] = ("user", "user_twice")) -> bytes:
    """A piece of a string table, as the linker leaves it."""
    symbols = [f"_{fixture}_fixture_object" for fixture in fixtures]
    for test in tests:
        symbols += [f"wrapper_{test}", f"wrapper_{test}_teardown", f"_register_{test}"]
    return b"\x7fELF\0" + "\0".join(symbols).encode() + b"\0"


def test_the_tests_that_a_source_names() -> None:
    assert names_in(SOURCE) == ALL


def test_a_source_without_tests_names_none() -> None:
    assert names_in('int main(void) { return printf("TEST(x)"); }\n') == []


def test_what_was_not_compiled_is_left_out_and_what_a_macro_made_is_added() -> None:
    compiled = ("user_enablement", "user_twice_sizes", "user_dies", "plain", "plain_dies", "user_made_by_macro")
    expected = [name for name in ALL if name != "user.not_compiled"]
    assert names_in(SOURCE, program(*compiled)) == [*expected, "user.made_by_macro"]


def test_of_two_fixtures_the_longer_name_has_the_test() -> None:
    assert names_in("", program("user_twice_x", "user_x", "lonely")) == ["global.lonely", "user_twice.x", "user.x"]


def test_a_test_named_teardown_is_one() -> None:
    assert names_in("", program("user_teardown")) == ["user.teardown"]


def test_a_stripped_program_tells_nothing_and_the_source_is_believed() -> None:
    assert names_in(SOURCE, b"\x7fELF\0 no symbols here \0") == ALL


def marks(*lines: str, only: str = "", code: int = 0) -> list[Begun | Ended]:
    stream = ProgramStream(only)
    told = [mark for line in lines for mark in stream.feed(line)]
    last = stream.finish(code)
    return [*told, last] if last else told


def test_a_run_of_a_program() -> None:
    told = marks(
        "TAP version 13",
        "1..3",
        "# Starting 3 tests from 1 test cases.",
        "#  RUN           user.one ...",
        "#            OK  user.one",
        "ok 1 user.one",
        "#  RUN           user.two ...",
        "# abi_test.c:270:two:Expected 1 (1) == self->check (0)",
        "# abi_test.c:271:two:Expected 2 (2) == self->check (0)",
        "# two: Test failed",
        "#          FAIL  user.two",
        "not ok 2 user.two",
        "#  RUN           user.three ...",
        "#      SKIP      Skipping due to: no such file",
        "#            OK  user.three",
        "ok 3 user.three # SKIP Skipping due to: no such file",
        "# FAILED: 2 / 3 tests passed.",
    )
    assert told == [
        Begun("user.one"),
        Ended(Verdict.PASS, ""),
        Begun("user.two"),
        Ended(Verdict.FAIL, "Expected 1 (1) == self->check (0)"),
        Begun("user.three"),
        Ended(Verdict.SKIP, "Skipping due to: no such file"),
    ]


@pytest.mark.parametrize(
    ("lines", "verdict", "reason"),
    [
        (["ok 1 # SKIP as kernels before 6.9 say it"], Verdict.SKIP, "as kernels before 6.9 say it"),
        (["ok 1 # XFAIL known"], Verdict.XFAIL, "known"),
        (["ok 1 user.x # SKIP"], Verdict.SKIP, "the program gives no reason"),
        (["not ok 1 user.x # XPASS unknown"], Verdict.FAIL, "XPASS unknown"),
        (["# x: Test terminated by timeout", "not ok 1 user.x"], Verdict.FAIL, "Test terminated by timeout"),
        (["not ok 1 user.x"], Verdict.FAIL, ""),
        # what the test printed has no line end, looks like a verdict, or is one of a test of its own
        (["a piece of output ok 1 user.x"], Verdict.PASS, ""),
        (["ok 2 user.x", "ok 1 user.y", "not ok 1 somebody else's", "ok 1 user.x"], Verdict.PASS, ""),
        (["it says: ok 1", "not ok 1 user.x"], Verdict.FAIL, ""),
        (["ok 1 user.x\r"], Verdict.PASS, ""),
        ([f"ok {'1' * 5000} user.x", "ok 1 user.x"], Verdict.PASS, ""),
    ],
)
def test_verdicts(lines: list[str], verdict: Verdict, reason: str) -> None:
    told = [Begun("user.x"), Ended(verdict, reason)]
    assert marks("#  RUN           user.x ...", *lines) == told
    assert marks("#  RUN           user.x ...", *lines, only="user.x", code=int(verdict is Verdict.FAIL)) == told


@pytest.mark.parametrize("code", [0, 4])
def test_a_test_alone_that_is_skipped(code: int) -> None:
    told = marks("#  RUN           user.x ...", "ok 1 user.x # SKIP no", only="user.x", code=code)
    assert told[1] == Ended(Verdict.SKIP, "no")


RUN = "#  RUN           user.x ..."


@pytest.mark.parametrize(
    ("lines", "code", "verdict", "reason"),
    [
        pytest.param(
            lines,
            code,
            verdict,
            reason,
            marks=fault(
                f"a test in a program prints {what}",
                where="hostile target",
                blame=Blame.KERNEL,
                survives="FAIL where the exit code says so, else UNRESOLVED with every verdict named",
            ),
        )
        for what, lines, code, verdict, reason in (
            (
                "its own ok before the program's not ok",
                ["ok 1 user.x", "not ok 1 user.x"],
                1,
                Verdict.FAIL,
                "the program ended with exit code 1, although it printed: ok 1 user.x; not ok 1 user.x",
            ),
            (
                "its own ok, and hides the program's not ok",
                ["ok 1 user.x"],
                1,
                Verdict.FAIL,
                "the program ended with exit code 1, although it printed: ok 1 user.x",
            ),
            (
                "that it was skipped, before the program's ok",
                ["ok 1 user.x # SKIP me", "ok 1 user.x"],
                0,
                Verdict.UNRESOLVED,
                "the program's output has several verdicts for it: ok 1 user.x # SKIP me; ok 1 user.x",
            ),
            (
                "not ok in a program that succeeds",
                ["not ok 1 user.x"],
                0,
                Verdict.UNRESOLVED,
                "the program printed: not ok 1 user.x; and ended with exit code 0",
            ),
            (
                "its own ok, the beginning of another test, and that one's ok",
                ["ok 1 user.x", "#  RUN           user.y ...", "ok 2 user.y", "not ok 1 user.x"],
                1,
                Verdict.FAIL,
                "the program ended with exit code 1, although it printed: ok 1 user.x; not ok 1 user.x",
            ),
        )
    ],
)
def test_a_test_that_prints_a_verdict_of_its_own(lines: list[str], code: int, verdict: Verdict, reason: str) -> None:
    assert marks(RUN, *lines, only="user.x", code=code) == [Begun("user.x"), Ended(verdict, reason)]


def test_two_verdicts_where_a_program_runs_all_its_tests() -> None:
    two = Ended(Verdict.UNRESOLVED, "the program's output has several verdicts for it: ok 1 user.x; not ok 1 user.x")
    lines = (RUN, "ok 1 user.x", "not ok 1 user.x", "#  RUN           user.y ...", "ok 2 user.y")
    assert marks(*lines, code=1) == [Begun("user.x"), two, Begun("user.y"), Ended(Verdict.PASS, "")]


def test_a_verdict_of_no_test_is_none() -> None:
    assert marks("ok 1 user.x", "not ok 1 user.x") == []


def test_a_test_without_a_verdict_does_not_cost_the_next_one_its_own() -> None:
    told = marks("#  RUN           user.x ...", "#  RUN           user.y ...", "not ok 1 user.x", "ok 2 user.y")
    lost = Ended(Verdict.UNRESOLVED, "the program printed no verdict for it")
    assert told == [Begun("user.x"), lost, Begun("user.y"), Ended(Verdict.PASS, "")]
