"""`build` turns a KernelSpec into a finished build directory.

The directory is named by the hash of everything that went into it and published by a rename. So the same inputs are
found again without calling make, and a killed build leaves nothing that looks finished."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from harness import available, shortage
from harness.build import prune
from harness.build.builder import Builder
from harness.build.cache import cache_dir, published
from harness.build.finished import give_up_incomplete, not_built, usable_build
from harness.build.kbuild import ROOM, Kbuild
from harness.build.keys import (
    build_key,
    configuration_name,
    kernel_key,
)
from harness.build.notbuilt import log_of
from harness.build.sandbox import find_sandbox
from harness.build.seal import seal_directory
from harness.build.stages import programs_of
from harness.build.strays import UnusableOutput
from harness.build.workspace import workspace_for
from harness.errors import BuildError
from harness.model.kernel import Build, KernelSpec
from harness.model.progress import Progress


def build(
    spec: KernelSpec,
    *,
    testcases: Path,
    reproduce: str,
    progress: Progress,
    jobs: int | None = None,
    is_sandboxed: bool = True,
    verify: bool = False,
) -> Build:
    """Build `spec`, or return the finished build from the cache. A damaged one is removed and built again.

    `testcases`: the directory with the test modules' C sources. `reproduce`: a command line that repeats the build,
    for build.json. `is_sandboxed`: run what comes from the kernel tree in a sandbox. `verify`: read every file of a
    finished build. Raises UserError (a patch, a fragment), BuildError (the compiler), InfraError (the host, or no
    sandbox works on it). The BuildError of a build that had begun is a NotBuilt."""
    key = build_key(spec, testcases=testcases)
    final, limits = cache_dir("builds") / key, prune.limits_from_environment()
    is_new = False
    give_up_incomplete(final, spec.toolchain, progress)
    while (found := usable_build(final, progress, verify=verify)) is None:
        with shortage.reported(final.parent, needed=ROOM, kept="what is already compiled"):
            _build(
                spec,
                final,
                testcases=testcases,
                reproduce=reproduce,
                progress=progress,
                jobs=jobs or available.cpus(),
                is_sandboxed=is_sandboxed,
            )
        is_new = True
    if is_new:
        prune.prune(limits, progress)
    else:
        progress.say(f"build {key}: ready, nothing changed")
    for told in not_built(found.unbuilt, found.broken):
        progress.say(told)
    return found


def compile_kernel(
    spec: KernelSpec, *, progress: Progress, jobs: int | None = None, is_sandboxed: bool = True
) -> tuple[str, ...]:
    """Compile the kernel in its workspace and publish nothing; return what make printed, line by line, with paths from
    the top of the source. That is of the files that had to be compiled; none if all are up to date. Raises what `build`
    raises."""
    lines: list[str] = []
    nowhere = contextlib.nullcontext(Path())

    def compile_it(builder: Builder) -> None:
        builder.compile()
        lines.extend(map(builder.workspace.outside, log_of(builder.log).splitlines()))

    with shortage.reported(cache_dir("workspaces"), needed=ROOM, kept="what is already compiled"):
        _in_workspace(
            spec,
            nowhere,
            compile_it,
            key=kernel_key(spec),
            reproduce="",
            progress=progress,
            jobs=jobs or available.cpus(),
            is_sandboxed=is_sandboxed,
        )
    return tuple(lines)


def _build(
    spec: KernelSpec,
    final: Path,
    *,
    testcases: Path,
    reproduce: str,
    progress: Progress,
    jobs: int,
    is_sandboxed: bool,
) -> None:
    """Build `spec` and publish it as `final`, whose name is its key."""
    output = published(final, seal=functools.partial(seal_directory, final=final))
    _in_workspace(
        spec,
        output,
        functools.partial(Builder.run, key=final.name, testcases=testcases, reproduce=reproduce),
        key=final.name,
        reproduce=reproduce,
        progress=progress,
        jobs=jobs,
        is_sandboxed=is_sandboxed,
    )


def _in_workspace(
    spec: KernelSpec,
    output: AbstractContextManager[Path],
    work: Callable[[Builder], None],
    *,
    key: str,
    reproduce: str,
    progress: Progress,
    jobs: int,
    is_sandboxed: bool,
) -> None:
    """Lock a workspace and have `work` done in it; what it makes goes to the directory `output`."""
    sandbox = find_sandbox(progress=progress).knowing(programs_of(spec.toolchain)) if is_sandboxed else None
    if sandbox is None:
        progress.say("building without a sandbox: the kernel tree's programs run with all that you may do and see")
    configuration = configuration_name(spec)
    with (
        sandbox.ready(progress) if sandbox else contextlib.nullcontext(),
        workspace_for(
            spec.source, configuration=configuration, is_sandboxed=is_sandboxed, progress=progress
        ) as workspace,
        output as out,
    ):
        if sandbox and not workspace.is_usable(by_others=sandbox.user is not None):
            progress.say("the workspace of earlier builds can't be used in the sandbox: building everything anew")
            workspace.discard()
        kbuild = Kbuild(workspace, spec.toolchain, jobs=jobs, progress=progress, sandbox=sandbox)
        builder = Builder(spec, kbuild, out)
        try:
            work(builder)
        except UnusableOutput as error:
            found = builder.not_built(error, key, reproduce, is_usable=False)
            workspace.discard()
            raise found from error
        except BuildError as error:
            raise builder.not_built(error, key, reproduce) from error
        except OSError as error:
            if sandbox is None or not workspace.is_of_make(error.filename):
                raise
            told = f"{error.filename}: expected what kbuild makes there, found: {error.strerror}"
            wrong = BuildError(f"the kernel's build left something else than a kernel: {told}")
            found = builder.not_built(wrong, key, reproduce, is_usable=False)
            workspace.discard()
            raise found from None
