#!/usr/bin/env bash
# xunitparser puts the <properties> of all suites of a file into one dictionary and asserts that no name comes twice. A file
# whose suites repeat a property (the kernel, the board), valid by every JUnit schema, ends in a bare AssertionError
# instead of a result or a message; each suite in a file of its own is read without complaint.
#
# Seen with: xunitparser 1.3.4 (PyPI), Python 3.11:
#   one suite: {'kernel': '7.3.4'}
#   two suites: AssertionError()
# Exits with 0 as long as it behaves so. Needs python3 with its venv module.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check xunitparser==1.3.4
"$work/venv/bin/python" - <<'PYTHON'
import io

import xunitparser

SUITE = """<testsuite name="{0}" tests="1">
<properties><property name="kernel" value="7.3.4"/></properties>
<testcase classname="c" name="{0}" time="1"/></testsuite>"""
suite, _ = xunitparser.parse(io.StringIO(SUITE.format("a")))
print("one suite:", suite.properties)
assert suite.properties == {"kernel": "7.3.4"}
try:
    xunitparser.parse(io.StringIO(f"<testsuites>{SUITE.format('a')}{SUITE.format('b')}</testsuites>"))
except AssertionError as error:
    print("two suites:", repr(error))
else:
    raise SystemExit("two suites: parsed; the behaviour has changed")
PYTHON
echo "as described: equal properties of two suites are an AssertionError"
