"""Finished builds: loaded, held and checked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from harness import jsonfile
from harness.build import hostheaders
from harness.build.changedlines import CHANGED
from harness.build.inuse import Hold, hold, nobody_uses
from harness.build.prune import set_aside
from harness.build.seal import MANIFEST, checked
from harness.build.unsealed import check_image
from harness.errors import InfraError, UserError
from harness.limits import SOURCE_BYTES
from harness.model.kernel import Build, Toolchain
from harness.model.progress import Progress
from harness.model.record import BuildRecord
from harness.model.unbuilt import broken_by_series
from harness.parse.kconfig import parse_dotconfig
from harness.parse.records import build_record_from_json
from harness.products import Damaged

RECORD = "build.json"  # in the directory of a build, and a copy in that of a run


def usable_build(directory: Path, progress: Progress, *, verify: bool) -> Build | None:
    """Return the finished build of the cache; None if there is none, or if it is damaged and was removed."""
    if not directory.exists():
        return None
    with contextlib.suppress(OSError):  # another user's, or read-only
        os.utime(directory)  # tells the pruner that it is used
    try:
        found = load_build(directory, verify=verify)
        check_unsealed(found, progress)
        return found
    except (Damaged, UserError) as error:
        if not directory.exists():  # removed meanwhile
            return None
        with nobody_uses(directory) as is_free:
            if not is_free:
                raise InfraError(f"{error.message}; now other processes use it: end them first") from error
            progress.say(f"{error.message}: it is made again")
            set_aside(directory)
    return None


def give_up_incomplete(directory: Path, toolchain: Toolchain, progress: Progress) -> None:
    """Remove a finished build that lacks what this host could not build then, and can now, unless somebody uses it."""
    try:
        unbuilt = load_record(directory).unbuilt
    except UserError:
        return  # there is none
    if headers := hostheaders.came(unbuilt, toolchain):
        with nobody_uses(directory) as is_free:
            if is_free:
                progress.say(f"{', '.join(headers)}: on this host by now, so what did not build without is tried again")
                set_aside(directory)


def give_up_unrecorded(build: Build, progress: Progress) -> bool:
    """Remove a finished build of an older harness, which did not record which lines its patches have changed, unless
    somebody else uses it. Return whether it was removed."""
    if (build.directory / CHANGED).exists() or not load_record(build.directory).kernel.patches:
        return False
    assert isinstance(build.hold, Hold)
    build.hold.close()
    with nobody_uses(build.directory) as is_free:
        if is_free:
            progress.say(
                f"{build.directory}: an older harness did not record the lines that patches changed: made again"
            )
            set_aside(build.directory)
    return is_free


def load_build(directory: Path, *, verify: bool = False) -> Build:
    """Load the Build in the finished `directory`, which nobody removes as long as it is referred to. `verify`: read
    every file. Raises UserError if it is not one, Damaged if a file of it is not as it was when it was finished."""
    held = hold(directory)
    if held is None:
        raise _no_build(directory, "no such directory")
    try:
        return _load(directory, held, verify=verify)
    except BaseException:
        held.close()  # at once: the error may be kept, and refers to it
        raise


def _load(directory: Path, held: Hold, *, verify: bool) -> Build:
    remedy = _remedy(directory)
    try:
        products = checked(directory / MANIFEST, remedy=remedy, full=verify)
    except FileNotFoundError:
        products = ()
    record = load_record(directory)
    if record.has_manifest and not products:
        raise Damaged(f"{directory / MANIFEST}: expected the digests of this build's files, found none; {remedy}")
    try:
        config = parse_dotconfig(SOURCE_BYTES.read(directory / ".config").decode(errors="replace"))
    except (OSError, ValueError) as error:
        raise _no_build(directory, error) from None
    broken = broken_by_series(record)
    return Build(
        directory=directory.absolute(),
        release=record.kernel.release,
        key=record.key,
        config=config,
        without=dict(record.kernel.without),
        left_out={**record.left_out, **_to_skip(record.unbuilt, broken)},
        broken=broken,
        unbuilt=dict(record.unbuilt),
        products=products,
        hold=held,
    )


def not_built(unbuilt: Mapping[str, str], broken: Collection[str] = ()) -> list[str]:
    """A line for each error that keeps test modules or selftests from being built, for people. `broken`: those of them
    that the kernel's series keeps from it."""
    by_error: dict[tuple[str, bool], list[str]] = {}
    for name, why in unbuilt.items():
        by_error.setdefault((why, name in broken), []).append(name)
    return [_told(names, why, is_broken=is_broken) for (why, is_broken), names in by_error.items()]


def _told(names: Sequence[str], why: str, *, is_broken: bool) -> str:
    does, them = ("does", "it") if len(names) == 1 else ("do", "them")
    where, end = ("for this kernel with its series", "fail") if is_broken else ("for this kernel", "are skipped")
    if hostheaders.is_why(why):
        where = "on this host"
    return f"{', '.join(names)}: {does} not build {where}, so the tests that need {them} {end}: {why}"


def _to_skip(unbuilt: Mapping[str, str], broken: Collection[str]) -> dict[str, str]:
    """Why there are no such test modules, as a skipped test says it."""
    modules = {name: why for name, why in unbuilt.items() if "/" not in name and name not in broken}
    return {name: f"does not build for this kernel: {why}" for name, why in modules.items()}


def check_unsealed(build: Build, progress: Progress) -> None:
    """Look for damage in a build of an older harness, which recorded no digests; raises Damaged."""
    if not build.products:
        check_image(build.directory, remedy=_remedy(build.directory))
        progress.say(
            f"{build.directory}: built by an older harness, which recorded no checksums, so damage may go unnoticed"
        )


def _remedy(directory: Path) -> str:
    return f"remove {directory} and build it again"


def load_record(directory: Path) -> BuildRecord:
    """Load the record of the build in `directory`, or of the run there, which has a copy. Raises UserError if there is
    none."""
    try:
        return build_record_from_json(jsonfile.read_bytes(directory / RECORD).decode())
    except (OSError, ValueError) as error:
        raise _no_build(directory, error) from None


def _no_build(directory: Path, error: Exception | str) -> UserError:
    told = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
    return UserError(f"{directory}: expected a finished build ({RECORD}, .config), found: {told}")
