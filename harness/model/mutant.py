"""Mutants: kernels with one deliberate bug, and which tests caught it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.model.result import Verdict


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One patch of tests/mutants/, as its header describes it.

    `title`: the bug in one line. `caught_by`: the tests that must catch it: ids, without parameters to name all
    variants, or test files. `kernel`: the ``--kernel`` it is made for; empty: the default. `kconfigs`: further
    fragments it needs, names below kconfigs/."""

    name: str
    title: str
    caught_by: tuple[str, ...]
    kernel: str = ""
    kconfigs: tuple[str, ...] = ()


def covers(named: str, test: str) -> bool:
    """Whether `named` (an id, one without its parameters, or a test file) covers the test with the id `test`."""
    return test == named or (test.startswith(named) and test[len(named)] in ":[")


class Fate(enum.StrEnum):
    """What became of a mutant.

    Only `SURVIVED` means that a test is missing; a kernel that does not build or boot needs no test to be found."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    NO_BUILD = "does not build"
    NO_BOOT = "does not boot"
    UNTOLD = "not told"  # the run ended early: the lab's fault, nothing is known


@dataclass(frozen=True, kw_only=True)
class Catch:
    """A test that passes on the unpatched kernel and did not pass on the mutant."""

    test: str
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one suite said about one mutant. `complete`: every test ran; otherwise the suite stopped at the first
    catch."""

    catches: tuple[Catch, ...] = ()
    complete: bool = True
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A mutant's line of the kill table.

    `fate` is that of our tests. `ours`, `in_tree`: None if they were not run. `missed`: tests that the header names and
    that did not catch it. `note`: why it did not build or boot, or why nothing is known. `build`: seconds."""

    mutant: Mutant
    fate: Fate
    ours: Trial | None = None
    in_tree: Trial | None = None
    missed: tuple[str, ...] = ()
    note: str = ""
    build: float | None = None
