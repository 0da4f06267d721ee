"""What a review's documents say in words: of a patch's stages, of a failure, of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.model.comparison import Tally
from harness.model.result import Verdict
from harness.model.review import Difference, Failure, Kind, PatchStep, Relation, Review, Size, Stage
from harness.report.evidence import worse_probability
from harness.report.text import one_line

YES, NO, UNKNOWN = "yes", "NO", "-"
_LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong, for a paragraph: `head`; the `tests` that show it; `evidence`: lines that others wrote; `figures`:
    our own words on it."""

    head: str
    tests: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


def marks(step: PatchStep) -> tuple[str, str, str, str]:
    """Return how a patch applies, configures, builds and boots, a word each; ``yes, 2w``: with two new warnings."""
    stages = (Stage.APPLIES, Stage.CONFIGURES, Stage.BUILDS, Stage.BOOTS)
    order = list(Stage)
    words = []
    for stage in stages:
        if step.failed is stage:
            words.append(NO)
        elif step.reached is not None and order.index(stage) <= order.index(step.reached):
            words.append(f"{len(step.warnings)} w" if stage is Stage.BUILDS and step.warnings else YES)
        else:
            words.append(UNKNOWN)
    return words[0], words[1], words[2], words[3]


def tests_of(step: PatchStep) -> str:
    """Return in a few words how the tests of a patch ended, or why there are none."""
    if step.counts:
        return counts_text(step.counts)
    if step.untested:
        return "docs only" if step.reached is Stage.APPLIES else "same binaries"
    return "not tried" if step.pending else UNKNOWN


def counts_text(counts: Mapping[Verdict, int]) -> str:
    """``1 CRASH, 40 PASS``: the gravest first."""
    order = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.FAIL, Verdict.UNRESOLVED, Verdict.ERROR)
    rest = (Verdict.NOTRUN, Verdict.PASS, Verdict.XFAIL, Verdict.SKIP)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in (*order, *rest) if counts.get(verdict))


def pair_text(review: Review, number: int) -> str:
    """Return what a patch was in the older version: ``=2``, ``!3``, ``new``."""
    for pair in review.pairs:
        if pair.newer == number:
            return "new" if pair.older is None else f"{pair.relation}{pair.older}"
    return ""


def dropped(review: Review) -> list[int]:
    """The numbers of the older version's patches that are gone."""
    return [pair.older for pair in review.pairs if pair.relation is Relation.DROPPED and pair.older]


def headline(review: Review) -> str:
    """Return the verdict in a line."""
    if review.is_well:
        return "All is well."
    counts = []
    failed = [step for step in review.steps if step.failed and step.failed is not Stage.PASSES]
    counts += [f"patch {step.number} {_verb(step.failed)}" for step in failed if step.failed][:3]
    warned = sum(len(step.warnings) for step in review.steps)
    new = len({*(each.failure.test for each in (*review.of(Kind.NEW), *review.of(Kind.BOTH))), *_passing(review)})
    counts += [_several(new, "new failure")] if new else []
    counts += [_several(warned, "new warning")] if warned else []
    if review.older and (both := len(review.of(Kind.BOTH))):
        counts.append(f"{both} of them as in {review.older_name}")
    if fixed := len(review.of(Kind.FIXED)):
        counts.append(f"{fixed} fixed since {review.older_name}")
    counts += [f"{_several(len(review.lost), 'test')} no longer run"] if review.lost else []
    counts += ["not everything could be tried"] if review.problems else []
    return "; ".join(counts or ["not everything could be tried"])


def _verb(stage: Stage) -> str:
    return {Stage.APPLIES: "does not apply", Stage.CONFIGURES: "can't be configured",
            Stage.BUILDS: "does not build", Stage.BOOTS: "does not boot"}.get(stage, "fails")  # fmt: skip


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _passing(review: Review) -> set[str]:
    """Tests that fail with some patch."""
    return {failure.test for step in review.steps for failure in step.failures}


def faults(review: Review) -> Iterator[Fault]:
    """What is wrong, the gravest first; then what was fixed. All text is cleaned, each on one line."""
    for each in _faults(review):
        yield Fault(
            head=one_line(each.head, _LONGEST),
            tests=_lines(each.tests),
            evidence=_lines(each.evidence),
            figures=_lines(each.figures),
        )


def _faults(review: Review) -> Iterator[Fault]:
    for step in review.steps:
        if step.failed in (Stage.APPLIES, Stage.CONFIGURES, Stage.BUILDS):
            evidence = (step.problem, *step.details)
            yield Fault(head=f"patch {step.number} {_verb(step.failed)}", evidence=evidence)
    for kind in (Kind.NEW, Kind.BOTH):
        yield from _differences(review, kind)
    yield from _of_patches(review)
    if review.lost:
        head = f"{_several(len(review.lost), 'test')} that pass with the base are not run with the series"
        yield Fault(head=head, evidence=review.lost)
    for step in review.steps:
        if step.warnings:
            head = f"patch {step.number}: {_several(len(step.warnings), 'new warning')}"
            yield Fault(head=head, evidence=step.warnings)
    yield from _differences(review, Kind.FIXED)


def _lines(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(one_line(line, _LONGEST) for line in lines if line.strip())


def _differences(review: Review, kind: Kind) -> Iterator[Fault]:
    def cause(each: Difference) -> tuple[int, str]:
        return each.patch or 0, each.failure.title

    for _, group in groupby(sorted(review.of(kind), key=cause), key=cause):
        same = list(group)
        first = same[0]
        yield Fault(
            head=f"{_since(first, review)}: {first.failure.verdict}, {first.failure.title}",
            tests=tuple(each.failure.test for each in same),
            evidence=first.failure.evidence,
            figures=_figures(first, review),
        )


def _since(each: Difference, review: Review) -> str:
    older = review.older_name
    if each.kind is Kind.FIXED:
        where = f"patch {each.patch} of {older}" if each.patch else older
        pair = f", patch {each.pair} now" if each.pair else ", a patch that is gone" if each.patch else ""
        return f"FIXED, was in {where}{pair}"
    word = "NEW" if each.kind is Kind.NEW else f"STILL THERE, as in {older}"
    if each.patch is None:
        return f"{word}, since {each.doubt}"
    pair = f" (patch {each.pair} of {older})" if each.pair else " (new in this version)" if review.older else ""
    return f"{word} since patch {each.patch}{pair}"


def _figures(each: Difference, review: Review) -> tuple[str, ...]:
    names = {"base": "base", "older": review.older_name, "newer": "the series"}
    told = [f"{names[name]} {each.tallies[name]}" for name in ("base", "older", "newer") if name in each.tallies]
    base, newer = (each.tallies.get(name) for name in ("base", "newer"))
    sure = ""
    if each.kind is Kind.NEW and base and newer:
        sure = f"; worse than the base with {100 * worse_probability(base, newer):.0f} %"
    counted = [f"failed: {', '.join(told)}{sure}"] if told else []
    failing = each.tallies.get("older" if each.kind is Kind.FIXED else "newer", Tally())
    if failing.passes and each.patch:
        counted.append("it fails now and then, so an earlier patch may be to blame")
    return (*counted, *([each.failure.repeated] if each.failure.repeated else []))


def _of_patches(review: Review) -> Iterator[Fault]:
    """Failures of single patches that the whole series does not have, or that were not run on it."""
    told = {each.failure.test for each in review.differences if each.kind is not Kind.FIXED}
    for step in review.steps:
        left = [failure for failure in step.failures if failure.test not in told]
        for title, group in groupby(sorted(left, key=lambda each: each.title), key=lambda each: each.title):
            same: list[Failure] = list(group)
            gone = " (not with the whole series)" if review.counts else ""
            yield Fault(
                head=f"NEW since patch {step.number}{gone}: {same[0].verdict}, {title}",
                tests=tuple(each.test for each in same),
                evidence=same[0].evidence,
                figures=(same[0].repeated,) if same[0].repeated else (),
            )


def failing_tests(review: Review) -> list[str]:
    """The tests to run again, the first of each cause."""
    return [fault.tests[0] for fault in faults(review) if fault.tests and not fault.head.startswith("FIXED")]


def sizes_text(sizes: tuple[Size, Size]) -> str:
    """``code 9,876,543 +120 bytes; loaded …; ftrace table 57,123 +2 of 70,000 +3 functions``."""
    before, after = sizes
    text, loaded, records, functions = (
        f"{new:,} ({new - old:+,})"
        for old, new in (
            (before.text, after.text),
            (before.loaded, after.loaded),
            (before.records, after.records),
            (before.functions, after.functions),
        )
    )
    return f"code {text} bytes of {loaded} loaded; ftrace table {records} entries for {functions} functions"
