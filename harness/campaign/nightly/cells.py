"""From a plan to its cells: quick checks of everything it names, then the kernels as they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from harness.boards.inventory import Inventory, read_inventory
from harness.build import host
from harness.build.keys import build_key, digest
from harness.build.prebuilt.assemble import Wish
from harness.build.prebuilt.spec import PREFIX, parse_prebuilt_spec
from harness.build.source import VERSION, parse_source_spec, resolve_source
from harness.campaign.kernel import kernel_for, source_to_build, wish_for
from harness.campaign.request import BuildOptions, NightRequest, fragment_path
from harness.errors import HarnessError, UserError
from harness.layout import TESTCASES
from harness.limits import YAML_BYTES
from harness.model.board import BoardSpec
from harness.model.kernel import KernelSpec, Source
from harness.model.names import nearest_first
from harness.model.night import Cell, Plan, PlannedKernel, Settings, Slot
from harness.model.progress import Progress
from harness.parse.plan import parse_plan, plan_schema
from harness.run.expectations import load_known
from harness.run.session import choose_suites, key_of_testcases
from harness.target.methods.table import boot_method
from harness.userpath import user_path

Found = TypeVar("Found")
__all__ = ["Checked", "Recipe", "Resolved", "check", "plan_schema", "resolve"]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A request whose plan's names all mean something here. `boards`: the boards that each of the plan's boards and
    pools stands for."""

    request: NightRequest
    plan: Plan
    inventory: Inventory
    boards: Mapping[str, tuple[BoardSpec, ...]]

    @property
    def left_out(self) -> tuple[str, ...]:
        """The boards of the plan's pools that are not used, each with the reason."""
        named = {name: {board.name for board in boards} for name, boards in self.boards.items()}
        return tuple(
            f"board {name} of pool {entry.board.pool} is left out: boards.yaml: {name}.{entry.unset[0]}"
            for name, entry in self.inventory.entries.items()
            if entry.unset and name not in named.get(entry.board.pool, {name})
        )

    @property
    def directory(self) -> Path:
        """What the plan's paths are relative to."""
        return self.request.plan.absolute().parent

    def options(self, slot: Slot) -> BuildOptions:
        """Return what builds the kernel of a slot."""
        kernel = self.plan.kernels[slot.kernel]
        return BuildOptions(
            build_dir=None,
            kernel=_source(kernel, self.directory),
            patches=tuple(user_path(path, beside=self.directory) for path in kernel.patches),
            kconfigs=self.fragments(slot.configuration),
            toolchain=None if slot.is_built else slot.toolchain,
            allow_plain_ftrace=self.request.allow_plain_ftrace,
            jobs=self.request.jobs,
            no_sandbox=self.request.no_sandbox,
        )

    def fragments(self, configuration: str) -> tuple[Path, ...]:
        """The fragments of a configuration; none of what is no configuration."""
        named = self.plan.configurations.get(configuration, ())
        return tuple(fragment_path(Path(each), beside=self.directory) for each in named)


def check(request: NightRequest) -> Checked:
    """Read the plan, and look up what it names: boards, suites, fragments, patches, sources on this host. Raises
    UserError."""
    plan, inventory, place = _read(request.plan), read_inventory(request.boards_file), request.plan.name
    boards = {name: _boards(name, inventory, place) for name in plan.boards}
    checked = Checked(request=request, plan=plan, inventory=inventory, boards=boards)
    for name in plan.configurations:
        where = f"{place}: configurations.{name}"
        for path in _named(where, partial(checked.fragments, name)):
            _require(path, where)
    for kernel in plan.kernels.values():
        where = f"{place}: kernels.{kernel.name}"
        for patches in kernel.patches:
            path = _named(f"{where}.patches", partial(user_path, patches, beside=checked.directory))
            _require(path, f"{where}.patches", any_kind=True)
        _named(f"{where}.kernel", partial(_check_kernel, kernel, checked.directory))
    for tests in plan.suites.values():
        _named(f"{place}: suites.{tests.name}", partial(choose_suites, tests.suites))
    for slot, settings in plan.slots().items():
        board = boards[slot.board][0]
        if settings.workers > 1 and boot_method(board).snapshots is None:
            raise UserError(
                f"{place}: workers: expected 1 for the board {slot.board}, which has no snapshots, found "
                f"{settings.workers}; the boards of a pool share a night's cells anyway"
            )
    load_known(request.expectations)
    return checked


def _read(path: Path) -> Plan:
    try:
        text = YAML_BYTES.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a plan for the night, can't read it: {error}") from None
    return parse_plan(text, name=path.stem, place=path.name)


def _named(where: str, look: Callable[[], Found]) -> Found:
    try:
        return look()
    except UserError as error:
        raise UserError(f"{where}: {error.message}", details=error.details) from None


def _require(path: Path, where: str, *, any_kind: bool = False) -> None:
    if not (path.exists() if any_kind else path.is_file()):
        raise UserError(f"{where}: expected a file at {path}, found {'something else' if path.exists() else 'none'}")


def _check_kernel(kernel: PlannedKernel, directory: Path) -> None:
    source = _source(kernel, directory)
    if not (built := parse_prebuilt_spec(source)):
        source_to_build(source)
    elif not kernel.is_built:
        raise UserError(f"{kernel.source}: expected {PREFIX} before the path of a kernel that is built")
    elif kernel.patches:
        raise UserError(f"{built.text} is a finished kernel: patches can't change it")


def _source(kernel: PlannedKernel, directory: Path) -> str:
    """The source as ``--kernel`` takes it; a path that exists relative to the plan is made absolute."""
    path = kernel.source.removeprefix(PREFIX)
    if ":" in path or VERSION.fullmatch(kernel.source):
        return kernel.source
    absolute = user_path(path, beside=directory)
    return kernel.source.removesuffix(path) + str(absolute) if absolute.exists() else kernel.source


def _boards(name: str, inventory: Inventory, place: str) -> tuple[BoardSpec, ...]:
    entries = inventory.entries
    pool = [entry for entry in entries.values() if entry.board.pool == name]
    if name in entries or not pool:
        if name not in entries:
            pools = {entry.board.pool for entry in entries.values()} - {""}
            near = ", ".join(nearest_first(name, {*entries, *pools})[:8])
            raise UserError(f"{place}: boards: expected a board or pool such as {near}, found {name!r}")
        return (inventory.board(name),)
    complete = tuple(entry.board for entry in pool if not entry.unset)
    return complete or (inventory.board(pool[0].board.name),)  # which tells what it lacks


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a build is made from, on this host: a source, or a kernel that others built."""

    spec: KernelSpec | Wish
    options: BuildOptions


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The cells of a night. `recipes`: by the key of a build. `problems`: slots whose kernel can't be determined."""

    cells: tuple[Cell, ...]
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    problems: Mapping[Slot, HarnessError] = field(default_factory=dict)


def resolve(checked: Checked, wanted: Mapping[Slot, Settings], progress: Progress) -> Resolved:
    """Determine the kernels of `wanted` as they are now, each source once: a branch that moves meanwhile is the same
    for all cells. Nothing is built."""
    resolver = _Resolver(checked, progress)
    common = {name: _common(checked, name) for name in {slot.suites for slot in wanted}}
    machines = {
        name: sorted(repr((board.boot, board.cmdline)) for board in checked.boards[name]) for name in checked.boards
    }
    cells, recipes, problems = [], {}, {}
    for slot, settings in wanted.items():
        try:
            recipe, key = resolver.recipe(slot)
        except HarnessError as error:
            problems[slot] = error
            continue
        recipes[key] = recipe
        boards = checked.boards[slot.board]
        own = {
            "build": key,
            "boards": machines[slot.board],
            "timeout_factor": settings.timeout_factor,
            "repetition": slot.repetition,
        }
        cells.append(
            Cell(
                slot=slot,
                identity=digest({**own, **common[slot.suites]}),
                asked=checked.plan.asked(slot, settings),
                build=key,
                tests=checked.plan.suites[slot.suites],
                settings=settings,
                candidates=tuple(board.name for board in boards),
            )
        )
    return Resolved(cells=tuple(cells), recipes=recipes, problems=problems)


def _common(checked: Checked, suites: str) -> dict[str, object]:
    """What cells with the same group of suites depend on."""
    tests = checked.plan.suites[suites]
    return {
        "suites": sorted(choose_suites(tests.suites)),
        "keyword": tests.keyword,
        "testcases": key_of_testcases(),
    }


class _Resolver:
    """Remembers what it has resolved, and what it could not."""

    def __init__(self, checked: Checked, progress: Progress) -> None:
        self._checked = checked
        self._progress = progress
        self._sources: dict[str, Source | HarnessError] = {}
        self._known: dict[object, tuple[Recipe, str] | HarnessError] = {}

    def recipe(self, slot: Slot) -> tuple[Recipe, str]:
        board = self._checked.boards[slot.board][0]
        which = (slot.kernel, slot.toolchain, slot.configuration, () if slot.is_built else board.kconfigs)
        if which not in self._known:
            try:
                self._known[which] = self._resolved(slot, board)
            except HarnessError as error:
                self._known[which] = error
        known = self._known[which]
        if isinstance(known, HarnessError):
            raise known
        return known

    def _resolved(self, slot: Slot, board: BoardSpec) -> tuple[Recipe, str]:
        options = self._checked.options(slot)
        if built := parse_prebuilt_spec(options.kernel):
            wish = wish_for(built, options, self._progress)
            return Recipe(spec=wish, options=options), wish.key
        spec = kernel_for(options, board, self._progress, source=self._source(slot.kernel, options.kernel))
        return Recipe(spec=spec, options=options), build_key(spec, testcases=TESTCASES)

    def _source(self, kernel: str, text: str) -> Source:
        if kernel not in self._sources:
            try:
                host.ensure_host(progress=self._progress)
                self._sources[kernel] = resolve_source(parse_source_spec(text), progress=self._progress)
            except HarnessError as error:  # asked again, a server that does not answer would cost the time again
                self._sources[kernel] = error
        known = self._sources[kernel]
        if isinstance(known, HarnessError):
            raise known
        return known
