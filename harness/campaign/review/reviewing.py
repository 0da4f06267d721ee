"""A review from its request to its documents."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import shortage
from harness.build.cache import try_locked
from harness.build.checksum import write_atomically
from harness.build.keptpatches import keep_patches
from harness.build.sourcetree import Tried
from harness.campaign.kernel import kernel_for
from harness.campaign.request import ReviewRequest
from harness.campaign.review.differences import Chain, Comparing, Found
from harness.campaign.review.journal import Journal
from harness.campaign.review.lab import HostLab, Lab
from harness.campaign.review.patchwise import Patchwise, Walked
from harness.campaign.review.reading import Base, Series, find_base, notes_of, read_series
from harness.campaign.review.runs import Kernel, Runs, results_of
from harness.errors import BuildError, InfraError, UserError
from harness.model.board import BoardSpec
from harness.model.kernel import KernelSpec
from harness.model.matters import is_documentation
from harness.model.progress import Progress
from harness.model.result import Verdict
from harness.model.review import Ground, Pair, Review, Size, TestSet
from harness.report.failing import counted
from harness.report.pairing import paired
from harness.report.review_json import review_json
from harness.report.review_mail import review_mail
from harness.report.review_page import review_html
from harness.run.identity import running_harness
from harness.run.session import choose_suites
from harness.run.side_run import SideRuns

MAIL, PAGE, DATA = "review.txt", "review.html", "review.json"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is reviewed, on what: the `newer` series and perhaps an `older` one, on `ground`."""

    newer: Series
    older: Series | None
    ground: Ground
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def review_here(request: ReviewRequest, board: BoardSpec, side_runs: SideRuns, display: Progress) -> Review:
    """Review a series on this host and write the documents. Raises UserError for what is no series, has no base, or
    names tests that there are not; InfraError if another review uses the directory."""
    choose_suites(request.suites)
    choose_suites(request.patch_suites)
    newer, older = read_series(request)
    base, notes = find_base(request, newer, older)
    options = dataclasses.replace(request.kernel, kernel=base.spec, patches=())
    out = request.out_dir
    with shortage.reported(out, kept="what was found out; the same command goes on from there"):
        out.mkdir(parents=True, exist_ok=True)
        with try_locked(out / "lock") as is_mine:
            if not is_mine:
                raise InfraError(f"{out}: another review uses this directory: wait for it, or name another with --out")
            _keep(newer, out / "newer")
            if older:
                _keep(older, out / "older")
            kernel = kernel_for(options, board, display)
            for note in (told := (*notes, *notes_of([newer, *([older] if older else [])]))):
                display.say(note)
            subject = Subject(
                newer=newer,
                older=older,
                ground=_ground(base, kernel, board),
                notes=told,
                command=_command(request, base, newer, out),
            )
            lab = HostLab(
                base=kernel,
                options=options,
                board=board.name,
                side_runs=side_runs,
                display=display,
                logs=out / "steps",
            )
            made = Reviewer(lab, request, display).review(subject)
            _write(made, request, out)
    return made


def _keep(series: Series, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for left in (directory / "patches").glob("*.patch"):
        left.unlink()
    keep_patches(series.patches, directory)


def _ground(base: Base, kernel: KernelSpec, board: BoardSpec) -> Ground:
    return Ground(
        base=base.spec,
        version=kernel.source.version,
        why=base.why,
        board=board.name,
        compiler=f"{kernel.toolchain.command} {kernel.toolchain.version}",
        fragments=tuple(path.stem for path in (*kernel.fragments, *kernel.user_fragments)),
        harness=str(running_harness()),
    )


def _command(request: ReviewRequest, base: Base, newer: Series, out: Path) -> tuple[str, ...]:
    """The words of a command that runs the newer series; the tests come behind them."""
    is_path = newer.repository is None and not request.version
    patches = newer.name.origin if is_path else str(out / "newer/patches")
    words = ["harness", "run", "--kernel", base.spec, "--patches", patches]
    for path in request.kernel.kconfigs:
        words += ["--kconfig", str(path)]
    words += ["--toolchain", request.kernel.toolchain] if request.kernel.toolchain else []
    return (*words, "--board", request.board_name)


def _write(made: Review, request: ReviewRequest, out: Path) -> None:
    write_atomically(out / DATA, review_json(made))
    write_atomically(out / PAGE, review_html(made))
    write_atomically(out / MAIL, review_mail(made, tester=request.tester))


class Reviewer:
    """Carries out a review; `lab` is the seam to builds and runs."""

    def __init__(self, lab: Lab, request: ReviewRequest, display: Progress) -> None:
        self._lab = lab
        self._request = request
        self._display = display
        self._whole = TestSet(suites=request.suites, keyword=request.keyword)
        self._runs = Runs(lab, request.out_dir / "runs", self._whole, display)

    def review(self, subject: Subject) -> Review:
        """Return the review of a series. Raises UserError if the base neither builds nor boots."""
        started = time.time()
        newer, older = subject.newer, subject.older
        tried = self._lab.try_series(newer.patches)
        walked = self._walk(tried, newer)
        before = self._lab.try_series(older.patches) if older else ()
        pairs, how = self._paired(before, tried, subject)
        found, notes = None, list(subject.notes)
        if walked.is_whole:
            found = self._compared(walked, before, subject, pairs, notes)
        else:
            notes.append("the whole series was not tested, because it can't be built")
        return Review(
            series=newer.name,
            ground=subject.ground,
            steps=tuple(walked.steps),
            older=older.name if older else None,
            pairs=pairs,
            how_paired=how,
            whole=self._whole,
            counts=_counts(found),
            failing_before=tuple(dict.fromkeys((*(found.failing_before if found else ()), *walked.failing_before))),
            lost=found.lost if found else (),
            differences=found.differences if found else (),
            sizes=self._sizes(walked, notes),
            problems=tuple(dict.fromkeys(self._runs.problems)),
            notes=tuple(notes),
            command=subject.command,
            started=started,
            seconds=time.time() - started,
        )

    def _walk(self, tried: Sequence[Tried], newer: Series) -> Walked:
        request = self._request
        is_chosen = bool(request.patch_suites or request.patch_keyword)
        chosen = TestSet(suites=request.patch_suites, keyword=request.patch_keyword) if is_chosen else None
        patchwise = Patchwise(
            self._lab,
            self._runs,
            Journal(request.out_dir / "steps"),
            self._display,
            whole=self._whole,
            chosen=chosen,
            rounds=request.rounds,
        )
        return patchwise.walk(tried, newer.titles, last=len(newer.patches))

    def _paired(
        self, before: Sequence[Tried], tried: Sequence[Tried], subject: Subject
    ) -> tuple[tuple[Pair, ...], str]:
        """Pair the patches of both versions, by git if both apply; return the pairs, and by what they are paired."""
        if subject.older is None:
            return (), ""
        if any(each.error for each in (*before, *tried)):
            return paired(subject.older.patches, subject.newer.patches), "title and changed lines: not all apply here"
        try:
            return self._lab.pairs(before, tried), "git range-diff"
        except InfraError as error:
            why = f"title and changed lines: {error.message}"
            return paired(subject.older.patches, subject.newer.patches), why

    def _compared(
        self, walked: Walked, before: Sequence[Tried], subject: Subject, pairs: Sequence[Pair], notes: list[str]
    ) -> Found | None:
        newer = Chain(kernels={each.number: each.kernel for each in walked.kernels}, since=walked.since)
        if len(newer.kernels) == 1 and subject.older is None:
            notes.append("no patch changes what is built, so there is nothing to run")
            return None
        older = self._older(before, subject.older, notes) if subject.older else None
        comparing = Comparing(self._lab, self._runs, whole=self._whole, rounds=self._request.rounds)
        return comparing.compare(newer, older, pairs)

    def _older(self, before: Sequence[Tried], series: Series, notes: list[str]) -> Chain | None:
        """The older version as kernels, which are built when they are needed; None, and a note, if it does not apply or
        build as a whole."""
        failed = next((each for each in before if each.error), None)
        if failed:
            notes.append(f"the older version does not apply to this base, so it was not run: {failed.error}")
            return None
        kernels = {0: Kernel(name="base")}
        for number, each in enumerate(before, 1):
            if not is_documentation(each.paths):
                kernels[number] = Kernel(name=f"older-{number:02}", patches=series.patches[:number])
        whole = kernels[max(kernels)]
        try:
            self._lab.build(whole.patches)
        except BuildError as error:
            notes.append(f"the older version does not build, so it was not run: {error.message}")
            return None
        return Chain(kernels=kernels, since={})

    def _sizes(self, walked: Walked, notes: list[str]) -> tuple[Size, Size] | None:
        if len(walked.kernels) == 1 or not walked.is_whole:
            return None
        with contextlib.suppress(BuildError):
            try:
                before, after = (self._lab.sizes(walked.kernels[at].kernel.patches) for at in (0, -1))
                return before, after
            except UserError as error:
                notes.append(f"the sizes are not known: {error.message}")
        return None


def _counts(found: Found | None) -> Mapping[str, Mapping[Verdict, int]]:
    if found is None:
        return {}
    return {name: counted(results_of(seen)) for name, seen in found.seen.items()}
