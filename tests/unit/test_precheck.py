"""The look at the target before the first test."""

from pathlib import Path

from harness.model.kernel import Build
from harness.run.precheck import check, judge
from harness.run.suites.ftrace import tools_of
from tests.faketarget import FakeTarget


def test_a_target_that_has_everything() -> None:
    findings = judge("release 7.3.4\n", release="7.3.4")
    assert findings.problems == ()
    assert findings.reason_to_skip("selftests/ftrace", frozenset({"ping"})) == ""


def test_everything_that_can_be_missing_is_told() -> None:
    output = (
        "tool ping\ntool stat\nmount /tmp\nkconfig CONFIG_SYSCTL: there is no /proc/sys\nloopback\nmodules /lib/x\n"
    )
    findings = judge(output + "release 6.1.0\n", release="7.3.4")
    told = "\n".join(findings.problems)
    for word in (
        "lacks ping, stat",
        "/tmp is not mounted",
        "CONFIG_SYSCTL",
        "loopback",
        "/lib/x",
        "6.1.0, the build is 7.3.4",
    ):
        assert word in told


def test_an_essential_tool_skips_the_suite_another_only_who_calls_it() -> None:
    findings = judge("tool stat\ntool ping\n", release="x")
    assert findings.reason_to_skip("selftests/ftrace", frozenset()) == "the target lacks stat"
    assert findings.reason_to_skip("selftests/livepatch", frozenset()) == ""
    assert findings.reason_to_skip("selftests/livepatch", frozenset({"ping"})) == "the target lacks ping"


def test_tools_are_found_as_words(tmp_path: Path) -> None:
    case = tmp_path / "x.tc"
    case.write_text(
        "# description: ping and su\nping $LOCALHOST -c 1\necho stacktrace > options/ip-offset\nawk '{strtonum($1)}'\n"
    )
    assert tools_of(case) == {"ping", "gawk"}


def test_tools_are_asked_for_only_where_a_chosen_suite_calls_them(tmp_path: Path) -> None:
    target = FakeTarget(lambda command: ["release 7.3.4"])
    build = Build(directory=tmp_path, release="7.3.4", key="k")
    check(target.run, build, suites=frozenset({"testcases/function"}))
    check(target.run, build, suites=frozenset({"selftests/ftrace"}))
    ours, upstream = target.commands
    assert "taskset" in ours
    assert "checkbashisms" not in ours
    assert "checkbashisms" in upstream
