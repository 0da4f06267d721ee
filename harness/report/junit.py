"""results in, JUnit XML out, as Jenkins' xUnit plugin reads it (schema junit-10.xsd).

The one door to the junit-xml package. What it writes is not quite what that schema allows (`disabled`, times as
`1e-05`), so the document is built by it and then corrected.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from junit_xml import TestCase, TestSuite

from harness.model.result import Result, RunResults, Verdict
from harness.parse.records import run_record_to_data
from harness.report.attempts import attempt_line
from harness.report.text import clean, flatten, one_line, tail

LOGS_LIMIT = 64 << 20  # characters of all logs together: a reader keeps the document in memory
_SKIPPED = (Verdict.SKIP, Verdict.XFAIL)
_LAST_DATE_S = 253402300799.0  # of the year 9999, the last year that dates support
_FAILURE = (Verdict.FAIL, Verdict.UNRESOLVED)
# What junit-10.xsd allows; everything else that the package writes is removed.
_ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id",
                  "package", "file", "log", "url"},
    "testcase": {"name", "time", "classname", "group"},
}  # fmt: skip


def junit_xml(results: RunResults, *, logs: Callable[[str], str]) -> str:
    """The whole document. `logs` returns the text of the log at the path in `Result.log`; OSError means that there is
    none."""
    texts = _Texts(logs)
    properties = {clean(key): value for key, value in flatten(run_record_to_data(results.record)).items()}
    root = ET.Element("testsuites", {"name": "harness"})
    for suite, members in _suites(results.results).items():
        root.append(_suite_element(suite, members, results, properties, texts))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(result.seconds for result in results.results):.3f}")
    for element in root.iter():
        for attribute in set(element.attrib) - _ALLOWED.get(element.tag, set(element.attrib)):
            del element.attrib[attribute]
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


_Named = tuple[Result, tuple[str, str]]


def _suites(results: tuple[Result, ...]) -> dict[str, list[_Named]]:
    suites: dict[str, list[_Named]] = {}
    for result, names in zip(results, _names(results), strict=True):
        suites.setdefault(result.suite, []).append((result, names))
    return suites


def _suite_element(
    suite: str,
    named: list[_Named],
    results: RunResults,
    properties: dict[str, str],
    texts: _Texts,
) -> ET.Element:
    members = [result for result, _ in named]
    cases = [_case(result, classname, name, texts) for result, (classname, name) in named]
    started = min((result.started for result in members if result.started is not None), default=results.started)
    element: ET.Element = TestSuite(
        one_line(suite), cases, timestamp=_timestamp(started), properties=properties
    ).build_xml_doc()
    element.set("time", f"{sum(result.seconds for result in members):.3f}")
    for case, result in zip(element.iter("testcase"), members, strict=True):
        case.set("time", f"{result.seconds:.3f}")
        # The package gives "skipped" no type of its own.
        for outcome in case.findall("skipped"):
            outcome.set("type", result.verdict.value)
    return element


def _case(result: Result, classname: str, name: str, texts: _Texts) -> TestCase:
    case = TestCase(name, classname)
    message = _message(result)
    lines = clean("\n".join(result.fault.lines)) if result.fault else ""
    if result.verdict in _SKIPPED:
        case.add_skipped_info(message=message, output=lines)
    elif result.verdict in _FAILURE:
        case.add_failure_info(message=message, output=lines, failure_type=result.verdict.value)
    elif result.verdict is not Verdict.PASS:
        case.add_error_info(message=message, output=lines, error_type=result.verdict.value)
    output = [attempt_line(number, attempt) for number, attempt in enumerate(result.attempts, 1)]
    output += [one_line(result.choice)] if result.choice else []
    if result.verdict is not Verdict.PASS and result.log:
        output.append(texts.log(result.log))
    if output:
        case.stdout = "\n".join(output)
    return case


class _Texts:
    """The logs in the document: the end of each, until their total is too large."""

    def __init__(self, logs: Callable[[str], str]) -> None:
        self._logs = logs
        self._left = LOGS_LIMIT

    def log(self, path: str) -> str:
        if self._left <= 0:
            return f"[the logs are too long to have them all here; this one is {one_line(path)} in the run's directory]"
        try:
            text = tail(self._logs(path))
        except OSError as error:
            return f"[the log is not there: {one_line(str(error))}]"
        self._left -= len(text)
        return text


def _message(result: Result) -> str:
    title = result.fault.title if result.fault else ""
    expected = f"known: {result.expected.reason}" if result.verdict is Verdict.XFAIL and result.expected else ""
    message = one_line(result.reason or title or expected or result.verdict.value)
    issue = one_line(result.expected.issue) if result.verdict is Verdict.XFAIL and result.expected else ""
    return message if issue in message else f"{message}, {issue}"  # a long reason is cut before it


def _names(members: Iterable[Result]) -> Iterator[tuple[str, str]]:
    """(classname, name) of each result; unique, because ids are."""
    seen: set[tuple[str, str]] = set()
    for result in members:
        classname, name = unique = case_name(result.test)
        again = 1
        while unique in seen:  # two ids that differ only in characters that XML can't represent
            again += 1
            unique = classname, f"{name} ({again})"
        seen.add(unique)
        yield unique


def case_name(test: str) -> tuple[str, str]:
    """(classname, name) of a test's id: Jenkins splits class names at their dots into packages.

    ``selftests/ftrace/test.d/00basic/basic1.tc`` → ``selftests.ftrace.test.d.00basic``, ``basic1.tc``;
    ``selftests/livepatch/test-state.sh::a state`` → ``selftests.livepatch.test-state``, ``a state``.
    """
    test = one_line(test, limit=1000)
    path, separator, name = test.partition("::")
    if separator:
        path = path.removesuffix(".py").removesuffix(".sh")
    else:
        # An instance's mark may hold a slash; the directory ends before it.
        bare, bracket, mark = path.partition(" [") if " [" in path else path.partition("[")
        path, _, name = bare.rpartition("/")
        name += f"{bracket}{mark}"
    return path.strip("/").replace("/", ".") or "harness", name or "unnamed"


def _timestamp(seconds: float) -> str:
    """ISO 8601 in UTC, without a zone, as Jenkins' parser requires."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_DATE_S), tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
