"""A failure to repeat: the files of its archive that say how, and how often it came back. Pure functions."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping

from harness.model.comparison import Tally
from harness.model.product import Digest
from harness.model.repro import Recipe, Repeated
from harness.model.result import Attempt, Result, Verdict
from harness.parse.fields import json_object
from harness.report import evidence
from harness.report.confirming import is_other
from harness.report.text import one_line

_VERSION = 1
_LONGEST = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PROVES_NOTHING = (Verdict.ERROR, Verdict.SKIP, Verdict.NOTRUN)


def failure_of(attempt: Attempt) -> str:
    """What an attempt ended with, in one line: the signature of the kernel's report, else verdict and reason."""
    if attempt.fault:
        return one_line(str(attempt.fault.signature), _LONGEST)
    verdict = attempt.actual or attempt.verdict
    return one_line(f"{verdict}: {attempt.reason}" if attempt.reason else str(verdict), _LONGEST)


def count(failure: Result, attempts: Iterable[Attempt]) -> Repeated:
    """Count how attempts at the same test ended, compared with `failure`."""
    alike = passed = silent = 0
    others: Counter[str] = Counter()
    for attempt in attempts:
        verdict = attempt.actual or attempt.verdict
        if verdict is Verdict.PASS:
            passed += 1
        elif verdict in _PROVES_NOTHING:
            silent += 1
        elif is_other(attempt, failure):
            others[failure_of(attempt)] += 1
        else:
            alike += 1
    return Repeated(failure=failure_of(failure), alike=alike, passed=passed, silent=silent, others=dict(others))


def told(repeated: Repeated) -> list[str]:
    """Say how often the failure came back, in lines."""
    if not repeated.runs:
        return [f"repeated without an answer: {repeated.silent} times the machine, the lab or the harness failed"]
    rest = Tally(failures=repeated.alike, passes=repeated.runs - repeated.alike)
    low, high = evidence.interval(rest)
    rate = f"so {100 * low:.0f} to {100 * high:.0f} % of the time"
    lines = [f"{repeated.alike} of {repeated.runs} repetitions failed like that, {rate}: {repeated.failure}"]
    lines += [f"{times} failed otherwise: {what}" for what, times in sorted(repeated.others.items())]
    lines += [f"{repeated.passed} passed"] if repeated.passed else []
    lines += [f"{repeated.silent} more say nothing: the machine or the lab failed"] if repeated.silent else []
    return lines


def recipe_json(recipe: Recipe) -> str:
    """The archive's repro.json."""
    result, build = recipe.result, recipe.build
    source = build.kernel.source
    data = {
        "version": _VERSION,
        "test": result.test,
        "verdict": str(result.actual or result.verdict),
        "reason": result.reason,
        "failure": failure_of(result),
        "run": recipe.run.id,
        "harness": str(recipe.run.harness),
        "kernel": {
            "release": build.kernel.release,
            "source": source.spec,
            "source_version": source.version,
            "source_checksum": source.checksum,
            "patches": [{"name": each.name, "sha256": each.sha256} for each in build.kernel.patches],
            "fragments": list(build.kernel.fragments),
            "compiler": build.kernel.toolchain.compiler,
            "build": shlex.join(recipe.building),
        },
        "files": {name: {"size": each.size, "sha256": each.sha256} for name, each in sorted(recipe.files.items())},
        "board": recipe.board,
        "machine": result.machine,
        "before": list(recipe.before),
        "isolation": recipe.run.isolation,
        "qemu": recipe.qemu,
        "lacking": list(recipe.lacking),
    }
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def files_from_json(text: str | bytes) -> dict[str, Digest]:
    """The digests in a repro.json; those that are none are left out. Raises ValueError if it is no JSON object."""
    files = json_object(text).get("files")
    found = {}
    for name, each in files.items() if isinstance(files, Mapping) else ():
        size, sha256 = (each.get("size"), each.get("sha256")) if isinstance(each, Mapping) else (None, None)
        if type(size) is int and size >= 0 and isinstance(sha256, str) and _SHA256.fullmatch(sha256):
            found[str(name)] = Digest(size=size, sha256=sha256)
    return found


def script(recipe: Recipe) -> str:
    """The archive's one command, a shell script."""
    test = shlex.quote(recipe.result.test)
    if recipe.building:
        built = f'$("$harness" {shlex.join(recipe.building[1:])} | tail -n 1)'
    else:
        built = "${BUILD:?: set it to the directory of the build, see README}"
    return f"""\
#!/bin/sh
# Repeats this failure 20 times and says how often it came back. Other options of `harness repro` take the place of
# --times: `./repro.sh --attach` stops the machine at the fault. HARNESS: the harness's command, if it is not on PATH;
# BUILD: a finished build of this kernel, which otherwise is made.
set -eu
cd "$(dirname "$0")"
harness=${{HARNESS:-harness}}
[ $# -gt 0 ] || set -- --times 20
build=${{BUILD:-}}
[ -n "$build" ] || build={built}
exec "$harness" repro --build "$build" "$@" -- . {test}
"""


def readme(recipe: Recipe) -> str:
    """The archive's README, for people."""
    result, run, kernel = recipe.result, recipe.run, recipe.build.kernel
    patches = [f"    {one_line(patch.name, _LONGEST)}" for patch in kernel.patches]
    digests = [f"    {name:12} SHA-256 {each.sha256}" for name, each in sorted(recipe.files.items())]
    before = [f"    {one_line(test, _LONGEST)}" for test in recipe.before]
    lacking = [f"- {one_line(why, _LONGEST)}" for why in recipe.lacking]
    paragraphs = [
        ["A failure to repeat", "==================="],
        [one_line(result.test, _LONGEST), failure_of(result)],
        [
            f"run {one_line(run.id, _LONGEST)} of harness {run.harness}, on {one_line(run.board.name, _LONGEST)}"
            f", machine {one_line(result.machine, _LONGEST) or 'none'}"
        ],
        ["One command repeats it, here, 20 times, and says how often it came back:", "", "    ./repro.sh"],
        ["It needs the harness, as HARNESS or on PATH. `./repro.sh --attach` stops the machine at the fault for gdb."],
        [
            f"Kernel {one_line(kernel.release, _LONGEST)}, from {one_line(kernel.source.spec, _LONGEST)} "
            f"({one_line(kernel.source.version, _LONGEST)}), {one_line(kernel.toolchain.compiler, _LONGEST)}; "
            f"{len(patches)} patches" + (":" if patches else ""),
            *patches,
        ],
        [f"Built by: {one_line(shlex.join(recipe.building), 1000)}"] if recipe.building else [],
        ["What was booted:", *digests] if digests else [],
        ["On that machine these tests had run before, and are repeated, too:", *before]
        if before
        else ["No test had run before on that machine."],
        [f"QEMU: {one_line(recipe.qemu, 4000)}"] if recipe.qemu else [],
        ["Not here:", *lacking] if lacking else [],
        [
            "repro.json has all of this for programs; kernel.config the configuration; patches/ and kconfigs/ what the",
            "kernel is built with; logs/ the test's log; console.log what the kernel said. This directory is that of a",
            "run with one failure, so `harness report .` and the like work here.",
        ],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"
