"""The upstream suites: what one entry says is what the parts of the harness go by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.model.suite import FTRACE, UPSTREAM, USER_EVENTS, Suite
from harness.run.session import SUITES, choose_suites
from harness.run.suites.table import FINDERS

PROJECT = Path(__file__).resolve().parents[2]


def test_each_suite_has_who_finds_its_tests() -> None:
    assert list(FINDERS) == list(UPSTREAM)


def test_each_suite_can_be_chosen() -> None:
    assert SUITES == ("selftests/ftrace", "selftests/livepatch", "selftests/user_events", "testcases")
    assert choose_suites(("selftests",)) == {suite.name for suite in UPSTREAM}
    assert choose_suites(("selftests/user_events",)) == {USER_EVENTS.name}


@pytest.mark.parametrize(
    ("test", "patterns", "fits"),
    [
        ("selftests/ftrace/test.d/direct/x.tc", ("test.d/direct/*",), True),
        ("selftests/ftrace/test.d/x.tc", ("test.d/direct/*",), False),
        ("selftests/ftrace/test.d/x.tc", ("test.d/direct/*", "*"), True),
        ("selftests/livepatch/test.d/direct/x.tc", ("test.d/direct/*",), False),
        ("selftests/ftrace2/x", ("*",), False),
        ("selftests/ftrace/x", (), False),
    ],
)
def test_patterns_are_of_the_suites_own_tests(test: str, patterns: tuple[str, ...], fits: bool) -> None:
    assert FTRACE.has(test, patterns) is fits


def test_a_suite_is_called_as_its_directory() -> None:
    assert Suite(directory="timers", named_in="*.c").name == "selftests/timers"


@pytest.mark.parametrize("what", ["An upstream suite", "A report format"])
def test_the_files_that_adding_something_touches_are_named_and_few(what: str) -> None:
    """CONTRIBUTING.md lists them; each one exists but those it calls new."""
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    section = re.search(rf"^### {what}\n(?P<list>.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    rows = re.findall(r"^\d\. `(?P<file>[^`]+)`(?P<new> \(new\))?", section["list"], re.MULTILINE)
    assert 2 <= len(rows) <= 4
    for file, new in rows:
        assert new or (PROJECT / file).is_file(), file
