"""What to search in: the range that a request names, and which kernel each of its states is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.build.keptpatches import keep_patches
from harness.build.load_patches import load_patches
from harness.build.source import parse_source_spec
from harness.campaign.bisect.gitrange import Repository
from harness.campaign.bisect.place import PATCHES, Place
from harness.campaign.request import BisectRequest, BuildOptions
from harness.errors import UserError
from harness.limits import SOURCE_BYTES
from harness.model.bisect import Change, Range, RangeKind, line_of
from harness.model.kernel import SourceKind
from harness.model.names import as_name
from harness.parse.kconfig import parse_fragment
from harness.target.methods.qemu import QEMU

REVERTED = "reverted"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A range, and how its states are built. `options`: what builds a state; `reverted`: what builds the bad end
    without a change, or why there is no such thing; `path`: the directory whose programs a state's runs use first, if
    any. `repository`, `ends`: of a range of commits."""

    range: Range
    options: Callable[[int], BuildOptions]
    reverted: Callable[[int], BuildOptions | str]
    path: Callable[[int], str] = field(default=lambda _state: "")
    repository: Repository | None = None
    ends: tuple[str, str] = field(default=("", ""))


def ground_of(request: BisectRequest, place: Place) -> Ground:
    """Return what to search in. Raises UserError if the request names no range, or more than one."""
    given = {
        "--good and --bad": bool(request.good or request.bad),
        "--symbols-of": request.changed is not None,
        "--toolchains": bool(request.toolchains),
        "--qemus": bool(request.qemus),
    }
    named = [name for name, is_given in given.items() if is_given]
    if len(named) > 1:
        raise UserError(f"expected one range to search in, found {' and '.join(named)}")
    if request.kernel.build_dir:
        raise UserError(
            "--build: each state has to be built, a finished build can't be used; name the source with --kernel"
        )
    if request.good or request.bad:
        return _commits(request, place)
    if request.changed is not None:
        return _symbols(request, request.changed, place)
    if request.toolchains:
        return _toolchains(request)
    if request.qemus:
        return _qemus(request)
    if request.kernel.patches:
        return _series(request, place)
    raise UserError(
        "expected a range to search in: --good and --bad, a series with --patches, --symbols-of, --toolchains or "
        "--qemus; found none"
    )


def _commits(request: BisectRequest, place: Place) -> Ground:
    if not (request.good and request.bad):
        raise UserError("--good, --bad: expected both ends of the range, found one")
    spec = parse_source_spec(request.kernel.kernel)
    if spec.kind is not SourceKind.GIT or not Path(spec.location).is_dir():
        raise UserError(
            f"--kernel: expected git:PATH of a repository on this host, whose history is searched, found "
            f"{request.kernel.kernel!r}; clone one that is elsewhere"
        )
    repository = Repository(Path(spec.location))
    good, bad = repository.commit("--good", request.good), repository.commit("--bad", request.bad)
    found = repository.range(good, bad, first_parent=request.first_parent)

    def options(state: int) -> BuildOptions:
        commit = found.changes[state - 1].name if state else good
        return dataclasses.replace(request.kernel, kernel=f"git:{spec.location}#{commit}")

    def reverted(change: int) -> BuildOptions | str:
        text = repository.reverse_of(found.changes[change].name)
        if not text:
            return "it is a merge"
        path = place.root / f"{REVERTED}.patch"
        place.write(path.name, text)
        bad_end = options(found.bad_end)
        return dataclasses.replace(bad_end, patches=(*bad_end.patches, path))

    return Ground(
        range=found,
        options=options,
        reverted=reverted,
        repository=repository,
        ends=(good, bad),
    )


def _series(request: BisectRequest, place: Place) -> Ground:
    patches = load_patches(request.kernel.patches)
    keep_patches(patches, place.root)
    files = sorted((place.root / PATCHES).glob("*.patch"))
    changes = tuple(
        Change(name=f"{number}/{len(patches)}", title=patch.name) for number, patch in enumerate(patches, 1)
    )

    def reverted(change: int) -> BuildOptions | str:
        left = (*files[:change], *files[change + 1 :])
        return dataclasses.replace(request.kernel, patches=left) if left else "the series has no other patch"

    return Ground(
        range=line_of(RangeKind.SERIES, "without the series", changes),
        options=lambda state: dataclasses.replace(request.kernel, patches=tuple(files[:state])),
        reverted=reverted,
    )


def _symbols(request: BisectRequest, fragment: Path, place: Place) -> Ground:
    """The symbols of a fragment, one more in each state, in the order of the file. A search in such a line always ends
    between a state that passes and the next one, which fails, also where symbols make a difference only together."""
    try:
        text = SOURCE_BYTES.read(fragment).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--symbols-of: expected a fragment at {fragment}, can't read it: {error}") from None
    asked = parse_fragment(text, name=fragment.name)
    lines = [line for line in text.splitlines() if line.startswith(("CONFIG_", "# CONFIG_"))]
    if len(lines) < 2 or len(lines) != len(asked.requests):
        raise UserError(f"{fragment}: expected at least two symbols, each in one line, found {len(lines)}")
    directory = place.root / "symbols"
    directory.mkdir(exist_ok=True)

    def with_lines(chosen: list[str], name: str) -> BuildOptions:
        path = directory / "changed.config"  # one name: each state is then built in the objects of the last one
        path.write_text("\n".join(chosen) + "\n")
        kept = directory / f"{name}.config"
        kept.write_text(path.read_text())
        return dataclasses.replace(request.kernel, kconfigs=(*request.kernel.kconfigs, path))

    return Ground(
        range=line_of(RangeKind.KCONFIG, f"without {fragment.name}", tuple(Change(name=line) for line in lines)),
        options=lambda state: with_lines(lines[:state], f"{state:04}"),
        reverted=lambda change: with_lines([*lines[:change], *lines[change + 1 :]], REVERTED),
    )


def _toolchains(request: BisectRequest) -> Ground:
    names = _in_order("--toolchains", request.toolchains)
    return Ground(
        range=line_of(RangeKind.TOOLCHAINS, names[0], tuple(Change(name=name) for name in names[1:])),
        options=lambda state: dataclasses.replace(request.kernel, toolchain=names[state]),
        reverted=lambda _change: "a toolchain can't be taken back",
    )


def _qemus(request: BisectRequest) -> Ground:
    for directory in request.qemus:
        if not (directory / QEMU).is_file():
            raise UserError(f"--qemus: expected directories with {QEMU}, found none in {directory}")
    names = _in_order("--qemus", tuple(str(directory.absolute()) for directory in request.qemus))
    return Ground(
        range=line_of(RangeKind.QEMUS, names[0], tuple(Change(name=name) for name in names[1:])),
        options=lambda _state: request.kernel,
        reverted=lambda _change: "a QEMU can't be taken back",
        path=lambda state: names[state],
    )


def _in_order(option: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"{option}: expected at least two different names, the good one first, found {','.join(names)}")
    return names


def name_of_run(ground: Ground, state: int) -> str:
    """Return what the directory of a state's runs is called."""
    if state < 0:
        return REVERTED
    return as_name(ground.range.changes[state - 1].name.replace("/", "-of-")[:40], longest=40) if state else "good"
