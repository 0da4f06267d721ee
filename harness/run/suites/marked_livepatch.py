"""Copies of livepatch scripts that mark (`marks.py`) where each TEST begins and which verdict it has.

Behind the line that reads upstream's functions.sh, the copy renames two of those functions and calls them by ours of
the same names: `start_test`, and `check_result`, which prints ``ok``, or ``not ok`` and ends the script. Nothing else
differs, and nothing more is printed to the kernel's log, which check_result compares."""

from __future__ import annotations

from harness.errors import InfraError
from harness.parse.livepatch_log import with_functions
from harness.run.suites.marks import DESCRIPTOR, Marks

_MORE = 64  # marks for TESTs that a script begins in a loop
_OURS = f"""
# The harness: what these functions say is marked.
function harness_mark() {{
	local mark
	read -r -u {DESCRIPTOR} mark && printf '\\n%s %s\\n' "$mark" "$*"
}}
eval "upstream_$(declare -f start_test)"
eval "upstream_$(declare -f check_result)"
function start_test {{
	harness_mark "begin: $1"
	upstream_start_test "$@"
}}
function check_result {{
	local printed code verdict="not ok"
	printed=$(upstream_check_result "$@" 2>&1 {DESCRIPTOR}<&-)
	code=$?
	printf '%s\\n' "$printed"
	[[ $code -eq 0 && "${{printed##*$'\\n'}}" == ok ]] && verdict=ok
	harness_mark "end: $verdict"
	[[ $code -eq 0 ]] || exit $code
}}
"""


def marked(script: str, *, name: str) -> str:
    """The text of a script that marks what it says, from the text of the upstream one (or of a part of it).

    Raises InfraError for a script that does not read functions.sh as all known ones do (5.7 to 7.3)."""
    text = with_functions(script, _OURS)
    if text is None:
        raise InfraError(f"{name}: expected one line that reads functions.sh, found none or several; adapt {__name__}")
    return text


def marks_for(tests: int) -> Marks:
    """Return enough marks for a script with `tests` TESTs: two for each."""
    return Marks(2 * tests + _MORE)
