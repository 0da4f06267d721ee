"""results in, JUnit XML out, as Jenkins' xUnit plugin reads it (schema junit-10.xsd).

The one door to the junit-xml package. What it writes is not quite what that schema allows (`disabled`, times as
`1e-05`), so the document is built by it and then corrected.

The schema has no properties of a test case, and Jenkins' plugins know no elements for flaky tests. So what is told of a
case beyond its verdict stands among the properties of its suite, named by the case as Jenkins does, CLASSNAME.NAME:

- ``change:CLASSNAME.NAME``: the class of its change (docs/verdicts.md), if the history has earlier runs and the test
  does not behave as ever;
- ``signature:CLASSNAME.NAME``: of the fault that made it a CRASH, equal for equal bugs;
- ``repetitions:CLASSNAME.NAME``: what repeating a failure showed, as ``flaky: failed 3 of 9 repetitions, …``.

``compared_with`` is the id of the run that the changes are changes from. The changes, with their figures, and what the
repetitions showed are also the first lines of the case's system-out, for people.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from junit_xml import TestCase, TestSuite

from harness.model.past import Past
from harness.model.result import Result, RunResults, Verdict
from harness.parse.records import run_record_to_data
from harness.report.attempts import attempt_line
from harness.report.confirming import told
from harness.report.past import change_of, evidence_lines
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


def junit_xml(results: RunResults, *, logs: Callable[[str], str], past: Past | None = None) -> str:
    """The whole document. `logs` returns the text of the log at the path in `Result.log`; OSError means that there is
    none. `past`: what the history says about these tests; None: nothing."""
    texts = _Texts(logs)
    properties = {clean(key): value for key, value in flatten(run_record_to_data(results.record)).items()}
    properties |= {"compared_with": one_line(past.comparison.old.id)} if past else {}
    root = ET.Element("testsuites", {"name": "harness"})
    for suite, members in _suites(results.results).items():
        cases = [_case(result, classname, name, texts, past) for result, (classname, name) in members]
        root.append(_suite_element(suite, members, cases, results, properties | _of_cases(members, past)))
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
    cases: list[TestCase],
    results: RunResults,
    properties: dict[str, str],
) -> ET.Element:
    members = [result for result, _ in named]
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


def _of_cases(named: list[_Named], past: Past | None) -> dict[str, str]:
    """The properties of a suite that belong to its cases."""
    properties: dict[str, str] = {}
    for result, names in named:
        changed = change_of(result, past)
        values = {
            "change": changed.change.value if changed else "",
            "signature": one_line(str(result.fault.signature)) if result.fault else "",
            "repetitions": one_line(told(result)),
        }
        properties |= {f"{kind}:{'.'.join(names)}": value for kind, value in values.items() if value}
    return properties


def _case(result: Result, classname: str, name: str, texts: _Texts, past: Past | None) -> TestCase:
    case = TestCase(name, classname)
    message = _message(result)
    lines = clean("\n".join(result.fault.lines)) if result.fault else ""
    if result.verdict in _SKIPPED:
        case.add_skipped_info(message=message, output=lines)
    elif result.verdict in _FAILURE:
        case.add_failure_info(message=message, output=lines, failure_type=result.verdict.value)
    elif result.verdict is not Verdict.PASS:
        case.add_error_info(message=message, output=lines, error_type=result.verdict.value)
    changed = change_of(result, past)
    output = [f"{changed.change}: {'; '.join(evidence_lines(changed))}".removesuffix(": ")] if changed else []
    output += [f"repetitions: {one_line(told(result))}"] if result.repeats else []
    output += [attempt_line(number, attempt) for number, attempt in enumerate(result.attempts, 1)]
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
