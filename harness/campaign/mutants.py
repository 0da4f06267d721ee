"""`harness mutants`: build every mutant, test it, and compare the verdicts with those of the unpatched kernel.

Below ``--out`` every run has its own directory, MUTANT/SUITE or ``unpatched…/SUITE``, with the files that `harness run`
writes. A finished run of the same kernel and the same tests is not repeated, so an interrupted hunt resumes where it
stopped."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import shortage
from harness.build.checksum import write_atomically
from harness.build.finished import load_record
from harness.build.keys import kernel_key
from harness.campaign.kernel import build_kernel, kernel_for
from harness.campaign.request import BuildOptions
from harness.errors import BootError, BuildError, InfraError, UserError
from harness.layout import KCONFIGS, MUTANTS
from harness.limits import PATCH_BYTES
from harness.model.board import BoardSpec
from harness.model.kernel import DEFAULT_SOURCE, Build, KernelSpec
from harness.model.mutant import Fate, Mutant, Row, Trial
from harness.model.names import nearest_first
from harness.model.progress import Progress
from harness.model.result import RunResults, Verdict
from harness.model.suite import FTRACE, LIVEPATCH
from harness.parse.mutant import parse_mutant
from harness.report import kill_table
from harness.report.kill_table import KillTable
from harness.run.side_run import Plan, SideRuns, finished

OURS = "testcases"
IN_TREE = (LIVEPATCH.name, FTRACE.name)  # the short one first: one catch is enough


@dataclass(frozen=True, kw_only=True)
class Hunt:
    """The options of a hunt. `named`: run only those of our tests that the mutants' headers name. `selftests`: also run
    the in-tree tests that match `keyword`. `baselines`: runs of each suite on the unpatched kernel."""

    out: Path
    named: bool = False
    selftests: bool = False
    keyword: str = ""
    baselines: int = 1
    parallel: int = 1


def all_mutants(directory: Path = MUTANTS) -> dict[str, Mutant]:
    """Return the project's mutants by name. Raises UserError for one without a proper header."""
    files = sorted(directory.glob("*.patch"))
    texts = {path: PATCH_BYTES.read(path).decode(errors="replace") for path in files}
    return {path.stem: parse_mutant(text, name=path.stem, place=path.name) for path, text in texts.items()}


def choose(names: Sequence[str], known: dict[str, Mutant]) -> list[Mutant]:
    """Return the mutants that --only names, or all of them if it names none. Raises UserError for an unknown one."""
    wanted = {name.removesuffix(".patch") for name in names}
    for name in sorted(wanted - known.keys()):
        near = ", ".join(nearest_first(name, known)[:5])
        raise UserError(f"--only: expected a name that `harness mutants --list` shows, such as {near}; found {name!r}")
    return [mutant for name, mutant in known.items() if not wanted or name in wanted]


def keyword_of(tests: Sequence[str]) -> str:
    """Return a -k expression that selects those of `tests` (ids or files) below testcases/, and few others."""
    terms = dict.fromkeys(term_of(test) for test in tests if test.startswith(f"{OURS}/"))
    return " or ".join(terms)


def term_of(test: str) -> str:
    """Return a -k expression that selects a test and few others."""
    path, _, name = test.partition("::")
    words = [Path(path).name, *re.findall(r"[\w:+.\[\]\\/-]+", name)]
    return f"({' and '.join(word for word in words if word not in ('and', 'or', 'not'))})"


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    """A kernel to test: its description, the options it is built with, and the directory of its runs."""

    spec: KernelSpec
    options: BuildOptions
    key: str
    place: Path


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """The unpatched kernel that some mutants are based on, and the results of its runs by suite."""

    kernel: _Kernel
    keyword: str  # for our tests
    runs: dict[str, list[RunResults]]


class Hunter:
    """One hunt; `table` does the work."""

    def __init__(
        self, wish: Hunt, options: BuildOptions, *, board: BoardSpec, side_runs: SideRuns, display: Progress
    ) -> None:
        self._wish = wish
        self._options = options
        self._board = board
        self._side_runs = side_runs
        self._display = display
        self._slots = threading.Semaphore(wish.parallel)

    def table(self, mutants: Sequence[Mutant]) -> KillTable:
        """Build and test the unpatched kernels and `mutants`; write the kill table's files and return it."""
        grounds: dict[str, _Ground] = {}
        with ThreadPoolExecutor(self._wish.parallel) as pool:
            try:
                for mutant in mutants:
                    kernel = self._kernel(mutant, patched=False)
                    if kernel.key not in grounds:
                        same = [other for other in mutants if _base(other) == _base(mutant)]
                        grounds[kernel.key] = self._ground(kernel, same, pool)
                rows = [self._start(mutant, grounds, pool) for mutant in mutants]
                done = tuple(row.result() for row in rows)
            except BaseException:
                self._side_runs.stop()  # otherwise the pool would wait for them
                raise
        made = KillTable(rows=done, caption=tuple(self._caption(ground) for ground in grounds.values()))
        with shortage.reported(self._wish.out, kept="all runs; the same command makes its tables from them"):
            self._wish.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self._wish.out / "kill-table.md", kill_table.markdown(made))
            write_atomically(self._wish.out / "kill-table.json", kill_table.as_json(made))
        return made

    def _kernel(self, mutant: Mutant, *, patched: bool) -> _Kernel:
        """Return the mutant's kernel, or the unpatched one that it is compared with."""
        given = self._options
        options = dataclasses.replace(
            given,
            kernel=mutant.kernel if mutant.kernel and given.kernel == DEFAULT_SOURCE else given.kernel,
            kconfigs=(*(KCONFIGS / name for name in mutant.kconfigs), *given.kconfigs),
            patches=(*given.patches, *([MUTANTS / f"{mutant.name}.patch"] if patched else [])),
        )
        spec = kernel_for(options, self._board, self._display)
        return _Kernel(
            spec=spec,
            options=options,
            key=kernel_key(spec),
            place=self._wish.out / (mutant.name if patched else re.sub(r"[^\w.+-]+", "_", _unpatched(mutant))),
        )

    def _plan(self, kernel: _Kernel, suite: str, keyword: str, build: Build | None = None) -> Plan:
        made = load_record(build.directory).kernel.made if build else ""
        return Plan(kernel=kernel.key, made=made, board=self._board.name, suite=suite, keyword=keyword)

    # -- the unpatched kernel -----------------------------------------------------------------------------------

    def _ground(self, kernel: _Kernel, mutants: Sequence[Mutant], pool: ThreadPoolExecutor) -> _Ground:
        named = keyword_of([test for mutant in mutants for test in mutant.caught_by]) if self._wish.named else ""
        wanted = [(OURS, named), *((suite, self._wish.keyword) for suite in IN_TREE if self._wish.selftests)]
        build = None
        if self._baselines_missing(kernel, wanted, None):
            build = build_kernel(kernel.spec, kernel.options, self._display)
            missing = self._baselines_missing(kernel, wanted, build)
            for each in [pool.submit(self._unpatched, build, place, plan) for place, plan in missing]:
                each.result()
        runs: dict[str, list[RunResults]] = {}
        for suite in (OURS, *IN_TREE):
            plan = self._plan(kernel, suite, named if suite == OURS else "", build)
            places = sorted(kernel.place.glob(f"{suite.replace('/', '-')}*/"))
            found = [finished(place, plan, any_keyword=suite != OURS) for place in places]
            runs[suite] = [results for results in found if results]
        return _Ground(kernel=kernel, keyword=named, runs=runs)

    def _baselines_missing(
        self, kernel: _Kernel, wanted: Sequence[tuple[str, str]], build: Build | None
    ) -> list[tuple[Path, Plan]]:
        plans = [self._plan(kernel, *each, build) for each in wanted]
        numbers = range(1, self._wish.baselines + 1)
        places = [(kernel.place / f"{_directory(plan)}{_number(each)}", plan) for plan in plans for each in numbers]
        return [(place, plan) for place, plan in places if not _kept(place, plan)]

    def _unpatched(self, build: Build, place: Path, plan: Plan) -> None:
        self._display.say(f"unpatched {build.release}: {plan.suite}")
        ended = self._side_runs.run(build.directory, plan, place)
        if ended.not_booted:
            raise BootError(f"the unpatched kernel does not boot: {ended.not_booted}; see {place}.log")
        if not finished(place, plan):
            raise InfraError(f"{plan.suite} on the unpatched kernel: {ended.last_line}; see {place}.log")

    # -- a mutant -----------------------------------------------------------------------------------------------

    def _start(self, mutant: Mutant, grounds: dict[str, _Ground], pool: ThreadPoolExecutor) -> Future[Row]:
        """Build the mutant in this thread (one at a time), and test it in the pool as soon as there is room."""
        kernel = self._kernel(mutant, patched=True)
        ground = grounds[self._kernel(mutant, patched=False).key]
        self._slots.acquire()
        try:
            build = None
            if not self._all_there(mutant, kernel, ground):
                self._display.say(f"{mutant.name}: {mutant.title}")
                build = build_kernel(kernel.spec, kernel.options, self._display)
        except (BuildError, UserError) as error:
            self._slots.release()
            row = Row(mutant=mutant, fate=Fate.NO_BUILD, note=" ".join([error.message, *error.details[:3]]))
            return pool.submit(self._report, row)
        except BaseException:
            self._slots.release()
            raise
        return pool.submit(self._test, mutant, kernel, ground, build)

    def _all_there(self, mutant: Mutant, kernel: _Kernel, ground: _Ground) -> bool:
        """Return whether all results exist already, so that the mutant need not be built."""
        plan = self._our_plan(mutant, kernel)
        if not _kept(kernel.place / _directory(plan), plan):
            return False
        return not self._wish.selftests or self._in_tree(kernel, ground, None) is not None

    def _our_plan(self, mutant: Mutant, kernel: _Kernel, build: Build | None = None) -> Plan:
        return self._plan(kernel, OURS, keyword_of(mutant.caught_by) if self._wish.named else "", build)

    def _test(self, mutant: Mutant, kernel: _Kernel, ground: _Ground, build: Build | None) -> Row:
        try:
            return self._report(self._row(mutant, kernel, ground, build))
        finally:
            self._slots.release()

    def _report(self, row: Row) -> Row:
        self._display.say(kill_table.line_of(row))
        return row

    def _row(self, mutant: Mutant, kernel: _Kernel, ground: _Ground, build: Build | None) -> Row:
        plan = self._our_plan(mutant, kernel, build)
        place = kernel.place / _directory(plan)
        results = _kept(place, plan)
        if not results and build:
            ended = self._side_runs.run(build.directory, plan, place)
            results = finished(place, plan)
            if ended.not_booted:
                return Row(mutant=mutant, fate=Fate.NO_BOOT, note=ended.not_booted, build=_seconds(place))
            if not results:
                return Row(mutant=mutant, fate=Fate.UNTOLD, note=f"{ended.last_line}; see {place}.log")
        assert results, "a run is missing, so there is a build"
        ours = kill_table.trial(results, baselines=ground.runs[OURS])
        return kill_table.row(mutant, ours=ours, in_tree=self._in_tree(kernel, ground, build), build=_seconds(place))

    def _in_tree(self, kernel: _Kernel, ground: _Ground, build: Build | None) -> Trial | None:
        """Return the combined result of the in-tree selftests that were run, now or earlier; None if they were not
        run."""
        trials: list[Trial] = []
        for suite in IN_TREE:
            plan = self._plan(kernel, suite, self._wish.keyword, build)
            place = kernel.place / _directory(plan)
            results = finished(place, plan, any_keyword=not self._wish.selftests)
            if not results and build and self._wish.selftests:
                self._side_runs.run(build.directory, plan, place, maxfail=1 + _failing(ground.runs[suite]))
                results = finished(place, plan)
            if not results or not ground.runs[suite]:
                return None
            trials.append(kill_table.trial(results, baselines=ground.runs[suite]))
            if trials[-1].catches:
                break
        return kill_table.joined(trials)

    def _caption(self, ground: _Ground) -> str:
        """``7.3.4: 120 of our tests and 118 in-tree ones pass unpatched (in-tree only: -k fgraph)``."""
        ours, in_tree = ([run for suite in suites for run in ground.runs[suite]] for suites in ((OURS,), IN_TREE))
        told = f"{ours[0].record.kernel.release}: {_passing(ours)} of our tests pass on the unpatched kernel"
        if in_tree:
            told += f", and {_passing(in_tree)} of the in-tree ones"
            keywords = {run.record.keyword for run in in_tree} - {""}
            told += f" (not all were run: -k {' / '.join(repr(word) for word in sorted(keywords))})" if keywords else ""
        return told


def _unpatched(mutant: Mutant) -> str:
    """Return the name of the unpatched kernel's directory: a word for each setting that is not the default."""
    return "-".join(["unpatched", *([mutant.kernel] if mutant.kernel else []), *mutant.kconfigs])


def _number(number: int) -> str:
    return f"-{number}" if number > 1 else ""


def _base(mutant: Mutant) -> tuple[str, tuple[str, ...]]:
    return mutant.kernel, mutant.kconfigs


def _directory(plan: Plan) -> str:
    """Return the name of a suite's directory below its kernel's. Our tests have two, so that a run of a few does not
    discard a run of all."""
    return f"{plan.suite.replace('/', '-')}{'-named' if plan.suite == OURS and plan.keyword else ''}"


def _kept(place: Path, plan: Plan) -> RunResults | None:
    """Return a finished run that fits `plan`: the one in `place`, or a run of the whole suite beside it."""
    return finished(place, plan) or finished(place.with_name(_directory(dataclasses.replace(plan, keyword=""))), plan)


def _seconds(place: Path) -> float | None:
    """Return how many seconds the build took, from its record, which every run has a copy of."""
    try:
        return load_record(place).seconds
    except UserError:  # the run did not get that far
        return None


def _failing(runs: Sequence[RunResults]) -> int:
    return len({each.test for run in runs for each in run.results if each.verdict.is_kernel_fault})


def _passing(runs: Sequence[RunResults]) -> int:
    return len({each.test for run in runs for each in run.results if each.verdict is Verdict.PASS})
