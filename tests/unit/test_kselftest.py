"""Programs made with kselftest_harness.h: the tests that their sources and symbols tell of, and what they print."""

from __future__ import annotations

import pytest

from harness.model.result import Verdict
from harness.parse.kselftest import Begun, Ended, ProgramStream, names_in

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


def marks(*lines: str) -> list[Begun | Ended]:
    stream = ProgramStream()
    return [mark for line in lines for mark in stream.feed(line)]


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
    ],
)
def test_verdicts(lines: list[str], verdict: Verdict, reason: str) -> None:
    assert marks("#  RUN           user.x ...", *lines) == [Begun("user.x"), Ended(verdict, reason)]


def test_a_verdict_of_no_test_is_none() -> None:
    assert marks("ok 1 user.x", "not ok 1 user.x") == []


def test_a_test_without_a_verdict_does_not_cost_the_next_one_its_own() -> None:
    told = marks("#  RUN           user.x ...", "#  RUN           user.y ...", "not ok 1 user.x", "ok 2 user.y")
    lost = Ended(Verdict.UNRESOLVED, "the program printed no verdict for it")
    assert told == [Begun("user.x"), lost, Begun("user.y"), Ended(Verdict.PASS, "")]
