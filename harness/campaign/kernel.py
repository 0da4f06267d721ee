"""Builds the kernel that a request names: checks the input first, then installs host tools, then builds."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable
from pathlib import Path

from harness.build import host, rootfs
from harness.build.finished import check_unsealed, load_build
from harness.build.load_patches import load_patches
from harness.build.make import build as make_build
from harness.build.offers import suites_with
from harness.build.prebuilt.assemble import Wish, assemble
from harness.build.prebuilt.resolve import resolve_prebuilt
from harness.build.prebuilt.spec import needs_of, parse_prebuilt_spec
from harness.build.source import parse_source_spec, resolve_source
from harness.build.toolchain import find_toolchain, require_patchable
from harness.campaign.request import BuildOptions
from harness.errors import InfraError, UserError
from harness.layout import KCONFIGS, TESTCASES
from harness.model.board import BoardSpec
from harness.model.kernel import Build, KernelSpec, Source, SourceSpec, Toolchain
from harness.model.names import nearest_first
from harness.model.prebuilt import PrebuiltSpec
from harness.model.progress import Progress
from harness.target.methods.table import boot_method

FRAGMENTS = ("base", "ftrace", "livepatch", "testing", "debug")


def build_for(
    options: BuildOptions, board: BoardSpec, progress: Progress, *, boots: bool = True, is_booted: bool = True
) -> Build:
    """Return the build that the options name, and build it if it is not in the cache. `boots`: also install what the
    host needs to boot `board`; `is_booted`: it will be right afterwards, so what else that needs may be begun."""
    options.checked()
    if options.build_dir:
        found = load_build(options.build_dir, verify=options.verify)
        if boots:
            check_unsealed(found, progress)
            host.ensure_host(progress=progress, needed_for=set(boot_method(board).needs))
        return found
    if prebuilt := parse_prebuilt_spec(options.kernel):
        selftests_in(options.selftests_dir)  # before anything is fetched
        needs = ("rootfs", *boot_method(board).needs) if boots else ()
        return _prebuilt(prebuilt, options, progress, needs=needs, is_booted=boots and is_booted)
    if options.selftests_dir:
        raise UserError("--selftests is for a kernel that was built elsewhere: another one has those of its source")
    return build_kernel(kernel_for(options, board, progress), options, progress)


def _prebuilt(
    spec: PrebuiltSpec, options: BuildOptions, progress: Progress, *, needs: Iterable[str], is_booted: bool
) -> Build:
    """Return the build directory of a kernel that others built. `needs`: the stages for which the host needs tools,
    besides this one."""
    if options.patches or options.kconfigs:
        raise UserError(f"{spec.text} is a finished kernel: --patches and --kconfig can't change it")
    host.ensure_host(progress=progress, needed_for={"prebuilt", *needs_of(spec), *needs})
    with rootfs.begun(progress) if is_booted else contextlib.nullcontext():
        return assemble(wish_for(spec, options, progress), progress=progress, verify=options.verify)


def wish_for(spec: PrebuiltSpec, options: BuildOptions, progress: Progress) -> Wish:
    """Find out which kernel that others built the options name; nothing is unpacked yet."""
    host.ensure_host(progress=progress, needed_for={"prebuilt", *needs_of(spec)})
    toolchain = _toolchain(options.toolchain, progress)
    return Wish(
        prebuilt=resolve_prebuilt(spec, progress=progress, verify=options.verify),
        toolchain=toolchain,
        testcases=TESTCASES,
        reproduce=_reproduce(options, spec.text),
        is_sandboxed=not options.no_sandbox,
        selftests=selftests_in(options.selftests_dir),
    )


def selftests_in(directory: Path | None) -> Path | None:
    """Return the directory with the suites' directories that --selftests names, or a source tree with it."""
    if directory is None:
        return None
    for place in (directory, directory / "tools/testing/selftests"):
        if (place / "ftrace/ftracetest").is_file():
            return place.resolve()
    raise UserError(f"--selftests: expected a directory with ftrace/ftracetest at {directory}, found none")


def source_to_build(text: str) -> SourceSpec:
    """Parse what names a source. Raises UserError for anything else, also for a kernel that is built already."""
    if parse_prebuilt_spec(text):
        raise UserError(f"{text}: expected a source to build kernels from, found a kernel that is built")
    return parse_source_spec(text)


def kernel_for(
    options: BuildOptions, board: BoardSpec, progress: Progress, *, source: Source | None = None
) -> KernelSpec:
    """Describe the kernel that the options name, with its source resolved; nothing is built yet. `source`: what
    --kernel was resolved to before, so that several kernels have the same one. Raises UserError for one that is built
    already."""
    patches = load_patches(options.patches)
    for patch in patches:
        for note in patch.notes:
            progress.say(f"{patch.name}: {note}")
    spec = source_to_build(options.kernel)
    ours = [*(KCONFIGS / f"{name}.config" for name in FRAGMENTS), *(KCONFIGS / name for name in board.kconfigs)]
    for option, paths in ((f"boards.yaml: {board.name}.kconfigs", ours), ("--kconfig", options.kconfigs)):
        for path in paths:
            if not path.is_file():
                raise _no_such_fragment(option, path)
    host.ensure_host(progress=progress)
    toolchain = _toolchain(options.toolchain, progress)
    require_patchable(toolchain, allow_plain_ftrace=options.allow_plain_ftrace)
    return KernelSpec(
        source=source or resolve_source(spec, progress=progress, verify=options.verify),
        patches=patches,
        fragments=tuple(ours),
        user_fragments=options.kconfigs,
        toolchain=toolchain,
        allow_plain_ftrace=options.allow_plain_ftrace,
        era_fixes=not options.no_era_fixes,
    )


def _no_such_fragment(option: str, path: Path) -> UserError:
    """`option` names the file `path`, which may be meant to be one of ours."""
    if path.exists():
        return UserError(f"{option}: expected a file at {path}, found something else")
    paths = (found.relative_to(KCONFIGS) for found in KCONFIGS.rglob("*.config"))
    ours = [str(found.with_suffix("")) for found in paths if str(found.with_suffix("")) not in FRAGMENTS]
    given = path.relative_to(KCONFIGS) if path.is_relative_to(KCONFIGS) else path
    names = nearest_first(str(given).removesuffix(".config"), ours)
    return UserError(f"{option}: expected a file at {path}, found none; ours are {', '.join(names)}")


def _toolchain(name: str | None, progress: Progress) -> Toolchain:
    """Find the toolchain that ``--toolchain NAME`` means, installed if it can be: Debian has many of them."""
    tools, lacks_it = host.toolchain_tools(name), False
    try:
        host.ensure_host(progress=progress, needed_for=set(), also=tools)
    except InfraError as error:  # what find_toolchain misses then is the user's: a version that there is not
        progress.say("; ".join((error.message, *error.details)))
        lacks_it = True
    try:
        return find_toolchain(name)
    except UserError as error:
        if not (lacks_it and tools):
            raise
        found = suites_with([tool.package for tool in tools], progress=progress)
        where = f"which is in {', '.join(found)}" if found else "which no suite has that this host can ask"
        raise UserError(f"{error.message}, {where}; use a host of such a suite, or a compiler by its prefix") from None


def build_kernel(kernel: KernelSpec, options: BuildOptions, progress: Progress) -> Build:
    """Build `kernel` as `options` ask, or return the finished build from the cache."""
    progress.say(f"kernel {kernel.source.version}, {kernel.toolchain.command} {kernel.toolchain.version}")
    return make_build(
        kernel,
        testcases=TESTCASES,
        reproduce=_reproduce(options, kernel.source.spec.text),
        progress=progress,
        jobs=options.jobs,
        is_sandboxed=not options.no_sandbox,
        verify=options.verify,
    )


def _reproduce(options: BuildOptions, kernel: str) -> str:
    words = ["harness", "build", "--kernel", kernel]
    selftests = (options.selftests_dir,) if options.selftests_dir else ()
    given = (("--patches", options.patches), ("--kconfig", options.kconfigs), ("--selftests", selftests))
    for name, paths in given:
        for path in paths:
            words += [name, str(path)]
    if options.toolchain:
        words += ["--toolchain", options.toolchain]
    if options.allow_plain_ftrace:
        words += ["--allow-plain-ftrace"]
    if options.no_era_fixes:
        words += ["--no-era-fixes"]
    if options.no_sandbox:
        words += ["--no-sandbox"]
    return shlex.join(words)
