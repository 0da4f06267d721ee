"""Finds the patch since which tests fail, by trying them on kernels between the base and the whole series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Ask = Callable[[int, Sequence[str]], Mapping[str, bool | None]]
"""Runs tests on the kernel with that many patches; returns of each whether it fails, None if that can't be known."""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A test fails with `patch`, and not with the kernel that has `good` patches. If these are not neighbours, the
    kernels between say nothing."""

    patch: int
    good: int


def pin(
    tests: Iterable[str],
    kernels: Sequence[int],
    known: Mapping[str, Mapping[int, bool]],
    ask: Ask,
) -> dict[str, Pinned]:
    """Return for each of `tests` since which patch it fails. `kernels`: how many patches each kernel has that differs
    from the one before, from 0 (the base, with which they pass) to the last (with which they fail). `known`: of each
    test, whether it fails with some of them. Tests that can be tried on the same kernel are tried together."""
    spans = {test: list(kernels) for test in tests}
    answers: dict[str, dict[int, bool | None]] = {test: dict(known.get(test, {})) for test in spans}
    pinned: dict[str, Pinned] = {}
    while True:
        wanted: dict[int, list[str]] = {}
        for test, span in spans.items():
            good, bad, between = _narrowed(span, answers[test])
            if between:
                wanted.setdefault(between[len(between) // 2], []).append(test)
            pinned[test] = Pinned(patch=bad, good=good)
        if not wanted:
            return pinned
        index, some = max(wanted.items(), key=lambda each: len(each[1]))
        told = ask(index, some)
        for test in some:
            answers[test][index] = told.get(test)


def _narrowed(span: Sequence[int], answers: Mapping[int, bool | None]) -> tuple[int, int, list[int]]:
    """Return the last kernel before the first failure, that failure, and the kernels between that were not tried."""
    bad = next((index for index in span[1:] if answers.get(index)), span[-1])
    good = max((index for index in span if index < bad and answers.get(index) is False), default=span[0])
    return good, bad, [index for index in span if good < index < bad and index not in answers]
