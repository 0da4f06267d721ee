"""Harnesses that assemble a kernel of others are killed, at any statement, or are several at once.

    python -m tests.faults.prebuilt_kills DIRECTORY KILLS

Prints what is wrong afterwards, a line for each problem. In a process of its own, because it forks."""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from harness.build import guesttools
from harness.build.cache import cache_dir
from harness.build.finished import load_build
from harness.build.prebuilt import assemble as assembling
from harness.build.prebuilt.assemble import Wish, assemble
from harness.build.prebuilt.resolve import resolve_prebuilt
from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.model.kernel import Build, Toolchain
from harness.model.progress import Silent
from tests.unit.tinykernel import RELEASE, build_raw_deb, kernel_files, member

_TRACED = ("/build/prebuilt/", "/build/cache.py", "/build/seal.py", "/build/collect.py")
_TOGETHER = 3


def play(directory: Path, kills: int) -> list[str]:
    """Kill `kills` harnesses that assemble one kernel, then have several do it at once; return what is wrong."""
    package = build_raw_deb(
        directory / "k.deb", [member(*each) for each in kernel_files(modules={"a.ko": b"a"}).items()]
    )
    _without_compiler()
    counted = directory / "statements"
    os.environ["XDG_CACHE_HOME"] = str(directory / "counted")
    _forked(lambda: counted.write_text(str(_count(lambda: _assembled(package, directory)))))
    statements = int(counted.read_text())
    os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
    problems, chosen = [], random.Random(1)
    for _ in range(kills):
        at = chosen.randrange(statements)
        ended = _forked(functools.partial(_count, lambda: _assembled(package, directory), kill_at=at))
        if os.waitstatus_to_exitcode(ended) not in (-signal.SIGKILL, 0):
            problems.append(f"killed at statement {at}: ended with {ended}")
        problems += _damaged(f"killed at statement {at}")
        if any(cache_dir("builds").glob("[0-9a-f]*")):  # too late to be killed in the making
            _forked(lambda: _remove(cache_dir("builds")))
    children = [_start(lambda: _assembled(package, directory)) for _ in range(_TOGETHER)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        problems.append(f"of {_TOGETHER} at once some failed: {codes}")
    problems += _damaged("several at once")
    left = [path.name for kind in ("builds", "prebuilt") for path in cache_dir(kind).iterdir()]
    builds = [path.name for path in cache_dir("builds").glob("[0-9a-f]*")]
    if len(builds) != 1 or left != builds:
        problems.append(f"expected one build, and nothing left over, found {left}")
    return problems


def _damaged(after: str) -> list[str]:
    problems = []
    for path in cache_dir("builds").glob("[0-9a-f]*"):
        try:
            found = load_build(path, verify=True)
            if found.release != RELEASE or not (found.directory / "modules" / RELEASE / "kernel/a.ko").is_file():
                problems.append(f"{after}: {path.name} is not whole")
        except Exception as error:
            problems.append(f"{after}: {path.name}: {error}")
    return problems


def _remove(directory: Path) -> None:
    for path in directory.glob("[0-9a-f]*"):
        for inner in sorted(path.rglob("*"), reverse=True):
            inner.rmdir() if inner.is_dir() and not inner.is_symlink() else inner.unlink()
        path.rmdir()


def _without_compiler() -> None:
    def compile_tools(_toolchain: Toolchain, directory: Path, **_: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "thaw").write_bytes(b"thaw")

    guesttools.compile_tools = compile_tools  # type: ignore[assignment]
    assembling.index_modules = lambda *_args, **_more: None  # type: ignore[attr-defined]


def _assembled(package: Path, directory: Path) -> Build:
    spec = parse_prebuilt_spec(str(package))
    assert spec is not None
    (directory / "testcases").mkdir(exist_ok=True)
    wish = Wish(
        prebuilt=resolve_prebuilt(spec, progress=Silent()),
        toolchain=Toolchain(name="gcc", command="gcc", version="12", make_args=(), patchable=True),
        testcases=directory / "testcases",
        reproduce="harness build",
        is_sandboxed=False,
    )
    return assemble(wish, progress=Silent())


def _count(work: Callable[[], object], *, kill_at: int = -1) -> int:
    """Do `work`; return how many statements of the harness that took. Before number `kill_at` this process kills
    itself."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not any(part in frame.f_code.co_filename for part in _TRACED):
            return None
        if event == "line":
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def _start(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _forked(work: Callable[[], object]) -> int:
    return os.waitpid(_start(work), 0)[1]


if __name__ == "__main__":
    for problem in play(Path(sys.argv[1]), int(sys.argv[2])):
        print(problem)
