"""A run's results in, a submission to KCIDB out: a document of its I/O schema, version 5.3, for the KernelCI project
and whoever else reads that database.

The source is a checkout, the kernel a build, each result a test; builds and tests have verdicts of their own. The ids
depend only on what they stand for, so a submission that arrives twice changes nothing. KCIDB is public: names of this
lab's hosts, its paths and command lines are not put into it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from harness.model.record import KERNEL_CONFIG, BuildRecord, KernelRecord
from harness.model.result import BUILD, EndKind, Result, RunResults, Verdict
from harness.report.confirming import told
from harness.report.text import clean, one_line

_VERSION = {"major": 5, "minor": 3}
_LONGEST_EXCERPT = 16 * 1024 - 1  # characters, as the schema has it
_LONGEST_PATH = 250
# What KCIDB calls our verdicts. ERROR and MISS say nothing about the kernel; XFAIL is not here, see _status.
_STATUS = {
    Verdict.PASS: "PASS",
    Verdict.FAIL: "FAIL",
    Verdict.UNRESOLVED: "FAIL",
    Verdict.CRASH: "FAIL",
    Verdict.TIMEOUT: "FAIL",
    Verdict.SKIP: "SKIP",
    Verdict.ERROR: "ERROR",
    Verdict.NOTRUN: "MISS",
}


@dataclass(frozen=True, kw_only=True)
class Submitter:
    """Who submits. `origin`: the name of the CI system in KCIDB. `tree`: the name by which the kernel's tree is known.
    `files_url`: where the files of the run can be read, if they can."""

    origin: str
    tree: str = ""
    files_url: str = ""


def is_origin(name: str) -> bool:
    """Whether KCIDB takes this as the name of a CI system."""
    return re.fullmatch(r"[a-z0-9_]+", name) is not None


def submission(results: RunResults, build: BuildRecord, submitter: Submitter) -> dict[str, object]:
    """Return the document. `build`: the record of the kernel that was run."""
    kernel = results.record.kernel
    checkout = _id(submitter, _checkout_key(kernel))
    built = _id(submitter, build.key or results.record.build or kernel.made or kernel.key or _checkout_key(kernel))
    return {
        "version": _VERSION,
        "checkouts": [_checkout(checkout, kernel, submitter)],
        "builds": [_build(built, checkout, build, results, submitter)],
        "tests": []
        if _is_unbuilt(results)
        else [
            *_boot(built, results, submitter),
            *(_test(result, built, results, submitter) for result in results.results),
        ],
    }


def _id(submitter: Submitter, key: str) -> str:
    return f"{submitter.origin}:{one_line(key)}"


def _digest(*words: str) -> str:
    return hashlib.sha256(repr(words).encode("utf-8", "replace")).hexdigest()[:32]


def _checkout_key(kernel: KernelRecord) -> str:
    source = kernel.source
    patches = [patch.sha256 for patch in kernel.patches]
    return _digest(source.spec, source.version, source.checksum, source.identity, *patches)


def _filled(**fields: object) -> dict[str, object]:
    """Those fields that say something: the schema has no null."""
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


def _checkout(identity: str, kernel: KernelRecord, submitter: Submitter) -> dict[str, object]:
    source = kernel.source
    url, branch = _repository(source.spec)
    is_commit = source.spec.startswith("git:") and re.fullmatch(r"[0-9a-f]{40}", source.checksum)
    hashes = "".join(f"{patch.sha256}\n" for patch in kernel.patches)
    return _filled(
        id=identity,
        origin=submitter.origin,
        tree_name=submitter.tree,
        git_repository_url=url,
        git_repository_branch=branch,
        git_commit_hash=source.checksum if is_commit else "",
        comment=one_line(f"{source.version or kernel.release}"),
        valid=True,
        misc=_filled(
            source=source.spec if source.spec.startswith(("debian:", "debian-image:")) else "",
            patches=[one_line(patch.name.rpartition("/")[2]) for patch in kernel.patches],
        ),
    ) | {"patchset_hash": hashlib.sha256(hashes.encode()).hexdigest() if hashes else ""}


def _repository(spec: str) -> tuple[str, str]:
    """The address and branch of a public repository. One with a login in it, or a directory here, is nobody's
    business."""
    if not spec.startswith("git:https://"):
        return "", ""
    url, _, branch = spec.removeprefix("git:").partition("#")
    parts = urlsplit(url)
    is_public = parts.hostname and "@" not in parts.netloc and not parts.query and url.isascii() and url.isprintable()
    return (url, one_line(branch)) if is_public and " " not in url else ("", "")


def _build(
    identity: str, checkout: str, build: BuildRecord, results: RunResults, submitter: Submitter
) -> dict[str, object]:
    kernel = results.record.kernel
    fragments = [name.removesuffix(".config").rpartition("/")[2] for name in kernel.fragments]
    return _filled(
        id=identity,
        checkout_id=checkout,
        origin=submitter.origin,
        architecture="arm64",
        compiler=one_line(kernel.toolchain.compiler),
        config_name=one_line("+".join(fragments)),
        duration=build.seconds,
        **_how_it_went(build, results, submitter),
        misc=_filled(
            release=one_line(kernel.release),
            without={one_line(name): one_line(why) for name, why in kernel.without.items()},
            era_fixes={one_line(name): one_line(why) for name, why in kernel.era_fixes.items()},
            not_built={one_line(name): one_line(why) for name, why in build.unbuilt.items()},
        ),
    )


def _is_unbuilt(results: RunResults) -> bool:
    return results.ended is not None and results.ended.kind is EndKind.NOT_BUILT


def _how_it_went(build: BuildRecord, results: RunResults, submitter: Submitter) -> dict[str, object]:
    if not _is_unbuilt(results):
        return {"status": "PASS"}
    log = next((result.log for result in results.results if result.test == BUILD), None)
    ended = str(results.ended)  # of a run that left no record of its build
    return {
        "status": "FAIL",
        "start_time": _time(results.started - (build.seconds or 0.0)),
        "log_url": _url(log, submitter),
        "config_url": _url(KERNEL_CONFIG if build.is_configured else None, submitter),
        "log_excerpt": clean("\n".join(build.errors) or ended)[:_LONGEST_EXCERPT],
    }


def _boot(build: str, results: RunResults, submitter: Submitter) -> Iterator[dict[str, object]]:
    """The boot is a test, too, and the only one where the kernel does not come up."""
    ended = results.ended
    if ended and ended.kind is EndKind.NOT_BOOTED:
        verdict = Verdict.CRASH if ended.blames_kernel else Verdict.ERROR
    elif any(result.machine for result in results.results):
        verdict = Verdict.PASS
    else:
        return
    reason = ended.reason if ended and verdict is not Verdict.PASS else ""
    yield _test(Result(test="boot", verdict=verdict, reason=reason), build, results, submitter)


def _test(result: Result, build: str, results: RunResults, submitter: Submitter) -> dict[str, object]:
    record = results.record
    run = record.id or _digest(str(results.started), record.host, record.build)
    details = record.board.details
    return _filled(
        id=_id(submitter, f"{run}-{_digest(result.test)}"),
        build_id=build,
        origin=submitter.origin,
        environment=_filled(
            comment=one_line(result.board or record.board.name),
            misc=_filled(accelerator=one_line(details.get("accelerator", ""))),
        ),
        path=path_of(result.test),
        comment=one_line(result.test),
        log_url=_url(result.log, submitter),
        log_excerpt=_excerpt(result),
        status=_status(result),
        start_time=_time(result.started),
        duration=result.seconds,
        misc=_filled(**dict(_details(result, results))),
    )


def _details(result: Result, results: RunResults) -> Iterator[tuple[str, object]]:
    yield "verdict", result.verdict.value
    yield "reason", one_line(result.reason)
    yield "signature", str(result.fault.signature) if result.fault else ""
    yield "repeated", told(result)
    yield "run", one_line(results.record.id)
    yield "harness", one_line(str(results.record.harness))
    if result.verdict is Verdict.XFAIL and result.expected:
        yield "known_issue", one_line(result.expected.issue or result.expected.reason)


def _status(result: Result) -> str:
    """A known failure is one: what is known is no news, but it is not right either. What upstream's own test calls an
    expected failure passes, as it does for kselftest."""
    if result.verdict is not Verdict.XFAIL:
        return _STATUS[result.verdict]
    actual = result.actual or Verdict.XFAIL
    return "PASS" if actual is Verdict.XFAIL else _STATUS[actual]


def path_of(test: str) -> str:
    """Return a test's place in KCIDB's tree of tests, where kselftests of all labs are below ``kselftest``."""
    suite, _, rest = test.partition("/")
    root = {"selftests": "kselftest", "testcases": "arm64_ftrace"}.get(suite)
    name, bracket, parameters = (rest if root else test).partition("[")
    parts = re.split(r"/|::", name)
    parts[-1] += bracket + parameters
    names = [re.sub(r"[^A-Za-z0-9_-]", "_", part.removesuffix(".py")) or "_" for part in parts]
    return ".".join([*([root] if root else []), *names])[:_LONGEST_PATH].rstrip(".")


def _url(file: str | None, submitter: Submitter) -> str:
    if not file or not submitter.files_url:
        return ""
    return f"{submitter.files_url.rstrip('/')}/{quote(clean(file))}"


def _excerpt(result: Result) -> str:
    lines = [result.reason, *(result.fault.lines if result.fault else ())]
    return clean("\n".join(line for line in lines if line))[:_LONGEST_EXCERPT]


def _time(seconds: float | None) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds is not None else ""
    except (OverflowError, ValueError, OSError):  # what a damaged record says
        return ""
