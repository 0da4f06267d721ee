"""A run's results in, checks for Patchwork out: what its REST API takes at /patches/ID/checks/."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from harness.model.result import BUILD, EndKind, Result, RunResults, Verdict
from harness.report.summary import counted
from harness.report.text import one_line

LONGEST_URL = 200  # characters; Patchwork refuses longer ones
_LONGEST_CONTEXT = 255
_LONGEST_DESCRIPTION = 200
_MOST_NAMED = 3


def checks_json(results: RunResults, *, url: str = "", prefix: str = "arm64-ftrace") -> str:
    """Return the checks as JSON, for the build, the boot and each suite: a list of objects with state, context,
    description and, if given, target_url. The state is fail where the kernel is at fault, warning where the lab is or
    nothing was tested.

    Patchwork shows the latest check of each context, so those of build and boot are there when all is well, too: or a
    patch that failed once would never be rid of it."""
    board = results.record.board.name
    ended = results.ended
    has_no_boot = ended is not None and ended.kind is EndKind.NOT_BOOTED
    if ended and ended.kind is EndKind.NOT_BUILT:
        return _json([_check(_context(prefix, board, BUILD), "fail", str(ended), url)])
    suites: dict[str, list[Result]] = {}
    for result in results.results:
        if not (has_no_boot and result.verdict is Verdict.NOTRUN):
            suites.setdefault(result.suite, []).append(result)
    built = _check(_context(prefix, board, BUILD), "success", "the kernel was built", url)
    booted = _check(_context(prefix, board, "boot"), *_boot_state(results), url)
    tested = [
        _check(_context(prefix, board, suite), *_state(members, results), url) for suite, members in suites.items()
    ]
    return _json([built, booted, *tested])


def _json(checks: Sequence[dict[str, str]]) -> str:
    return json.dumps(checks, indent=1) + "\n"


def _check(context: str, state: str, description: str, url: str) -> dict[str, str]:
    check = {"state": state, "context": context, "description": one_line(description, _LONGEST_DESCRIPTION)}
    return check | ({"target_url": url} if url else {})


def _context(*words: str) -> str:
    """A name of letters, digits, - and _, as Patchwork requires."""
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "-", word).strip("-") for word in words if word)[:_LONGEST_CONTEXT]


def _boot_state(results: RunResults) -> tuple[str, str]:
    """The state of the boot, and why."""
    ended = results.ended
    if ended and ended.kind is EndKind.NOT_BOOTED:
        return "fail" if ended.blames_kernel else "warning", str(ended)
    return ("success", "the kernel booted") if results.results else ("warning", "no test was run")


def _state(members: Sequence[Result], results: RunResults) -> tuple[str, str]:
    """The state of a suite, and why."""
    verdicts = {result.verdict for result in members}
    told = counted(members)
    failed = [result for result in members if result.verdict.is_kernel_fault]
    if failed:
        names = ", ".join(one_line(result.test, 60) for result in failed[:_MOST_NAMED])
        return "fail", f"{told}: {names}"
    if any(verdict.is_infra_fault for verdict in verdicts):
        return "warning", f"{told}: the lab failed, this says nothing about the patch"
    if not results.is_complete:
        return "warning", f"{told}; the run was not complete"
    is_tested = bool(verdicts - {Verdict.SKIP})
    return ("success", told) if is_tested else ("warning", f"{told}: nothing was tested")
