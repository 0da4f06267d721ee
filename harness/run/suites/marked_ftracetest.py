"""A copy of ftracetest that marks (`marks.py`) where each test begins and which result it has.

Three of upstream's functions are renamed, and called by ours of the same names: `run_test`, which runs a file;
`__run_test`, in whose subshell the file is; and `eval_result`, which judges the subshell's result. ftracetest has had
them since it exists. Nothing else differs, and the copy prints all that ftracetest prints."""

from __future__ import annotations

import re

from harness.errors import InfraError
from harness.run.suites.marks import DESCRIPTOR, Marks

_WRAPPED = ("run_test", "__run_test", "eval_result")
_READY = re.compile(r"^\. \$TEST_DIR/functions\n", re.MULTILINE)  # behind it, tests run
_OURS = f"""
# The harness: what the runner says is marked; the marks are not in the tests' reach.
harness_mark() {{ # words
  read -r HARNESS_MARK <&{DESCRIPTOR} && printf '\\n%s %s\\n' "$HARNESS_MARK" "$*"
  HARNESS_MARK=
}}
run_test() {{ # testfile
  harness_mark "begin${{INSTANCE:+ again}}: $1"
  run_test_upstream "$@"
}}
__run_test() {{ # testfile
  __run_test_upstream "$@" {DESCRIPTOR}<&-
}}
eval_result() {{ # sigval
  eval_result_upstream "$@"
  set -- $? "$1"
  harness_mark "end: $2"
  return $1
}}
"""


def marked(text: str) -> str:
    """The text of an ftracetest that marks what it says, from the text of the upstream one.

    Raises InfraError for an ftracetest that differs from all known ones (4.20 to 7.3)."""
    for name in _WRAPPED:
        text, count = re.subn(rf"^{name}\(\) ?{{", f"{name}_upstream() {{", text, flags=re.MULTILINE)
        _expect_one(f"{name}() {{", count)
    text, count = _READY.subn(lambda m: m[0] + _OURS, text)
    _expect_one(". $TEST_DIR/functions", count)
    return text


def _expect_one(what: str, count: int) -> None:
    if count != 1:
        raise InfraError(f"this kernel's ftracetest: expected one line `{what}`, found {count}; adapt {__name__} to it")


def marks_for(files: int) -> Marks:
    """Return enough marks for `files` .tc files: two for each test, which may run once more in an instance."""
    return Marks(4 * files)
